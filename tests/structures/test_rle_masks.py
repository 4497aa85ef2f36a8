"""Run-length masks in the place of bits: the same in everything, in a few bytes."""

import json

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from coco_sets import blob, box_of, mask_rle
from pointrend_seg.evaluation.coco_results import encode_masks
from pointrend_seg.structures import ClassMap, RleMasks


@pytest.fixture
def bits():
    rng = np.random.default_rng(0)
    masks = [blob(rng, 40, 60) for _ in range(5)]
    return torch.from_numpy(np.stack([*masks, np.zeros((40, 60), bool)]))


@pytest.fixture
def masks(bits):
    return RleMasks([mask_rle(mask.numpy()) for mask in bits], (40, 60))


def test_they_stand_for_a_tensor(bits, masks):
    assert masks.shape == bits.shape and len(masks) == len(bits)
    assert torch.equal(masks.tensor, bits) and np.array_equal(np.asarray(masks), bits.numpy())
    assert all(map(torch.equal, masks, bits))
    assert masks[1].dtype == torch.bool and torch.equal(masks[-2], bits[-2])
    chosen = torch.tensor([True, False, True, False, False, True])
    for item in (slice(1, 4), chosen, torch.tensor([2, 0]), [3], np.array([4, 4])):
        index = item if isinstance(item, slice) else torch.as_tensor(item)
        assert torch.equal(masks[item].tensor, bits[index])
    assert masks.areas().tolist() == bits.sum((1, 2)).tolist()
    assert masks[:0].tensor.shape == (0, 40, 60) and masks[:0].boxes().shape == (0, 4)


def test_crops_and_boxes(bits, masks):
    assert masks.boxes().tolist() == [list(map(float, box_of(mask))) for mask in bits.numpy()]
    for mask, (x0, y0, crop) in zip(bits.numpy(), masks.crops(), strict=True):
        pasted = np.zeros_like(mask)
        pasted[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]] = crop
        assert crop.dtype == bool and np.array_equal(pasted, mask)
        assert not crop.size or (crop[:, 0].any() and crop[:, -1].any())


def test_they_sit_in_instances(bits, masks):
    instances = Instances((40, 60), pred_masks=masks, pred_boxes=Boxes(masks.boxes()))
    both = Instances.cat([instances[1:3], instances.to("cpu")[torch.tensor([0])]])
    assert torch.equal(both.pred_masks.tensor, bits[[1, 2, 0]])


def test_they_are_encoded_without_being_decoded(bits, masks):
    assert encode_masks(masks) == encode_masks(bits)
    json.dumps(encode_masks(masks))


def test_hundreds_of_masks(masks):
    """Of which pycocotools cannot count the pixels in one call."""
    many = RleMasks(masks.rles * 60, (40, 60))
    assert many.areas().tolist() == masks.areas().tolist() * 60
    assert torch.equal(many.boxes(), masks.boxes().repeat(60, 1))


def test_a_map_of_classes_stands_for_logits():
    found = ClassMap(np.array([[0, 1], [2, 2]], np.uint8), 4)
    assert found.shape == (4, 2, 2) and len(found) == 4
    assert found.argmax(dim=0).tolist() == [[0, 1], [2, 2]]
    assert found.argmax(0).dtype == torch.int64 and found.to("cpu").cpu() is found
    with pytest.raises(ValueError, match="dim=0"):
        found.argmax(1)
