"""The implicit mask head where Detectron2's fails, and at its edges."""

import copy

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.projects.point_rend import add_pointrend_config as add_builtin_config
from detectron2.projects.point_rend.point_head import ImplicitPointHead
from torch import nn

from mask_inputs import (
    HEAD,
    NODE,
    Allocated,
    assert_finite_with_gradients,
    detections,
    features,
    losses_of,
    mask_head,
    masks_of,
    other_classes,
    proposals,
)
from pointrend_seg.errors import InputError
from pointrend_seg.modeling.implicit_point_head import ImplicitPointMLP
from small_configs import IMPLICIT_OPTS

INPUTS = "MODEL.IMPLICIT_POINTREND"


def implicit_head(opts=(), **settings):
    return mask_head((*IMPLICIT_OPTS, *opts), **settings)


# --- the point head -------------------------------------------------------------------------


@pytest.mark.parametrize("image", [True, False])
@pytest.mark.parametrize("position", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_the_same_function_as_detectron2s(image, position, training):
    cfg = get_cfg()
    add_builtin_config(cfg)
    node, implicit = cfg.MODEL.POINT_HEAD, cfg.MODEL.IMPLICIT_POINTREND
    node.NUM_CLASSES, node.FC_DIM = 6, 12
    implicit.IMAGE_FEATURE_ENABLED, implicit.POS_ENC_ENABLED = image, position
    settings = {"in_channels": 10, "num_classes": 6, "implicit": implicit}
    if not (image or position):
        with pytest.raises(InputError, match="both False.*would see nothing. Set one of them"):
            ImplicitPointMLP(node, **settings)
        return
    torch.manual_seed(0)
    theirs = ImplicitPointHead(cfg, ShapeSpec(channels=10))
    torch.manual_seed(0)
    ours = ImplicitPointMLP(node, **settings).train(training)
    assert ours.num_params == theirs.num_params
    fine, coords = torch.randn(3, 10, 7), torch.rand(3, 7, 2)
    parameters, classes = torch.randn(3, ours.num_params), torch.tensor([5, 0, 3])
    want = theirs(fine, coords, parameters)[torch.arange(3), classes]
    got = ours(fine, coords, parameters, classes)
    assert got.shape == (3, 7)
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-5)
    assert torch.equal(got, want) or not training


def test_the_function_by_hand():
    """One hidden unit: relu(a x + b) in, times c, plus d."""
    head = ImplicitPointMLP(
        in_channels=1, num_classes=1, fc_dim=1, num_fc=1, positional_encoding_enabled=False
    )
    assert head.num_params == 4 and not list(head.parameters()) and not head.state_dict()
    a, c, b, d = parameters = 2.0, 3.0, -1.0, 0.5  # weights of all layers, then the biases
    x = torch.tensor([[[1.0, 0.25, -4.0]]])
    got = head(x, torch.rand(1, 3, 2), torch.tensor([parameters]), torch.zeros(1).long())
    assert got.tolist() == [[max(a * v + b, 0) * c + d for v in (1.0, 0.25, -4.0)]]


def test_many_classes_in_training_give_the_same_for_the_one_wanted(monkeypatch):
    head = ImplicitPointMLP(in_channels=4, num_classes=9, fc_dim=5)
    inputs = torch.randn(3, 4, 7), torch.rand(3, 7, 2), torch.randn(3, head.num_params)
    want = head(*inputs, torch.tensor([8, 0, 4]))
    monkeypatch.setattr("pointrend_seg.modeling.implicit_point_head.MOST_CLASSES_AT_ONCE", 8)
    torch.testing.assert_close(head(*inputs, torch.tensor([8, 0, 4])), want)


def test_the_place_keeps_its_digits_in_mixed_precision():
    """In half precision the angles of the high frequencies are off by a tenth of a turn."""
    head = ImplicitPointMLP(in_channels=4, num_classes=2, image_feature_enabled=False, fc_dim=8)
    fine, coords = torch.zeros(2, 4, 50), torch.rand(2, 50, 2)
    parameters, classes = torch.randn(2, head.num_params) * 0.2, torch.zeros(2).long()
    want = head(fine, coords, parameters, classes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = head(fine, coords, parameters, classes).float()
    assert (got - want).abs().mean() < 0.02 * want.abs().mean()


@pytest.mark.parametrize("training", [True, False])
def test_the_cost_does_not_grow_with_the_classes(training):
    totals = []
    for num_classes in (150, 1500):
        head = ImplicitPointMLP(in_channels=4, num_classes=num_classes, fc_dim=8).train(training)
        inputs = torch.randn(3, 4, 500), torch.rand(3, 500, 2), torch.randn(3, head.num_params)
        with Allocated() as allocated:
            head(*inputs, torch.tensor([149, 0, 4]))
        totals.append(allocated.total)
    assert totals[0] == totals[1]


# --- settings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "opts",
    [
        (f"{INPUTS}.POS_ENC_ENABLED", False),
        (f"{INPUTS}.IMAGE_FEATURE_ENABLED", False),
        (f"{HEAD}.CLS_AGNOSTIC_MASK", True),
        (f"{NODE}.CLS_AGNOSTIC_MASK", True),
        ("MODEL.ROI_HEADS.NUM_CLASSES", 1),
        (f"{NODE}.IN_FEATURES", ("p3", "p2")),
        (f"{NODE}.PADDING_MODE", "border"),
        (f"{HEAD}.POOLER_RESOLUTION", 7),
        (f"{NODE}.NUM_FC", 1),
    ],
    ids=str,
)
def test_settings(opts):
    head = implicit_head(opts)
    images, found = proposals(3, 2), detections(3, 2)
    if opts[0] == "MODEL.ROI_HEADS.NUM_CLASSES":
        images, found = proposals(3, 2, classes=1), detections(3, 2, classes=1)
    assert_finite_with_gradients(losses_of(head, features(), images), head)
    masks = masks_of(head, features(), found)
    assert masks.shape == (5, 1, 56, 56)
    assert masks.isfinite().all() and masks.std() > 1e-4


@pytest.mark.parametrize("channels", [8, 48])
def test_any_width(channels):
    head, maps = implicit_head(channels=channels), features(channels=channels)
    assert_finite_with_gradients(losses_of(head, maps, proposals(2, 1)), head)


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_subdivision_steps(steps):
    opts = (f"{NODE}.SUBDIVISION_STEPS", steps, f"{NODE}.SUBDIVISION_NUM_POINTS", 100)
    masks = masks_of(implicit_head(opts), features(), detections(2, 1))
    assert masks.shape == (3, 1, 10 * 2**steps, 10 * 2**steps)


@pytest.mark.parametrize("key", [f"{HEAD}.CLS_AGNOSTIC_MASK", f"{NODE}.CLS_AGNOSTIC_MASK"])
def test_class_agnostic_masks_need_fewer_parameters(key):
    few, many = implicit_head((key, True)), implicit_head()
    assert many.point_head.num_params - few.point_head.num_params == 4 * (16 + 1)
    maps, others = features(1), other_classes(detections(3))
    assert torch.equal(masks_of(few, maps, detections(3)), masks_of(few, maps, others))


# --- layers ---------------------------------------------------------------------------------


def test_a_swapped_layer_is_used_in_training_and_inference():
    head, maps = implicit_head(), features()
    changed = copy.deepcopy(head)
    changed.parameter_head.fc1 = nn.Sequential(changed.parameter_head.fc1, nn.Tanh())
    losses = []
    for each in (head, changed):
        torch.manual_seed(1)
        losses.append(losses_of(each, maps, proposals(3, 2)))
    assert losses[0]["loss_l2"] != losses[1]["loss_l2"]
    masks = [masks_of(each, maps, detections(3, 2)) for each in (head, changed)]
    assert not torch.equal(*masks)


# --- what is wrong with a config ------------------------------------------------------------


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        ((f"{NODE}.NAME", "PointMLP"), "MODEL.POINT_HEAD.NAME.*set it to 'ImplicitPointMLP'"),
        ((f"{NODE}.SUBDIVISION_NUM_POINTS", 800), "NUM_POINTS is 800.*such as 784"),
        ((f"{NODE}.NUM_FC", 0), "MODEL.POINT_HEAD.NUM_FC is 0; it must be 1 or more"),
        (
            (f"{INPUTS}.IMAGE_FEATURE_ENABLED", False, f"{INPUTS}.POS_ENC_ENABLED", False),
            "IMPLICIT_POINTREND.IMAGE_FEATURE_ENABLED and POS_ENC_ENABLED are both False",
        ),
        ((f"{NODE}.IN_FEATURES", ("res2",)), r"MODEL.POINT_HEAD.IN_FEATURES is \['res2'\]"),
        (
            (f"{NODE}.IN_FEATURES", ("res2",), f"{HEAD}.POINT_HEAD_ON", False),
            r"MODEL.POINT_HEAD.IN_FEATURES is \['res2'\]",  # that key is of the other head
        ),
        (
            (f"{NODE}.PADDING_MODE", "reflect"),
            "PADDING_MODE is 'reflect'; it must be 'zeros' or 'bord",
        ),
        (
            ("MODEL.ROI_HEADS.NUM_CLASSES", 0),
            "MODEL.ROI_HEADS.NUM_CLASSES is 0; it must be 1 or more",
        ),
    ],
)
def test_a_wrong_config_says_which_key(opts, message):
    with pytest.raises(InputError, match=message):
        implicit_head(opts)


def test_a_key_of_the_other_head_does_not_matter():
    opts = (f"{HEAD}.POINT_HEAD_ON", False, f"{NODE}.MASK_RESOLUTION", 56)
    assert implicit_head(opts).point_head is not None
