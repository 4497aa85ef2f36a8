import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pointrend_seg.evaluation import boundary, confusion
from pointrend_seg.evaluation.boundary import (
    boundary_counts,
    boundary_distance,
    boundary_region,
    class_boundaries,
)

IGNORE = 7


def slow_region(mask, distance, ignored=None):
    """Apply the definition to each pixel: a pixel within `distance` is known to be outside."""
    height, width = mask.shape
    known = np.ones_like(mask) if ignored is None else ~ignored

    def outside(v, u):
        if not (0 <= v < height and 0 <= u < width):
            return True
        return known[v, u] and not mask[v, u]

    window = range(-distance, distance + 1)
    region = np.zeros(mask.shape, dtype=bool)
    for y, x in np.argwhere(mask & known):
        region[y, x] = any(outside(y + dy, x + dx) for dy in window for dx in window)
    return region


def slow_counts(prediction, labels, num_classes, distance, ignore_value):
    ignored = labels == ignore_value
    counts = []
    for c in range(num_classes):
        p = slow_region(prediction == c, distance, ignored)
        g = slow_region(labels == c, distance, ignored)
        counts.append([(p & g).sum(), (p | g).sum(), g.sum()])
    return np.array(counts).T


shapes = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)
distances = st.integers(1, 12)


@settings(max_examples=80, deadline=None)
@given(arrays(bool, shapes), distances)
def test_boundary_region_matches_the_definition(mask, distance):
    np.testing.assert_array_equal(boundary_region(mask, distance), slow_region(mask, distance))


@settings(max_examples=60, deadline=None)
@given(st.data(), shapes, distances)
def test_boundary_counts_match_the_definition(data, shape, distance):
    prediction = data.draw(arrays(np.int64, shape, elements=st.integers(0, 3)))
    labels = data.draw(arrays(np.int64, shape, elements=st.sampled_from([0, 1, 2, 3, IGNORE])))
    counts = boundary_counts(prediction, labels, 4, distance, IGNORE)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, slow_counts(prediction, labels, 4, distance, IGNORE))


@settings(max_examples=40, deadline=None)
@given(arrays(np.uint8, shapes, elements=st.integers(0, 4)), distances)
def test_class_boundaries_are_the_union_of_binary_boundaries(labels, distance):
    union = class_boundaries(labels, distance)
    for c in range(5):
        np.testing.assert_array_equal(
            union & (labels == c), boundary_region(labels == c, distance), err_msg=f"class {c}"
        )


@settings(max_examples=40, deadline=None)
@given(st.data(), shapes, distances)
def test_ignored_pixels_do_not_matter(data, shape, distance):
    """Predictions at ignored pixels change nothing; if all others are right, IoU is 1."""
    labels = data.draw(arrays(np.int64, shape, elements=st.sampled_from([0, 1, 2, IGNORE])))
    anything = data.draw(arrays(np.int64, shape, elements=st.integers(0, 2)))
    prediction = np.where(labels == IGNORE, anything, labels)
    intersection, union, truth = boundary_counts(prediction, labels, 3, distance, IGNORE)
    np.testing.assert_array_equal(intersection, union)
    np.testing.assert_array_equal(union, truth)


def test_the_edge_of_an_ignored_area_is_not_a_contour():
    labels = np.zeros((20, 20), dtype=np.uint8)
    labels[8:12, 8:12] = IGNORE
    region = class_boundaries(labels, 2, labels == IGNORE)
    np.testing.assert_array_equal(region, boundary_region(np.ones((20, 20)), 2))


def test_a_thin_ignored_band_does_not_hide_the_contour_behind_it():
    labels = np.zeros((40, 40), dtype=np.uint8)
    labels[:, 18:20], labels[:, 20:] = IGNORE, 1
    region = class_boundaries(labels, 5, labels == IGNORE)
    assert region[20].nonzero()[0].tolist() == [*range(5), *range(15, 18), *range(20, 23)] + [
        *range(35, 40)
    ]


def test_boundary_region_equals_repeated_erosion():
    """The form in which the paper's authors compute it."""
    mask = (np.random.default_rng(0).random((90, 130)) > 0.002).astype(np.uint8)
    for distance in (1, 2, 5, 60):
        padded = np.pad(mask, 1)
        eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=distance)[1:-1, 1:-1]
        np.testing.assert_array_equal(boundary_region(mask, distance), (mask - eroded) > 0)


@pytest.mark.parametrize("distance", [1, 3, 1000])
def test_empty_full_and_single_pixel_masks(distance):
    assert not boundary_region(np.zeros((6, 9), bool), distance).any()
    assert boundary_region(np.ones((1, 1), bool), distance).all()
    one = np.zeros((6, 9), bool)
    one[3, 4] = True
    np.testing.assert_array_equal(boundary_region(one, distance), one)
    full = boundary_region(np.ones((6, 9), bool), distance)
    assert full.sum() == {1: 26, 3: 54, 1000: 54}[distance]


def test_disjoint_masks_and_absent_classes():
    prediction, labels = np.ones((10, 10), int), np.zeros((10, 10), int)
    counts = boundary_counts(prediction, labels, 3, 1)
    np.testing.assert_array_equal(counts, [[0, 0, 0], [36, 36, 0], [36, 0, 0]])


def test_everything_ignored():
    counts = boundary_counts(np.zeros((5, 5), int), np.full((5, 5), 255), 2, 1, 255)
    assert not counts.any()


def test_more_than_256_classes():
    """0 and 256, 253 and 254 must stay different classes."""
    labels = np.repeat([0, 256, 253, 254, 255, 1202], 8)[None].repeat(48, axis=0)
    expected = slow_region(labels == 0, 2)
    for c in np.unique(labels)[1:]:
        expected |= slow_region(labels == c, 2)
    np.testing.assert_array_equal(class_boundaries(labels, 2), expected)
    for c in (253, 254, 255, 256):  # around the switch to two bytes
        np.testing.assert_array_equal(
            class_boundaries(np.full((9, 9), c), 2), boundary_region(np.ones((9, 9)), 2)
        )


def test_any_memory_layout():
    labels = np.random.default_rng(1).integers(0, 3, (30, 20))
    expected = class_boundaries(labels, 2).T
    np.testing.assert_array_equal(class_boundaries(labels.T, 2), expected)
    np.testing.assert_array_equal(boundary_region(labels.T, 2), boundary_region(labels, 2).T)


@pytest.mark.parametrize(
    ("size", "ratio", "distance"),
    [((3, 4), 0.02, 1), ((300, 400), 0.02, 10), ((1024, 2048), 0.02, 46), ((300, 400), 0.1, 50)],
)
def test_boundary_distance(size, ratio, distance):
    assert boundary_distance(*size, ratio) == distance


def test_fast_enough_for_cityscapes():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 19, (32, 64)).astype(np.uint8)
    labels = cv2.resize(small, (2048, 1024), interpolation=cv2.INTER_NEAREST)
    prediction = np.roll(labels, 3, axis=1)
    start = time.process_time()
    boundary_counts(prediction, labels, 19, 46, 255)
    assert time.process_time() - start < 3  # about 0.05 s; generous, since machines are shared


def test_counting_in_parts_changes_nothing(monkeypatch):
    """Large images are counted in parts, because NumPy counts in 64 bits."""
    rng = np.random.default_rng(0)
    prediction, labels = rng.integers(0, 3, (2, 40, 31)).astype(np.uint8)
    labels[rng.random(labels.shape) < 0.1] = 255
    counted = []
    for at_once in (2**22, 70):
        for module in (boundary, confusion):
            monkeypatch.setattr(module, "_AT_ONCE", at_once)
        found = confusion.SemanticConfusion(3)
        found.update(prediction, labels)
        counted.append((found.matrix, found.boundary))
    for whole, parts in zip(*counted, strict=True):
        assert whole.sum() and np.array_equal(whole, parts)
    assert counted[0][0].sum() == (labels != 255).sum()
