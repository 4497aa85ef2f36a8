"""Faults of panoptic data sets: checks, survey, reader and mapper agree on them."""

import json

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from panoptic_sets import HEIGHT, WIDTH, write, write_json, write_png
from pointrend_seg.data.checks.panoptic import check_panoptic_dataset
from pointrend_seg.data.mappers.panoptic import PanopticMapper
from pointrend_seg.data.panoptic.classes import panoptic_classes
from pointrend_seg.data.survey.datasets import survey_datasets
from pointrend_seg.engine.config_loading import load_config
from pointrend_seg.errors import InputError
from pointrend_seg.evaluation.panoptic import PanopticEvaluator
from pointrend_seg.evaluation.panoptic_branches import PanopticSemanticEvaluator

NAME = "pointrend_test_panoptic"


@pytest.fixture(autouse=True)
def _forget():
    yield
    DatasetCatalog.pop(NAME, None)
    if NAME in MetadataCatalog.list():
        MetadataCatalog.remove(NAME)


def entry(folder):
    annotations = str(folder / "panoptic.json")
    return {"name": NAME, "images": str(folder / "images"), "annotations": annotations}


def config(folder, *opts, things=2, semantic=3):
    return load_config(
        "",
        [
            *("MODEL.DEVICE", "cpu", "MODEL.META_ARCHITECTURE", "PanopticFPN"),
            *("MODEL.MASK_ON", True, "DATASETS.TRAIN", (NAME,), "DATASETS.TEST", ()),
            *("MODEL.ROI_HEADS.NUM_CLASSES", things, "DATASETS.CUSTOM", [entry(folder)]),
            *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", semantic, "INPUT.MIN_SIZE_TRAIN", (24,)),
            *("INPUT.RANDOM_FLIP", "none", *opts),
        ],
    )


def check(folder, *, is_train=True, **counts):
    cfg = config(folder, **counts)
    check_panoptic_dataset(cfg, NAME, is_train=is_train)
    return cfg


def test_a_sound_data_set(tmp_path):
    write(tmp_path)
    for is_train in (True, False):
        cfg = check(tmp_path, is_train=is_train)
    assert not survey_datasets([NAME], trained_on=[NAME]).found
    survey = survey_datasets([NAME])
    # two of three dogs count, as one is a crowd; things come first
    assert survey.classes[NAME] == {"cat": (3, 3), "dog": (2, 2), "sky": (3, 3), "road": (3, 3)}
    assert [each["id"] for each in survey.as_json()["objects"][NAME]["classes"]] == [3, 8]
    classes = panoptic_classes(NAME)
    assert classes.thing_names == ("cat", "dog") and classes.stuff_ids == (5, 9)
    mapper = PanopticMapper(cfg, is_train=True)
    outputs = [mapper(record) for record in DatasetCatalog.get(NAME)]
    assert [o["instances"].gt_classes.tolist() for o in outputs] == [[0], [0, 1], [0, 1]]
    assert outputs[0]["sem_seg"][:, 26].tolist() == [1] * 8 + [0] * 8 + [2] * 6 + [255] * 2


@pytest.mark.parametrize("first", ["cat", "sky"])
def test_category_ids_from_zero(tmp_path, first):
    """Detectron2 gives "things" the id 0 among stuff; a category of that id stays what it is."""
    _, content = write(tmp_path)
    (zero,) = (c for c in content["categories"] if c["name"] == first)
    for annotation in content["annotations"]:
        for segment in annotation["segments_info"]:
            segment["category_id"] *= segment["category_id"] != zero["id"]
    zero["id"] = 0
    write_json(tmp_path, content)
    cfg = check(tmp_path)
    check_panoptic_dataset(cfg, NAME, is_train=False)
    mapper = PanopticMapper(cfg, is_train=True)
    outputs = [mapper(record) for record in DatasetCatalog.get(NAME)]
    assert [o["instances"].gt_classes.tolist() for o in outputs] == [[0], [0, 1], [0, 1]]
    assert outputs[0]["sem_seg"][:, 26].tolist() == [1] * 8 + [0] * 8 + [2] * 6 + [255] * 2
    evaluators = [
        PanopticEvaluator(NAME),
        PanopticSemanticEvaluator(NAME, output_dir=str(tmp_path)),
    ]
    for output in outputs:
        things = {"id": 1, "isthing": True, "category_id": 0}
        sky, road = ({"id": k, "isthing": False, "category_id": k - 1} for k in (2, 3))
        sem_seg = output["sem_seg"]
        ids = torch.zeros_like(sem_seg)
        ids[sem_seg == 1], ids[sem_seg == 2] = 2, 3
        ids[output["instances"].gt_masks.tensor[0].bool()] = 1
        logits = torch.stack([sem_seg == k for k in range(3)]).float()
        for each in evaluators:
            each.process(
                [output], [{"panoptic_seg": (ids, [things, sky, road]), "sem_seg": logits}]
            )
    panoptic, semantic = (each.evaluate() for each in evaluators)
    assert panoptic["panoptic_seg"]["PQ_st"] == panoptic["panoptic_seg"]["PQ-cat"] == 100
    assert panoptic["panoptic_seg"]["PQ-dog"] == 0 and semantic["sem_seg"]["mIoU"] == 100
    written = json.loads((tmp_path / "sem_seg_predictions.json").read_text())
    sky_id, road_id = panoptic_classes(NAME).stuff_ids
    things_id = -1 if first == "sky" else 0
    assert {each["category_id"] for each in written} == {things_id, sky_id, road_id}


def test_another_form_of_what_is_meant(tmp_path):
    """Whole numbers as floats or text, booleans and null are read as what they mean."""
    _, content = write(tmp_path)
    content["categories"][0]["isthing"] = True
    annotation = content["annotations"][1]
    annotation["image_id"] = "2"
    annotation["segments_info"][0] |= {"id": 1000.0, "iscrowd": None}
    annotation["segments_info"][1] |= {"category_id": "9", "iscrowd": False}
    write_json(tmp_path, content)
    check(tmp_path)
    record = DatasetCatalog.get(NAME)[1]
    expected = {"id": 1000, "category_id": 1, "isthing": False, "iscrowd": 0, "area": 288}
    assert {k: record["segments_info"][0][k] for k in expected} == expected
    assert record["segments_info"][1]["category_id"] == 2


def change(content, what):
    """Change a sound file; each change is one fault."""
    images, annotations = content["images"], content["annotations"]
    segment = annotations[1]["segments_info"][2]
    if callable(what):
        what(content, segment)
    elif isinstance(what, dict):
        segment |= what
    else:
        del segment[what]
    assert images is content.get("images", images)


# What is changed, the message, the kind.
FAULTS_OF_THE_FILE = {
    "id 0": ({"id": 0}, "segment 0 of image 2 has no whole number from 1 to 16777215", "dup"),
    "id too large": ({"id": 2**24}, "segment 16777216 of image 2 has no whole number", "dup"),
    "id of text": ({"id": "x"}, "segment 'x' of image 2 has no whole number", "dup"),
    "no id": ("id", "segment None of image 2 has no whole number", "dup"),
    "same id": ({"id": 1000}, "two segments of image 2 are 1000", "dup"),
    "category": ({"category_id": 4}, "segment 3000 of image 2 has category_id 4, which its", "unk"),
    "no category": ("category_id", "has category_id None, which its 'categories' lack", "unk"),
    "crowd": ({"iscrowd": 2}, "has the iscrowd 2; it must be 0 or 1", "bad"),
    "no isthing": (
        lambda c, s: c["categories"][0].pop("isthing"),
        "category 3 has no 'isthing'. Give each category of a panoptic file isthing 1",
        "no-",
    ),
    "isthing": (
        lambda c, s: c["categories"][0].update(isthing=2),
        "category 3 has the isthing 2, not 0 or 1",
        "no-",
    ),
    "no stuff": (
        lambda c, s: [each.update(isthing=1) for each in c["categories"]],
        "all of its categories are things \\(isthing 1\\)",
        "no-",
    ),
    "no things": (
        lambda c, s: [each.update(isthing=0) for each in c["categories"]],
        "all of its categories are stuff",
        "no-",
    ),
    "two annotations": (
        lambda c, s: c["annotations"][0].update(image_id=2),
        "two of its annotations belong to image 2",
        "dup",
    ),
    "no file name": (
        lambda c, s: c["annotations"][0].pop("file_name"),
        "the annotation of image 1 has no 'file_name'",
        "unr",
    ),
    "bad file name": (
        lambda c, s: c["annotations"][0].update(file_name=7),
        "the annotation of image 1 has the file_name 7, which is no path",
        "unr",
    ),
    "no list": (
        lambda c, s: c["annotations"][0].update(segments_info={"a": 1}),
        "the annotation of image 1 has 'segments_info' that are a dict, not a list",
        "unr",
    ),
    "no segments": (
        lambda c, s: c["annotations"][0].pop("segments_info"),
        "the annotation of image 1 has no 'segments_info'",
        "unr",
    ),
    "no dict": (
        lambda c, s: c["annotations"][0]["segments_info"].append(7),
        "segment number 4 \\(from 0\\) of image 1 is the value 7, not a dict",
        "unr",
    ),
    "image id": (
        lambda c, s: c["annotations"][0].update(image_id=[1]),
        "annotation 0 \\(from 0\\) has the image_id \\[1\\]",
        "bad",
    ),
    "same image": (
        lambda c, s: c["images"][0].update(id=2),
        "two of its 'images' have the same id",
        "dup",
    ),
    "no height": (lambda c, s: c["images"][0].pop("height"), "has no 'height'", "ima"),
    "no images": (lambda c, s: c.pop("images"), "it has no list of 'images'", "unr"),
}


@pytest.mark.parametrize("fault", FAULTS_OF_THE_FILE)
def test_faults_of_the_file(tmp_path, fault):
    """One sentence, in the check, in the reader and, by its kind, in the survey."""
    what, message, kind = FAULTS_OF_THE_FILE[fault]
    _, content = write(tmp_path)
    change(content, what)
    write_json(tmp_path, content)
    with pytest.raises(InputError, match=message) as caught:
        check(tmp_path)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    with pytest.raises(InputError, match=message):
        DatasetCatalog.get(NAME)
    survey = survey_datasets([NAME])
    assert any(found.startswith(kind) for found in survey.found)


def unlisted(folder, content):
    content["annotations"][0]["segments_info"].pop()
    write_json(folder, content)


def gray(folder, _):
    cv2.imwrite(str(folder / "panoptic/2.png"), np.ones((HEIGHT, WIDTH), np.uint8))


def small(folder, _):
    write_png(folder / "panoptic/2.png", np.zeros((HEIGHT, WIDTH - 1), np.int32))


def broken(folder, _):
    (folder / "panoptic/2.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))


def jpeg(folder, content):
    cv2.imwrite(str(folder / "panoptic/2.jpg"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    content["annotations"][1]["file_name"] = "2.jpg"
    write_json(folder, content)


@pytest.mark.parametrize(
    ("spoil", "kind", "message"),
    [
        (
            unlisted,
            "unlisted-segment",
            "1.png has pixels of segment 70001, which its segments_info",
        ),
        (
            gray,
            "label-value",
            "2.png is an image of one channel, but COCO's panoptic PNGs are 8-bit",
        ),
        (small, "label-size", "2.png is 32 x 24 .*panoptic/2.png is 31 x 24"),
        (broken, "unreadable-labels", "2.png cannot be read"),
        (jpeg, "lossy-labels", "2.jpg is compressed by JPEG"),
    ],
)
def test_faults_of_a_png(tmp_path, spoil, kind, message):
    """The check and the mapper stop at it, and the survey counts it."""
    _, content = write(tmp_path)
    spoil(tmp_path, content)
    with pytest.raises(InputError, match=message):
        check(tmp_path)
    mapper = PanopticMapper(config(tmp_path), is_train=True)
    with pytest.raises(InputError, match=message):
        [mapper(record) for record in DatasetCatalog.get(NAME)]
    assert survey_datasets([NAME]).found[kind].count == 1


def test_what_is_left_out_is_said(tmp_path, caplog):
    """A segment without a pixel, a wrong area, an image without segments, a stranger."""
    _, content = write(tmp_path)
    content["annotations"][1]["segments_info"][0]["area"] = 7
    extra = {"id": 9, "category_id": 3, "iscrowd": 0}
    content["annotations"][2]["segments_info"].append(extra)
    content["annotations"][0]["image_id"] = 99
    write_json(tmp_path, content)
    check(tmp_path)
    assert "1 of its images, such as" in caplog.text and "have no annotation" in caplog.text
    assert "1 of its annotations belong to images that are not in its 'images'" in caplog.text
    found = survey_datasets([NAME]).found
    assert set(found) == {
        *("image-without-labels", "unknown-image", "empty-segment", "segment-area")
    }
    assert "has 288 pixels, stated area 7" in found["segment-area"].examples[0]
    output = PanopticMapper(config(tmp_path), is_train=True)(DatasetCatalog.get(NAME)[1])
    assert output["instances"].gt_classes.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"things": 3}, "MODEL.ROI_HEADS.NUM_CLASSES is 3, but .* has 2 things \\(cat, dog\\)"),
        (
            {"semantic": 2},
            "NUM_CLASSES is 2, .* has 2 kinds of stuff \\(sky, road\\), which makes 3",
        ),
    ],
)
def test_numbers_of_classes(tmp_path, counts, message):
    write(tmp_path)
    with pytest.raises(InputError, match=message):
        check(tmp_path, **counts)


def test_missing_files(tmp_path):
    write(tmp_path)
    (tmp_path / "panoptic/2.png").unlink()
    with pytest.raises(InputError, match="1 of 3 panoptic PNGs are missing: .*2.png"):
        check(tmp_path)
    (tmp_path / "images/1.png").unlink()
    with pytest.raises(InputError, match="1 of 3 images are missing"):
        check(tmp_path)
    (tmp_path / "panoptic").rename(tmp_path / "other")
    with pytest.raises(
        InputError, match="PNGs of data set .* not found: .*/panoptic does not exist"
    ):
        check(tmp_path)


def test_the_folder_of_pngs(tmp_path):
    """It has the name of the file, beside it or one level above, or is named in the entry."""
    write(tmp_path)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "panoptic.json").rename(tmp_path / "annotations/panoptic.json")
    own = entry(tmp_path) | {"annotations": str(tmp_path / "annotations/panoptic.json")}
    cfg = config(tmp_path, "DATASETS.CUSTOM", [own])
    check_panoptic_dataset(cfg, NAME, is_train=True)
    (tmp_path / "panoptic").rename(tmp_path / "other")
    cfg = config(tmp_path, "DATASETS.CUSTOM", [own | {"segments": str(tmp_path / "other")}])
    check_panoptic_dataset(cfg, NAME, is_train=True)
    assert cfg.DATASETS.CUSTOM[0]["segments"] == str(tmp_path / "other")


def test_a_saved_config_needs_no_data(tmp_path):
    write(tmp_path)
    saved = config(tmp_path).DATASETS.CUSTOM
    assert saved[0]["classes"][0].keys() == {"name", "color", "id", "isthing"}
    before = panoptic_classes(NAME)
    moved = [saved[0] | {k: f"/nowhere/{k}" for k in ("images", "segments")}]
    moved[0]["annotations"] = "/nowhere/panoptic.json"
    config(tmp_path, "DATASETS.CUSTOM", moved)
    assert panoptic_classes(NAME) == before
    assert MetadataCatalog.get(NAME).evaluator_type == "coco_panoptic_seg"


def test_a_changed_file_is_read_again(tmp_path):
    _, content = write(tmp_path)
    check(tmp_path)
    content["categories"][0]["name"] = "lion"
    write_json(tmp_path, content)
    check(tmp_path)
    assert panoptic_classes(NAME).thing_names == ("lion", "dog")


def test_mistakes_in_an_entry(tmp_path):
    _, content = write(tmp_path)
    (tmp_path / "classes.txt").write_text("cat\nsky\ndog\nroad\n")
    for change, message in (
        ({"classes": str(tmp_path / "classes.txt")}, "are its categories, .*Leave out --classes"),
        ({"segments": 7}, "segments is 7; it must be the path of a folder"),
    ):
        with pytest.raises(InputError, match=message):
            config(tmp_path, "DATASETS.CUSTOM", [entry(tmp_path) | change])
    content["annotations"] = []
    write_json(tmp_path, content)
    with pytest.raises(InputError, match="segments is the folder of PNGs .*panoptic.json is none"):
        config(tmp_path, "DATASETS.CUSTOM", [entry(tmp_path) | {"segments": "x"}])


@pytest.mark.parametrize(
    ("config_file", "wanted"),
    [
        ("configs/quick/pointrend_rcnn_R_18_FPN.yaml", "an instance"),
        ("configs/quick/pointrend_deeplabv3_R_18_OS16.yaml", "a semantic"),
    ],
)
def test_a_config_of_another_kind(tmp_path, run_in_process, config_file, wanted):
    write(tmp_path)
    data = [tmp_path / "images", tmp_path / "panoptic.json"]
    args = ["--config-file", config_file, "--train-data", *data, "--val-data", *data, "--dry-run"]
    status, _, err = run_in_process("train_net", *args, "OUTPUT_DIR", tmp_path / "out")
    assert status == 2 and f"is a COCO panoptic file, but this is {wanted} config" in err


def test_objects_alone_cannot_be_trained_from_a_png(instance_datasets):
    opts = ["MODEL.DEVICE", "cpu", "DATASETS.TRAIN", ("synthetic_panoptic_train",)]
    cfg = load_config("configs/quick/pointrend_rcnn_R_18_FPN.yaml", opts)
    from pointrend_seg.engine.tasks import find_task

    with pytest.raises(InputError, match="synthetic_panoptic_train are panoptic PNGs.* a panoptic"):
        find_task(cfg).check_dataset(cfg, "synthetic_panoptic_train", is_train=True)


@pytest.mark.parametrize("name", ["coco_2017_val_panoptic", "coco_2017_val_panoptic_separated"])
def test_coco(instance_datasets, name):
    """Both forms of Detectron2's COCO are checked, and missing files are found."""
    opts = ["MODEL.DEVICE", "cpu", "MODEL.MASK_ON", True]
    counts = ["MODEL.ROI_HEADS.NUM_CLASSES", 80, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 54]
    cfg = load_config("", [*opts, *counts, "DATASETS.TRAIN", (name,)])
    for is_train in (True, False):
        check_panoptic_dataset(cfg, name, is_train=is_train)
    cfg.DATASETS.TRAIN = (name, "synthetic_panoptic_train")
    with pytest.raises(InputError, match="and synthetic_panoptic_train have different classes"):
        check_panoptic_dataset(cfg, name, is_train=True)


def test_the_tool_reads_the_pngs_for_a_panoptic_config(instance_datasets, run_in_process):
    config = "configs/quick/pointrend_panoptic_R_18_FPN.yaml"
    status, out, _ = run_in_process("check_data", "--config-file", config, "--workers", 1)
    assert status == 0 and "skyline" in out and "synthetic_panoptic_train: " in out
    status, out, _ = run_in_process("check_data", "--dataset", "coco_2017_val_panoptic")
    assert status == 0 and "sky-other-merged" in out and "No error" in out


def test_only_crowds(tmp_path):
    _, content = write(tmp_path)
    for annotation in content["annotations"]:
        for segment in annotation["segments_info"]:
            segment["iscrowd"] = int(segment["category_id"] in (3, 8))
    write_json(tmp_path, content)
    for is_train, what in ((True, "train on"), (False, "evaluate with")):
        with pytest.raises(InputError, match=f"nothing to {what} in .*only crowds .*the things"):
            check(tmp_path, is_train=is_train)


def test_no_json(tmp_path):
    write(tmp_path)
    config(tmp_path)
    (tmp_path / "panoptic.json").write_text("{")
    with pytest.raises(InputError, match="panoptic.json .* cannot be read"):
        check(tmp_path)
    (tmp_path / "panoptic.json").write_text(json.dumps([1]))
    with pytest.raises(InputError, match="its contents are a list, not a dict"):
        check(tmp_path)
