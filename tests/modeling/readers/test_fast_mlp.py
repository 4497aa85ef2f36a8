"""The layers on rows, forward and backward, against `PointMLP` under autograd."""

import pytest
import torch
from torch import nn

from pointrend_seg.modeling.point_heads import PointMLP, select_class
from pointrend_seg.modeling.readers.fast.frames import predict_all_classes
from pointrend_seg.modeling.readers.fast.mlp import CoarseCells, RowMLP
from pointrend_seg.modeling.readers.fast.rows import interpolation_weights
from pointrend_seg.points.interpolation import sample_points

BOXES, POINTS, CHANNELS, SIZE = 4, 6, 5, (3, 2)


def woken_up(num_classes, *, dtype=torch.float64, **settings):
    """A point head whose logits are not near 0 and whose biases are not 0."""
    torch.manual_seed(0)
    head = PointMLP(in_channels=CHANNELS, num_classes=num_classes, fc_dim=8, **settings).to(dtype)
    for layer in head.layers:
        nn.init.normal_(layer.weight, std=layer.in_channels**-0.5)
        nn.init.normal_(layer.bias, std=0.3)
    return head


def inputs(num_classes, *, dtype=torch.float64):
    """Fine features (B, D, P), coarse logits (B, C, h, w), points, and a gradient of the logits."""
    torch.manual_seed(1)
    fine = torch.randn(BOXES, CHANNELS, POINTS, dtype=dtype, requires_grad=True)
    coarse = torch.randn(BOXES, num_classes, *SIZE, dtype=dtype, requires_grad=True)
    coords = torch.rand(BOXES, POINTS, 2, dtype=dtype)
    coords[:, 0] = torch.tensor([0.0, 1.0])
    return fine, coarse, coords, torch.randn(BOXES, POINTS, dtype=dtype)


def some_classes(kind, num_classes):
    if kind == "one":
        return torch.full((BOXES,), num_classes - 1)
    return torch.arange(BOXES) * 7 % num_classes


def plain(head, fine, coarse, coords, classes, gradient, padding_mode="zeros"):
    """Logits, and the gradients of fine features, coarse logits and parameters."""
    at_points = sample_points(coarse, coords, padding_mode=padding_mode)
    logits = select_class(head(fine, at_points), classes)
    wanted = [fine, coarse, *head.parameters()]
    return logits, torch.autograd.grad(logits, wanted, gradient)


@torch.no_grad()
def by_rows(head, fine, coarse, coords, classes, gradient, padding_mode="zeros"):
    """The same, in the same shapes."""

    def of(weights, biases):
        return RowMLP(weights, biases, CHANNELS)

    weights, biases = [x.weight for x in head.layers], [x.bias for x in head.layers]
    mlp, rows = of(weights, biases), fine.transpose(1, 2).flatten(0, 1)
    cells = coarse.flatten(2).transpose(1, 2)
    masks = CoarseCells(cells, interpolation_weights(coords, SIZE, padding_mode), classes)
    logits, outputs = mlp.forward(mlp.first(rows), masks, mlp.fold(cells))
    sums = [[torch.zeros_like(each) for each in kind] for kind in (weights, biases)]
    of_rows, of_cells = mlp.backward(gradient, rows, masks, outputs, of(*sums))
    of_fine = of_rows.unflatten(0, (BOXES, POINTS)).transpose(1, 2)
    of_parameters = [x for pair in zip(*sums, strict=True) for x in pair]
    return logits, (of_fine, of_cells.transpose(1, 2).reshape(coarse.shape), *of_parameters)


def assert_same(got, want, **tolerance):
    torch.testing.assert_close(got[0], want[0], **tolerance)
    for k, (own, other) in enumerate(zip(got[1], want[1], strict=True)):
        torch.testing.assert_close(own, other, **tolerance, msg=lambda m, k=k: f"{k}: {m}")
        # Of the coarse logits, the others' biases and so on most are 0, but never all.
        assert other.any(), k


@pytest.mark.parametrize("num_classes", [1, 5, 80, 1203])
@pytest.mark.parametrize("num_fc", [1, 3])
@pytest.mark.parametrize("each_layer", [True, False])
@pytest.mark.parametrize("agnostic", [True, False])
def test_logits_and_gradients(num_classes, num_fc, each_layer, agnostic):
    head = woken_up(
        num_classes,
        num_fc=num_fc,
        coarse_pred_each_layer=each_layer,
        num_outputs=1 if agnostic else None,
    )
    fine, coarse, coords, gradient = inputs(num_classes)
    for kind in ("several", "one"):
        given = fine, coarse, coords, some_classes(kind, num_classes), gradient
        assert_same(by_rows(head, *given), plain(head, *given), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("padding_mode", ["zeros", "border"])
def test_coarse_logits_at_the_edge(padding_mode):
    head = woken_up(5)
    fine, coarse, coords, gradient = inputs(5)
    coords = coords.round()
    given = fine, coarse, coords, some_classes("several", 5), gradient, padding_mode
    assert_same(by_rows(head, *given), plain(head, *given), atol=1e-10, rtol=1e-10)


def test_single_precision():
    head = woken_up(80, dtype=torch.float32)
    fine, coarse, coords, gradient = inputs(80, dtype=torch.float32)
    given = fine, coarse, coords, some_classes("several", 80), gradient
    assert_same(by_rows(head, *given), plain(head, *given), atol=2e-5, rtol=1e-5)


def test_only_the_rows_of_the_classes_get_gradients():
    head = woken_up(80)
    fine, coarse, coords, gradient = inputs(80)
    classes = torch.tensor([3, 3, 70, 0])
    _, gradients = by_rows(head, fine, coarse, coords, classes, gradient)
    for of_predictor in gradients[-2:]:
        touched = of_predictor.flatten(1).any(1) if of_predictor.dim() > 1 else of_predictor != 0
        assert touched.nonzero().flatten().tolist() == [0, 3, 70]


def test_gradients_are_added_to_the_sums():
    head = woken_up(5)
    fine, coarse, coords, gradient = inputs(5)
    classes = some_classes("several", 5)
    _, whole = by_rows(head, fine, coarse, coords, classes, gradient)
    weights, biases = [x.weight for x in head.layers], [x.bias for x in head.layers]
    sums = [[torch.ones_like(each) for each in kind] for kind in (weights, biases)]
    mlp, into = RowMLP(weights, biases, CHANNELS), RowMLP(*sums, CHANNELS)
    with torch.no_grad():
        for k in range(BOXES):
            part = slice(k, k + 1)
            rows = fine[part].transpose(1, 2).flatten(0, 1)
            cells = coarse[part].flatten(2).transpose(1, 2)
            masks = CoarseCells(
                cells, interpolation_weights(coords[part], SIZE, "zeros"), classes[part]
            )
            _, outputs = mlp.forward(mlp.first(rows), masks, mlp.fold(cells))
            mlp.backward(gradient[part], rows, masks, outputs, into)
    got = [x - 1 for pair in zip(*sums, strict=True) for x in pair]
    for own, other in zip(got, whole[2:], strict=True):
        torch.testing.assert_close(own, other)


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("each_layer", [True, False])
@pytest.mark.parametrize("num_fc", [0, 1, 3])
def test_all_classes_are_those_of_the_head(images, each_layer, num_fc):
    torch.manual_seed(0)
    head = PointMLP(
        in_channels=6, num_classes=5, fc_dim=7, num_fc=num_fc, coarse_pred_each_layer=each_layer
    ).double()
    with torch.no_grad():
        for layer in head.layers:
            layer.bias.normal_()
        head.predictor.weight.normal_()
        fine, coarse = torch.randn(images, 6, 11).double(), torch.randn(images, 5, 11).double()
        before = fine.clone(), coarse.clone()
        got = predict_all_classes(head, fine, coarse)
        torch.testing.assert_close(got, head(fine, coarse))
    assert torch.equal(fine, before[0]) and torch.equal(coarse, before[1])
