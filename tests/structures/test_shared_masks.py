"""SharedMasks in the place of Detectron2's BitMasks: indexing, joining, sampling of proposals."""

import copy

import numpy as np
import pytest
import torch
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from mask_inputs import blobs, instances_of, random_boxes, seeded
from pointrend_seg.structures.shared_masks import SharedMasks


@pytest.fixture
def shared():
    return SharedMasks(blobs(3, seeded(), 12, 17), torch.tensor([2, 0, 0, 1]))


@pytest.mark.parametrize(
    "item",
    [
        1,
        -1,
        slice(1, 3),
        slice(2, 2),
        torch.tensor([True, False, False, True]),
        torch.zeros(4, dtype=torch.bool),
        torch.tensor([3, 0, 0]),
        torch.zeros(0, dtype=torch.int64),
    ],
    ids=repr,
)
def test_taking_boxes_out_copies_no_mask(shared, item):
    taken, want = shared[item], BitMasks(shared.tensor)[item]
    assert torch.equal(taken.tensor.view(-1, 12, 17), want.tensor.view(-1, 12, 17))
    assert len(taken) == len(taken.tensor)
    assert taken.bits.data_ptr() == shared.bits.data_ptr()


def test_what_bitmasks_can(shared):
    plain = BitMasks(shared.tensor)
    assert isinstance(shared, BitMasks)
    assert len(shared) == len(plain) == 4
    assert tuple(shared.image_size) == (12, 17)
    assert shared.device == plain.device
    assert torch.equal(torch.stack(list(shared)), plain.tensor)
    assert torch.equal(shared.get_bounding_boxes().tensor, plain.get_bounding_boxes().tensor)
    boxes = random_boxes(4, seeded(), 12, 17)
    assert torch.equal(shared.crop_and_resize(boxes, 5), plain.crop_and_resize(boxes, 5))
    assert torch.equal(shared.to("cpu").tensor, plain.tensor)
    assert torch.equal(copy.deepcopy(shared).tensor, plain.tensor)
    assert repr(shared) == "SharedMasks(4 boxes, 3 objects)"


def test_nonempty():
    bits = torch.zeros(3, 4, 5, dtype=torch.bool)
    bits[1, 3, 4] = True
    assert SharedMasks(bits, torch.tensor([1, 0, 1, 2])).nonempty().tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, bool])
def test_arrays_of_any_type(dtype):
    array = (np.arange(24).reshape(2, 3, 4) % 3 == 0).astype(dtype)
    shared = SharedMasks(array)
    assert shared.bits.dtype == torch.bool
    assert np.array_equal(shared.tensor.numpy(), array.astype(bool))


def test_in_instances(shared):
    instances = instances_of(shared, 12, 17)
    taken = instances[torch.tensor([True, False, True, True])]
    together = Instances.cat([taken, instances[0], instances.to("cpu")])
    assert together.gt_masks.bits.dtype == torch.bool
    parts = [shared.tensor[[0, 2, 3]], shared.tensor[:1], shared.tensor]
    assert torch.equal(together.gt_masks.tensor, torch.cat(parts))


def test_sampling_of_proposals_copies_no_mask():
    """64 boxes of 3 objects; Detectron2's `BitMasks` are 64 masks afterwards."""
    generator = seeded()
    bits = blobs(3, generator, 60, 80)
    targets = Instances((60, 80))
    targets.gt_boxes = BitMasks(bits).get_bounding_boxes()
    targets.gt_classes = torch.tensor([0, 1, 1])
    targets.gt_masks = SharedMasks(bits)
    boxes = targets.gt_boxes.tensor.repeat(60, 1)
    proposals = Instances((60, 80))
    proposals.proposal_boxes = Boxes(boxes + torch.rand(180, 4, generator=generator))
    proposals.objectness_logits = torch.zeros(180)
    heads = StandardROIHeads(
        box_in_features=[],
        box_pooler=None,
        box_head=None,
        box_predictor=None,
        num_classes=2,
        batch_size_per_image=128,
        positive_fraction=0.5,
        proposal_matcher=Matcher([0.5], [0, 1]),
    )
    with EventStorage():
        sampled = heads.label_and_sample_proposals([proposals], [targets])[0]
    assert len(sampled) == 64  # all of them foreground
    assert sampled.gt_masks.bits.data_ptr() == bits.data_ptr()
    overlap = (sampled.gt_masks.get_bounding_boxes().tensor - sampled.proposal_boxes.tensor).abs()
    assert overlap.max() < 1
