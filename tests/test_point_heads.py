"""The point MLP against Detectron2's, and its parts."""

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.projects.point_rend import add_pointrend_config as add_builtin_config
from detectron2.projects.point_rend.point_head import StandardPointHead
from torch import nn

from pointrend_seg.errors import InputError
from pointrend_seg.point_heads import PointMLP, build_point_head


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
