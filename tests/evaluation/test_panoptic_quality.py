"""Panoptic quality, against pixel sets, torchmetrics and cases by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pointrend_seg.evaluation.panoptic_quality import PanopticQuality, Segmentation

CLASSES = 3


def counts_of_pixel_sets(prediction, truth):
    """The counts of one image, as the paper defines them: by sets of pixels, one by one."""

    def pixels(segmentation):
        found = [set() for _ in range(len(segmentation.classes) + 1)]
        for place in np.ndindex(*segmentation.numbers.shape):
            found[segmentation.numbers[place]].add(place)
        return found

    true, predicted = pixels(truth), pixels(prediction)
    crowds = truth.crowds or [False] * len(truth.classes)
    iou_sum = np.zeros(CLASSES)
    matched, wrong, missed = np.zeros((3, CLASSES), int)
    taken = set()
    for g, (category, is_crowd) in enumerate(zip(truth.classes, crowds, strict=True), start=1):
        if is_crowd or not true[g]:
            continue
        for p, other in enumerate(prediction.classes, start=1):
            valid = predicted[p] - true[0]
            iou = len(true[g] & valid) / len(true[g] | valid)
            if other == category and iou > 0.5:
                taken.add(p)
                iou_sum[category] += iou
                matched[category] += 1
                break
        else:
            missed[category] += 1
    for p, category in enumerate(prediction.classes, start=1):
        if p in taken or not predicted[p]:
            continue
        ignored = set(true[0])
        for g, (other, is_crowd) in enumerate(zip(truth.classes, crowds, strict=True), start=1):
            if is_crowd and other == category:
                ignored |= true[g]
        if len(predicted[p] & ignored) / len(predicted[p]) <= 0.5:
            wrong[category] += 1
    return iou_sum, matched, wrong, missed


def count(*images):
    quality = PanopticQuality(CLASSES)
    for prediction, truth in images:
        quality.update(prediction, truth)
    return quality


def counts(quality):
    return quality.iou_sum, quality.matched, quality.wrong, quality.missed


@st.composite
def segmentations(draw, crowds):
    """Blocks of one of up to five segments, some of which are empty, changed at some pixels."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    truth_classes = rng.integers(0, CLASSES, rng.integers(0, 6)).tolist()
    numbers = rng.integers(0, len(truth_classes) + 1, (4, 6)).repeat(2, 0).repeat(2, 1)
    classes, changed = list(truth_classes), numbers.copy()
    if rng.random() < 0.3:
        classes = rng.integers(0, CLASSES, rng.integers(0, 6)).tolist()
        changed = rng.integers(0, len(classes) + 1, numbers.shape)
    noise = rng.random(numbers.shape) < rng.choice([0, 0.1, 0.3, 0.5])
    changed[noise] = rng.integers(0, len(classes) + 1, noise.sum())
    is_crowd = (rng.random(len(truth_classes)) < 0.3).tolist() if crowds else None
    return Segmentation(changed, classes), Segmentation(numbers, truth_classes, is_crowd)


@given(images=st.lists(segmentations(crowds=True), min_size=1, max_size=3))
@settings(max_examples=150, deadline=None)
def test_counts_are_those_of_pixel_sets(images):
    expected = [sum(each) for each in zip(*(counts_of_pixel_sets(*i) for i in images), strict=True)]
    found = counts(count(*images))
    assert np.allclose(found[0], expected[0])
    assert [each.tolist() for each in found[1:]] == [each.tolist() for each in expected[1:]]


@given(images=st.lists(segmentations(crowds=True), min_size=2, max_size=4))
@settings(max_examples=30, deadline=None)
def test_parts_are_merged(images):
    whole, first, second = count(*images), count(images[0]), count(*images[1:])
    first.merge(second)
    assert all(np.allclose(a, b) for a, b in zip(counts(first), counts(whole), strict=True))


@given(image=segmentations(crowds=False))
@settings(max_examples=50, deadline=None)
def test_the_truth_has_a_quality_of_one(image):
    truth = image[1]
    scores = count((truth, truth)).scores()
    assert set(scores[~np.isnan(scores)].tolist()) <= {1.0}
    present = {truth.classes[k - 1] for k in np.unique(truth.numbers).tolist() if k}
    assert set(np.flatnonzero(~np.isnan(scores[0])).tolist()) == present


@given(images=st.lists(segmentations(crowds=False), min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_torchmetrics_agrees(images):
    """Without crowds, which it does not know, and without void in predictions, which it excuses."""
    detection = pytest.importorskip("torchmetrics.detection")
    metric = detection.PanopticQuality(
        things=set(range(CLASSES)),
        stuffs={CLASSES},
        return_sq_and_rq=True,
        return_per_class=True,
    )

    def as_pairs(segmentation):
        table = np.array([CLASSES + 5, *segmentation.classes])  # an unknown class is void
        pairs = [table[segmentation.numbers], segmentation.numbers]
        return torch.as_tensor(np.stack(pairs, -1))[None]

    images = [(_without_void(prediction), truth) for prediction, truth in images]
    for prediction, truth in images:
        metric.update(as_pairs(prediction), as_pairs(truth))
    expected = np.nan_to_num(metric.compute().numpy().reshape(CLASSES + 1, 3)[:CLASSES].T)
    found = np.nan_to_num(count(*images).scores())
    assert np.allclose(found, expected, atol=1e-6)


def _without_void(prediction):
    numbers = np.where(prediction.numbers == 0, len(prediction.classes) + 1, prediction.numbers)
    return Segmentation(numbers, [*prediction.classes, 0])


def case(truth, prediction, *, classes=(0, 1), true_classes=(0, 1), crowds=None):
    row = [np.array([each]) for each in (prediction, truth)]
    quality = count(
        (Segmentation(row[0], list(classes)), Segmentation(row[1], list(true_classes), crowds))
    )
    return [each.tolist()[:2] for each in (quality.matched, quality.wrong, quality.missed)]


def test_half_is_no_match():
    """An IoU of exactly 0.5 is none; void in the truth does not count for a prediction."""
    assert case([1, 1, 2, 2], [1, 0, 2, 2]) == [[0, 1], [1, 0], [1, 0]]
    assert case([1, 1, 1, 2, 2], [1, 1, 0, 2, 2]) == [[1, 1], [0, 0], [0, 0]]
    assert case([1, 1, 0, 0, 0], [1, 1, 1, 1, 1], classes=[0], true_classes=[0])[0] == [1, 0]


def test_what_is_mostly_void_or_crowd_is_no_error():
    assert case([0, 0, 1, 2], [1, 1, 1, 2], classes=[1, 1])[1] == [0, 0]
    assert case([0, 0, 1, 1], [1, 1, 1, 1], classes=[1])[1] == [0, 1]  # half
    crowd = {"true_classes": [1, 0, 1, 1], "crowds": [True, False, True, False]}
    assert case([1, 1, 3, 2, 2], [1, 1, 1, 1, 1], classes=[1], **crowd) == [[0, 0], [0, 0], [1, 0]]
    assert case([1, 1, 3, 2, 2], [1, 1, 1, 1, 1], classes=[0], **crowd) == [[0, 0], [1, 0], [1, 0]]


def test_scores_of_classes():
    """A class without a match scores 0; one that does not occur is NaN."""
    quality = count(
        (Segmentation(np.array([[1, 1, 2]]), [0, 1]), Segmentation(np.array([[1, 1, 1]]), [0]))
    )
    found = quality.scores()
    assert np.allclose(found[:, 0], [2 / 3, 2 / 3, 1])
    assert found[:, 1].tolist() == [0, 0, 0] and np.isnan(found[:, 2]).all()
