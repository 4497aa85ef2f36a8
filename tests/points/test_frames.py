"""Frames of maps whose strides do not divide the image."""

import pytest
import torch

from pointrend_seg.errors import InputError
from pointrend_seg.points.frames import (
    change_frame,
    check_same_image,
    extent,
    hide_outside,
    pad_labels,
    shown_extent,
)
from pointrend_seg.points.interpolation import sample_points


def test_a_place_keeps_its_pixel_in_every_frame():
    coords = torch.tensor([[[0.25, 0.75]]])
    moved = change_frame(coords, (80, 80), (72, 40))
    assert moved.tolist() == [[[0.25 * 80 / 40, pytest.approx(0.75 * 80 / 72)]]]
    assert change_frame(coords, (80, 80), (80, 80)) is coords


def test_maps_of_one_image_are_read_at_the_same_pixel():
    """Each map holds the x of its cells' centres, so a point reads its own x, at any stride."""
    width = 65
    coords = torch.rand(1, 50, 2) * 0.5 + 0.1
    for stride in (4, 8, 16):
        cells = -(-width // stride)
        ramp = ((torch.arange(cells) + 0.5) * stride).view(1, 1, 1, -1).expand(1, 1, cells, -1)
        got = sample_points(ramp, change_frame(coords, (80, 80), extent(ramp, stride)))
        torch.testing.assert_close(got[0, 0], coords[0, :, 0] * 80, atol=1e-3, rtol=1e-4)


def test_what_is_shown_is_the_least_that_a_map_covers():
    features = {"res2": torch.zeros(1, 1, 17, 20), "res3": torch.zeros(1, 1, 9, 10)}
    assert shown_extent((80, 80), features, {"res2": 4, "res3": 8}) == (68, 80)


def test_hidden_cells_are_those_wholly_outside():
    scores = hide_outside(torch.zeros(1, 10, 10), (80, 80), (65, 80))
    hidden = torch.isinf(scores[0]).all(dim=1)
    assert hidden.tolist() == [False] * 9 + [True]  # row 8 is 64..72 and holds pixel row 64
    assert torch.isinf(scores[0, 9]).all() and not torch.isinf(scores[0, :9]).any()


def test_labels_are_padded_to_the_right_and_below():
    labels = torch.ones(2, 3, 4, dtype=torch.int64)
    padded = pad_labels(labels, (4, 6), 255)
    assert padded.shape == (2, 4, 6)
    assert torch.equal(padded[:, :3, :4], labels)
    assert padded[:, 3].eq(255).all() and padded[:, :, 4:].eq(255).all()
    with pytest.raises(InputError, match="size_divisibility"):
        pad_labels(labels, (2, 4), 255)


def test_a_stride_that_cannot_be_is_found():
    features = {"res3": torch.zeros(1, 8, 9, 9)}
    check_same_image(torch.zeros(1, 2, 5, 5), 16, features, {"res3": 8})
    with pytest.raises(InputError, match="Set MODEL.SEM_SEG_HEAD.COMMON_STRIDE"):
        check_same_image(torch.zeros(1, 2, 5, 5), 8, features, {"res3": 8})
