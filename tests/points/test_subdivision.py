"""Adaptive subdivision against predicting every pixel."""

import pytest
import torch
from torch.nn import functional as F

from mask_inputs import of_place
from pointrend_seg.points.coordinates import grid_point_coords
from pointrend_seg.points.subdivision import most_uncertain_points, subdivide, subdivide_from_grid
from pointrend_seg.points.uncertainty import class_uncertainty


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


def test_no_region():
    logits = torch.zeros(0, 3, 4, 4)
    settings = {"num_steps": 2, "num_points": 10, "uncertainty": class_uncertainty}
    got = subdivide(logits, predict=lambda x: torch.zeros(0, 3, x.shape[1]), **settings)
    assert got.shape == (0, 3, 16, 16)


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


# --- from a grid of points alone ------------------------------------------------------------


@pytest.mark.parametrize(("side", "steps"), [(1, 0), (4, 0), (3, 2), (7, 1)])
def test_from_a_grid_points_that_cover_it_predict_every_pixel(side, steps):
    asked = []

    def predict(coords):
        asked.append(coords.shape[1])
        return of_place(coords)

    got = subdivide_from_grid(
        2, side=side, num_steps=steps, num_points=10**6, predict=predict, device="cpu"
    )
    final = side * 2**steps
    coords = grid_point_coords(torch.arange(final**2).expand(2, -1), final, final)
    torch.testing.assert_close(got, of_place(coords).view(2, 1, final, final), atol=1e-5, rtol=1e-5)
    assert asked == [(side * 2**k) ** 2 for k in range(steps + 1)]


def test_from_a_grid_the_logits_nearest_to_the_threshold_are_refined():
    steps = []
    subdivide_from_grid(
        1,
        side=8,
        num_steps=2,
        num_points=12,
        predict=lambda coords: coords[..., 0] - 0.5,  # the mask's edge is the middle column
        device="cpu",
        on_step=lambda logits, coords: steps.append(coords),
    )
    assert len(steps) == 2
    assert all((coords[..., 0] - 0.5).abs().max() < 1 / 16 for coords in steps)


def test_from_a_grid_without_regions():
    got = subdivide_from_grid(
        0, side=7, num_steps=2, num_points=50, predict=lambda x: x[..., 0], device="cpu"
    )
    assert got.shape == (0, 1, 28, 28)


# --- the search in long rows --------------------------------------------------------------------


@pytest.mark.parametrize("regions", [0, 1, 2, 7, 9])
@pytest.mark.parametrize(
    "kind", ["noise", "smooth", "few values", "constant", "hidden", "one high"]
)
def test_the_most_uncertain_of_many(regions, kind):
    """Also where a sample tells nothing about the scores."""
    generator = torch.Generator().manual_seed(0)
    scores = -torch.rand(regions, 96, 160, generator=generator)
    if kind == "smooth" and regions:
        scores = F.avg_pool2d(scores, 9, 1, 4)
    elif kind == "few values":
        scores = (scores * 3).floor()
    elif kind == "constant":
        scores[:] = -1.0
    elif kind == "hidden":
        scores[:, :, 40:] = -torch.inf
    elif kind == "one high":
        scores[:, :3, :100] += 5  # where a sample with a stride may miss it
    indices, _ = most_uncertain_points(scores, 300)
    assert indices.shape == (regions, 300)
    flat = scores.flatten(1)
    got = flat.gather(1, indices).sort(dim=1, descending=True).values
    assert torch.equal(got, flat.topk(300, dim=1).values)
    assert all(len(set(row.tolist())) == 300 for row in indices)
