"""Losses against sums by hand, and where nothing is left to sum."""

import math

import pytest
import torch
from torch.nn import functional as F

from pointrend_seg.losses import (
    labels_or_zero,
    mask_point_accuracy,
    mask_point_loss,
    semantic_loss,
)


def by_hand(logits, labels, weights=None, ignore=255):
    """Weighted mean of -log softmax, in Python floats; C = 1 is the sigmoid's."""
    total = mass = 0.0
    classes = logits.shape[1]
    for n in range(logits.shape[0]):
        for p in range(logits.shape[2]):
            label = int(labels[n, p])
            if label == ignore:
                continue
            values = logits[n, :, p].tolist()
            if classes == 1:
                values = [0.0, values[0]]
            weight = 1.0 if weights is None else weights[label]
            total += weight * (math.log(sum(math.exp(v) for v in values)) - values[label])
            mass += weight
    return total / mass


@pytest.mark.parametrize("classes", [1, 2, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_semantic_loss_by_hand(classes, weighted):
    torch.manual_seed(0)
    logits = torch.randn(3, classes, 7)
    labels = torch.randint(0, max(2, classes), (3, 7))
    labels[0, :4] = 255
    weights = torch.rand(max(2, classes)) + 0.1 if weighted else None
    got = semantic_loss(logits, labels, ignore_value=255, class_weights=weights)
    want = by_hand(logits, labels, None if weights is None else weights.tolist())
    assert got.item() == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("shape", [(2, 4, 9), (2, 4, 5, 6)])
def test_semantic_loss_is_torch_cross_entropy_to_the_bit(shape):
    torch.manual_seed(1)
    logits = torch.randn(shape, requires_grad=True)
    labels = torch.randint(0, 4, (shape[0], *shape[2:]))
    labels[:, 0] = 255
    ours = semantic_loss(logits, labels, ignore_value=255)
    theirs = F.cross_entropy(logits, labels, ignore_index=255)
    assert torch.equal(ours, theirs)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
    assert torch.equal(*gradients)


def test_hard_pixel_mining_takes_the_highest_losses():
    torch.manual_seed(2)
    logits, labels = torch.randn(1, 3, 10), torch.randint(0, 3, (1, 10))
    labels[0, 0] = 255
    losses = F.cross_entropy(logits, labels, ignore_index=255, reduction="none").flatten().tolist()
    got = semantic_loss(logits, labels, ignore_value=255, hardest=0.3)
    assert got.item() == pytest.approx(sum(sorted(losses)[-3:]) / 3)


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("hardest", [1.0, 0.2])
def test_everything_ignored_gives_zero_with_zero_gradients(classes, weighted, hardest):
    logits = torch.randn(2, classes, 5, 4, requires_grad=True)
    labels = torch.full((2, 5, 4), 255)
    weights = torch.ones(max(2, classes)) if weighted else None
    loss = semantic_loss(logits, labels, ignore_value=255, class_weights=weights, hardest=hardest)
    loss.backward()
    assert loss.item() == 0 and logits.grad.eq(0).all()


def test_weights_of_zero_for_all_that_is_there():
    logits = torch.randn(1, 3, 4, requires_grad=True)
    weights = torch.tensor([1.0, 0.0, 0.0])
    loss = semantic_loss(
        logits, torch.tensor([[1, 2, 1, 255]]), ignore_value=255, class_weights=weights
    )
    loss.backward()
    assert loss.item() == 0 and logits.grad.isfinite().all()


def test_half_precision_is_summed_in_float32():
    logits = torch.randn(1, 3, 70000).half()
    loss = semantic_loss(logits, torch.zeros(1, 70000, dtype=torch.int64), ignore_value=255)
    assert loss.dtype == torch.float32 and loss.isfinite()


def test_labels_for_somebody_elses_loss():
    some = torch.tensor([[255, 1]])
    labels, factor = labels_or_zero(some, 255)
    assert torch.equal(labels, some) and factor
    logits = torch.randn(1, 3, 2, requires_grad=True)
    labels, factor = labels_or_zero(torch.full((1, 2), 255), 255)
    loss = F.cross_entropy(logits, labels, ignore_index=255) * factor
    loss.backward()
    assert loss.item() == 0 and logits.grad.eq(0).all()


def test_mask_point_loss_by_hand():
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -3.0]])
    labels = torch.tensor([[1.0, 0.25, -1.0], [0.0, -1.0, -1.0]])
    terms = [
        math.log(1 + math.exp(-2.0)),
        0.25 * math.log(1 + math.exp(1.0)) + 0.75 * math.log(1 + math.exp(-1.0)),
        math.log(2.0),
    ]
    # Divided by the three points that have a label, not by all six.
    assert mask_point_loss(logits, labels).item() == pytest.approx(sum(terms) / 3)


@pytest.mark.parametrize("masks", [0, 2])
def test_mask_point_loss_of_nothing(masks):
    logits = torch.randn(masks, 5, requires_grad=True)
    loss = mask_point_loss(logits, torch.full((masks, 5), -1.0))
    loss.backward()
    assert loss.item() == 0 and logits.grad.eq(0).all()
    assert mask_point_accuracy(logits, torch.full((masks, 5), -1.0)) == 0


def test_accuracy_counts_fractions_by_their_side():
    """Detectron2's PointRend casts 0.75 to 0 and calls a positive prediction there wrong."""
    logits = torch.tensor([[1.0, 1.0, -1.0, -1.0, 5.0]])
    labels = torch.tensor([[0.75, 0.25, 0.25, 0.5, -1.0]])
    assert mask_point_accuracy(logits, labels).item() == pytest.approx(2 / 4)
