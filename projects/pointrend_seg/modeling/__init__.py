"""The network: heads, point heads, samplers, and how points are read.

Importing this package registers all of them with Detectron2.
"""

from importlib.util import find_spec

from ..errors import NEEDS_DETECTRON2

if find_spec("detectron2") is None:
    raise ModuleNotFoundError(NEEDS_DETECTRON2.format(__name__), name="detectron2")

from . import backbones as backbones  # registers them
from .implicit_head import ImplicitPointRendInstanceHead
from .implicit_point_head import ImplicitPointMLP
from .instance_head import PointRendInstanceHead
from .point_heads import POINT_HEAD_REGISTRY, PointMLP
from .point_sup_mask_rcnn import PointSupMaskRCNNHead
from .samplers import POINT_SAMPLER_REGISTRY, ImportancePointSampler, UniformPointSampler
from .semantic_head import PointRendSemanticHead

__all__ = [
    "POINT_HEAD_REGISTRY",
    "POINT_SAMPLER_REGISTRY",
    "ImplicitPointMLP",
    "ImplicitPointRendInstanceHead",
    "ImportancePointSampler",
    "PointMLP",
    "PointRendInstanceHead",
    "PointRendSemanticHead",
    "PointSupMaskRCNNHead",
    "UniformPointSampler",
]
