"""Scores of the Cityscapes scripts, and that they leave no files behind."""

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from PIL import Image

from coco_sets import instances, run
from pointrend_seg.errors import InputError
from pointrend_seg.evaluation.cityscapes import CityscapesInstanceEvaluator

pytest.importorskip("cityscapesscripts")
NAME = "pointrend_test_cityscapes_instance"
CLASSES = ["person", "car"]
HEIGHT, WIDTH = 64, 96
CAR, PERSON = (slice(10, 40), slice(8, 40)), (slice(20, 60), slice(60, 80))
ROAD_ID, PERSON_ID, CAR_ID = 7, 24000, 26000  # the first of each class: 1000 x class + 0


@pytest.fixture
def evaluator(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return make(tmp_path)


def make(tmp_path, classes=CLASSES):
    for city in ("aa", "bb"):
        folder = tmp_path / "gtFine" / city
        folder.mkdir(parents=True)
        labels = np.full((HEIGHT, WIDTH), ROAD_ID, np.uint16)
        labels[CAR], labels[PERSON] = CAR_ID, PERSON_ID
        Image.fromarray(labels).save(folder / f"{city}_000000_000001_gtFine_instanceIds.png")
    if NAME in MetadataCatalog.list():
        MetadataCatalog.remove(NAME)
    MetadataCatalog.get(NAME).set(thing_classes=classes, gt_dir=str(tmp_path / "gtFine"))
    return CityscapesInstanceEvaluator(NAME)


def region(place):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[place] = True
    return mask


def records(cities=("aa", "bb")):
    return [{"file_name": f"{city}_000000_000001_leftImg8bit.png"} for city in cities]


def predicted(**options):
    masks = [region(PERSON), region(CAR)]
    return {"instances": instances(HEIGHT, WIDTH, masks, [0, 1], [0.9, 0.8], **options)}


def test_perfect_predictions_score_100_and_leave_no_files(evaluator, tmp_path):
    before = {path.name for path in tmp_path.rglob("*")}
    assert run(evaluator, records(), [predicted()] * 2) == {
        "segm": {"AP": pytest.approx(100), "AP50": pytest.approx(100)}
    }
    assert {path.name for path in tmp_path.rglob("*")} == before


def test_a_missed_object(evaluator):
    """The person is found in one of two images: precision 1 to recall 1/2, then none."""
    empty = {"instances": instances(HEIGHT, WIDTH)}
    one = predicted()
    one["instances"].scores = one["instances"].scores.to(torch.float16)
    results = run(evaluator, records(), [one, empty])
    assert 45 < results["segm"]["AP"] < 80 and results["segm"]["AP"] == results["segm"]["AP50"]


def test_a_class_missing_in_cityscapes(tmp_path):
    with pytest.raises(InputError, match="not know class 'zebra' .* knows person, rider, car"):
        make(tmp_path, ["person", "zebra"])


def test_a_class_missing_in_the_data_set(evaluator):
    output = predicted()
    output["instances"].pred_classes[0] = 2
    with pytest.raises(InputError, match=r"predicts class 2, but .* has 2 classes \(0 to 1\)"):
        run(evaluator, records(), [output] * 2)


def test_a_model_without_masks(evaluator):
    with pytest.raises(InputError, match="predicts none: set MODEL.MASK_ON to True"):
        run(evaluator, records(), [predicted(with_masks=False)] * 2)


def test_an_image_that_was_not_evaluated(evaluator):
    with pytest.raises(InputError, match="scripts failed .* Evaluate every image under its gt_dir"):
        run(evaluator, records(["aa"]), [predicted()])
