"""Measure how unsure a prediction is (sections 3.2 and 4 of the paper).

Shape shorthand: N regions, C classes; ... any further dimensions.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .execution import is_eager_on_cpu
from .precision import at_least_float32

Uncertainty = Callable[[Tensor], Tensor]


def class_uncertainty(logits: Tensor) -> Tensor:
    """Measure how close the two best classes are: minus the difference of their logits.

    For one class, a binary model, it is minus the logit's absolute value: the difference to the
    threshold (both in section 4 of the paper).

    Args:
        logits: (N, C, ...), any floating dtype.

    Returns:
        (N, ...), float32 or wider, never positive; 0 where the prediction could go either way.

    Example:
        >>> class_uncertainty(torch.tensor([[3.0, 1.0, 2.5]]))
        tensor([-0.5000])
    """
    if logits.shape[1] == 1:
        return -at_least_float32(logits[:, 0]).abs()
    if not is_eager_on_cpu(logits, with_gradients=True):
        return _second_minus_first(logits)
    # In parts whose running maxima stay in the caches, each thread's in its own.
    part = max(1, _CACHED * torch.get_num_threads() // max(1, len(logits)))
    planes = logits.reshape(*logits.shape[:2], math.prod(logits.shape[2:]))
    parts = [_second_minus_first(each) for each in planes.split(part, dim=2)]
    return torch.cat(parts, dim=1).view(logits[:, 0].shape)


# Elements of a part for each thread: few enough for the caches, and so many that waking up the
# other threads for each operation hardly shows.
_CACHED = 2**18


def _second_minus_first(logits: Tensor) -> Tensor:
    """Subtract the best logit from the second best: (N, C, ...) of two classes or more to (N, ...).

    Two running maxima give what topk(2) over the classes gives, bit for bit, in a tenth of the
    time on full-size maps.
    """
    first = at_least_float32(logits[:, 0])
    second = torch.full_like(first, -torch.inf)
    for plane in map(at_least_float32, logits.unbind(1)[1:]):
        second = torch.maximum(second, torch.minimum(first, plane))
        first = torch.maximum(first, plane)
    return second - first
