"""The point MLP against Detectron2's, and its parts."""

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.projects.point_rend import add_pointrend_config as add_builtin_config
from detectron2.projects.point_rend.point_head import StandardPointHead
from torch import nn

from layer_changes import CHANGES, frozen
from pointrend_seg.errors import InputError
from pointrend_seg.modeling.point_heads import (
    POINT_HEAD_REGISTRY,
    PointMLP,
    build_point_head,
    select_class,
)


@pytest.mark.parametrize("each_layer", [True, False])
@pytest.mark.parametrize("agnostic", [True, False])
def test_same_weights_same_logits_as_detectron2(each_layer, agnostic):
    cfg = get_cfg()
    add_builtin_config(cfg)
    node = cfg.MODEL.POINT_HEAD
    node.NUM_CLASSES, node.FC_DIM = 6, 16
    node.COARSE_PRED_EACH_LAYER, node.CLS_AGNOSTIC_MASK = each_layer, agnostic
    torch.manual_seed(0)
    theirs = StandardPointHead(cfg, ShapeSpec(channels=10))
    torch.manual_seed(0)
    ours = PointMLP(node, in_channels=10, num_classes=6)
    for (name, value), (other_name, other) in zip(
        theirs.state_dict().items(), ours.state_dict().items(), strict=True
    ):
        assert name == other_name and torch.equal(value, other), name
    fine, coarse = torch.randn(3, 10, 20), torch.randn(3, 6, 20)
    assert torch.equal(theirs(fine, coarse), ours(fine, coarse))


def test_a_swapped_layer_is_used():
    """Detectron2's head keeps its layers in a list too, and goes on with the old one."""
    head = PointMLP(in_channels=4, num_classes=2, fc_dim=8)
    before = head(torch.ones(1, 4, 3), torch.ones(1, 2, 3))
    head.fc2 = nn.Sequential(head.fc2, nn.Tanh())
    assert not torch.equal(head(torch.ones(1, 4, 3), torch.ones(1, 2, 3)), before)


def test_no_hidden_layer_and_no_region():
    head = PointMLP(in_channels=4, num_classes=2, num_fc=0)
    assert head(torch.ones(0, 4, 5), torch.ones(0, 2, 5)).shape == (0, 2, 5)


def test_an_unknown_name_lists_the_known():
    with pytest.raises(InputError, match="MODEL.X.NAME is 'Nobody'.*Known names: .*PointMLP"):
        build_point_head(CfgNode({"NAME": "Nobody"}), in_channels=1, num_classes=1, key="MODEL.X")


# --- whether it may be taken apart ----------------------------------------------------------


@pytest.mark.parametrize("name", ["fc1", "fc3", "predictor"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_head_with_a_changed_layer_is_not_plain(change, name):
    """What takes the layers apart must not go around what was done to them."""
    head = PointMLP(in_channels=6, num_classes=4, fc_dim=16)
    assert head.is_plain()
    change(head, name)
    assert head.is_plain() == (change is frozen)


def test_a_changed_head_is_not_plain():
    head = PointMLP(in_channels=6, num_classes=4, fc_dim=16)
    head.forward = lambda *args: PointMLP.forward(head, *args) + 1
    assert not head.is_plain()
    for register in ("register_forward_hook", "register_forward_pre_hook"):
        head = PointMLP(in_channels=6, num_classes=4, fc_dim=16)
        getattr(head, register)(lambda *_: None).remove()
        assert head.is_plain()
        getattr(head, register)(lambda *_: None)
        assert not head.is_plain()
    head = PointMLP(in_channels=6, num_classes=4, fc_dim=16)
    head.fc2.register_full_backward_hook(lambda *_: None)
    assert not head.is_plain()


def test_the_logits_of_the_class_of_each_region():
    logits = torch.arange(24.0).view(2, 3, 4)
    assert select_class(logits, torch.tensor([2, 0])).tolist() == [[8, 9, 10, 11], [12, 13, 14, 15]]
    assert torch.equal(select_class(logits[:, :1], torch.tensor([2, 0])), logits[:, 0])


def test_a_head_of_the_other_kind():
    cfg = get_cfg()
    add_builtin_config(cfg)
    cfg.MODEL.POINT_HEAD.NAME = "ImplicitPointMLP"
    assert "ImplicitPointMLP" in POINT_HEAD_REGISTRY
    settings = {"in_channels": 3, "num_classes": 2, "key": "MODEL.POINT_HEAD"}
    with pytest.raises(InputError, match="MODEL.POINT_HEAD.NAME is 'Impl.*set it to 'PointMLP'"):
        build_point_head(cfg.MODEL.POINT_HEAD, **settings)
    cfg.MODEL.POINT_HEAD.NAME = "PointMLP"
    with pytest.raises(InputError, match="is 'PointMLP'.*set it to 'ImplicitPointMLP'"):
        build_point_head(cfg.MODEL.POINT_HEAD, implicit=cfg.MODEL.IMPLICIT_POINTREND, **settings)
