"""PointRend for semantic and instance segmentation, as a Detectron2 extension.

Importing this package registers its heads and samplers with Detectron2; docs/architecture.md says
what is where.
"""

from .config import add_pointrend_config, adopt_config
from .errors import InputError
from .implicit_mask_head import ImplicitPointRendInstanceHead
from .implicit_point_head import ImplicitPointMLP
from .mask_head import PointRendInstanceHead
from .point_heads import POINT_HEAD_REGISTRY, PointMLP
from .sampling import POINT_SAMPLER_REGISTRY, ImportancePointSampler, UniformPointSampler
from .semantic_head import PointRendSemanticHead

__version__ = "0.1.0"


def __getattr__(name: str):
    """`Predictor` is imported when it is used: it brings data sets and evaluators with it."""
    if name == "Predictor":
        from .prediction import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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
