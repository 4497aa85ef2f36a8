"""Losses against sums by hand, and where nothing is left to sum."""

import math

import pytest
import torch
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_loss
from detectron2.projects.point_rend.point_head import roi_mask_point_loss
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from torch.nn import functional as F

from pointrend_seg.points.losses import (
    labels_or_zero,
    mask_error_rates,
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
    logits, labels = torch.tensor([[1.0, 1.0, -1.0]]), torch.tensor([[0.75, 0.9, 0.25]])
    with EventStorage() as storage:
        roi_mask_point_loss(logits.unsqueeze(1), [[]], labels)
        assert storage.latest()["point/accuracy"][0] == pytest.approx(1 / 3)
    assert mask_point_accuracy(logits, labels) == 1


def test_ignored_points_do_not_thin_the_loss():
    """Detectron2 divides by them too."""
    logits, labels = torch.randn(2, 6), torch.rand(2, 6)
    want = mask_point_loss(logits[:, :3], labels[:, :3])
    labels[:, 3:] = -1
    torch.testing.assert_close(mask_point_loss(logits, labels), want)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mask_losses_of_half_precision_are_float(dtype):
    logits = torch.full((1, 70000), 0.5, dtype=dtype)
    loss = mask_point_loss(logits, torch.ones(1, 70000))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-0.5)), rel=1e-4)


def test_mask_error_rates_by_hand():
    logits = torch.tensor([[[2.0, -1.0, 0.0], [3.0, -2.0, 1.0]]])
    labels = torch.tensor([[[1, 1, 1], [0, 0, 0]]], dtype=torch.bool)
    rates = mask_error_rates(logits, labels)
    # Inside one of three is found (0 is not above the threshold), outside two of three are wrong.
    assert rates["accuracy"].item() == pytest.approx(2 / 6)
    assert rates["false_negative"].item() == pytest.approx(2 / 3)
    assert rates["false_positive"].item() == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("logits", "labels", "want"),
    [
        ([], [], (1, 0, 0)),
        ([1.0, 1.0], [True, True], (1, 0, 0)),
        ([-1.0, -1.0], [True, True], (0, 0, 1)),
        ([1.0, -1.0], [False, False], (0.5, 0.5, 0)),
    ],
)
def test_mask_error_rates_where_there_is_nothing_of_a_kind(logits, labels, want):
    rates = mask_error_rates(torch.tensor(logits), torch.tensor(labels, dtype=torch.bool))
    got = [float(rates[name]) for name in ("accuracy", "false_positive", "false_negative")]
    assert got == pytest.approx(want)


def test_mask_error_rates_are_what_detectron2_logs():
    torch.manual_seed(0)
    logits, bits = torch.randn(4, 1, 7, 7), torch.rand(4, 30, 40) < 0.5
    instances = Instances((30, 40))
    instances.proposal_boxes = Boxes(torch.tensor([[3.0, 4.0, 31.0, 28.0]] * 4))
    instances.gt_masks = BitMasks(bits)
    with EventStorage() as storage:
        mask_rcnn_loss(logits, [instances])
        want = {name: value[0] for name, value in storage.latest().items()}
    labels = instances.gt_masks.crop_and_resize(instances.proposal_boxes.tensor, 7)
    for name, value in mask_error_rates(logits[:, 0], labels).items():
        assert value.item() == pytest.approx(want[f"mask_rcnn/{name}"], abs=1e-6)


def test_without_ignored_points_the_loss_is_the_plain_mean_to_the_bit():
    """For any number of points: n times the reciprocal of n is not always 1."""
    for boxes in range(1, 40):
        logits = torch.linspace(-3, 3, boxes * 49).view(boxes, 49).requires_grad_()
        labels = (torch.arange(boxes * 49) % 3 == 0).float().view(boxes, 49)
        want = F.binary_cross_entropy_with_logits(logits, labels)
        got = mask_point_loss(logits, labels)
        assert torch.equal(got, want), boxes
        (want_grad,) = torch.autograd.grad(want, logits)
        (got_grad,) = torch.autograd.grad(got, logits)
        assert torch.equal(got_grad, want_grad), boxes
