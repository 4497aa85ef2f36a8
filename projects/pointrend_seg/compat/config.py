"""`add_pointrend_config` as Detectron2's PointRend has it."""

from detectron2.config import CfgNode
from detectron2.modeling import (
    ROI_HEADS_REGISTRY,
    ROI_MASK_HEAD_REGISTRY,
    SEM_SEG_HEADS_REGISTRY,
)

from ..config import add_pointrend_config as _add_keys
from ..errors import InputError
from .mask_head import ImplicitPointRendMaskHead, PointRendMaskHead
from .roi_heads import PointRendROIHeads
from .semantic_seg import PointRendSemSegHead

_HEADS = (
    (ROI_MASK_HEAD_REGISTRY, PointRendMaskHead),
    (ROI_MASK_HEAD_REGISTRY, ImplicitPointRendMaskHead),
    (ROI_HEADS_REGISTRY, PointRendROIHeads),
    (SEM_SEG_HEADS_REGISTRY, PointRendSemSegHead),
)


def add_pointrend_config(cfg: CfgNode) -> None:
    """Add the keys of PointRend, and register this package's heads under Detectron2's names.

    Args:
        cfg: a config of Detectron2, changed in place. Keys that are there keep their values.

    Raises:
        InputError: Detectron2's PointRend was imported before, so that the names are its own.
    """
    for registry, head in _HEADS:
        if head.__name__ not in registry:
            registry.register(head)
        elif registry.get(head.__name__) is not head:
            raise InputError(
                f"{head.__name__} is registered by {registry.get(head.__name__).__module__} "
                "already. Remove that import, or call pointrend_seg.adopt_config(cfg) when the "
                "config is complete, which changes the names in it."
            )
    _add_keys(cfg)
    if cfg.MODEL.POINT_HEAD.NAME == "PointMLP":
        cfg.MODEL.POINT_HEAD.NAME = "StandardPointHead"
