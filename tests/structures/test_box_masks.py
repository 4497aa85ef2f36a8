"""Masks of different resolutions: what Detectron2's test-time augmentation does with them."""

import pytest
import torch
from torch.nn import functional as F

from pointrend_seg.structures.box_masks import BoxMasks

CPU = torch.device("cpu")


def masks(*sides, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return BoxMasks([torch.rand(side, side, generator=generator) for side in sides], CPU)


@pytest.mark.parametrize(("dims", "axis"), [([3], 1), ([-1], 1), ([2], 0), ([-2], 0)])
def test_flip_mirrors_each_mask(dims, axis):
    given = masks(14, 28, 7)
    for mirrored, mask in zip(given.flip(dims=dims).masks, given.masks, strict=True):
        assert torch.equal(mirrored, mask.flip(axis)) and not torch.equal(mirrored, mask)


def test_flip_is_that_of_the_tensor_of_equal_masks():
    given = masks(14, 14)
    tensor = torch.stack(given.masks)[:, None]
    assert torch.equal(torch.stack(given.flip([3]).masks), tensor.flip([3])[:, 0])
    assert torch.equal(torch.stack(given.flip([2, 3]).masks), tensor.flip([2, 3])[:, 0])


@pytest.mark.parametrize("dims", [[0], [1], [3, 0], [-3]])
def test_flip_refuses_other_dimensions(dims):
    with pytest.raises(ValueError, match="mirrored by dimensions 2 and 3, not"):
        masks(7).flip(dims)


def test_the_mean_of_equal_resolutions_is_that_of_the_tensors():
    parts = [masks(14, 28, seed=seed) for seed in range(3)]
    mean = torch.mean(torch.stack(parts, dim=0), dim=0)
    assert isinstance(mean, BoxMasks) and mean.device == CPU
    for k in range(2):
        expected = torch.stack([part.masks[k] for part in parts]).mean(0)
        assert torch.allclose(mean.masks[k], expected, rtol=0, atol=1e-6)


def test_the_mean_of_several_resolutions_has_the_largest():
    parts = [masks(14, 7), masks(28, 7, seed=1), masks(7, 56, seed=2)]
    mean = torch.mean(torch.stack(parts), dim=0)
    assert [len(mask) for mask in mean.masks] == [28, 56]
    first = [
        F.interpolate(part.masks[0][None, None], (28, 28), mode="bilinear", align_corners=False)
        for part in parts
    ]
    assert torch.allclose(mean.masks[0], sum(first)[0, 0] / 3, rtol=0, atol=1e-6)


def test_sums_have_the_larger_resolution():
    total = (masks(14, 7) + masks(7, 28, seed=1)) / 2
    direct = torch.mean(torch.stack([masks(14, 7), masks(7, 28, seed=1)]), dim=0)
    for ours, theirs in zip(total.masks, direct.masks, strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-6)


def test_no_masks_stay_none():
    none = BoxMasks([], CPU)
    assert len(torch.mean(torch.stack([none.flip([3]), none]), dim=0)) == 0
    assert len((none + none) / 2) == 0


def test_masks_of_other_boxes_are_refused():
    with pytest.raises(ValueError, match="zip"):
        torch.mean(torch.stack([masks(7), masks(7, 7)]), dim=0)


@pytest.mark.parametrize("function", [torch.cat, torch.relu, torch.sum])
def test_other_functions_do_not_take_them(function):
    argument = [masks(7)] if function is torch.cat else masks(7)
    with pytest.raises(TypeError):
        function(argument)
