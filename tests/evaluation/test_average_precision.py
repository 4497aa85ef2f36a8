"""Both back ends against hand-computed cases, each other, and the package lvis."""

import copy

import numpy as np
import pytest

import coco_sets
from pointrend_seg.errors import InputError
from pointrend_seg.evaluation import average_precision
from pointrend_seg.evaluation.average_precision import IOU_TYPES, precision_recall

BACKENDS = ["pycocotools", "faster_coco_eval"]


@pytest.fixture(params=BACKENDS)
def backend(request):
    pytest.importorskip(request.param)
    return request.param


def detection(image_id, category_id, mask, score):
    x0, y0, x1, y1 = map(float, coco_sets.box_of(mask))
    return {
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": coco_sets.mask_rle(mask),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "score": score,
    }


def square(top, left, side, size=100):
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def one_image(*annotations, size=100, **image):
    return {
        "images": [{"id": 1, "file_name": "1.jpg", "height": size, "width": size, **image}],
        "categories": [{"id": 5, "name": "five"}, {"id": 9, "name": "nine"}],
        "annotations": [
            coco_sets.annotation(number, 1, *annotation[:2], **dict(annotation[2:]))
            for number, annotation in enumerate(annotations, start=1)
        ],
    }


def metrics(dataset, detections, iou_type, backend, **options):
    return precision_recall(dataset, detections, iou_type, backend=backend, **options).metrics()


def random_detections(seed):
    dataset, masks = coco_sets.random_set(seed)
    inputs, outputs = coco_sets.random_predictions(dataset, masks, seed)
    detections = []
    for record, output in zip(inputs, outputs, strict=True):
        fields = output["instances"]
        for k in range(len(fields)):
            category = coco_sets.CATEGORY_IDS[int(fields.pred_classes[k])]
            score, mask = float(fields.scores[k]), fields.pred_masks[k].numpy()
            detections.append(detection(record["image_id"], category, mask, score))
    return dataset, detections


def test_a_shifted_square_by_hand(backend):
    """A 40-pixel square, moved by 4, in 100 x 100: IoU is 36 / 44, which 7 of 10 thresholds let
    through. The boundary region is 3 pixels wide (0.02 x 141.4), a frame of 40² - 34² = 444 pixels.
    Two such frames share 36 pixels of each of 6 rows, and nothing of their columns:
    216 / (888 - 216) = 0.32 < 0.5."""
    dataset = one_image((5, square(20, 20, 40)))
    detections = [detection(1, 5, square(20, 24, 40), 0.9)]
    assert metrics(dataset, detections, "segm", backend)["AP"] == pytest.approx(70)
    assert metrics(dataset, detections, "bbox", backend)["AP"] == pytest.approx(70)
    assert metrics(dataset, detections, "boundary", backend)["AP"] == 0


def test_boundary_iou_by_hand(backend):
    """Moved by one pixel: the frames share 39 pixels of each of 6 rows, and 2 + 2 of the columns in
    the 34 rows between: 370 / (888 - 370) = 0.714, 5 of 10 thresholds. The masks' IoU is
    39 / 41 = 0.951, all of them."""
    dataset = one_image((5, square(20, 20, 40)))
    detections = [detection(1, 5, square(20, 21, 40), 0.9)]
    assert metrics(dataset, detections, "boundary", backend)["AP"] == pytest.approx(50)
    assert metrics(dataset, detections, "segm", backend)["AP"] == pytest.approx(100)


def test_precision_and_recall_by_hand(backend):
    """Right, wrong, right, with three objects: precision 1 to recall 1/3 (34 of 101 thresholds),
    2/3 to recall 2/3 (33 more), 0 beyond."""
    dataset = one_image(*[(5, square(0, left, 20)) for left in (0, 30, 60)])
    found = [(square(0, 0, 20), 0.9), (square(50, 50, 20), 0.8), (square(0, 30, 20), 0.7)]
    detections = [detection(1, 5, mask, score) for mask, score in found]
    expected = 100 * (34 + 33 * 2 / 3) / 101
    for iou_type in IOU_TYPES:
        curves = precision_recall(dataset, detections, iou_type, backend=backend)
        result = curves.metrics()
        assert result["AP"] == result["APs"] == pytest.approx(expected)
        assert np.isnan(result["APm"]) and np.isnan(result["APl"])  # nothing is of that size
        assert curves.average_precision([0]) == pytest.approx(expected)
        assert np.isnan(curves.average_precision([1]))
        assert curves.recall[:, 0, 0] == pytest.approx(np.array([[1 / 3, 2 / 3, 2 / 3]] * 10))


def test_crowds_absorb_detections_and_are_ignored(backend):
    """A crowd's boundary is not an object's: compared by it, the small squares would be wrong."""
    dataset = one_image((5, square(0, 0, 20)), (5, square(30, 30, 60), ("iscrowd", 1)))
    in_crowd = [detection(1, 5, square(40, left, 15), 0.95) for left in (40, 60)]
    detections = [*in_crowd, detection(1, 5, square(0, 0, 20), 0.5)]
    for iou_type in IOU_TYPES:
        assert metrics(dataset, detections, iou_type, backend)["AP"] == pytest.approx(100)


def test_a_hole_lowers_boundary_ap_more_than_mask_ap(backend):
    ring = square(20, 20, 60) & ~square(45, 45, 6)
    dataset = one_image((5, ring))
    detections = [detection(1, 5, square(20, 20, 60), 0.9)]
    ap = {iou_type: metrics(dataset, detections, iou_type, backend)["AP"] for iou_type in IOU_TYPES}
    assert ap["bbox"] == pytest.approx(100) and ap["segm"] == pytest.approx(100)
    assert 50 < ap["boundary"] < 100


def test_no_detections_give_zero_precision(backend):
    """Objects that are not found give precision 0. Only the evaluators return NaN."""
    curves = precision_recall(one_image((5, square(0, 0, 20))), [], "segm", backend=backend)
    assert curves.metrics()["AP"] == 0 and np.isnan(curves.average_precision([1]))


def test_inputs_are_not_modified(backend):
    dataset, detections = random_detections(0)
    before = copy.deepcopy(detections)
    for iou_type in IOU_TYPES:
        precision_recall(dataset, detections, iou_type, backend=backend)
    assert detections == before


@pytest.mark.parametrize("iou_type", IOU_TYPES)
@pytest.mark.parametrize("seed", range(6))
def test_the_back_ends_agree(seed, iou_type):
    """Equal up to rounding: they sum in a different order."""
    pytest.importorskip("faster_coco_eval")
    dataset, detections = random_detections(seed)
    options = {"max_dets": (1, 3, 5)} if seed % 2 else {}
    one, other = (
        precision_recall(copy.deepcopy(dataset), detections, iou_type, backend=name, **options)
        for name in BACKENDS
    )
    assert one.precision.max() > 0
    np.testing.assert_allclose(one.precision, other.precision, rtol=0, atol=1e-9)
    np.testing.assert_allclose(one.recall, other.recall, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_boundary_ap_equals_that_of_faster_coco_eval(seed):
    """Its own boundaries are computed differently."""
    package = pytest.importorskip("faster_coco_eval")
    dataset, detections = random_detections(seed)
    ours = precision_recall(dataset, detections, "boundary").precision
    truth = package.COCO({"info": {}, **copy.deepcopy(dataset)})
    only_masks = [{k: v for k, v in d.items() if k != "bbox"} for d in detections]
    theirs = package.COCOeval_faster(truth, truth.loadRes(only_masks), "boundary")
    theirs.evaluate()
    np.testing.assert_allclose(ours, theirs.eval["precision"][..., -1], rtol=0, atol=1e-9)


def test_boundary_width_matches_the_reference_code(backend):
    """For 45 x 60 pixels, 0.02 of the diagonal is 1.5, which they round to the even 2;
    faster-coco-eval by itself takes 1. A frame of 2 of 20 pixels is 144 pixels; of one aside,
    19 x 4 + 2 x 16 are shared: 108 / 180 = 0.6, three thresholds."""
    assert average_precision.boundary_distance(45, 60) == 2
    dataset = one_image((5, square(20, 20, 20, 60)[:45]))
    dataset["images"][0].update(height=45, width=60)
    detections = [detection(1, 5, square(20, 21, 20, 60)[:45], 0.9)]
    assert metrics(dataset, detections, "boundary", backend)["AP"] == pytest.approx(30)


def test_evaluating_some_images(backend):
    dataset, detections = random_detections(1)
    chosen = [dataset["images"][0]["id"]]
    part = [d for d in detections if d["image_id"] in chosen]
    alone = {
        **dataset,
        "images": dataset["images"][:1],
        "annotations": [a for a in dataset["annotations"] if a["image_id"] in chosen],
    }
    expected = metrics(alone, part, "segm", backend)
    assert metrics(dataset, detections, "segm", backend, image_ids=chosen) == pytest.approx(
        expected, nan_ok=True
    )


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({}, 100),  # nobody looked for the category in the second image
        ({"neg_category_ids": [5]}, 50),  # it is not there: precision 1/2 at every recall
        ({"neg_category_ids": [5], "not_exhaustive_category_ids": [5]}, 100),
    ],
)
@pytest.mark.parametrize("iou_type", IOU_TYPES)
def test_lvis_rules_by_hand(known, expected, iou_type, backend):
    dataset = one_image((5, square(0, 0, 40)))
    second = {"id": 2, "neg_category_ids": [], "not_exhaustive_category_ids": []}
    dataset["images"].append({**dataset["images"][0], **second, **known})
    detections = [detection(1, 5, square(0, 0, 40), 0.5), detection(2, 5, square(9, 9, 40), 0.9)]
    ap = metrics(dataset, detections, iou_type, backend, federated=True)["AP"]
    assert ap == pytest.approx(expected)
    assert metrics(dataset, detections, iou_type, backend)["AP"] == pytest.approx(50)


def federated_set(seed):
    """Make a set of rare, common and frequent categories, some incomplete in some images."""
    dataset, detections = random_detections(seed)
    rng = np.random.default_rng(seed)
    for image in dataset["images"]:
        present = {a["category_id"] for a in dataset["annotations"] if a["image_id"] == image["id"]}
        absent = [c for c in coco_sets.CATEGORY_IDS if c not in present]
        image["neg_category_ids"] = [c for c in absent if rng.random() < 0.5]
        incomplete = [c for c in coco_sets.CATEGORY_IDS if rng.random() < 0.4]
        image["not_exhaustive_category_ids"] = incomplete
    for annotation in dataset["annotations"]:
        annotation["iscrowd"] = 0
    for category, frequency in zip(dataset["categories"], "rcf", strict=True):
        category["frequency"] = frequency
    return dataset, detections


@pytest.mark.parametrize("iou_type", IOU_TYPES)
@pytest.mark.parametrize("seed", range(4))
def test_the_back_ends_agree_with_lvis_rules(seed, iou_type):
    pytest.importorskip("faster_coco_eval")
    dataset, detections = federated_set(seed)
    one, other = (
        precision_recall(copy.deepcopy(dataset), detections, iou_type, federated=True, backend=name)
        for name in BACKENDS
    )
    assert one.precision.max() > 0
    np.testing.assert_allclose(one.precision, other.precision, rtol=0, atol=1e-9)
    coco = precision_recall(dataset, detections, iou_type, backend=BACKENDS[0])
    assert not np.allclose(coco.precision, one.precision)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(4))
def test_lvis_rules_match_the_lvis_package(seed, iou_type, backend, tmp_path, monkeypatch):
    lvis = pytest.importorskip("lvis")
    if not hasattr(np, "float"):  # which it calls and NumPy removed
        monkeypatch.setattr(np, "float", float, raising=False)
    dataset, detections = federated_set(seed)
    (tmp_path / "lvis.json").write_text(coco_sets.json.dumps(dataset))
    geometry = "bbox" if iou_type == "bbox" else "segmentation"
    without = [
        {k: v for k, v in d.items() if k in ("image_id", "category_id", "score", geometry)}
        for d in detections
    ]
    truth = lvis.LVIS(str(tmp_path / "lvis.json"))
    theirs = lvis.LVISEval(truth, lvis.LVISResults(truth, without), iou_type)
    theirs.run()
    curves = precision_recall(
        dataset, detections, iou_type, max_dets=(300,), federated=True, backend=backend
    )
    np.testing.assert_allclose(curves.precision, theirs.eval["precision"], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"iou_type": "keypoints"}, "no task 'keypoints': use one of bbox, segm, boundary"),
        ({"iou_type": "segm", "backend": "mine"}, "no back end 'mine': use one of fast"),
    ],
)
def test_unknown_names(options, text):
    with pytest.raises(InputError, match=text):
        precision_recall({}, [], **options)


def test_pycocotools_is_the_fallback(monkeypatch):
    monkeypatch.setattr(average_precision, "find_spec", lambda name: None)
    assert average_precision.installed_backend() == "pycocotools"
