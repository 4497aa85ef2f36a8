"""Features at points of boxes against RoIAlign, Detectron2's reading of them, and by hand."""

import pytest
import torch
from detectron2.projects.point_rend.point_features import point_sample_fine_grained_features
from detectron2.structures import Boxes
from torchvision.ops import roi_align

from mask_inputs import HEIGHT, STRIDES, WIDTH, features, random_boxes
from pointrend_seg.points.boxes import pool, sample_features, to_image


def boxes_of(*counts, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [random_boxes(count, generator) for count in counts]


def test_the_frame_of_a_box():
    boxes = torch.tensor([[10.0, 20.0, 30.0, 60.0], [-4.0, 0.0, -4.0, 8.0]])
    coords = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, 0.25]]).expand(2, -1, -1)
    want = [[[10, 20], [30, 60], [20, 30]], [[-4, 0], [-4, 8], [-4, 2]]]
    assert to_image(coords, boxes).tolist() == want


@pytest.mark.parametrize("size", [1, 7, 14])
def test_pooling_is_roialign_with_one_sample(size):
    maps, boxes = features(), boxes_of(5, 3)
    inside = [each.clamp(min=4, max=90) for each in boxes]  # RoIAlign ends a map in its own way
    got = pool(maps, {"p2": 4}, inside, size)
    want = roi_align(maps["p2"], inside, size, spatial_scale=1 / 4, sampling_ratio=1, aligned=True)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("names", [("p2",), ("p2", "p3"), ("p4", "p2", "p5")], ids="-".join)
@pytest.mark.parametrize("counts", [(4, 3), (0, 3), (0, 0)], ids=str)
def test_points_are_read_as_detectron2_does(names, counts):
    """To the bit: several maps, put together in the order of their names; beyond them zeros."""
    maps, boxes = features(), boxes_of(*counts)
    boxes[0][:1] += torch.tensor([-100.0, 10.0, 200.0, 90.0])
    coords = torch.rand(sum(counts), 11, 2)
    strides = {name: STRIDES[name] for name in names}
    got = sample_features(maps, strides, boxes, coords)
    want, _ = point_sample_fine_grained_features(
        [maps[name] for name in names],
        [1 / STRIDES[name] for name in names],
        [Boxes(each) for each in boxes],
        coords,
    )
    assert got.shape == (sum(counts), 32 * len(names), 11)
    assert torch.equal(got, want)


def test_each_image_is_read_by_its_own_boxes():
    maps = {"p2": torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, HEIGHT // 4, WIDTH // 4)}
    boxes = [torch.tensor([[20.0, 20.0, 60.0, 60.0]])[:count] for count in (1, 0, 1)]
    got = sample_features(maps, {"p2": 4}, boxes, torch.rand(2, 5, 2))
    torch.testing.assert_close(got[:, 0], torch.tensor([[0.0], [2.0]]).expand(2, 5))


@pytest.mark.parametrize("padding_mode", ["zeros", "border"])
def test_a_constant_map_at_the_edge_of_the_image(padding_mode):
    """Zeros, as in Detectron2, draw a mask that ends with the image to zero there; border is it."""
    maps = {"p2": torch.ones(1, 1, HEIGHT // 4, WIDTH // 4)}
    boxes = [torch.tensor([[0.0, 0.0, WIDTH, HEIGHT], [WIDTH - 1.0, 0.0, WIDTH + 9.0, 3.0]])]
    corners = torch.tensor([[0.0, 0.0], [0.999, 0.5], [0.5, 0.5]]).expand(2, -1, -1)
    got = sample_features(maps, {"p2": 4}, boxes, corners, padding_mode=padding_mode)
    assert got[0, 0, 2] == 1
    assert got.min() >= 0 and (got.min() == 1) == (padding_mode == "border")
    assert got[0, 0, 0] == pytest.approx(0.25 if padding_mode == "zeros" else 1.0)
    pooled = pool(maps, {"p2": 4}, boxes, 7, padding_mode=padding_mode)
    assert (pooled.min() == 1) == (padding_mode == "border")


def test_any_memory_layout_and_half_precision():
    maps, boxes = features(), boxes_of(3, 2)
    strides = {"p2": 4, "p3": 8}
    coords = torch.rand(5, 9, 2)
    want = sample_features(maps, strides, boxes, coords)
    channels_last = {k: v.to(memory_format=torch.channels_last) for k, v in maps.items()}
    strided = {k: v.repeat_interleave(2, dim=1)[:, ::2] for k, v in maps.items()}
    transposed = {k: v.transpose(2, 3).contiguous().transpose(2, 3) for k, v in maps.items()}
    for layout in (channels_last, strided, transposed):
        torch.testing.assert_close(sample_features(layout, strides, boxes, coords), want)
        torch.testing.assert_close(pool(layout, strides, boxes, 6), pool(maps, strides, boxes, 6))
    for dtype in (torch.float16, torch.bfloat16):
        half = {k: v.to(dtype) for k, v in maps.items()}
        got = sample_features(half, strides, boxes, coords)
        assert got.dtype == dtype
        torch.testing.assert_close(got.float(), want, atol=0.03, rtol=0.03)


def test_boxes_in_half_precision_keep_points_in_float():
    maps = features()
    boxes = [each.half() for each in boxes_of(3, 2)]
    coords = torch.rand(5, 9, 2)
    want = sample_features(maps, {"p2": 4}, [each.float() for each in boxes], coords)
    assert torch.equal(sample_features(maps, {"p2": 4}, boxes, coords), want)
