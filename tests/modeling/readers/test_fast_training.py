"""Losses and gradients of the fast path against those of the plain path under autograd."""

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from mask_inputs import (
    HEIGHT,
    WIDTH,
    Allocated,
    features,
    losses_of,
    mask_head,
    proposals,
)
from pointrend_seg.modeling.readers import CoarsePrediction
from pointrend_seg.modeling.readers.fast import FusedBoxReader, fused, parts
from pointrend_seg.modeling.readers.fast.mlp import RowMLP
from pointrend_seg.modeling.readers.plain import PlainBoxReader
from reader_inputs import CHANNELS, Case, assert_same_training, points_in_double

HALVES = [torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def in_double(monkeypatch):
    points_in_double(monkeypatch)


# --- losses and every gradient --------------------------------------------------------------

CASES = {
    "one map": {},
    "one image": {"counts": (4,)},
    "first image empty": {"counts": (0, 2)},
    "last image empty": {"counts": (1, 3, 0)},
    "several fine maps": {"points": ("p3", "p2", "p4")},
    "several maps": {"points": ("p4", "p2"), "pooler": ("p2", "p3")},
    "different maps": {"points": ("p2",), "pooler": ("p3",)},
    "border": {"padding_mode": "border", "points": ("p2", "p3")},
    "one class": {"classes": 1},
    "class-agnostic": {"agnostic": True},
    "many classes": {"classes": 80},
    "coarse logits once": {"each_layer": False},
    "one layer": {"num_fc": 1},
    "no reduction": {"conv_dim": 8},
    "one point": {"num_points": 1},
}


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_losses_and_gradients(settings):
    case = Case(**settings).build()
    got = assert_same_training(case)
    used = {*case.pooler, *case.points}
    for name in CHANNELS:
        assert (got[name] is not None and got[name].any()) == (name in used)
    assert 0.1 < got["point"] < 10


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_losses_and_gradients_in_single_precision(settings):
    assert_same_training(Case(**settings, dtype=torch.float32).build(), tolerance=2e-5)


# --- backward passes ------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [3.0, 65536.0, -0.5])
def test_gradients_are_scaled(factor):
    """As gradient scalers and weights of losses do."""
    case = Case().build()
    assert_same_training(case, lambda losses: (sum(losses.values()) * factor).backward())
    assert_same_training(
        case, lambda losses: (losses["mask"] - factor * losses["point"]).backward()
    )


@pytest.mark.parametrize("share", [0.3, 0.9, 1.0])
def test_points_without_a_label_do_not_count(share):
    case = Case().build()
    ignored = torch.rand(case.labels.shape, generator=torch.Generator().manual_seed(1)) < share
    ignored[0] = True  # a whole box
    case.labels[ignored] = -1
    assert_same_training(case)
    losses, _ = case.losses(FusedBoxReader)
    losses["point"].backward()
    for name, gradient in case.gradients().items():
        assert gradient is None or share < 1 or not gradient.any(), name
    assert (losses["point"] == 0) == (share == 1)


@pytest.mark.parametrize("name", ["mask", "point"])
def test_only_one_of_the_losses(name):
    case = Case(pooler=("p2", "p3"), points=("p3", "p4")).build()
    assert_same_training(case, lambda losses: losses[name].backward())


@pytest.mark.parametrize("order", [("mask", "point"), ("point", "mask")])
def test_one_loss_after_the_other(order):
    def backward(losses):
        for name in order:
            losses[name].backward(retain_graph=True)

    assert_same_training(Case().build(), backward)


def test_maps_that_others_read_too():
    case = Case().build()

    def backward(losses):
        others = sum(each.square().sum() for each in case.features.values())
        (sum(losses.values()) + others).backward()

    assert_same_training(case, backward)


def assert_same_gradients(case, total_of):
    """Both paths give the gradients of ``total_of(reader, inputs)``, a scalar."""
    found = []
    for kind in (PlainBoxReader, FusedBoxReader):
        reader = case.reader(kind)
        inputs = CoarsePrediction(reader.pool(case.coarse_head), case.box_classes)
        total_of(reader, inputs).backward()
        found.append(case.gradients())
    for name, want in found[0].items():
        torch.testing.assert_close(found[1][name], want, msg=name)


@pytest.mark.parametrize("rows", [35, 2**20])
def test_several_point_losses_of_the_same_maps(monkeypatch, rows):
    monkeypatch.setattr(parts, "_ROWS_AT_ONCE", {"cpu": rows})
    case = Case(points=("p2", "p3")).build()

    def total(reader, inputs):
        points = ((1, case.coords), (-3, 1 - case.coords), (2, case.coords**2))
        return sum(k * reader.point_loss(inputs, coords, case.labels)[0] for k, coords in points)

    assert_same_gradients(case, total)


def maps_of(reader):
    return reader.features if isinstance(reader, PlainBoxReader) else reader.maps.maps


def test_readers_that_autograd_follows():
    """Their gradients and those that the other readers add up are put together."""
    case = Case(points=("p2", "p3")).build()

    def total(reader, inputs):
        others = maps_of(reader)["p2"].pow(3).sum()
        return reader.point_loss(inputs, case.coords, case.labels)[0] + 1e-3 * others

    assert_same_gradients(case, total)
    assert_same_gradients(case, lambda reader, inputs: maps_of(reader)["p3"].pow(2).sum())


@pytest.mark.parametrize("worth", [-1.0, float("inf")], ids=["map first", "points first"])
def test_gradients_through_inference(monkeypatch, worth):
    """As maps of what a prediction rests on need them."""
    monkeypatch.setattr(fused, "_POINTS_WORTH_MAP", worth)
    case = Case(points=("p2", "p3")).build()

    def total(reader, inputs):
        predictors = reader.predictors(inputs, num_points=case.num_points, num_reads=1)
        return sum(predict(case.coords[part]).square().sum() for part, predict in predictors)

    assert_same_gradients(case, total)


def test_a_second_backward_pass():
    """Of the coarse loss as often as is liked; the point loss has its gradients once."""
    losses, _ = Case().build().losses(FusedBoxReader)
    losses["mask"].backward(retain_graph=True)
    losses["mask"].backward(retain_graph=True)
    losses["point"].backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once.*second.*MODEL.POINT_HEAD.FAST_PATH to False"):
        losses["point"].backward()


def test_the_same_backward_pass_twice():
    def backward(losses):
        losses["mask"].backward(retain_graph=True)
        losses["mask"].backward()

    assert_same_training(Case().build(), backward)


def test_gradients_of_parameters_alone():
    """As methods that balance losses ask for them. What the maps would get must not stay behind."""
    case = Case().build()
    parameters = list(case.coarse_head.parameters())

    def backward(losses):
        torch.autograd.grad(losses["mask"], parameters, retain_graph=True)
        sum(losses.values()).backward()

    assert_same_training(case, backward)


def test_gradients_of_the_maps_alone():
    case, found = Case(points=("p2", "p3")).build(), []
    wanted = [case.features["p2"], case.features["p3"]]

    def backward(losses):
        found.append(torch.autograd.grad(sum(losses.values()), wanted))

    assert_same_training(case, backward)
    for want, got in zip(*found, strict=True):
        torch.testing.assert_close(got, want)


# --- what is trained ------------------------------------------------------------------------


def frozen(case, *names):
    for name in names:
        for key, value in case.parameters().items():
            if key.startswith(name):
                value.requires_grad_(False)


@pytest.mark.parametrize(
    "names",
    [
        ("p2",),
        ("p3",),
        ("p",),
        ("coarse_head",),
        ("coarse_head.reduce_spatial",),
        ("coarse_head.reduce_channel_dim_conv.weight",),
        ("point_head",),
        ("point_head.fc1", "point_head.predictor.bias"),
        ("coarse_head", "point_head"),
        ("p2", "p3", "p4", "coarse_head"),
        ("p2", "p3", "p4", "point_head"),
    ],
    ids=str,
)
def test_whatever_is_frozen(names):
    case = Case(pooler=("p2", "p3"), points=("p2", "p3")).build()
    frozen(case, *names)
    assert_same_training(case)


def test_nothing_is_trained():
    case = Case().build()
    frozen(case, "")
    losses, logits = case.losses(FusedBoxReader)
    assert not any(x.requires_grad for x in (*losses.values(), logits))
    assert_same_training(case, lambda losses: None)


def test_the_logits_have_no_gradient():
    assert not Case().build().losses(FusedBoxReader)[1].requires_grad


def test_without_gradients():
    case = Case().build()
    want, _ = case.losses(FusedBoxReader)
    with torch.no_grad():
        got, _ = case.losses(FusedBoxReader)
    assert got == want and not any(x.requires_grad for x in got.values())


# --- parts and layouts ----------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 70, 93, 2**20])
def test_parts_of_any_size(monkeypatch, rows):
    monkeypatch.setattr(parts, "_ROWS_AT_ONCE", {"cpu": rows})
    assert_same_training(Case(points=("p2", "p3")).build())


def test_the_parts_of_boxes():
    """No part is of two images, and nothing is opened for an image without boxes."""
    boxes, opened = [torch.zeros(n, 4) for n in (5, 0, 3)], []

    def open_image(image):
        opened.append(image)
        return f"image {image}"

    parts._ROWS_AT_ONCE, before = {"cpu": 20}, parts._ROWS_AT_ONCE
    try:
        got = list(parts.split_boxes(boxes, 5, open_image, num_buffers=2))
    finally:
        parts._ROWS_AT_ONCE = before
    assert got == [
        ("image 0", slice(0, 2)),
        ("image 0", slice(2, 4)),
        ("image 0", slice(4, 5)),
        ("image 2", slice(5, 7)),
        ("image 2", slice(7, 8)),
    ]
    assert opened == [0, 2]


def test_maps_that_are_channels_last():
    """Those are read as rows, the others plane by plane."""
    case = Case(pooler=("p2", "p3"), points=("p3", "p2")).build()
    case.features = {
        name: x.detach().to(memory_format=torch.channels_last).requires_grad_()
        for name, x in case.features.items()
    }
    assert_same_training(case)


# --- precision ------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [True, False], ids=["within autocast", "outside of it"])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_mixed_precision(dtype, inside):
    """Both paths round to half precision, but at other places: they err by about as much."""
    case = Case(counts=(9, 0, 9), points=("p2", "p3"), dtype=torch.float32).build()
    sum(case.losses(PlainBoxReader)[0].values()).backward()
    exact, errors = case.gradients(), []
    for kind in (PlainBoxReader, FusedBoxReader):
        with torch.autocast("cpu", dtype=dtype):
            losses, _ = case.losses(kind)
            assert all(x.dtype == torch.float32 for x in losses.values())
            if inside:
                sum(losses.values()).backward()
        if not inside:
            sum(losses.values()).backward()
        got = case.gradients()
        assert all(x is None or x.dtype == torch.float32 for x in got.values())
        names = [name for name, value in exact.items() if value is not None]
        errors.append([(got[n] - exact[n]).norm() / exact[n].norm() for n in names])
    plain, fast = map(torch.tensor, errors)
    assert plain.max() < 0.2 and fast.max() < 0.2
    assert fast.mean() < 1.5 * plain.mean()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_precision_keeps_small_gradients(dtype):
    """A mean over many points has gradients that half precision would round to nothing."""
    case = Case(counts=(30, 30), num_points=40, dtype=torch.float32).build()
    losses, _ = case.losses(FusedBoxReader)
    losses["point"].backward()
    want = case.gradients()
    for module in (case.coarse_head, case.point_head):
        module.to(dtype)
    case.features = {k: v.detach().to(dtype).requires_grad_() for k, v in case.features.items()}
    losses, logits = case.losses(FusedBoxReader)
    assert losses["point"].dtype == logits.dtype == torch.float32
    (losses["point"] * 1024).backward()
    for name, value in case.gradients().items():
        if value is not None:
            assert value.dtype == dtype
            error = (value.float() / 1024 - want[name]).norm() / want[name].norm()
            assert error < 0.1, (name, error)


# --- the whole head -------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [(3, 2), (0, 4), (40,)], ids=str)
def test_the_head_trains_as_on_the_plain_path(counts):
    results = []
    for fast in (False, True):
        head, maps = mask_head(("MODEL.POINT_HEAD.FAST_PATH", fast)), features(len(counts))
        torch.manual_seed(1)
        losses = losses_of(head, maps, proposals(*counts))
        gradients = {name: value.grad for name, value in head.named_parameters()}
        results.append({**losses, **gradients, "p2": maps["p2"].grad})
    want, got = results
    for name, value in want.items():
        torch.testing.assert_close(
            got[name], value, atol=2e-5 * value.abs().max().item(), rtol=1e-4, msg=name
        )


def test_batch_of_accumulated_steps():
    """Gradients of two steps are added up as usual."""
    results = []
    for fast in (False, True):
        head = mask_head(("MODEL.POINT_HEAD.FAST_PATH", fast))
        for seed in range(2):
            torch.manual_seed(seed)
            losses_of(head, features(seed=seed), proposals(3, 2, seed=seed))
        results.append([value.grad for value in head.parameters()])
    for want, got in zip(*results, strict=True):
        torch.testing.assert_close(got, want, atol=2e-5 * want.abs().max().item(), rtol=1e-4)


# --- cost -----------------------------------------------------------------------------------


def training_cost(fast, monkeypatch, number=40):
    monkeypatch.setattr(parts, "_ROWS_AT_ONCE", {"cpu": 2**9})
    head = mask_head(("MODEL.POINT_HEAD.FAST_PATH", fast, "MODEL.POINT_HEAD.FC_DIM", 64))
    maps, images = features(1), proposals(number)
    with Allocated() as allocated:
        losses_of(head, maps, images)
    return allocated.largest


def test_training_makes_nothing_of_all_points_and_channels(monkeypatch):
    """Of the 14 x 14 points of the pooler and the 196 training points, of all boxes."""
    number, channels = 40, 32
    of_points = number * 196 * channels * 4
    masks = number * HEIGHT * WIDTH  # the ground truth itself, for comparison
    assert of_points > 2 * masks
    assert training_cost(False, monkeypatch, number) >= 2 * of_points
    assert training_cost(True, monkeypatch, number) < of_points / 2


def test_the_convolutions_are_repeated_and_nothing_else_is(monkeypatch):
    head, calls = mask_head(), []
    for name in ("reduce_spatial_dim_conv", "fc1"):
        layer = head.coarse_head.get_submodule(name)
        original = type(layer).forward

        def forward(self, x, original=original):
            calls.append((type(self), len(x)))
            return original(self, x)

        monkeypatch.setattr(type(layer), "forward", forward)
    losses_of(head, features(), proposals(3, 2))
    rows = {kind: [n for each, n in calls if each is kind] for kind in (nn.Conv2d, nn.Linear)}
    assert sum(rows[nn.Conv2d]) == 2 * 5
    assert rows[nn.Linear] == [5] * 3


def test_without_gradients_none_are_worked_out(monkeypatch):
    monkeypatch.setattr(RowMLP, "backward", lambda *_: pytest.fail("a gradient"))
    head = mask_head().train()
    with torch.no_grad(), EventStorage():
        losses = head(features(), proposals(4, 3))
    assert not losses["loss_mask_point"].requires_grad
    with pytest.raises(pytest.fail.Exception, match="a gradient"), EventStorage():
        head(features(), proposals(4, 3))
