"""Choose where the training points lie (section 3.2 of the paper).

Shape shorthand: N regions, C classes, an H x W map, P points of one region.
"""

import torch
from torch import Tensor

from .interpolation import sample_points
from .precision import at_least_float32
from .uncertainty import Uncertainty, class_uncertainty  # noqa: F401  (in the example)


def uniform_points(
    num_regions: int, num_points: int, device: torch.device, valid: Tensor | None = None
) -> Tensor:
    """Draw points uniformly from each region, or from the valid part of it.

    Args:
        valid: None, or bool (N, H, W). A region with nothing valid gets points at its end;
            their labels say that they are ignored.

    Returns:
        (N, P, 2), float32, in [0, 1] x [0, 1].
    """
    draws = torch.rand(num_regions, num_points, 2, dtype=torch.float32, device=device)
    if valid is None:
        return draws
    # Inverse transform: a random rank among the valid pixels, then a random place in the pixel.
    # Nothing is rejected, so the number of points is exact and its shape known.
    height, width = valid.shape[-2:]
    ranks = valid.flatten(1).cumsum(1)
    chances = torch.rand(num_regions, num_points, dtype=torch.float32, device=device)
    picked = (chances * ranks[:, -1:]).floor() + 1
    picked = torch.minimum(picked.to(ranks.dtype), ranks[:, -1:].clamp(min=1))
    pixels = torch.searchsorted(ranks, picked).clamp(max=height * width - 1)
    x = ((pixels % width) + draws[..., 0]) / width
    y = (torch.div(pixels, width, rounding_mode="floor") + draws[..., 1]) / height
    return torch.stack((x, y), dim=2)


@torch.no_grad()
def importance_points(
    logits: Tensor,
    num_points: int,
    uncertainty: Uncertainty,
    valid: Tensor | None = None,
    *,
    oversample_ratio: float = 3.0,
    importance_sample_ratio: float = 0.75,
) -> Tensor:
    """Draw points of which most lie where a prediction is unsure: over-generate, keep, fill up.

    The random numbers are drawn in the order and the shapes of Detectron2's PointRend, so that the
    same seed gives the same points.

    Args:
        logits: (N, C, H, W), the coarse prediction.
        num_points: P.
        uncertainty: takes logits (N, C, ...), returns (N, ...); higher is less certain.
        valid: None, or bool (N, H', W') over the same frame, outside of which no point shall lie.
        oversample_ratio: k >= 1 of the paper, how many candidates there are for each point.
        importance_sample_ratio: β in [0, 1], the part of the points that are the least certain
            candidates; the rest is uniform.

    Returns:
        (N, P, 2), float32, in [0, 1] x [0, 1].

    Example:
        >>> logits = torch.randn(2, 5, 8, 8)
        >>> importance_points(logits, 16, class_uncertainty).shape
        torch.Size([2, 16, 2])
    """
    regions, device = logits.shape[0], logits.device
    num_candidates = int(num_points * oversample_ratio)
    num_important = int(num_points * importance_sample_ratio)
    candidates = uniform_points(regions, num_candidates, device, valid)
    # The uncertainty is that of the logits at the point. Sampling a map of uncertainties
    # would be wrong: halfway between logits of -1 and +1, both sure, nothing is.
    scores = uncertainty(sample_points(at_least_float32(logits), candidates))
    chosen = torch.topk(scores, k=num_important, dim=1).indices
    coords = candidates.gather(1, chosen.unsqueeze(2).expand(-1, -1, 2))
    if num_important == num_points:
        return coords
    rest = uniform_points(regions, num_points - num_important, device, valid)
    return torch.cat((coords, rest), dim=1)
