"""All that read annotations and label images find the same ones faulty, by the same kind."""

import json
import math

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import BoxMode
from PIL import Image

import coco_sets
from pointrend_seg.data.checks.instance import check_instance_dataset
from pointrend_seg.data.mappers.instance import InstanceMapper
from pointrend_seg.data.mappers.semantic import SemanticMapper
from pointrend_seg.data.problems import KINDS
from pointrend_seg.data.survey.datasets import survey_datasets
from pointrend_seg.errors import InputError
from pointrend_seg.evaluation.coco import CocoInstanceEvaluator
from pointrend_seg.evaluation.semantic import SemanticSegmentationEvaluator
from small_configs import small_instance_cfg, small_semantic_cfg

NAME = "agreement_of_the_tests"
HEIGHT, WIDTH = 20, 30
SQUARE = [2.0, 2.0, 12.0, 2.0, 12.0, 12.0, 2.0, 12.0]
LINE, ODD, NAN = SQUARE[:4], [*SQUARE, 4.0], [*SQUARE[:-1], float("nan")]
MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[2:12, 2:12] = 1


def encoded(mask):
    rle = mask_util.encode(np.asfortranarray(mask))
    return rle | {"counts": rle["counts"].decode()}


def without_last_run():
    """A compressed mask that pycocotools decodes with what is in memory."""
    runs = {"size": [HEIGHT, WIDTH], "counts": [42, 10, 10, 10]}
    rle = mask_util.frPyObjects(runs, HEIGHT, WIDTH)
    return rle | {"counts": rle["counts"].decode()}


def mask(segmentation, *customers):
    return {"segmentation": segmentation}, "bad-mask", {"training", "mapper", *customers}


def left_out(kind, segmentation):
    """Polygons that only the mapper refuses, which does not get them from the loader."""
    return {"segmentation": segmentation}, kind, {"training", "mapper"}


ALL = {"training", "mapper", "evaluation"}  # besides the survey, which finds everything
# Changes of an annotation (None takes a key away), the kind of problem, and who else finds it.
FAULTS = {
    "no id": ({"id": None}, "duplicate-id", {"training"}),
    "id of another": ({"id": 1}, "duplicate-id", {"training"}),
    "no such image": ({"image_id": 99}, "unknown-image", {"training"}),
    "ignored": ({"ignore": 1}, "ignored-object", {"training"}),
    "no such class": ({"category_id": 4}, "unknown-class", {"training", "mapper"}),
    "no class": ({"category_id": None}, "unknown-class", {"training", "mapper"}),
    "no box": ({"bbox": None}, "bad-box", {"training", "mapper"}),
    "empty box": ({"bbox": []}, "bad-box", {"training", "mapper"}),
    "box of three": ({"bbox": [2, 2, 10]}, "bad-box", {"training", "mapper"}),
    "box of NaN": ({"bbox": [2, 2, 10, float("nan")]}, "bad-box", {"training", "mapper"}),
    "no mask": ({"segmentation": None}, "no-mask", ALL),
    "empty list": ({"segmentation": []}, "no-mask", ALL),
    "two points": left_out("no-polygon", [LINE]),
    "two points first": left_out("short-polygon", [LINE, SQUARE]),
    "two points second": left_out("short-polygon", [SQUARE, LINE]),
    "odd number": left_out("no-polygon", [ODD]),
    "not a number": mask([SQUARE, NAN], "evaluation"),
    "text": mask([list(map(str, SQUARE))], "evaluation"),
    "flat": mask(SQUARE, "evaluation"),
    "another size": mask(encoded(MASK.T), "evaluation"),
    "no counts": mask({"size": [HEIGHT, WIDTH]}, "evaluation"),
    "too few runs": mask({"size": [HEIGHT, WIDTH], "counts": [40, 100]}, "evaluation"),
    "path": mask("mask.png", "evaluation"),
    "too many runs": mask(encoded(np.hstack([MASK] * 9)) | {"size": [HEIGHT, WIDTH]}, "evaluation"),
    "no last run": mask(without_last_run(), "evaluation"),
}
SOUND = {
    "polygons": {"segmentation": [SQUARE, SQUARE[:6]]},
    "run lengths": {"segmentation": encoded(MASK)},
    "runs": {
        "bbox": [2, 0, 5, HEIGHT],
        "segmentation": {"size": [HEIGHT, WIDTH], "counts": [40, 100, 460]},
    },
}


@pytest.fixture(autouse=True)
def forget():
    yield
    for catalog in (DatasetCatalog, MetadataCatalog):
        if NAME in catalog.list():
            catalog.remove(NAME)


def annotation(number, **changes):
    given = {
        "id": number,
        "image_id": number,
        "category_id": 3,
        "bbox": [2, 2, 10, 10],
        "area": 100,
        "iscrowd": 0,
        "segmentation": [SQUARE],
    }
    return {key: value for key, value in (given | changes).items() if value is not None}


def who_finds(folder, caplog, changes):
    """The kinds that the survey finds, and who else says that annotation 2 is faulty."""
    images = [{"id": k, "file_name": f"{k}.png", "height": HEIGHT, "width": WIDTH} for k in (1, 2)]
    for k in (1, 2):
        Image.new("RGB", (WIDTH, HEIGHT), (k, 0, 0)).save(folder / f"{k}.png")
    faulty = annotation(2, **changes)
    categories = [{"id": 3, "name": "cat"}]
    content = {
        "images": images,
        "annotations": [annotation(1), faulty],
        "categories": categories,
    }
    (folder / "a.json").write_text(json.dumps(content))
    register_coco_instances(NAME, {}, str(folder / "a.json"), str(folder))
    found = {"training": by_training(caplog), "mapper": by_mapper(folder, faulty)}
    found["evaluation"] = by_evaluation(caplog)
    kinds = survey_datasets([NAME]).found.keys() - {"no-objects"}  # annotation 2 is of image 99
    return kinds, {customer for customer, finds in found.items() if finds}


def by_training(caplog):
    caplog.clear()
    try:
        check_instance_dataset(NAME, 1, True)
    except InputError as error:
        assert "Annotation " in str(error) and "2.png" in str(error)
        return True
    return "Annotation id 2 " in caplog.text


def by_mapper(folder, faulty):
    index = {3: 0, None: None}.get(faulty.get("category_id"), 99)
    known = faulty | {"category_id": index, "bbox_mode": BoxMode.XYWH_ABS}
    record = {"file_name": str(folder / "2.png"), "annotations": [known]}
    try:
        InstanceMapper(small_instance_cfg(num_classes=1), is_train=True)(record)
    except InputError as error:
        assert "Annotation " in str(error) and "2.png" in str(error)
        return True
    return False


def by_evaluation(caplog):
    """Whether masks cannot be scored; boxes and ids are pycocotools' own business."""
    caplog.clear()
    try:
        evaluator = CocoInstanceEvaluator(NAME, ("segm",), distributed=False)
        predicted = coco_sets.instances(HEIGHT, WIDTH, [MASK.astype(bool)], [0], [0.9])
        inputs = [{"image_id": k} for k in (1, 2)]
        scores = coco_sets.run(evaluator, inputs, [{"instances": predicted}] * 2)["segm"]
    except KeyError as error:  # pycocotools takes boxes and ids for granted
        assert error.args[0] in ("id", "bbox", "category_id")
        return False
    found = "annotation 2 of image 2 " in caplog.text
    assert found == math.isnan(scores["AP"])
    return found


@pytest.mark.parametrize("name", FAULTS)
def test_all_find_the_same_annotations(name, tmp_path, caplog):
    changes, kind, customers = FAULTS[name]
    assert who_finds(tmp_path, caplog, changes) == ({kind}, customers)


@pytest.mark.parametrize("name", SOUND)
def test_nobody_finds_anything_in_sound_annotations(name, tmp_path, caplog):
    assert who_finds(tmp_path, caplog, SOUND[name]) == (set(), set())


def labels(*values, size=(6, 8)):
    return np.resize(np.array(values, np.uint8), size)


LABELS = {
    "sound": (labels(0, 1, 2, 255), None),
    "no class": (labels(0, 1, 3), "label-value"),
    "another ignored value": (labels(0, 254), "label-value"),
    "colours": (np.zeros((6, 8, 3), np.uint8), "label-value"),
    "grey and alpha": (np.zeros((6, 8, 2), np.uint8), "label-value"),
    "another size": (labels(0, 1, size=(8, 6)), "label-size"),
    "broken": (None, "unreadable-labels"),
}


@pytest.mark.parametrize("name", LABELS)
def test_all_find_the_same_label_images(name, tmp_path):
    array, kind = LABELS[name]
    Image.new("RGB", (8, 6)).save(tmp_path / "image.png")
    (tmp_path / "labels.png").write_bytes(b"no image")
    if array is not None:
        Image.fromarray(array).save(tmp_path / "labels.png")
    record = {
        "file_name": str(tmp_path / "image.png"),
        "sem_seg_file_name": str(tmp_path / "labels.png"),
    }
    DatasetCatalog.register(NAME, lambda: [record])
    MetadataCatalog.get(NAME).set(stuff_classes=["a", "b", "c"], ignore_label=255)
    kinds = survey_datasets([NAME]).with_severity("error").keys()
    assert kinds == ({kind} if kind else set())
    mapper = SemanticMapper(small_semantic_cfg(num_classes=3), is_train=True)
    assert refuses(lambda: mapper(record)) == bool(kind)
    evaluator = SemanticSegmentationEvaluator(NAME, distributed=False)
    scores = {"sem_seg": torch.zeros(3, 6, 8)}
    assert refuses(lambda: evaluator.process([record], [scores])) == bool(kind)


def refuses(call):
    try:
        call()
    except InputError as error:
        assert "labels.png" in str(error)
        return True
    return False


def test_every_kind_of_problem_is_known():
    assert {kind for _, kind, _ in FAULTS.values()} <= KINDS.keys()
    assert {kind for _, kind in LABELS.values() if kind} <= KINDS.keys()
