"""Where to put the training points, and how unsure a prediction is (sections 3.2 and 4.1).

Shape shorthand as in `points.py`: N regions, C classes, an H x W map, P points.

A sampler is chosen by its name in `POINT_SAMPLER_REGISTRY` (config key ``SAMPLER``) and called as

    coords = sampler(logits, num_points, uncertainty, valid)

with the coarse logits (N, C, H, W), the number of points P, a function that takes logits
(N, C, ...) to uncertainties (N, ...), and `valid`, None or a bool map (N, H', W') over the same
frame outside of which no point shall lie. It returns coordinates (N, P, 2), float32, in [0, 1].
docs/samplers.md shows how to write one.
"""

import math
from collections.abc import Callable

import torch
from detectron2.config import CfgNode, configurable
from detectron2.utils.registry import Registry
from torch import Tensor

from .errors import InputError
from .points import sample_points
from .registry import look_up

POINT_SAMPLER_REGISTRY = Registry("POINT_SAMPLER")
POINT_SAMPLER_REGISTRY.__doc__ = """
Registry for point samplers: classes or functions that are called with one argument, the config
node of the point head, and return a callable as described at the top of `sampling.py`.
"""

Uncertainty = Callable[[Tensor], Tensor]


def class_uncertainty(logits: Tensor) -> Tensor:
    """How close the two best classes are: their logits' difference, negated.

    For one class, a binary model, it is minus the logit's absolute value: the difference to the
    threshold (both in section 4 of the paper).

    Args:
        logits: (N, C, ...).

    Returns:
        (N, ...), never positive; 0 where the prediction could go either way.
    """
    if logits.shape[1] == 1:
        return -logits[:, 0].abs()
    if logits.device.type != "cpu" or torch.compiler.is_compiling():
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
    """Of two classes or more, (N, C, ...) to (N, ...).

    Two running maxima give what topk(2) over the classes gives, bit for bit, in a tenth of the
    time on full-size maps.
    """
    first, second = logits[:, 0], torch.full_like(logits[:, 0], -torch.inf)
    for plane in logits.unbind(1)[1:]:
        second = torch.maximum(second, torch.minimum(first, plane))
        first = torch.maximum(first, plane)
    return second - first


def uniform_points(
    num_regions: int, num_points: int, device: torch.device, valid: Tensor | None = None
) -> Tensor:
    """Points drawn uniformly from each region, or from the valid part of it.

    Args:
        valid: None, or bool (N, H, W). A region with nothing valid gets points at its end;
            their labels say that they are ignored.

    Returns:
        (N, P, 2), float32, in [0, 1] x [0, 1].
    """
    draws = torch.rand(num_regions, num_points, 2, device=device)
    if valid is None:
        return draws
    # Inverse transform: a random rank among the valid pixels, then a random place in the pixel.
    # Nothing is rejected, so the number of points is exact and its shape known.
    height, width = valid.shape[-2:]
    ranks = valid.flatten(1).cumsum(1)
    picked = (torch.rand(num_regions, num_points, device=device) * ranks[:, -1:]).floor() + 1
    picked = torch.minimum(picked.to(ranks.dtype), ranks[:, -1:].clamp(min=1))
    pixels = torch.searchsorted(ranks, picked).clamp(max=height * width - 1)
    x = ((pixels % width) + draws[..., 0]) / width
    y = (torch.div(pixels, width, rounding_mode="floor") + draws[..., 1]) / height
    return torch.stack((x, y), dim=2)


@POINT_SAMPLER_REGISTRY.register()
class UniformPointSampler:
    """Points anywhere with the same chance ("regular" sampling's random counterpart)."""

    @configurable
    def __init__(self):
        pass

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        return {}

    def __call__(
        self,
        logits: Tensor,
        num_points: int,
        uncertainty: Uncertainty,
        valid: Tensor | None = None,
    ) -> Tensor:
        """See the top of the module. Looks at nothing of ``logits`` but N and the device."""
        return uniform_points(logits.shape[0], num_points, logits.device, valid)


@POINT_SAMPLER_REGISTRY.register()
class ImportancePointSampler:
    """The paper's sampler: over-generate k·N points, keep the β·N least certain, fill up.

    At default settings the random numbers are drawn in the order and the shapes of Detectron2's
    PointRend, so that the same seed gives the same points.
    """

    @configurable
    def __init__(self, *, oversample_ratio: float = 3.0, importance_sample_ratio: float = 0.75):
        """
        Args:
            oversample_ratio: k >= 1, how many candidates there are for each point.
            importance_sample_ratio: β in [0, 1], the part of the points that are the least
                certain candidates; the rest is uniform.
        """
        if oversample_ratio < 1:
            raise InputError(f"OVERSAMPLE_RATIO must be 1 or more, not {oversample_ratio}.")
        if not 0 <= importance_sample_ratio <= 1:
            raise InputError(
                f"IMPORTANCE_SAMPLE_RATIO must lie in [0, 1], not {importance_sample_ratio}."
            )
        self.oversample_ratio = oversample_ratio
        self.importance_sample_ratio = importance_sample_ratio

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        return {
            "oversample_ratio": cfg.OVERSAMPLE_RATIO,
            "importance_sample_ratio": cfg.IMPORTANCE_SAMPLE_RATIO,
        }

    @torch.no_grad()
    def __call__(
        self,
        logits: Tensor,
        num_points: int,
        uncertainty: Uncertainty,
        valid: Tensor | None = None,
    ) -> Tensor:
        """See the top of the module."""
        regions, device = logits.shape[0], logits.device
        num_candidates = int(num_points * self.oversample_ratio)
        num_important = int(num_points * self.importance_sample_ratio)
        candidates = uniform_points(regions, num_candidates, device, valid)
        # The uncertainty is that of the logits at the point. Sampling a map of uncertainties
        # would be wrong: halfway between logits of -1 and +1, both sure, nothing is.
        scores = uncertainty(sample_points(logits, candidates))
        chosen = torch.topk(scores, k=num_important, dim=1).indices
        coords = candidates.gather(1, chosen.unsqueeze(2).expand(-1, -1, 2))
        if num_important == num_points:
            return coords
        rest = uniform_points(regions, num_points - num_important, device, valid)
        return torch.cat((coords, rest), dim=1)


def build_point_sampler(cfg: CfgNode):
    """Build the sampler that a point head's config node names.

    Args:
        cfg: ``cfg.MODEL.POINT_HEAD`` or ``cfg.MODEL.SEM_SEG_POINT_HEAD``.
    """
    return look_up(POINT_SAMPLER_REGISTRY, cfg.SAMPLER, "SAMPLER")(cfg)
