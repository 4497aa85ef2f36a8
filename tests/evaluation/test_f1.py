"""F1 of objects, against counts by hand."""

import math

import numpy as np
import pytest
from pycocotools.coco import COCO

from coco_sets import annotation, instances, mask_rle, register, run
from pointrend_seg.evaluation.coco import CocoInstanceEvaluator
from pointrend_seg.evaluation.f1 import Counts, count_objects

SIZE = 40, 40


def square(x, y, side=10):
    mask = np.zeros(SIZE, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def dataset(*annotations, categories=(1,)):
    return {
        "images": [{"id": i, "height": 40, "width": 40, "file_name": f"{i}.png"} for i in (1, 2)],
        "annotations": list(annotations),
        "categories": [{"id": c, "name": f"class{c}"} for c in categories],
    }


def counts(data, *detections, task="segm", **options):
    truth = COCO()
    truth.dataset = data
    truth.createIndex()
    results = [
        {
            "image_id": image,
            "category_id": category,
            "score": score,
            "segmentation": mask_rle(mask),
            "bbox": annotation(0, image, category, mask)["bbox"],
        }
        for image, category, score, mask in detections
    ]
    return count_objects(truth, results, task, **options)


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_found_missed_and_wrong_objects(task):
    data = dataset(
        annotation(1, 1, 1, square(0, 0)),
        annotation(2, 1, 1, square(20, 0)),
        annotation(3, 2, 1, square(0, 0)),
    )
    found = counts(
        data,
        (1, 1, 0.9, square(0, 0)),
        (1, 1, 0.8, square(1, 0)),  # a second one of the same object
        (1, 1, 0.7, square(20, 4)),  # IoU 60 / 140
        (1, 1, 0.6, square(20, 3)),  # IoU 70 / 130
        (2, 1, 0.49, square(0, 0)),  # a low score
        task=task,
    )
    assert found == {1: Counts(found=2, missed=1, wrong=2)}
    assert found[1].f1() == pytest.approx(100 * 4 / 7)


def test_the_highest_score_chooses_the_best_free_object():
    data = dataset(annotation(1, 1, 1, square(0, 0)), annotation(2, 1, 1, square(4, 0)))
    both = (1, 1, 0.6, square(0, 0)), (1, 1, 0.9, square(1, 0))  # the second prefers object 1
    assert counts(data, *both) == {1: Counts(found=1, missed=1, wrong=1)}
    assert counts(data, (1, 1, 0.6, square(4, 0)), both[1]) == {1: Counts(found=2)}


def test_categories_and_images_do_not_mix():
    data = dataset(
        annotation(1, 1, 1, square(0, 0)), annotation(2, 2, 2, square(0, 0)), categories=(1, 2, 3)
    )
    found = counts(data, (1, 2, 0.9, square(0, 0)), (2, 1, 0.9, square(0, 0)))
    assert found == {1: Counts(missed=1, wrong=1), 2: Counts(missed=1, wrong=1), 3: Counts()}
    assert math.isnan(found[3].f1()) and found[1].f1() == 0
    assert counts(data, image_ids=[2]) == {1: Counts(), 2: Counts(missed=1), 3: Counts()}


def test_detections_in_a_crowd_do_not_count():
    data = dataset(annotation(1, 1, 1, square(0, 0, 30), iscrowd=1))
    inside, outside = (1, 1, 0.9, square(5, 5)), (1, 1, 0.9, square(25, 25))
    assert counts(data, inside, outside) == {1: Counts(wrong=1)}


def test_more_objects_than_ap_has_room_for(tmp_path, caplog):
    masks = [square(x, y, 2) for x in range(0, 39, 3) for y in range(0, 39, 3)]  # 169
    data = dataset(*(annotation(k, 1, 1, mask) for k, mask in enumerate(masks, start=1)))
    evaluator = CocoInstanceEvaluator(register(tmp_path, data), ("segm",))
    output = {"instances": instances(*SIZE, masks, [0] * 169, [0.9] * 169)}
    with caplog.at_level("INFO"):
        results = run(evaluator, [{"image_id": 1}], [output])
    assert results["segm"]["F1"] == 100
    assert "segm: 169 of 169 objects found, 0 predicted objects are wrong" in caplog.text


def test_f1_is_the_mean_over_the_classes_that_have_objects(tmp_path):
    first, second = square(0, 0), square(20, 20)
    data = dataset(annotation(1, 1, 1, first), annotation(2, 1, 2, second), categories=(1, 2, 3))
    output = {"instances": instances(*SIZE, [first, second], [0, 2], [0.9, 0.9])}
    results = run(CocoInstanceEvaluator(register(tmp_path, data)), [{"image_id": 1}], [output])
    assert results["segm"]["F1"] == results["bbox"]["F1"] == 50
    assert "F1" not in results["boundary"]
