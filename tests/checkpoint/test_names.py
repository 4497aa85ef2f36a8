"""Names of older formats are converted as Detectron2 converts them."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.projects.point_rend.mask_head import ConvFCHead
from torch import nn

from pointrend_seg.checkpoint.names import upgrade_names
from pointrend_seg.errors import InputError

OLD_AND_PRESENT = [
    ("mask_coarse_head.coarse_mask_fc1.weight", "mask_head.coarse_head.fc1.weight"),
    ("mask_coarse_head.prediction.bias", "mask_head.coarse_head.prediction.bias"),
    ("mask_point_head.fc1.weight", "mask_head.point_head.fc1.weight"),
    ("mask_head.coarse_head.coarse_mask_fc2.bias", "mask_head.coarse_head.fc2.bias"),
    ("mask_head.parameter_head.coarse_mask_fc1.bias", "mask_head.parameter_head.fc1.bias"),
]
PRESENT = [
    "roi_heads.mask_head.point_head.fc1.weight",
    "roi_heads.mask_head.coarse_head.fc1.weight",
    "roi_heads.mask_head.mask_fcn1.weight",
    "sem_seg_head.point_head.fc1.weight",
    "roi_heads.my_mask_point_head.fc1.weight",
    "roi_heads.mask_point_heads.fc1.weight",
]


@pytest.mark.parametrize(("old", "present"), OLD_AND_PRESENT)
@pytest.mark.parametrize("prefix", ["", "roi_heads.", "module.roi_heads."])
def test_old_names(old, present, prefix):
    assert dict(upgrade_names({prefix + old: 1})) == {prefix + present: 1}


@pytest.mark.parametrize("name", PRESENT)
def test_current_names_are_unchanged(name):
    assert dict(upgrade_names({name: 1})) == {name: 1}


def test_order_values_and_the_argument_are_kept():
    state = {"a": 1, "roi_heads.mask_point_head.fc1.weight": 2, "b": 3}
    before = dict(state)
    upgraded = upgrade_names(state)
    assert list(upgraded.values()) == [1, 2, 3]
    assert state == before
    assert upgrade_names(upgraded) == upgraded
    assert upgrade_names({}) == {}


def test_metadata_follows():
    state = nn.ModuleDict({"mask_point_head": nn.BatchNorm1d(2)}).state_dict()
    upgraded = upgrade_names(state)
    assert upgraded._metadata["mask_head.point_head"] == {"version": 2}
    assert list(upgraded._metadata) == ["", "mask_head.point_head"]


def test_both_names_at_once():
    state = {"roi_heads.mask_point_head.w": 1, "roi_heads.mask_head.point_head.w": 2}
    with pytest.raises(InputError, match="contains roi_heads.mask_head.point_head.w twice"):
        upgrade_names(state)


def test_names_equal_the_conversion_of_detectron2():
    shape = ShapeSpec(channels=8, height=4, width=4)
    head = ConvFCHead(shape, conv_dim=4, fc_dims=[6, 6], output_shape=(2, 3, 3))
    new = {name: torch.rand_like(value) for name, value in head.state_dict().items()}
    theirs = {f"coarse_head.{k.replace('fc', 'coarse_mask_fc')}": v for k, v in new.items()}
    ours = upgrade_names(theirs)
    nn.ModuleDict({"coarse_head": head}).load_state_dict(dict(theirs))  # converts by itself
    loaded = nn.ModuleDict({"coarse_head": head}).state_dict()
    assert sorted(ours) == sorted(loaded)
    assert all(torch.equal(ours[k], loaded[k]) for k in ours)
