"""Labelled points before training: what is refused, by all that look at a data set."""

import json
import logging

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json, register_coco_instances
from detectron2.data.datasets.lvis import register_lvis_instances
from PIL import Image

from pointrend_seg.data.checks.instance import check_instance_dataset
from pointrend_seg.data.mappers.instance import InstanceMapper
from pointrend_seg.data.point_sets import register_coco_instances_with_points, register_point_set
from pointrend_seg.data.problems import ERROR, NOTE, WARNING
from pointrend_seg.data.survey.datasets import survey_datasets
from pointrend_seg.errors import InputError
from small_configs import small_instance_cfg

HEIGHT, WIDTH = 20, 30
NAME = "checked_points"
POINTS = [[3, 4], [11, 11], [2, 2], [8, 9]]
SQUARE = [[2.0, 2.0, 12.0, 2.0, 12.0, 12.0, 2.0, 12.0]]


def annotation(number, **changes):
    return {
        "id": number,
        "image_id": 7,
        "category_id": 3,
        "bbox": [2, 2, 10, 10],
        "area": 100,
        "iscrowd": 0,
        "point_coords": POINTS,
        "point_labels": [1, 0, 0, 1],
    } | changes


def content(**changes):
    """Of a JSON: an image with two objects, the second one's changed; None removes a key."""
    second = {k: v for k, v in annotation(2, **changes).items() if v is not None}
    size = {"height": HEIGHT, "width": WIDTH}
    return {
        "images": [{"id": 7, "file_name": "7.png", "coco_url": "http://x/val2017/7.png", **size}],
        "annotations": [annotation(1), second],
        "categories": [{"id": 3, "name": "cat"}],
    }


def every(**changes):
    data = content()
    for each in data["annotations"]:
        each.update(changes)
    data["annotations"] = [
        {k: v for k, v in each.items() if v is not None} for each in data["annotations"]
    ]
    return data


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "val2017").mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "val2017" / "7.png")
    return tmp_path


@pytest.fixture
def register(folder):
    """Registers and forgets data sets."""
    before = set(DatasetCatalog.list())

    def add(data, name=NAME, by=register_coco_instances, file="a.json"):
        (folder / file).write_text(json.dumps(data))
        root = f"{folder}/" if by is register_lvis_instances else folder / "val2017"
        by(name, {}, str(folder / file), str(root))

    yield add
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)


def check(**options):
    check_instance_dataset(NAME, 1, True, **{"points": True, **options})


def refusal(**options):
    with pytest.raises(InputError) as caught:
        check(**options)
    return str(caught.value)


def found(severity=ERROR, needs="points"):
    survey = survey_datasets([NAME], trained_on=[NAME], needs={NAME: needs} if needs else None)
    return {k: v for k, v in survey.with_severity(severity).items() if k != "class-never-occurs"}


def test_sound_points(register, caplog):
    register(content())
    check()
    assert not caplog.records
    assert not found() and not found(WARNING) and not found(needs="")
    assert set(found(NOTE)) == {"points"}


def test_sound_points_are_trained_on(register):
    register(content())
    check()  # the data set is read by our reader from here on
    cfg = small_instance_cfg(num_classes=1)
    cfg.INPUT.POINT_SUP, cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = True, (20,), "none"
    (record,) = DatasetCatalog.get(NAME)
    instances = InstanceMapper(cfg)(record)["instances"]
    expected = [[x + 0.5, y + 0.5] for x, y in POINTS]
    assert instances.gt_point_coords.tolist() == [expected, expected]
    assert instances.gt_point_labels.tolist() == [[1, 0, 0, 1]] * 2
    assert instances.gt_boxes.tensor.tolist() == [[2, 2, 12, 12]] * 2


WRONG = {
    "no coordinates": ({"point_coords": None}, "no-points", "has no 'point_coords'"),
    "no labels": ({"point_labels": None}, "no-points", "has no 'point_labels'"),
    "empty": ({"point_coords": [], "point_labels": []}, "no-points", "has empty lists"),
    "lengths": ({"point_labels": [1, 0]}, "bad-points", "has 4 point_coords, but 2 point_labels"),
    "label 2": ({"point_labels": [1, 0, 2, 0]}, "bad-points", "has the point label 2; it must"),
    "label -1": ({"point_labels": [1, 0, -1, 0]}, "bad-points", "has the point label -1; it"),
    "half": ({"point_labels": [1, 0, 0.5, 0]}, "bad-points", "has the point label 0.5; it"),
    "text": ({"point_labels": ["1", 0, 1, 0]}, "bad-points", "has the point label '1'; it"),
    "nan": ({"point_coords": [[float("nan"), 2]] * 4}, "bad-points", "has the point [nan, 2]."),
    "infinite": ({"point_coords": [[2, float("inf")]] * 4}, "bad-points", "the point [2, inf]."),
    "true": ({"point_coords": [[True, 2]] * 4}, "bad-points", "has the point [True, 2]."),
    "flat": ({"point_coords": [3, 4, 11, 11]}, "bad-points", "has the point 3. A point is [x, y]"),
    "with a third": ({"point_coords": [[3, 4, 1]] * 4}, "bad-points", "has the point [3, 4, 1]."),
    "no list": ({"point_coords": "3,4"}, "bad-points", "has the point_coords '3,4', not a list."),
    "a dict": ({"point_labels": {"0": 1}}, "bad-points", "has the point_labels {'0': 1}, not a"),
    "right of it": ({"point_coords": [[30, 2]] * 4}, "bad-points", "30, 2, which lies outside of"),
    "above it": ({"point_coords": [[3, -0.6]] * 4}, "bad-points", "3, -0.6, which lies outside of"),
    "huge": ({"point_coords": [[3, 10**400]] * 4}, "bad-points", "has the point [3, 1000"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("by", ["file", "dicts"])
def test_what_is_refused(register, name, by):
    change, kind, said = WRONG[name]
    if by == "file":
        register(content(**change))
    else:
        data = content(**change)
        record = {**data["images"][0], "annotations": data["annotations"], "file_name": __file__}
        for each in record["annotations"]:
            each |= {"bbox_mode": 1, "category_id": 0}
        DatasetCatalog.register(NAME, lambda: [record])
        MetadataCatalog.get(NAME).thing_classes = ["cat"]
    text = refusal()
    assert said in text and "Annotation id 2" in text and "\n" not in text
    errors = found()
    assert said.partition(".")[0] in errors[kind].examples[0] and errors[kind].count == 1


def test_whole_numbers_of_other_types_are_labels(register):
    register(content(point_labels=[True, 0.0, False, 1]))
    check()


def test_normalised_points(register):
    register(every(point_coords=[[x / WIDTH, y / HEIGHT] for x, y in POINTS]))
    said = "all coordinates of its points are between 0 and 1: they seem to be normalised"
    assert said in refusal()
    assert said in found()["bad-points"].examples[0]


@pytest.mark.parametrize("label", [0, 1])
def test_points_of_one_label(register, label):
    register(every(point_labels=[label] * 4))
    assert f"all of its point_labels are {label}. There is nothing to learn" in refusal()
    assert f"all of its point_labels are {label}" in found()["one-label"].examples[0]


def test_an_object_may_have_points_of_one_label(register):
    register(content(point_labels=[0] * 4))
    check()
    assert not found()
    assert found(NOTE)["no-point-on-object"].count == 1


def test_points_outside_of_the_box(register):
    register(content(point_coords=[[3, 4], [15, 4], [3, 4], [1, 1]]))
    check()
    (example,) = found(WARNING)["point-outside-box"].examples
    assert example.endswith("15, 4 in the box 2, 2, 12, 12")


def test_a_crowd_needs_no_points(register):
    register(content(point_coords=None, point_labels=None, iscrowd=1))
    check()
    assert not found()


def test_points_are_wanted_and_there_are_masks_alone(register):
    register(every(point_coords=None, point_labels=None, segmentation=SQUARE))
    text = refusal()
    assert text.startswith("INPUT.POINT_SUP is True, but no object of ")
    assert "tools/make_point_labels.py" in text and "INPUT.POINT_SUP False" in text
    assert found()["no-points"].count == 2
    check(points=False)


def test_masks_are_wanted_and_there_are_points_alone(register):
    register(content())
    text = refusal(points=False)
    assert "have points instead of masks. Train with them: INPUT.POINT_SUP True" in text
    assert found(needs="masks")["no-mask"].count == 2
    check_instance_dataset(NAME, 1, False)  # boxes alone


def test_evaluation_needs_masks(register):
    register(content())
    text = refusal(points=False, is_train=False)
    assert (
        text.startswith("Mask AP needs masks, but no object of ") and "MODEL.MASK_ON False" in text
    )
    check_instance_dataset(NAME, 1, False, is_train=False)


def test_masks_and_points(register, caplog):
    register(every(segmentation=SQUARE))
    caplog.set_level(logging.INFO)
    check()
    (said,) = [each.message for each in caplog.records if "POINT_SUP" in each.message]
    assert said.endswith("are trained on, not its masks.")
    caplog.clear()
    check(points=False)
    assert "POINT_SUP" not in caplog.text


def test_points_do_not_matter_to_masks(register):
    """Other tools write `point_coords` of another meaning beside masks."""
    register(every(segmentation=SQUARE, point_labels=None, point_coords=[[0.5, 0.5]]))
    check(points=False)
    assert not found(needs="masks") and not found(needs="") and not found(WARNING, needs="")


@pytest.mark.parametrize(
    "change", [{"point_labels": [3] * 4}, {"point_labels": [0] * 4}, {"point_coords": None}]
)
def test_wrong_points_beside_masks(register, change):
    register(every(segmentation=SQUARE, **change))
    check(points=False)
    assert not found(needs="masks") and not found(needs="")
    assert "unused-points" in found(WARNING, needs="")
    assert refusal()


def test_a_loader_of_ones_own_that_leaves_points_out(register):
    path = []

    def by(name, metadata, file, root):
        path.append((file, root))
        DatasetCatalog.register(name, lambda: load_coco_json(file, root, name))
        MetadataCatalog.get(name).set(json_file=file, image_root=root, evaluator_type="coco")

    register(content(), by=by)
    assert "no object of the data set checked_points has point_labels" in refusal()
    DatasetCatalog.remove(NAME)
    keys = ["point_coords", "point_labels"]
    DatasetCatalog.register(NAME, lambda: load_coco_json(*path[0], NAME, keys))
    check()


def test_lvis_and_cityscapes_have_no_points(register):
    register(content(), by=register_lvis_instances)
    assert "loader of the data set checked_points reads no points" in refusal()
    with pytest.raises(InputError, match="reads no points"):
        check_instance_dataset("cityscapes_fine_instance_seg_train", 8, True, points=True)


def test_registered_with_points(register):
    register(content(), by=register_coco_instances_with_points)
    (record,) = DatasetCatalog.get(NAME)
    assert record["annotations"][0]["point_coords"] == POINTS
    check()


def test_names_of_point_sets(register):
    register(every(segmentation=SQUARE), file="instances.json")
    name = f"{NAME}_points_n4_v2_without_masks"
    register(content(), name="other", file="instances_n4_v2_without_masks.json")
    assert name not in DatasetCatalog
    check_instance_dataset(name, 1, True, points=True)
    (record,) = DatasetCatalog.get(name)
    assert "segmentation" not in record["annotations"][0]
    assert record["annotations"][0]["point_labels"] == [1, 0, 0, 1]
    assert register_point_set(name)


@pytest.mark.parametrize(
    "name",
    [
        f"{NAME}_points_n0_v1_without_masks",
        f"{NAME}_points_n10_v1",
        "nobody_points_n10_v1_without_masks",
        "ade20k_sem_seg_train_points_n10_v1_without_masks",
    ],
)
def test_names_that_are_none(name):
    assert not register_point_set(name)
    assert name not in DatasetCatalog


def test_the_published_name():
    name = "coco_2017_train_points_n10_v1_without_masks"
    assert register_point_set(name)
    metadata = MetadataCatalog.get(name)
    published = "coco/annotations/instances_train2017_n10_v1_without_masks.json"
    assert metadata.json_file.endswith(published)
    assert metadata.image_root.endswith("coco/train2017")
    assert len(metadata.thing_classes) == 80
    assert metadata.thing_dataset_id_to_contiguous_id[90] == 79


def test_points_in_the_figures(register):
    data = content(point_coords=POINTS[:1], point_labels=[1])
    data["annotations"].append(annotation(3))
    register(data)
    figures = survey_datasets([NAME]).as_json()["objects"][NAME]["points"]
    assert figures == {"objects": 3, "median": 4, "share_of_ones": 5 / 9}
