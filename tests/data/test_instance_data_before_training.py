"""What is found wrong with instance data before a model is built, and what is only warned about."""

import copy
import itertools
import json

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import BoxMode

from pointrend_seg.data.instance_checks import check_instance_dataset
from pointrend_seg.errors import InputError

NUMBERS = itertools.count()
SQUARE = [2.0, 2.0, 12.0, 2.0, 12.0, 12.0, 2.0, 12.0]


def coco():
    """Two images of 20 x 30, an object in each, two categories."""
    return {
        "images": [{"id": k, "file_name": f"{k}.jpg", "height": 20, "width": 30} for k in (7, 8)],
        "annotations": [
            {
                "id": k,
                "image_id": 6 + k,
                "category_id": 3,
                "bbox": [2, 2, 10, 10],
                "area": 100,
                "iscrowd": 0,
                "segmentation": [SQUARE],
            }
            for k in (1, 2)
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
    }


@pytest.fixture
def registered(tmp_path):
    names = []

    def register(content, images=(7, 8)):
        name = f"pointrend_test_instances_{next(NUMBERS)}"
        file = tmp_path / "instances.json"
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        for k in images:
            cv2.imwrite(str(tmp_path / f"{k}.jpg"), np.zeros((20, 30, 3), np.uint8))
        register_coco_instances(name, {}, str(file), str(tmp_path))
        names.append(name)
        return name

    yield register
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def check(name, num_classes=2, mask_on=True, is_train=True):
    check_instance_dataset(name, num_classes, mask_on, is_train=is_train)


def test_a_good_one(registered, caplog):
    name = registered(coco())
    check(name)
    check(name, is_train=False)
    assert not caplog.records


def changed(**changes):
    content = coco()
    content["annotations"][1].update(changes)
    return content


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (changed(category_id=9), ["id 2", "image (id 8) 8.jpg", "category_id 9", "'categories'"]),
        (changed(segmentation=[]), ["id 2", "8.jpg", "'segmentation'", "MODEL.MASK_ON False"]),
        (
            changed(segmentation=mask_util.frPyObjects([[SQUARE[0], *SQUARE[1:]]], 40, 60)[0]),
            ["id 2", "8.jpg", "60 x 40", "30 x 20"],
        ),
        (changed(segmentation=[[*SQUARE[:-1], "x"]]), ["id 2", "8.jpg", "no finite number"]),
        (changed(bbox=[2, 2, 10]), ["id 2", "8.jpg", "'bbox' [2, 2, 10]"]),
        (changed(id=1), ["id 1", "8.jpg", "id of another annotation"]),
    ],
    ids=["category", "no mask", "size", "no number", "box", "same id"],
)
def test_annotations_that_stop_training(content, parts, registered):
    for annotation in content["annotations"]:
        counts = annotation["segmentation"]
        if isinstance(counts, dict):
            counts["counts"] = counts["counts"].decode()
    with pytest.raises(InputError) as error:
        check(registered(content))
    assert all(part in str(error.value) for part in [*parts, "instances.json"]), error.value


def test_without_masks_they_do_not_matter(registered):
    check(registered(changed(segmentation=[])), mask_on=False)


@pytest.mark.parametrize(("num_classes", "said"), [(80, "is 80"), (1, "is 1")])
def test_class_counts_that_do_not_fit(num_classes, said, registered):
    with pytest.raises(InputError) as error:
        check(registered(coco()), num_classes=num_classes)
    assert said in str(error.value) and "has 2 classes" in str(error.value)
    assert "Set MODEL.ROI_HEADS.NUM_CLASSES 2" in str(error.value)


def test_what_detectron2_gets_over_is_a_warning(registered, caplog):
    content = coco()
    content["annotations"].append({**content["annotations"][0], "id": 3, "image_id": 99})
    content["annotations"].append({**copy.deepcopy(content["annotations"][0]), "id": 4})
    content["annotations"][-1]["segmentation"] = [SQUARE, [1, 1, 2, 2]]
    check(registered(content))
    text = caplog.text
    assert "Annotation id 3" in text and "not among the 'images'" in text
    assert "Annotation id 4" in text and "fewer than 3 points" in text


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{", "cannot be read"),
        ("[]", "not an annotation file in COCO's format"),
        ({**coco(), "categories": []}, "no list of 'categories'"),
        ({key: value for key, value in coco().items() if key != "annotations"}, "'annotations'"),
        ({**coco(), "annotations": []}, "nothing to train on"),
    ],
    ids=["cut off", "a list", "no categories", "a test set", "no objects"],
)
def test_files_that_are_none(content, part, registered):
    with pytest.raises(InputError, match="instances.json") as error:
        check(registered(content))
    assert part in str(error.value)


def test_missing_files(registered, tmp_path):
    name = registered(coco(), images=(7,))
    with pytest.raises(InputError, match=r"8\.jpg"):
        check(name)
    (tmp_path / "instances.json").unlink()
    with pytest.raises(InputError, match="does not exist.*DETECTRON2_DATASETS"):
        check(name)
    with pytest.raises(InputError, match="pointrend_test_no_such"):
        check("pointrend_test_no_such")


def test_data_sets_of_dicts(tmp_path):
    name = f"pointrend_test_instances_{next(NUMBERS)}"
    file = tmp_path / "a.png"
    cv2.imwrite(str(file), np.zeros((20, 30, 3), np.uint8))
    annotation = {
        "bbox": [2, 2, 12, 12],
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": 0,
        "segmentation": [SQUARE],
    }
    record = {"file_name": str(file), "height": 20, "width": 30, "annotations": [annotation]}
    DatasetCatalog.register(name, lambda: [record])
    MetadataCatalog.get(name).set(thing_classes=["cat"])
    try:
        check(name, num_classes=1)
        record["annotations"][0] = {**annotation, "category_id": 1}
        with pytest.raises(InputError, match=r"a\.png has category_id 1, but classes are 0 to 0"):
            check(name, num_classes=1)
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
