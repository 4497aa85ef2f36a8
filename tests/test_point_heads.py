"""The point MLP against Detectron2's, and its parts."""

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.projects.point_rend import add_pointrend_config as add_builtin_config
from detectron2.projects.point_rend.point_head import StandardPointHead
from torch import nn
from torch.nn.utils import parametrizations, prune

from pointrend_seg.errors import InputError
from pointrend_seg.point_heads import (
    POINT_HEAD_REGISTRY,
    PointMLP,
    build_point_head,
    class_logits,
    select_class,
)
from pointrend_seg.points import sample_points


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


# --- one class of each region ---------------------------------------------------------------


def woken_up(**settings):
    """A head whose logits are not all near 0."""
    torch.manual_seed(0)
    head = PointMLP(**{"in_channels": 6, "fc_dim": 16, **settings})
    nn.init.normal_(head.predictor.weight, std=0.3)
    nn.init.normal_(head.predictor.bias)
    return head


def inputs(num_classes, regions=4, points=30, height=3, width=5):
    generator = torch.Generator().manual_seed(0)
    fine = torch.randn(regions, 6, points, generator=generator)
    coarse = torch.randn(regions, num_classes, height, width, generator=generator)
    coords = torch.rand(regions, points, 2, generator=generator)
    coords[:, :2] = torch.tensor([[0.0, 0.0], [1.0, 0.3]])
    classes = torch.randint(0, num_classes, (regions,), generator=generator)
    return fine, coarse, coords, classes


def of_all_classes(head, fine, coarse, coords, classes, padding_mode="zeros"):
    """What Detectron2 does: predict all classes, take one."""
    logits = head(fine, sample_points(coarse, coords, padding_mode=padding_mode))
    return select_class(logits, classes)


@pytest.mark.parametrize("num_classes", [1, 15, 16, 80, 1203])
@pytest.mark.parametrize("each_layer", [True, False])
@pytest.mark.parametrize("agnostic", [True, False])
@pytest.mark.parametrize("padding_mode", ["zeros", "border"])
@pytest.mark.parametrize("num_fc", [0, 1, 3])
def test_one_class_is_that_of_all(num_classes, each_layer, agnostic, padding_mode, num_fc):
    head = woken_up(
        num_classes=num_classes,
        num_fc=num_fc,
        coarse_pred_each_layer=each_layer,
        num_outputs=1 if agnostic else None,
    )
    given = inputs(num_classes)
    want = of_all_classes(head, *given, padding_mode)
    for training in (True, False):
        got = class_logits(head.train(training), *given, padding_mode=padding_mode)
        assert got.shape == (4, 30)
        torch.testing.assert_close(got, want, atol=2e-4, rtol=1e-4)
        assert num_classes > 128 or not training or torch.equal(got, want)


def test_gradients_with_many_classes_are_those_of_all():
    given = inputs(200)
    gradients = []
    for compute in (of_all_classes, class_logits):
        head, coarse = woken_up(num_classes=200), given[1].clone().requires_grad_()
        compute(head, given[0], coarse, *given[2:]).square().sum().backward()
        gradients.append([coarse.grad, *(value.grad for value in head.parameters())])
    for want, got in zip(*gradients, strict=True):
        torch.testing.assert_close(got, want, atol=1e-3, rtol=1e-3)


def test_no_region_with_many_classes():
    head = woken_up(num_classes=200)
    got = class_logits(head, *inputs(200, regions=0))
    assert got.shape == (0, 30)
    got.sum().backward()
    assert all(value.grad.eq(0).all() for value in head.parameters())


class Halved(nn.Module):
    """Stands for what wraps a layer: LoRA, quantisation, a profiler."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x) / 2


def wrap(head, name):
    setattr(head, name, Halved(getattr(head, name)))


def hook(head, name):
    getattr(head, name).register_forward_hook(lambda module, args, out: out / 2)


def pre_hook(head, name):
    getattr(head, name).register_forward_pre_hook(lambda module, args: args[0] / 2)


def own_forward(head, name):
    """As accelerate and others do it."""
    layer = getattr(head, name)
    original = layer.forward
    layer.forward = lambda x: original(x) / 2


def no_bias(head, name):
    layer = getattr(head, name)
    setattr(head, name, nn.Conv1d(layer.in_channels, layer.out_channels, 1, bias=False))


def wider(head, name):
    layer = getattr(head, name)
    setattr(head, name, nn.Conv1d(layer.in_channels, layer.out_channels, 3, padding=1))


def grouped(head, name):
    layer = getattr(head, name)
    setattr(head, name, nn.Conv1d(layer.in_channels, layer.out_channels, 1, groups=2))


def parametrised(head, name):
    parametrizations.weight_norm(getattr(head, name))
    getattr(head, name).parametrizations.weight.original0.data.mul_(2)


def pruned(head, name):
    prune.l1_unstructured(getattr(head, name), "weight", amount=0.5)


def frozen(head, name):
    getattr(head, name).requires_grad_(False)


CHANGES = [wrap, hook, pre_hook, own_forward, no_bias, wider, grouped, parametrised, pruned, frozen]


@pytest.mark.parametrize("name", ["fc1", "fc3", "predictor"])
@pytest.mark.parametrize("change", CHANGES)
def test_whatever_was_done_to_a_layer_is_respected(change, name):
    """The computation for one class must not go around it."""
    head, given = woken_up(num_classes=200).eval(), inputs(200)
    before = class_logits(head, *given)
    change(head, name)
    got = class_logits(head, *given)
    torch.testing.assert_close(got, of_all_classes(head, *given), atol=2e-4, rtol=1e-4)
    assert torch.equal(got, before) == (change is frozen)


def test_whatever_was_done_to_the_head_is_respected():
    given = inputs(200)
    head = woken_up(num_classes=200).eval()
    plain = class_logits(head, *given)
    original = head.forward
    head.forward = lambda *args: original(*args) + 1
    torch.testing.assert_close(class_logits(head, *given), plain + 1, atol=2e-4, rtol=1e-4)
    head = woken_up(num_classes=200).eval()
    head.register_forward_hook(lambda module, args, out: out + 1)
    torch.testing.assert_close(class_logits(head, *given), plain + 1, atol=2e-4, rtol=1e-4)


class Sum(nn.Module):
    """A point head of the user's own."""

    def forward(self, fine_features, coarse_features):
        return coarse_features + fine_features.sum(1, keepdim=True)


def test_a_head_of_the_users_own():
    fine, coarse, coords, classes = inputs(200)
    want = of_all_classes(Sum(), fine, coarse, coords, classes)
    assert torch.equal(class_logits(Sum(), fine, coarse, coords, classes), want)


def test_dtype_and_mixed_precision_of_one_class():
    given = inputs(200)
    head = woken_up(num_classes=200).eval()
    want = class_logits(head, *given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(class_logits(head, *given).float(), want, atol=0.2, rtol=0.1)
    fine, coarse, coords, classes = given
    got = class_logits(head.half(), fine.half(), coarse.half(), coords, classes)
    assert got.dtype == torch.float16
    torch.testing.assert_close(got.float(), want, atol=0.05, rtol=0.05)


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
