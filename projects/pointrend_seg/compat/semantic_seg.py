"""The semantic head, and the mapper of its data, under the names of Detectron2's PointRend."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import Tensor

from ..config import adopt_config
from ..data.mappers.semantic import SemanticMapper
from ..modeling import PointRendSemanticHead
from ..points.uncertainty import class_uncertainty
from .point_features import (
    get_uncertain_point_coords_on_grid,
    get_uncertain_point_coords_with_randomness,
    point_sample,
)
from .point_head import build_point_head

__all__ = [
    "PointRendSemSegHead",
    "SemSegDatasetMapper",
    "build_point_head",
    "calculate_uncertainty",
    "get_uncertain_point_coords_on_grid",
    "get_uncertain_point_coords_with_randomness",
    "point_sample",
]

SemSegDatasetMapper = SemanticMapper


def calculate_uncertainty(sem_seg_logits: Tensor) -> Tensor:
    """Measure how close the two best classes are.

    Args:
        sem_seg_logits: (N, C, …).

    Returns:
        (N, 1, …), the second best logit minus the best; of one class minus its absolute value.
    """
    return class_uncertainty(sem_seg_logits).unsqueeze(1)


class PointRendSemSegHead(PointRendSemanticHead):
    """`PointRendSemanticHead` under the name of Detectron2's PointRend.

    It reads ``MODEL.POINT_HEAD``, as Detectron2's does.
    """

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.SEM_SEG_HEAD.NAME = "PointRendSemSegHead"
        return super().from_config(adopt_config(cfg), input_shape)
