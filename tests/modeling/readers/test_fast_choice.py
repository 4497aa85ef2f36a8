"""When the fast path is taken, and that what was done to a layer is respected."""

import copy

import pytest
import torch
from torch import nn

from layer_changes import CHANGES, frozen, hook, own_forward, parametrised, pre_hook, pruned
from mask_inputs import (
    NODE,
    detections,
    features,
    losses_of,
    mask_head,
    masks_of,
    proposals,
    reader_of,
)
from pointrend_seg import adopt_config
from pointrend_seg.config.keys import add_pointrend_config
from pointrend_seg.modeling.coarse_mask_head import ConvFCHead
from pointrend_seg.modeling.point_heads import PointMLP
from pointrend_seg.modeling.readers import ReadSettings, open_box_reader, open_frame_reader
from pointrend_seg.modeling.readers.fast import FastFrameReader, FusedBoxReader, RowBoxReader
from pointrend_seg.modeling.readers.plain import PlainBoxReader, PlainFrameReader
from small_configs import IMPLICIT_OPTS, STANDARD, builtin_cfg

SOME = [torch.zeros(0, 4), torch.tensor([[0.0, 0.0, 40.0, 30.0]])]


def fits(head):
    return FusedBoxReader.fits(head.coarse_head, head.point_head)


def path_of(head, boxes=SOME):
    return type(reader_of(head, features(), boxes))


# --- the default ----------------------------------------------------------------------------


def test_it_is_the_default():
    head = mask_head()
    assert head.reading.fast_path and fits(head) and path_of(head) is FusedBoxReader


def test_a_config_of_detectron2_gets_it():
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    cfg = adopt_config(builtin_cfg(*STANDARD))
    assert cfg.MODEL.POINT_HEAD.FAST_PATH is True
    head = build_model(cfg).roi_heads.mask_head
    assert path_of(head) is FusedBoxReader
    new = get_cfg()
    add_pointrend_config(new)
    assert new.MODEL.POINT_HEAD.FAST_PATH is True


def test_it_can_be_switched_off():
    head = mask_head((f"{NODE}.FAST_PATH", False))
    assert not head.reading.fast_path and path_of(head) is PlainBoxReader


@pytest.mark.parametrize(
    "opts",
    [
        (f"{NODE}.NUM_FC", 1),
        (f"{NODE}.COARSE_PRED_EACH_LAYER", False),
        (f"{NODE}.CLS_AGNOSTIC_MASK", True),
        (f"{NODE}.IN_FEATURES", ("p2", "p3")),
        (f"{NODE}.PADDING_MODE", "border"),
        ("MODEL.ROI_MASK_HEAD.NUM_FC", 0),
        ("MODEL.ROI_MASK_HEAD.OUTPUT_SIDE_RESOLUTION", 10),
    ],
    ids=str,
)
def test_settings_that_it_is_made_for(opts):
    assert fits(mask_head(opts))


@pytest.mark.parametrize(
    "opts",
    [
        (f"{NODE}.NUM_FC", 0),
        ("MODEL.ROI_MASK_HEAD.POINT_HEAD_ON", False),
        ("MODEL.ROI_MASK_HEAD.OUTPUT_SIDE_RESOLUTION", 14),
    ],
    ids=str,
)
def test_settings_that_it_is_not_made_for(opts):
    head = mask_head(opts)
    assert not fits(head) and path_of(head) is PlainBoxReader
    losses_of(head, features(), proposals(2, 1))
    assert masks_of(head, features(), detections(2, 1)).isfinite().all()


def test_no_boxes_at_all():
    head, none = mask_head(), [torch.zeros(0, 4)] * 2
    assert path_of(head, none) is PlainBoxReader
    assert path_of(head, [none[0], SOME[1]]) is FusedBoxReader
    losses = losses_of(head, features(), proposals(0, 0))
    assert all(loss == 0 for loss in losses.values())
    assert masks_of(head, features(), detections(0, 0)).shape == (0, 1, 224, 224)


# --- changed heads --------------------------------------------------------------------------


class OwnCoarseHead(ConvFCHead):
    def forward(self, x):
        return super().forward(x) / 2


class OwnPointHead(PointMLP):
    def forward(self, fine_features, coarse_features):
        return super().forward(fine_features, coarse_features) / 2


class Sum(nn.Module):
    """A point head of the user's own."""

    def forward(self, fine_features, coarse_features):
        return coarse_features + fine_features.sum(1, keepdim=True)


def own_forward_point(head):
    original = head.point_head.forward
    head.point_head.forward = lambda *args: original(*args) / 2


HEAD_CHANGES = {
    "subclassed coarse head": lambda head: setattr(head.coarse_head, "__class__", OwnCoarseHead),
    "subclassed point head": lambda head: setattr(head.point_head, "__class__", OwnPointHead),
    "hooked coarse head": lambda head: hook(head, "coarse_head"),
    "hooked layer": lambda head: pre_hook(head.coarse_head, "fc1"),
    "hooked convolution": lambda head: hook(head.coarse_head, "reduce_spatial_dim_conv"),
    "hooked point head": lambda head: hook(head, "point_head"),
    "own forward of the coarse head": lambda head: own_forward(head, "coarse_head"),
    "own forward of the point head": own_forward_point,
    "normalised convolution": lambda head: parametrised(
        head.coarse_head, "reduce_spatial_dim_conv"
    ),
    "pruned layer": lambda head: pruned(head.coarse_head, "fc1"),
    "own point head": lambda head: setattr(head, "point_head", Sum()),
}


def outcome(head):
    torch.manual_seed(1)
    maps = features()
    losses = losses_of(head, maps, proposals(3, 2))
    return losses, maps["p2"].grad, masks_of(head, features(), detections(3, 2))


def assert_respected(change):
    """By default the outcome is that of the plain path, and not the one before the change."""
    # (Of 32 + 6 channels, which can be grouped.)
    fast = mask_head(num_classes=6)
    plain = mask_head((f"{NODE}.FAST_PATH", False), num_classes=6)
    before = outcome(copy.deepcopy(fast))
    for head in (fast, plain):
        torch.manual_seed(2)
        change(head)
    assert path_of(fast) is PlainBoxReader
    got, want = outcome(fast), outcome(plain)
    assert got[0] == want[0]
    assert torch.equal(got[1], want[1]) and torch.equal(got[2], want[2])
    assert (got[2] - before[2]).abs().max() > 1e-3


@pytest.mark.parametrize("change", HEAD_CHANGES.values(), ids=HEAD_CHANGES)
def test_whatever_was_done_to_a_head_is_respected(change):
    assert_respected(change)


@pytest.mark.parametrize("change", [each for each in CHANGES if each is not frozen])
def test_whatever_was_done_to_a_layer_of_the_point_head_is_respected(change):
    assert_respected(lambda head: change(head.point_head, "fc2"))


def test_frozen_layers_are_no_change():
    head = mask_head()
    frozen(head.point_head, "fc2")
    head.coarse_head.requires_grad_(False)
    assert path_of(head) is FusedBoxReader


def test_hooks_that_are_gone_are_no_change():
    head = mask_head()
    handles = [m.register_forward_hook(lambda *_: None) for m in head.modules()]
    assert path_of(head) is PlainBoxReader
    for handle in handles:
        handle.remove()
    assert path_of(head) is FusedBoxReader


def test_random_convolutions_are_not_repeated():
    """The fast path computes them again for the backward pass; dropout would be another then."""
    head = mask_head()
    layer = head.coarse_head.reduce_spatial_dim_conv
    head.coarse_head.reduce_spatial_dim_conv = nn.Sequential(layer, nn.Dropout(0.5))
    assert path_of(head) is PlainBoxReader


def test_other_fully_connected_layers_are_called():
    """These are called as they are, so they may be anything."""
    changed, scaled = mask_head(), mask_head()
    layer = changed.coarse_head.fc1
    changed.coarse_head.fc1 = nn.Sequential(layer, nn.Hardtanh(-1e9, 1e9))
    assert path_of(changed) is FusedBoxReader
    want, got = outcome(scaled), outcome(changed)
    for name, loss in want[0].items():
        torch.testing.assert_close(got[0][name], loss)
    torch.testing.assert_close(got[2], want[2])


# --- the other heads ------------------------------------------------------------------------


def opened_by_the_implicit_head(opts=()):
    head = mask_head((*IMPLICIT_OPTS, *opts))
    return open_box_reader(
        features(),
        SOME,
        head.reading,
        pooled_head=head.parameter_head,
        point_head=head.point_head,
    )


def test_the_implicit_head_reads_in_parts_in_inference():
    with torch.no_grad():
        assert type(opened_by_the_implicit_head()) is RowBoxReader
        off = (f"{NODE}.FAST_PATH", False)
        assert type(opened_by_the_implicit_head(off)) is PlainBoxReader
    assert type(opened_by_the_implicit_head()) is PlainBoxReader


def test_the_implicit_head_on_both_paths():
    masks = []
    for fast in (False, True):
        head = mask_head((*IMPLICIT_OPTS, f"{NODE}.FAST_PATH", fast))
        masks.append(masks_of(head, features(), detections(5, 4)))
    assert ((masks[0] > 0.5) == (masks[1] > 0.5)).float().mean() > 0.9999
    assert (masks[0] - masks[1]).abs().median() < 1e-6 and masks[0].std() > 0.01


def test_the_semantic_head_is_fast_on_a_cpu_without_gradients():
    point_head, maps = PointMLP(in_channels=32, num_classes=5, fc_dim=8), features()
    for fast in (False, True):
        settings = ReadSettings({"p2": 4}, {}, fast_path=fast)
        with torch.no_grad():
            reader = open_frame_reader(maps, (96, 128), settings, point_head)
        assert type(reader) is (FastFrameReader if fast else PlainFrameReader)
        reader = open_frame_reader(maps, (96, 128), settings, point_head)
        assert type(reader) is PlainFrameReader


@pytest.mark.parametrize("to_onnx", [False, True])
def test_a_trace_gets_the_fast_readers_and_onnx_the_plain_ones(to_onnx, monkeypatch):
    """So a trace rounds as the model does; ONNX has no `embedding_bag`."""
    kinds, head = [], mask_head().requires_grad_(False)
    point_head = PointMLP(in_channels=32, num_classes=5).requires_grad_(False)
    maps = {name: each.detach() for name, each in features().items()}

    def traced(x):
        settings = ReadSettings({"p2": 4}, {})
        kinds.append(type(reader_of(head, maps, [torch.zeros(0, 4)])))
        kinds.append(type(open_frame_reader(maps, (96, 128), settings, point_head)))
        return x

    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: to_onnx)
    with torch.no_grad():
        torch.jit.trace(traced, torch.zeros(1), check_trace=False)
    fast, plain = {FusedBoxReader, FastFrameReader}, {PlainBoxReader, PlainFrameReader}
    assert set(kinds) == (plain if to_onnx else fast)
