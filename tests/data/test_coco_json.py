"""The checks agree with Detectron2: errors are what it stops at, warnings what it gets over."""

import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.data.datasets import load_coco_json, register_coco_instances
from detectron2.data.datasets.coco_panoptic import register_coco_panoptic_separated
from detectron2.data.datasets.lvis import register_lvis_instances
from PIL import Image
from pycocotools.coco import COCO

from pointrend_seg.data.checks.instance import check_instance_dataset
from pointrend_seg.errors import InputError
from small_configs import small_instance_cfg

HEIGHT, WIDTH = 20, 30
SQUARE = [2.0, 2.0, 12.0, 2.0, 12.0, 12.0, 2.0, 12.0]
POINT, LINE, ODD = [2.0, 2.0], [2.0, 2.0, 9.0, 9.0], [*SQUARE, 4.0]
RUNS = {"size": [HEIGHT, WIDTH], "counts": [40, 100, 460]}


def compressed(height, width):
    rle = mask_util.encode(np.asfortranarray(np.eye(height, width, dtype=np.uint8)))
    return rle | {"counts": rle["counts"].decode()}


def annotation(number, **changes):
    return {
        "id": number,
        "image_id": 6 + number,
        "category_id": 3,
        "bbox": [2, 2, 10, 10],
        "area": 100,
        "iscrowd": 0,
        "segmentation": [SQUARE],
    } | changes


def content(*more, remove=None, **changes):
    """Of a JSON: two images with an object each, the second one's changed."""
    second = annotation(2, **changes)
    second.pop(remove, None)
    images = [
        {
            "id": k,
            "file_name": f"{k}.png",
            "height": HEIGHT,
            "width": WIDTH,
            "coco_url": f"http://there/val2017/{k}.png",
        }
        for k in (7, 8)
    ]
    categories = [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}]
    return {
        "images": images,
        "annotations": [annotation(1), second, *more],
        "categories": categories,
    }


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "val2017").mkdir()
    for k in (7, 8):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "val2017" / f"{k}.png")
    return tmp_path


@pytest.fixture
def register(folder):
    """Registers and forgets data sets; returns the name."""
    before = set(DatasetCatalog.list())

    def add(data, name="checked_instances", file="a.json", by=register_coco_instances, **metadata):
        path = folder / file
        path.write_text(json.dumps(data))
        root = f"{folder}/" if by is register_lvis_instances else folder / "val2017"
        by(name, metadata, str(path), str(root))
        return name

    yield add
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)


def message(name, num_classes=2, mask_on=True, **options):
    with pytest.raises(InputError) as caught:
        check_instance_dataset(name, num_classes, mask_on, **options)
    return str(caught.value)


def detectron2_trains(name):
    """Whether its loader and mapper make masks for all objects that they keep."""
    cfg = small_instance_cfg(num_classes=2)
    cfg.INPUT.MASK_FORMAT = "bitmask"
    mapper = DatasetMapper(cfg, is_train=True)
    try:
        found = [mapper(record)["instances"] for record in DatasetCatalog.get(name)]
    except (AssertionError, KeyError, ValueError, TypeError, IndexError, OSError):
        return False
    return all(each.has("gt_masks") for each in found if len(each))


def pycocotools_evaluates(name):
    try:
        coco = COCO(MetadataCatalog.get(name).json_file)
        return all(coco.annToMask(each).shape == (HEIGHT, WIDTH) for each in coco.anns.values())
    except Exception:  # it raises those
        return False


STOPS = {
    "no id": (content(remove="id"), "has no 'id'. Give each entry of the file a number"),
    "same id": (content(id=1), "Annotation id 1 of image (id 8) "),
    "category": (content(category_id=4), "has category_id 4, which its 'categories' lack. Add"),
    "no category": (content(remove="category_id"), "has category_id None"),
    "ignore": (content(ignore=1), "has 'ignore' set, which Detectron2 refuses. Remove"),
    "no box": (content(remove="bbox"), "has no 'bbox'. A box is 4 finite numbers"),
    "empty box": (content(bbox=[]), "has no 'bbox'. A box is 4 finite numbers"),
    "box": (content(bbox=[1, 2, 3]), "has the 'bbox' [1, 2, 3]. A box is 4 finite numbers"),
    "no mask": (content(remove="segmentation"), "has no 'segmentation'. Annotate its mask, or set"),
    "empty mask": (content(segmentation=[]), "or set MODEL.MASK_ON False to train boxes alone"),
    "size": (
        content(segmentation=compressed(WIDTH, HEIGHT)),
        "has a run-length mask of 20 x 30 (width x height) as its mask, but the image is 30 x 20",
    ),
    "no counts": (content(segmentation={"size": [HEIGHT, WIDTH]}), "with no 'counts'. A mask is"),
    "flat": (content(segmentation=SQUARE), "has 2.0 where a polygon should be. A polygon is"),
    "text": (
        content(segmentation=[["1", "2", "3", "4", "5", "6"]]),
        "with '1', not a finite number",
    ),
}

GETS_OVER = {
    "image": (content(annotation(3, image_id=99)), "id 3 of image (id 99) (unknown)"),
    "a line more": (content(segmentation=[SQUARE, LINE]), "has polygons of fewer than 3 points"),
    "odd": (content(segmentation=[SQUARE, ODD]), "or an odd number of coordinates. They are left"),
    "a line alone": (content(segmentation=[LINE]), "The object is left out and becomes background"),
    "a line first": (content(segmentation=[LINE, SQUARE]), "has polygons of fewer than 3 points"),
    "a point": (content(segmentation=[POINT]), "has no polygon of 3 points or more"),
    "box of no area": (
        content(bbox=[2, 2, 0, 10]),
        "has a box of 0 x 10 pixels. The object is left",
    ),
}

FINE = {
    "uncompressed": content(segmentation=RUNS),
    "compressed": content(segmentation=compressed(HEIGHT, WIDTH)),
    "no area": content(segmentation=[[2.0, 2.0] * 4]),
}


@pytest.mark.parametrize(("data", "said"), STOPS.values(), ids=STOPS)
def test_what_detectron2_stops_at_is_an_error(data, said, register):
    name = register(data)
    assert not detectron2_trains(name)
    text = message(name)
    assert said in text
    assert (
        "Annotation " in text
        and "of image (id 8) " in text
        and "8.png, in " in text
        and "a.json" in text
    )


@pytest.mark.parametrize(("data", "said"), GETS_OVER.values(), ids=GETS_OVER)
def test_what_detectron2_gets_over_is_a_warning(data, said, register, caplog):
    name = register(data)
    assert detectron2_trains(name)
    caplog.clear()
    check_instance_dataset(name, 2, True)
    assert len(caplog.records) == 1 and caplog.records[0].levelname == "WARNING"
    assert said in caplog.text and "a.json" in caplog.text


@pytest.mark.parametrize("data", FINE.values(), ids=FINE)
def test_what_is_fine_is_passed_in_silence(data, register, caplog):
    name = register(data)
    assert detectron2_trains(name)
    caplog.clear()
    check_instance_dataset(name, 2, True)
    assert not caplog.records


@pytest.mark.parametrize("name", ["no mask", "empty mask", "size", "no counts"])
def test_masks_do_not_matter_to_boxes_alone(name, register):
    check_instance_dataset(register(STOPS[name][0]), 2, mask_on=False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"remove": "segmentation", "iscrowd": 1}, "has no 'segmentation'"),
        ({"segmentation": compressed(WIDTH, HEIGHT), "iscrowd": 1}, "but the image is 30 x 20"),
    ],
)
def test_what_evaluation_stops_at_is_an_error(changes, said, register):
    name = register(content(**changes))
    assert not pycocotools_evaluates(name)
    assert said in message(name, is_train=False)
    assert said in message(name)  # so training does not begin, which would get over it


@pytest.mark.parametrize("segmentation", [[SQUARE, LINE], [SQUARE, ODD], [ODD], RUNS])
def test_what_evaluation_gets_over_is_none(segmentation, register):
    name = register(content(segmentation=segmentation))
    assert pycocotools_evaluates(name)
    check_instance_dataset(name, 2, True, is_train=False)


@pytest.mark.parametrize("number", ["NaN", "Infinity"])
def test_polygons_that_would_fill_the_memory(number, register):
    """pycocotools does not come back from them."""
    text = message(register(content(segmentation=[SQUARE, [*SQUARE[:-1], float(number)]])))
    assert "not a finite number" in text and "(id 8)" in text


def test_run_lengths_of_other_images(register):
    text = message(register(content(segmentation=RUNS | {"counts": [40, 100]})))
    assert (
        "has run lengths that do not add up to its 600 pixels, but to 140. Write the mask again"
        in text
    )


def test_annotations_of_a_kind_are_counted(register, caplog):
    more = [annotation(k, image_id=8, segmentation=[SQUARE, LINE]) for k in (3, 4, 5)]
    check_instance_dataset(register(content(*more)), 2, True)
    assert len(caplog.records) == 1
    assert "Annotation id 3 of" in caplog.text
    assert "(3 annotations of " in caplog.text and "a.json are like it.)" in caplog.text
    more = [annotation(k, image_id=8, category_id=4) for k in (3, 4)]
    assert "(2 annotations of " in message(register(content(*more), "checked_instances_2"))


def test_the_minival_files_of_coco_may_repeat_ids(register):
    name = register(content(id=1), file="instances_minival.json")
    assert detectron2_trains(name)
    check_instance_dataset(name, 2, True)


def test_images_that_are_twice_in_the_file(register, caplog):
    data = content()
    data["images"].append(data["images"][0])
    check_instance_dataset(register(data), 2, True)
    assert "a.json: two of its 'images' have the same id (7). Remove one of them" in caplog.text
    data["images"].append(data["images"][0] | {"file_name": "8.png"})
    assert "two of its 'images' have the same id (7)" in message(register(data, "twice"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": []}, "it has no list of 'images', or an empty one"),
        ({"categories": "cat"}, "its 'categories' are a string, not a list"),
        ({"annotations": {}}, "its 'annotations' are a dict, not a list"),
        ({"annotations": [3]}, "number 0 (from 0) of its 'annotations' is 3, not a dict"),
        ({"images": [{"id": 7, "file_name": "7.png", "width": 30}]}, "'images' has no 'height'"),
        ({"categories": [{"id": 3}]}, "number 0 (from 0) of its 'categories' has no 'name'"),
        ({"categories": [{"id": 3, "name": "a"}] * 2}, "two of its 'categories' have the same id"),
    ],
)
def test_files_of_another_format(changes, said, register):
    text = message(register(content() | changes))
    assert "a.json is not an annotation file in COCO's format: " in text and said in text


def test_test_sets_may_be_evaluated(register):
    data = content()
    del data["annotations"]
    name = register(data)
    check_instance_dataset(name, 2, True, is_train=False)
    assert "Choose another data set for DATASETS.TRAIN" in message(name)


def test_nothing_but_crowds(register):
    data = content(iscrowd=1)
    data["annotations"][0]["iscrowd"] = 1
    assert "There is nothing to train on in" in message(register(data))


@pytest.mark.parametrize("damage", ["missing", "empty", "folder"])
def test_images(damage, register, folder):
    name, image = register(content()), folder / "val2017" / "8.png"
    image.unlink() if damage != "empty" else image.write_bytes(b"")
    if damage == "folder":
        (folder / "val2017").rename(folder / "elsewhere")
    text = message(name)
    said = {
        "missing": "1 of 2 images are missing",
        "empty": "files of zero bytes, 1 or more",
        "folder": "2 of 2 images are missing",
    }
    assert said[damage] in text and str(image) in text
    assert damage == "empty" or "Complete the copy. DETECTRON2_DATASETS" in text


@pytest.mark.parametrize(
    "metadata",
    [
        {"thing_classes": ["cat", "dog", "cow"]},
        {"thing_classes": ["dog", "cat"]},
        {"thing_dataset_id_to_contiguous_id": {1: 0, 2: 1}},
    ],
)
def test_a_file_under_the_name_of_another_data_set(metadata, register):
    name = register(content(), **metadata)
    text = message(name)
    assert "a.json has 2 categories (cat, dog), but the data set checked_instances" in text
    assert "Register the file under a name of its own: register_coco_instances(" in text
    assert not detectron2_trains(name)


def test_loaders_that_choose_classes(register, folder):
    """A loader of the user's, which keeps the dogs alone, knows what it does."""
    root, name = folder / "val2017", register(content(category_id=5), "checked_instances_all")

    def load():
        records = load_coco_json(MetadataCatalog.get(name).json_file, str(root))
        for record in records:
            dogs = [each for each in record["annotations"] if each["category_id"] == 5]
            record["annotations"] = [each | {"category_id": 0} for each in dogs]
        return records

    DatasetCatalog.register("checked_dogs", load)
    file = MetadataCatalog.get(name).json_file
    MetadataCatalog.get("checked_dogs").set(
        json_file=file, image_root=str(root), evaluator_type="coco", thing_classes=["dog"]
    )
    check_instance_dataset("checked_dogs", 1, True)
    assert "the data set checked_dogs has 1 class (dog)" in message("checked_dogs", 2)


def test_panoptic_data_sets(register, folder):
    def by(name, metadata, file, root):
        register_coco_panoptic_separated(name, metadata, root, root, file, root, file)

    register(content(category_id=4), by=by)
    assert "has category_id 4" in message("checked_instances_separated")


@pytest.mark.parametrize(
    "changes", [{"iscrowd": None}, {"image_id": "8"}, {"category_id": 3.0}, {"iscrowd": False}]
)
def test_what_another_loader_would_not_read_as_meant_is_an_error(changes, register):
    """Detectron2's own loader reads these data sets."""

    def by(name, metadata, file, root):
        register_coco_panoptic_separated(name, metadata, root, root, file, root, file)

    register(content(**changes), by=by)
    text = message("checked_instances_separated")
    assert "Detectron2's own loader of this data set would not read it as" in text


@pytest.fixture
def lvis(register):
    def add(name="checked_lvis", **changes):
        data = content()
        data["annotations"][1] |= changes
        data["categories"] = [{"id": k, "name": f"kind {k}"} for k in range(1, 7)]
        classes = [f"kind {k}" for k in range(1, 6)]
        return register(data, name, by=register_lvis_instances, thing_classes=classes)

    return add


def test_lvis(lvis, caplog):
    check_instance_dataset(lvis(), 5, True)
    assert not caplog.records
    assert "has 5 classes (kind 1, kind 2, kind 3, ...)" in message("checked_lvis", num_classes=80)


def test_lvis_classes_are_numbered_from_1_or_as_the_metadata_say(lvis):
    check_instance_dataset(lvis(category_id=5), 5, True)
    numbers = {3: 0, 2: 1, 6: 2, 4: 3, 5: 4}
    for category, known in ((6, True), (1, False)):
        name = lvis(f"checked_lvis_{category}", category_id=category)
        MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id = numbers
        if known:
            check_instance_dataset(name, 5, True)
        else:
            assert "has category_id 1, which LVIS does not have" in message(name, 5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"segmentation": RUNS}, "has a run-length mask, which Detectron2 does not read from LVIS"),
        ({"segmentation": [SQUARE, LINE]}, "has a polygon of 4 coordinates"),
        ({"segmentation": [ODD]}, "has a polygon of 9 coordinates"),
        (
            {"category_id": 6},
            "has category_id 6, which LVIS does not have. Correct the annotation, or",
        ),
        ({"category_id": 7}, "has category_id 7, which its 'categories' lack. Add"),
        ({"id": 1}, "has the id of another annotation"),
    ],
)
def test_what_lvis_stops_at(changes, said, lvis):
    name = lvis(**changes)
    text = message(name, 5)
    assert said in text and "of image (id 8) " in text and "/val2017/8.png, in " in text


def test_lvis_images_are_where_their_address_says(lvis, folder):
    (folder / "val2017" / "8.png").unlink()
    assert f"are missing: {folder}/val2017/8.png" in message(lvis(), 5)


WRONG_VALUES = {
    "no image": (content(remove="image_id"), "has the image_id None, not a whole number or a"),
    "list of images": (content(image_id=[8]), "has the image_id [8], not a whole number or"),
    "crowd": (content(iscrowd=[]), "has the iscrowd []; it must be 0 or 1"),
    "list as id": (content(id=[2]), "has the id [2], not a whole number or a string"),
    "far polygon": (
        content(segmentation=[[0, 0, 1e9, 0, 5, 5]]),
        "reaches 1000000 pixels and more",
    ),
    "runs below 0": (
        content(segmentation=RUNS | {"counts": [-40, 180, 460]}),
        "has run lengths that are not whole numbers from 0. Write",
    ),
    "size of a mask": (content(segmentation=RUNS | {"size": ["a", 3]}), "of the size ['a', 3]"),
}


@pytest.mark.parametrize("case", WRONG_VALUES)
def test_values_of_the_wrong_type_are_named(case, register):
    data, text = WRONG_VALUES[case]
    assert text in message(register(data))
