"""PointRend for semantic and instance segmentation, as a Detectron2 extension.

Importing this package registers its heads and samplers with Detectron2; docs/architecture.md says
what is where. `pointrend_seg.points` needs PyTorch alone and works without Detectron2.
"""

import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING

from .errors import NEEDS_DETECTRON2, InputError

__version__ = "0.1.0"

if find_spec("detectron2") is not None:
    with warnings.catch_warnings():  # of imports of Detectron2 and fvcore alone
        warnings.filterwarnings("ignore", ".*torch.jit.script.* is deprecated", FutureWarning)
        from .config import add_pointrend_config, adopt_config
        from .modeling import (
            POINT_HEAD_REGISTRY,
            POINT_SAMPLER_REGISTRY,
            ImplicitPointMLP,
            ImplicitPointRendInstanceHead,
            ImportancePointSampler,
            PointMLP,
            PointRendInstanceHead,
            PointRendSemanticHead,
            UniformPointSampler,
        )

if TYPE_CHECKING:
    from .prediction import Predictor

__all__ = [
    "POINT_HEAD_REGISTRY",
    "POINT_SAMPLER_REGISTRY",
    "ImplicitPointMLP",
    "ImplicitPointRendInstanceHead",
    "ImportancePointSampler",
    "InputError",
    "PointMLP",
    "PointRendInstanceHead",
    "PointRendSemanticHead",
    "Predictor",
    "UniformPointSampler",
    "add_pointrend_config",
    "adopt_config",
]


def __getattr__(name: str) -> object:
    """Import `Predictor` on its first use: it brings data sets and evaluators with it."""
    if name in __all__ and find_spec("detectron2") is None:
        raise ImportError(NEEDS_DETECTRON2.format(f"{__name__}.{name}"))
    if name == "Predictor":
        from .prediction import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
