"""Region masks against Detectron2's pasting and pycocotools' encoding."""

import numpy as np
import pytest
import torch
from detectron2.layers import paste_masks_in_image
from hypothesis import given, settings
from hypothesis import strategies as st

from coco_sets import mask_rle
from pointrend_seg.evaluation.region_masks import encode_region_masks

HEIGHT, WIDTH = 60, 90
EDGES = {  # x0, y0, x1, y1
    "inside": (10.3, 8.7, 50.9, 47.2),
    "on whole pixels": (10, 8, 50, 40),
    "at the left": (0, 8.5, 40.2, 30),
    "at the top": (20.1, 0, 44, 31.7),
    "at the right": (51.5, 20, WIDTH, 41),
    "at the bottom": (20, 31, 45.1, HEIGHT),
    "at the top and the bottom": (33.3, 0, 61.1, HEIGHT),
    "the image": (0, 0, WIDTH, HEIGHT),
    "around the image": (-31.7, -20, WIDTH + 14.2, HEIGHT + 33.9),
    "beyond a corner": (70.2, 43.3, WIDTH + 60, HEIGHT + 21),
    "thinner than a pixel": (33.2, 8, 33.6, 50.1),
    "lower than a pixel": (3.2, 14.7, 80.1, 15.1),
    "in a pixel": (44.1, 30.3, 44.7, 30.8),
    "around a pixel's centre": (44.49, 30.49, 44.51, 30.51),
    "without a width": (44.5, 30.3, 44.5, 40),
    "without an area": (44.5, 30.5, 44.5, 30.5),
    "a pixel before the edge": (1, 1, WIDTH - 1, HEIGHT - 1),
}
KINDS = ("random", "blobs", "sure", "half", "empty", "full")


def probabilities(kind, number, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(number, 1, size, size, generator=generator)
    if kind == "blobs":  # smooth, and sure but at the outlines
        noise = torch.nn.functional.avg_pool2d(noise, 5, 1, 2, count_include_pad=False)
        return ((noise[:, 0] - 0.5) * 100).sigmoid()
    constant = {"half": 0.5, "empty": 0.0, "full": 1.0}
    if kind in constant:
        return torch.full((number, size, size), constant[kind])
    return noise[:, 0].round() if kind == "sure" else noise[:, 0]


def expected(masks, boxes, height, width, threshold=0.5):
    pasted = paste_masks_in_image(masks, boxes, (height, width), threshold)
    return [mask_rle(mask.numpy()) for mask in pasted]


@pytest.mark.parametrize("size", [1, 2, 7, 28, 224])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_pasting_and_encoding(kind, size):
    boxes = torch.tensor(list(EDGES.values()))
    masks = probabilities(kind, len(boxes), size)
    ours = encode_region_masks(masks, boxes, HEIGHT, WIDTH)
    for name, rle, other in zip(EDGES, ours, expected(masks, boxes, HEIGHT, WIDTH), strict=True):
        assert rle == other, name


@pytest.mark.parametrize("threshold", [1e-6, 1e-3, 0.05, 0.3, 0.7, 0.999, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_other_thresholds(kind, threshold):
    boxes = torch.tensor(list(EDGES.values()))
    masks = probabilities(kind, len(boxes), 14)
    ours = encode_region_masks(masks, boxes, HEIGHT, WIDTH, threshold)
    assert ours == expected(masks, boxes, HEIGHT, WIDTH, threshold)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    size=st.integers(1, 40),
    kind=st.sampled_from(KINDS),
    grid=st.sampled_from([0, 2]),  # corners on halves of pixels, where pixel centres lie
)
def test_any_boxes(seed, height, width, size, kind, grid):
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.uniform(-0.3, 1.3, (2, 4, 2)), axis=0)
    low, high = np.minimum(low, 0.99), np.maximum(high, 0.01)  # a bit of the image
    boxes = np.concatenate([low, high], axis=1) * [width, height, width, height]
    boxes = np.round(boxes * grid) / grid if grid else boxes
    boxes, masks = torch.tensor(boxes, dtype=torch.float32), probabilities(kind, 4, size, seed)
    ours = encode_region_masks(masks, boxes, height, width)
    assert ours == expected(masks, boxes, height, width)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("distance", [0.0, 1e-7, 1e-6, 1e-5, 1e-4])
def test_values_near_the_threshold(threshold, distance):
    generator = torch.Generator().manual_seed(1)
    sides = torch.rand(20, 5, 5, generator=generator).round() * 2 - 1
    masks = threshold + distance * sides.repeat_interleave(8, 1).repeat_interleave(8, 2)
    boxes = torch.rand(20, 2, 2, generator=generator).sort(dim=1).values.reshape(20, 4) * 300
    ours = encode_region_masks(masks, boxes, 300, 300, threshold)
    assert ours == expected(masks, boxes, 300, 300, threshold)


def test_no_masks():
    assert encode_region_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), 60, 90) == []


def test_other_layouts_and_precisions():
    boxes = torch.tensor(list(EDGES.values()))
    masks = probabilities("blobs", len(boxes), 28)
    result = expected(masks, boxes, HEIGHT, WIDTH)
    spread = masks.transpose(1, 2).contiguous().transpose(1, 2)
    every_other = masks.repeat_interleave(2, dim=2)[:, :, ::2]
    for given_masks in (spread, every_other, masks.double(), masks.clone().requires_grad_()):
        assert encode_region_masks(given_masks, boxes.double(), HEIGHT, WIDTH) == result
    for dtype in (torch.float16, torch.bfloat16):
        rounded = masks.to(dtype)
        ours = encode_region_masks(rounded, boxes, HEIGHT, WIDTH)
        assert ours == expected(rounded.float(), boxes, HEIGHT, WIDTH) != result


def test_arguments_are_not_modified():
    boxes = torch.tensor(list(EDGES.values()))
    masks = probabilities("blobs", len(boxes), 28)
    copies = masks.clone(), boxes.clone()
    encode_region_masks(masks, boxes, HEIGHT, WIDTH)
    assert torch.equal(masks, copies[0]) and torch.equal(boxes, copies[1])


def test_nan_is_outside():
    masks = probabilities("full", 1, 8)
    masks[:, :4] = float("nan")
    boxes = torch.tensor([[5.0, 5, 50, 50]])
    ours = encode_region_masks(masks, boxes, HEIGHT, WIDTH)
    assert ours == expected(masks, boxes, HEIGHT, WIDTH)


@pytest.mark.parametrize("box", [(-50.0, 5, -10, 30), (5.0, 200, 30, 300), (500.0, 500, 600, 600)])
def test_boxes_outside_of_the_image_are_empty(box):
    """Detectron2 fails beyond the right and the lower edge; it clips boxes before."""
    rles = encode_region_masks(torch.ones(1, 28, 28), torch.tensor([box]), HEIGHT, WIDTH)
    assert rles == [mask_rle(np.zeros((HEIGHT, WIDTH), bool))]
