"""Point sampling and writing against independent oracles."""

import math

import pytest
import torch
from detectron2.layers import ROIAlign
from hypothesis import given, settings
from hypothesis import strategies as st

from pointrend_seg.points.coordinates import grid_point_coords
from pointrend_seg.points.interpolation import sample_points, write_points


def bilinear_by_hand(image, x, y, border=False):
    """One channel (H, W) at one point of its [0, 1] frame; zeros or the edge outside."""
    height, width = image.shape
    column, row = x * width - 0.5, y * height - 0.5
    if border:
        column, row = min(max(column, 0), width - 1), min(max(row, 0), height - 1)
    left, top = math.floor(column), math.floor(row)
    total = 0.0
    for i in (top, top + 1):
        for j in (left, left + 1):
            if 0 <= i < height and 0 <= j < width:
                weight = (1 - abs(row - i)) * (1 - abs(column - j))
                total += weight * image[i, j].item()
    return total


@settings(max_examples=50, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    border=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_sampling_matches_a_loop(height, width, border, seed):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(2, 3, height, width, generator=generator)
    coords = torch.rand(2, 5, 2, generator=generator)
    got = sample_points(image, coords, padding_mode="border" if border else "zeros")
    assert got.shape == (2, 3, 5)
    for n in range(2):
        for c in range(3):
            for p in range(5):
                want = bilinear_by_hand(image[n, c], *coords[n, p].tolist(), border=border)
                assert got[n, c, p].item() == pytest.approx(want, abs=1e-4)


def test_sampling_matches_roi_align():
    """One sample at the centre of each bin of RoIAlign is a grid of points in the box."""
    image = torch.randn(1, 4, 20, 30)
    box = torch.tensor([4.0, 3.0, 26.0, 17.0])
    align = ROIAlign((7, 9), spatial_scale=1.0, sampling_ratio=1, aligned=True)
    want = align(image, torch.cat((torch.zeros(1), box)).unsqueeze(0))
    in_box = grid_point_coords(torch.arange(63).unsqueeze(0), 7, 9)
    in_image = (box[:2] + in_box * (box[2:] - box[:2])) / torch.tensor([30.0, 20.0])
    got = sample_points(image, in_image).view(1, 4, 7, 9)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_pixel_centres_give_the_pixels():
    image = torch.randn(2, 3, 5, 8)
    coords = grid_point_coords(torch.arange(40).expand(2, -1), 5, 8)
    torch.testing.assert_close(sample_points(image, coords).view_as(image), image)


def test_nearest_reads_labels_exactly():
    labels = torch.randint(0, 256, (2, 1, 7, 11)).float()
    coords = torch.rand(2, 500, 2)
    got = sample_points(labels, coords, mode="nearest", padding_mode="border")
    column, row = (coords[..., 0] * 11).long(), (coords[..., 1] * 7).long()
    want = labels[torch.arange(2)[:, None], 0, row, column]
    assert torch.equal(got[:, 0], want)


def test_half_precision_maps_are_read_at_exact_places():
    """Coordinates in half precision would be half a pixel off on a map of 2048."""
    ramp = (torch.arange(2048.0) - 2000).expand(1, 1, 2, -1)
    coords = torch.tensor([[[x / 2048, 0.5] for x in (2000.5, 2001.5, 2003.5)]])
    got = sample_points(ramp.half(), coords)
    assert got.dtype == torch.half
    assert got.flatten().tolist() == [0.0, 1.0, 3.0]


@pytest.mark.parametrize("points", [0, 1])
def test_no_regions_and_no_points(points):
    assert sample_points(torch.rand(0, 3, 4, 4), torch.rand(0, points, 2)).shape == (0, 3, points)
    assert sample_points(torch.rand(2, 3, 4, 4), torch.rand(2, 0, 2)).shape == (2, 3, 0)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "cut"])
def test_writing_points(layout):
    base = torch.zeros(2, 3, 4, 6)
    if layout == "channels_last":
        base = base.contiguous(memory_format=torch.channels_last)
    if layout == "cut":
        base = torch.zeros(2, 3, 4, 9)[..., :6]
    indices = torch.tensor([[0, 23, 7], [5, 6, 1]])
    values = torch.randn(2, 3, 3)
    got = write_points(base, indices, values)
    want = torch.zeros(2, 3, 4, 6)
    for n in range(2):
        for p in range(3):
            index = indices[n, p].item()
            want[n, :, index // 6, index % 6] = values[n, :, p]
    assert torch.equal(got, want)


def test_writing_casts_to_the_map():
    got = write_points(torch.zeros(1, 1, 2, 2).half(), torch.tensor([[3]]), torch.ones(1, 1, 1))
    assert got.dtype == torch.half and got[0, 0, 1, 1] == 1
