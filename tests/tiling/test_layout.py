"""Tiles cover an image, and their weights sum to 1 without a step."""

import numpy as np
import pytest

from pointrend_seg.tiling.layout import TileGrid, blending_weights, intervals

CASES = [(100, 32, 8), (33, 32, 16), (32, 32, 8), (5, 32, 8), (65, 32, 16), (97, 32, 0), (1, 1, 0)]


@pytest.mark.parametrize(("length", "size", "overlap"), CASES)
def test_intervals_cover_everything_and_overlap(length, size, overlap):
    spans = intervals(length, size, overlap)
    assert spans[0][0] == 0 and spans[-1][1] == length
    assert {stop - start for start, stop in spans} == {min(length, size)}
    for (first, stop), (second, _) in zip(spans, spans[1:], strict=False):
        assert first < second and stop - second >= overlap
    fewer = size + (len(spans) - 2) * (size - overlap)  # what one interval less could cover
    assert len(spans) == 1 or fewer < length


@pytest.mark.parametrize(("length", "size", "overlap"), CASES)
def test_weights_sum_to_one(length, size, overlap):
    spans = intervals(length, size, overlap)
    total = np.zeros(length)
    for (start, stop), weights in zip(spans, blending_weights(spans), strict=True):
        assert weights.dtype == np.float32 and (weights > 0).all()
        total[start:stop] += weights
    assert np.allclose(total, 1, atol=1e-6)


def test_weights_fade_to_nothing_at_a_border_inside_the_image():
    first, second = blending_weights(intervals(96, 64, 32))
    assert first[0] == 1 and first[-1] < 0.01 and second[0] < 0.01 and second[-1] == 1
    assert abs(np.diff(first)).max() < 0.06  # over 32 pixels


def test_a_grid_is_read_row_by_row():
    grid = TileGrid.cover(6, 4, size=4, overlap=1)
    assert grid.boxes() == [(0, 0, 4, 4), (0, 2, 4, 6)] and len(grid) == 2
