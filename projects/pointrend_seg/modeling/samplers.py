"""Point samplers by their names in configs (sections 3.2 and 4.1 of the paper).

Shape shorthand: N regions, C classes, an H x W map, P points.

A sampler is chosen by its name in `POINT_SAMPLER_REGISTRY` (config key ``SAMPLER``) and called as

    coords = sampler(logits, num_points, uncertainty, valid)

with the coarse logits (N, C, H, W), the number of points P, a function that takes logits
(N, C, ...) to uncertainties (N, ...), and `valid`, None or a bool map (N, H', W') over the same
frame outside of which no point shall lie. It returns coordinates (N, P, 2), float32, in [0, 1].
docs/samplers.md shows how to write one.
"""

from typing import Protocol

from detectron2.config import CfgNode, configurable
from detectron2.utils.registry import Registry
from torch import Tensor

from ..errors import InputError
from ..points.sampling import importance_points, uniform_points
from ..points.uncertainty import Uncertainty
from .registry import look_up

POINT_SAMPLER_REGISTRY = Registry("POINT_SAMPLER")
POINT_SAMPLER_REGISTRY.__doc__ = """
Registry for point samplers: classes or functions that are called with one argument, the config
node of the point head, and return a callable as described at the top of `samplers.py`.
"""


class PointSampler(Protocol):
    """Chooses training points, see the top of this module."""

    def __call__(
        self,
        logits: Tensor,
        num_points: int,
        uncertainty: Uncertainty,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Return coordinates (N, P, 2), float32, in [0, 1]."""
        ...


@POINT_SAMPLER_REGISTRY.register()
class UniformPointSampler:
    """Points anywhere with the same chance ("regular" sampling's random counterpart)."""

    @configurable
    def __init__(self) -> None:
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
        """Draw points uniformly; of ``logits`` only N and the device are looked at."""
        return uniform_points(logits.shape[0], num_points, logits.device, valid)


@POINT_SAMPLER_REGISTRY.register()
class ImportancePointSampler:
    """The paper's sampler: over-generate points, keep the least certain, fill up with uniform ones.

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

    def __call__(
        self,
        logits: Tensor,
        num_points: int,
        uncertainty: Uncertainty,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Draw points, most of them where the prediction is unsure; see `importance_points`."""
        return importance_points(
            logits,
            num_points,
            uncertainty,
            valid,
            oversample_ratio=self.oversample_ratio,
            importance_sample_ratio=self.importance_sample_ratio,
        )


def build_point_sampler(cfg: CfgNode) -> PointSampler:
    """Build the sampler that a point head's config node names.

    Args:
        cfg: ``cfg.MODEL.POINT_HEAD`` or ``cfg.MODEL.SEM_SEG_POINT_HEAD``.
    """
    return look_up(POINT_SAMPLER_REGISTRY, cfg.SAMPLER, "SAMPLER")(cfg)
