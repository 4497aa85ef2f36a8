"""Adaptive subdivision: the inference of PointRend (section 3.1 of the paper), for every head.

Shape shorthand as in `points.py`: N regions, C classes, an H x W map, P points.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .coordinates import grid_point_coords, regular_grid, smaller
from .execution import is_eager_on_cpu
from .interpolation import write_points
from .uncertainty import class_uncertainty
from .upsampling import InPlaceDoubling, double, resize


def most_uncertain_points(uncertainty: Tensor, num_points: int) -> tuple[Tensor, Tensor]:
    """Find the cells of a grid with the highest uncertainty.

    Args:
        uncertainty: (N, H, W), any memory layout; higher is less certain.
        num_points: how many to take of each region; at most H * W are.

    Returns:
        indices: (N, P), int64, row-major, P = min(num_points, H * W).
        coords: (N, P, 2), float32, the cells' centres in the frame of the grid.
    """
    height, width = uncertainty.shape[-2:]
    num_points = smaller(num_points, height * width)
    indices = _top(uncertainty.flatten(1), num_points)
    return indices, grid_point_coords(indices, height, width)


# Fewer rows than this of so many scores for each that is wanted are searched one by one.
_FEW_ROWS = 8
_LONG_ROW = 32


def _top(scores: Tensor, number: int) -> Tensor:
    """Return the indices of the highest scores of each row: (N, L) to (N, number).

    On a CPU topk shares rows among the threads, but not one row, so of a few long rows it gets
    only those scores that can be among the highest.
    """
    rows, length = scores.shape
    one_by_one = is_eager_on_cpu(scores, with_gradients=True) and 0 < rows < _FEW_ROWS
    if not one_by_one or number == 0 or length < _LONG_ROW * number:
        return torch.topk(scores, number, dim=1).indices
    return torch.stack([_top_of_row(row, number) for row in scores])


def _top_of_row(scores: Tensor, number: int) -> Tensor:
    """Return those of one row (L,), in the order of their places, in which maps are read faster.

    A sample tells about where the score lies that twice as many reach. If too few or very many do,
    all are looked at.
    """
    step = len(scores) // (_LONG_ROW // 2 * number) | 1
    sample = scores[::step]
    threshold = torch.topk(sample, min(len(sample), 2 * number // step + 64)).values[-1]
    places = (scores >= threshold).nonzero().flatten()
    if not number <= len(places) <= 8 * number:
        return torch.topk(scores, number).indices.sort().values
    return places[torch.topk(scores[places], number).indices].sort().values


def subdivide(
    logits: Tensor,
    *,
    num_steps: int,
    num_points: int,
    predict: Callable[[Tensor], Tensor],
    uncertainty: Callable[[Tensor], Tensor],
    last_side: int | None = None,
    on_step: Callable[[Tensor, Tensor], None] | None = None,
) -> Tensor:
    """Upsample logits by 2 ** num_steps, re-predicting the least certain points at each step.

    Args:
        logits: (N, C, H, W), the coarse prediction. It is not changed.
        num_steps: how many times the resolution doubles.
        num_points: how many points of each region are re-predicted at each step. As many as
            the grid has cells, and every cell is.
        predict: takes point coordinates (N, P, 2) in the [0, 1] frame of the region, returns
            logits (N, C, P).
        uncertainty: takes logits (N, C, H, W), returns (N, H, W); higher is less certain.
        last_side: with it, one more step leads to that side, which need be no doubling.
        on_step: called after each step with the logits (N, C, H, W) and the coordinates
            (N, P, 2) that were re-predicted; for visualization.

    Returns:
        (N, C, H * 2**num_steps, W * 2**num_steps), or (N, C, last_side, last_side).

    Example:
        >>> coarse = torch.randn(1, 3, 8, 8)
        >>> sure = lambda coords: torch.ones(1, 3, coords.shape[1])
        >>> settings = {"num_points": 16, "uncertainty": lambda logits: -logits.std(1)}
        >>> subdivide(coarse, num_steps=2, predict=sure, **settings).shape
        torch.Size([1, 3, 32, 32])
    """
    in_place = on_step is None and _in_place(logits, num_steps)
    upsamplings = [InPlaceDoubling(logits, num_steps) if in_place else double] * num_steps
    if last_side is not None:
        upsamplings.append(lambda logits: resize(logits, last_side))
    for upsample in upsamplings:
        logits = upsample(logits)
        indices, coords = most_uncertain_points(uncertainty(logits), num_points)
        logits = write_points(logits, indices, predict(coords))
        if on_step is not None:
            on_step(logits, coords)
    return logits


# From this size on, the C library takes fresh memory from the system for each tensor.
_LARGE = 32 * 2**20


def _in_place(logits: Tensor, num_steps: int) -> bool:
    """Tell whether to upsample in place: large results on a CPU, of which no graph is made."""
    return (
        is_eager_on_cpu(logits)
        and logits.dtype == torch.float32
        and num_steps > 0
        and logits.nbytes * 4**num_steps >= _LARGE
    )


def subdivide_from_grid(
    num_regions: int,
    *,
    side: int,
    num_steps: int,
    num_points: int,
    predict: Callable[[Tensor], Tensor],
    device: torch.device,
    last_side: int | None = None,
    on_step: Callable[[Tensor, Tensor], None] | None = None,
) -> Tensor:
    """Predict masks from nothing but predictions at points: a regular grid, then `subdivide`.

    The least certain points are those whose logit is nearest to 0.

    Args:
        side: of the grid at the start.
        num_steps, num_points, last_side, on_step: see `subdivide`.
        predict: takes point coordinates (N, P, 2) in the [0, 1] frame of the region, returns
            logits (N, P).

    Returns:
        (N, 1, side * 2**num_steps, side * 2**num_steps), or of ``last_side``.
    """
    coords = regular_grid(side, device).expand(num_regions, -1, -1)
    first = predict(coords)
    return subdivide(
        first.reshape(first.shape[0], 1, side, side),
        num_steps=num_steps,
        num_points=num_points,
        predict=lambda coords: predict(coords).unsqueeze(1),
        uncertainty=class_uncertainty,
        last_side=last_side,
        on_step=on_step,
    )
