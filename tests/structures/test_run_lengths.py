"""Run lengths of regions against pycocotools' for whole images."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coco_sets import blob, mask_rle
from pointrend_seg.structures.run_lengths import decode_columns, encode_columns


@pytest.mark.parametrize("y0, y1", [(0, 20), (0, 19), (1, 20), (5, 12), (19, 20), (0, 1), (4, 4)])
@pytest.mark.parametrize("x0, x1", [(0, 30), (0, 29), (1, 30), (7, 8), (29, 30), (6, 6)])
def test_runs_that_continue_in_the_next_column(x0, x1, y0, y1):
    rng = np.random.default_rng(0)
    for density in (0.0, 0.5, 0.9, 1.0):
        mask = np.zeros((20, 30), bool)
        mask[y0:y1, x0:x1] = rng.random((y1 - y0, x1 - x0)) < density
        region = mask[y0:y1, x0:x1].T
        assert encode_columns(region, x0, y0, 20, 30) == mask_rle(mask)


def decoded(rle):
    """Decode the whole mask with `decode_columns`."""
    columns, x0, y0 = decode_columns(rle)
    mask = np.zeros(rle["size"], np.uint8)
    mask[y0 : y0 + columns.shape[1], x0 : x0 + columns.shape[0]] = columns.T
    return mask


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    density=st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.9, 1.0]),
)
def test_encoded_and_decoded(seed, height, width, density):
    rng = np.random.default_rng(seed)
    (y0, y1), (x0, x1) = (np.sort(rng.integers(-n, 2 * n, 2)).clip(0, n) for n in (height, width))
    mask = np.zeros((height, width), np.uint8)
    mask[y0:y1, x0:x1] = rng.random((y1 - y0, x1 - x0)) < density
    rle = encode_columns(mask[y0:y1, x0:x1].T, int(x0), int(y0), height, width)
    assert rle == mask_rle(mask)
    np.testing.assert_array_equal(decoded(rle), mask)
    columns, left, top = decode_columns(rle)
    x, y, w, h = mask_util.toBbox(rle).astype(int)
    assert columns.shape == (w, h) and columns.dtype == np.uint8
    assert (left, top) == (x, y) or not mask.any()


@pytest.mark.parametrize("first", [0, 1, 7, 12])
@pytest.mark.parametrize("pixels", [1, 2, 5, 8, 9, 10])
def test_one_run(first, pixels):
    """Runs in a column, and from one column into the next."""
    mask = np.zeros(24, bool)
    mask[first : first + pixels] = True
    rle = mask_rle(mask.reshape(3, 8).T)
    np.testing.assert_array_equal(decoded(rle), mask.reshape(3, 8).T)


def test_long_runs():
    """Counts of many characters, and negative differences."""
    size = (1100, 2300)
    masks = np.zeros((4, *size), bool)
    masks[0, 200:700, 300:1500] = blob(np.random.default_rng(0), 500, 1200)
    masks[0, :, 3], masks[1], masks[2, -1, -1] = True, True, True
    for mask in masks:
        np.testing.assert_array_equal(decoded(mask_rle(mask)), mask)


@pytest.mark.parametrize(
    "counts", [[5, 3, 0, 2, 10], [0, 2, 0, 0, 18], [4, 0, 0, 16], [20], [0, 20], [0, 0, 20]]
)
def test_empty_runs(counts):
    """Other encoders may write them."""
    rle = mask_util.frPyObjects({"size": [4, 5], "counts": counts}, 4, 5)
    np.testing.assert_array_equal(decoded(rle), mask_util.decode(rle))


def test_polygons():
    polygon = [[1.5, 2, 30.2, 5, 25, 38.8, 4, 20], [28, 28, 39.9, 28, 35, 39.7]]
    rle = mask_util.merge(mask_util.frPyObjects(polygon, 40, 40))
    assert decoded(rle).any()
    np.testing.assert_array_equal(decoded(rle), mask_util.decode(rle))
