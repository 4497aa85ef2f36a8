"""Losses and metrics on points and maps: pure functions that see logits and labels alone.

Shape shorthand in this module:

    N: number of regions (images, boxes)
    C: number of classes; C = 1 is a binary model with one logit, that of the foreground
    ...: any further dimensions: (P,) for points, (H, W) for maps

All of them leave ignored places out of both the sum and what it is divided by, and are zero, with
zero gradients, where nothing is left.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import at_least_float32


def semantic_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_value: int,
    class_weights: Tensor | None = None,
    hardest: float = 1.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Compute the cross entropy of class logits against integer labels.

    Args:
        logits: (N, C, ...). With C = 1 this is the binary cross entropy of the one logit.
        labels: (N, ...), int64, in [0, C), for C = 1 in {0, 1}, or ``ignore_value``.
        class_weights: (C,), for C = 1 (2,): background and foreground. The loss is divided by
            the weights of the labels that are there, as in `torch.nn.CrossEntropyLoss`.
        hardest: the part of all places, those with the highest loss, that is averaged (DeepLab's
            hard pixel mining, with 0.2); ignored places count as places with loss 0. The weights
            then scale the losses but not what they are divided by.
        weights: (N, ...), factors of the losses of the places, as Panoptic-DeepLab has them. They
            scale the losses but not what these are divided by.

    Returns:
        scalar, float32 or wider.
    """
    logits = at_least_float32(logits)
    class_weights = None if class_weights is None else class_weights.to(logits)
    valid = labels != ignore_value
    if hardest < 1.0 or logits.shape[1] == 1 or weights is not None:
        losses = _pointwise(logits, labels, valid, ignore_value, class_weights)
        losses = losses if weights is None else losses * weights
        if hardest < 1.0:
            return losses.flatten().topk(int(hardest * losses.numel())).values.mean()
        total = losses.sum()
    else:
        # One kernel sums as it goes; the map of losses is never held.
        total = F.cross_entropy(
            logits, labels, weight=class_weights, ignore_index=ignore_value, reduction="sum"
        )
    if class_weights is None:
        return total / valid.sum().clamp(min=1)
    mass = (class_weights[labels.where(valid, 0)] * valid).sum()
    return total / mass.clamp(min=torch.finfo(mass.dtype).tiny)


def _pointwise(
    logits: Tensor,
    labels: Tensor,
    valid: Tensor,
    ignore_value: int,
    class_weights: Tensor | None,
) -> Tensor:
    """Compute the weighted loss at every place, (N, ...); 0 where the label is ignored."""
    if logits.shape[1] > 1:
        return F.cross_entropy(
            logits, labels, weight=class_weights, ignore_index=ignore_value, reduction="none"
        )
    losses = F.binary_cross_entropy_with_logits(
        logits[:, 0], labels.where(valid, 0).to(logits.dtype), reduction="none"
    )
    if class_weights is not None:
        losses = losses * class_weights[labels.where(valid, 0)]
    return losses.where(valid, 0.0)


def labels_or_zero(labels: Tensor, ignore_value: int) -> tuple[Tensor, Tensor]:
    """Prepare labels for a loss that is NaN where nothing is labelled, so that it becomes zero.

    A mean over no pixels is 0 / 0, and its gradient is NaN also when the result is thrown away.
    So where everything is ignored, the loss sees labels of class 0 and is multiplied by zero. No
    host synchronisation.

    Args:
        labels: integer labels of any shape.

    Returns:
        labels: the same, or all 0 when every one is ``ignore_value``.
        factor: bool scalar tensor, to multiply the loss with.
    """
    any_valid = (labels != ignore_value).any()
    return labels.where(any_valid, 0), any_valid


def mask_point_loss(logits: Tensor, labels: Tensor, *, ignore_value: float = -1.0) -> Tensor:
    """Compute the binary cross entropy of mask logits, averaged over the points with a label.

    Args:
        logits: (R, P), R masks, P points each.
        labels: (R, P), float in [0, 1], or ``ignore_value``. Labels sampled bilinearly from a
            mask are fractions near its edge.

    Returns:
        scalar, float32 or wider; 0 with gradients of 0 when R = 0 or every point is ignored.
    """
    logits = at_least_float32(logits)
    if logits.numel() == 0:
        return logits.sum()  # a mean over nothing is NaN
    valid = labels != ignore_value
    # Without ignored points, loss and gradient are Detectron2's to the last bit.
    mean = F.binary_cross_entropy_with_logits(
        logits, labels.where(valid, 0.0).to(logits.dtype), weight=valid.to(logits.dtype)
    )
    return mean * label_scale(labels, ignore_value=ignore_value)


def mask_point_gradient(logits: Tensor, labels: Tensor, *, ignore_value: float = -1.0) -> Tensor:
    """Compute the gradient of each mask's mean binary cross entropy with respect to its logits.

    Args:
        logits: (R, P).
        labels: (R, P), float in [0, 1], or ``ignore_value``, at which the cross entropy is 0.

    Returns:
        (R, P), in [-1 / P, 1 / P]. Divided by R, and multiplied by the number of all points over
        that of those with a label, it is the gradient of `mask_point_loss`.
    """
    gradient = (logits.sigmoid() - labels) / logits.shape[1]
    return gradient.where(labels != ignore_value, 0.0)


def label_scale(labels: Tensor, *, ignore_value: float = -1.0) -> Tensor:
    """Return the number of all points over that of those with a label: a scalar, 1 or more.

    With it a mean over all points becomes one over those with a label. Without ignored points it is
    exactly 1. (A number divided by a tensor would be multiplied by its reciprocal: n / n is not 1
    then.)
    """
    count = (labels != ignore_value).sum().clamp(min=1)
    return torch.full_like(count, labels.numel()) / count


def mask_point_accuracy(logits: Tensor, labels: Tensor, *, ignore_value: float = -1.0) -> Tensor:
    """Compute the fraction of labelled points that are on the right side of the threshold.

    Args:
        logits, labels: as in `mask_point_loss`; a label of 0.5 or more counts as inside.

    Returns:
        scalar float tensor in [0, 1]; 0 when no point has a label.
    """
    valid = labels != ignore_value
    right = ((logits > 0) == (labels >= 0.5)) & valid
    return right.sum() / valid.sum().clamp(min=1)


def mask_error_rates(
    logits: Tensor, labels: Tensor, *, ignore_value: float = -1.0
) -> dict[str, Tensor]:
    """Compute the error rates that Detectron2 logs for a mask head.

    Args:
        logits: (...), inside above 0.
        labels: (...), bool, or float as in `mask_point_loss`; 0.5 or more counts as inside.

    Returns:
        scalars: ``accuracy``; ``false_positive`` as a fraction of what is outside,
        ``false_negative`` as a fraction of what is inside. Of nothing, the accuracy is 1 and the
        others are 0.
    """
    valid = labels != ignore_value
    inside = (labels >= 0.5) & valid
    wrong, positives = ((logits > 0) != inside) & valid, inside.sum()
    negatives = valid.sum() - positives
    return {
        "accuracy": 1 - wrong.sum() / valid.sum().clamp(min=1),
        "false_positive": (wrong & ~inside).sum() / negatives.clamp(min=1),
        "false_negative": (wrong & inside).sum() / positives.clamp(min=1),
    }
