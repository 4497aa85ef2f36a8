"""Adaptive subdivision against predicting every pixel."""

import pytest
import torch
from torch.nn import functional as F

from pointrend_seg.points import grid_point_coords
from pointrend_seg.sampling import class_uncertainty
from pointrend_seg.subdivision import most_uncertain_points, subdivide


def wave(coords):
    """A smooth function of the place, as logits of two classes (N, 2, P)."""
    first = torch.sin(9 * coords[..., 0]) + torch.cos(7 * coords[..., 1])
    return torch.stack((first, -first), dim=1)


def every_pixel(height, width, regions):
    coords = grid_point_coords(torch.arange(height * width).expand(regions, -1), height, width)
    return wave(coords).view(regions, 2, height, width)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (4, 4)])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_points_that_cover_the_grid_predict_every_pixel(height, width, steps):
    logits = torch.zeros(2, 2, height, width)
    got = subdivide(
        logits,
        num_steps=steps,
        num_points=height * width * 4**steps,
        predict=wave,
        uncertainty=class_uncertainty,
    )
    want = every_pixel(height * 2**steps, width * 2**steps, 2)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    assert logits.eq(0).all()


def test_only_the_chosen_points_change():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 6)
    seen = []
    got = subdivide(
        logits,
        num_steps=1,
        num_points=10,
        predict=lambda coords: torch.full((2, 3, coords.shape[1]), 50.0),
        uncertainty=class_uncertainty,
        on_step=lambda step_logits, coords: seen.append((step_logits.shape, coords.shape)),
    )
    plain = F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
    changed = got.eq(50).all(dim=1)
    assert changed.sum(dim=(1, 2)).tolist() == [10, 10]
    assert torch.equal(got.masked_select(~changed[:, None]), plain.masked_select(~changed[:, None]))
    # The chosen are the least certain: none that was left is less certain than one chosen.
    scores = class_uncertainty(plain)
    for n in range(2):
        assert scores[n][changed[n]].min() >= scores[n][~changed[n]].max()
    assert seen == [((2, 3, 8, 12), (2, 10, 2))]


def test_no_step_returns_the_coarse_logits():
    logits = torch.randn(1, 2, 3, 3)
    assert subdivide(logits, num_steps=0, num_points=5, predict=None, uncertainty=None) is logits


def test_most_uncertain_points_of_a_non_contiguous_map():
    """Detectron2's PointRend fails on such a map: `view size is not compatible`."""
    scores = torch.rand(2, 6, 4).transpose(1, 2)
    assert not scores.is_contiguous()
    indices, coords = most_uncertain_points(scores, 5)
    for n in range(2):
        flat = scores[n].reshape(-1)
        assert flat[indices[n]].tolist() == sorted(flat.tolist(), reverse=True)[:5]
    assert torch.equal(coords, grid_point_coords(indices, 4, 6))


def test_more_points_than_cells_take_all_cells():
    indices, coords = most_uncertain_points(torch.rand(1, 3, 2), 100)
    assert sorted(indices[0].tolist()) == list(range(6)) and coords.shape == (1, 6, 2)


def test_no_region():
    got = subdivide(
        torch.zeros(0, 3, 4, 4),
        num_steps=2,
        num_points=10,
        predict=lambda coords: torch.zeros(0, 3, coords.shape[1]),
        uncertainty=class_uncertainty,
    )
    assert got.shape == (0, 3, 16, 16)
