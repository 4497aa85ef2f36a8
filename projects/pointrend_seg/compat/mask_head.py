"""Instance mask heads under the names of Detectron2's PointRend.

They take configs as Detectron2's heads do, with the keys of its PointRend alone.
"""

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import Tensor

from ..config import adopt_config
from ..modeling import ImplicitPointRendInstanceHead, PointRendInstanceHead
from ..modeling.coarse_mask_head import ConvFCHead
from .point_features import (
    generate_regular_grid_point_coords,
    get_point_coords_wrt_image,
    get_uncertain_point_coords_on_grid,
    get_uncertain_point_coords_with_randomness,
    point_sample,
    point_sample_fine_grained_features,
    sample_point_labels,
)
from .point_head import POINT_HEAD_REGISTRY, build_point_head, roi_mask_point_loss

__all__ = [
    "ConvFCHead",
    "ImplicitPointRendMaskHead",
    "PointRendMaskHead",
    "build_point_head",
    "calculate_uncertainty",
    "generate_regular_grid_point_coords",
    "get_point_coords_wrt_image",
    "get_uncertain_point_coords_on_grid",
    "get_uncertain_point_coords_with_randomness",
    "point_sample",
    "point_sample_fine_grained_features",
    "roi_mask_point_loss",
    "sample_point_labels",
]

_TRANSLATED = ("StandardPointHead", "ImplicitPointHead")


def calculate_uncertainty(logits: Tensor, classes: Tensor) -> Tensor:
    """Measure how unsure masks are: minus the absolute value of the logit.

    Args:
        logits: (R, C, …) or (R, 1, …).
        classes: (R,), int64, the class of each mask; not read where C is 1.

    Returns:
        (R, 1, …), at most 0; higher is less certain.

    Example:
        >>> calculate_uncertainty(torch.tensor([[[3.0, -1.0]]]), torch.tensor([0]))
        tensor([[[-3., -1.]]])
    """
    if logits.shape[1] == 1:
        return -logits.abs()
    return -logits[torch.arange(logits.shape[0], device=logits.device), classes].abs().unsqueeze(1)


class PointRendMaskHead(PointRendInstanceHead):
    """`PointRendInstanceHead` under the name of Detectron2's PointRend."""

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        return _arguments(super(), cfg, "PointRendMaskHead", input_shape)


class ImplicitPointRendMaskHead(ImplicitPointRendInstanceHead):
    """`ImplicitPointRendInstanceHead` under the name of Detectron2's PointRend."""

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        return _arguments(super(), cfg, "ImplicitPointRendMaskHead", input_shape)


def _arguments(parent: Any, cfg: CfgNode, name: str, input_shape: dict[str, ShapeSpec]) -> dict:
    """Return what a parent's `from_config` gives for a config of Detectron2's PointRend."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.ROI_MASK_HEAD.NAME = name
    point_head = cfg.MODEL.POINT_HEAD.NAME
    if point_head in _TRANSLATED or point_head not in POINT_HEAD_REGISTRY:
        return parent.from_config(adopt_config(cfg), input_shape)
    whole = cfg.clone()  # with a point head that the user registered in POINT_HEAD_REGISTRY
    cfg.MODEL.POINT_HEAD.NAME = "StandardPointHead"
    arguments = parent.from_config(adopt_config(cfg), input_shape)
    channels = sum(input_shape[each].channels for each in cfg.MODEL.POINT_HEAD.IN_FEATURES)
    head = build_point_head(whole, ShapeSpec(channels=channels, width=1, height=1))
    return {**arguments, "point_head": head}
