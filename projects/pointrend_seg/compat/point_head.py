"""Point heads with the constructors of Detectron2's PointRend: ``head(cfg, input_shape)``.

Shape shorthand: R regions, C classes, P points, C_fine channels of the fine features.
"""

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.structures import Instances
from detectron2.utils.registry import Registry
from torch import Tensor, nn

from ..modeling.implicit_point_head import ImplicitPointMLP
from ..modeling.point_heads import PointMLP, select_class
from ..modeling.registry import look_up
from ..modeling.scalars import put_scalars
from ..points.losses import mask_point_accuracy, mask_point_loss

POINT_HEAD_REGISTRY = Registry("POINT_HEAD")
POINT_HEAD_REGISTRY.__doc__ = """
Registry for point heads that are built as ``head(cfg, input_shape)`` and called as Detectron2's
are: ``head(fine_features, coarse_features)``. The heads of this module use them, too.
"""


@POINT_HEAD_REGISTRY.register()
class StandardPointHead(PointMLP):
    """A `PointMLP` that is built from a whole config."""

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:  # type: ignore[override]
        node, channels = cfg.MODEL.POINT_HEAD, input_shape.channels
        return PointMLP.from_config(node, in_channels=channels, num_classes=node.NUM_CLASSES)


@POINT_HEAD_REGISTRY.register()
class ImplicitPointHead(ImplicitPointMLP):
    """An `ImplicitPointMLP` that is built from a whole config and predicts all classes."""

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:  # type: ignore[override]
        node = cfg.MODEL.POINT_HEAD
        return ImplicitPointMLP.from_config(
            node,
            in_channels=input_shape.channels,
            num_classes=1 if node.CLS_AGNOSTIC_MASK else node.NUM_CLASSES,
            implicit=cfg.MODEL.IMPLICIT_POINTREND,
        )

    def forward(  # type: ignore[override]
        self, fine_grained_features: Tensor, point_coords: Tensor, parameters: Tensor
    ) -> Tensor:
        """Predict logits of all classes.

        Args:
            fine_grained_features: (R, C_fine, P).
            point_coords: (R, P, 2), in the [0, 1] frames of the boxes.
            parameters: (R, num_params).

        Returns:
            (R, C, P).
        """
        return self.predict_classes(fine_grained_features, point_coords, parameters)


def build_point_head(cfg: CfgNode, input_channels: ShapeSpec) -> nn.Module:
    """Build the point head that ``cfg.MODEL.POINT_HEAD.NAME`` names.

    Args:
        input_channels: its ``channels`` are C_fine.

    Raises:
        InputError: no point head has that name.
    """
    name = cfg.MODEL.POINT_HEAD.NAME
    return look_up(POINT_HEAD_REGISTRY, name, "MODEL.POINT_HEAD.NAME")(cfg, input_channels)


def roi_mask_point_loss(
    mask_logits: Tensor, instances: Sequence[Instances], point_labels: Tensor
) -> Tensor:
    """Compute the point loss of masks, and log ``point/accuracy``.

    Args:
        mask_logits: (R, C, P) or (R, 1, P).
        instances: of each image, with ``gt_classes`` where C is above 1.
        point_labels: (R, P), in [0, 1], or -1 for points that do not count. The mean is over
            those that do; Detectron2's is over all.

    Returns:
        a scalar; 0 for no box.
    """
    if mask_logits.shape[1] == 1:
        logits = mask_logits[:, 0]
    else:
        logits = select_class(mask_logits, torch.cat([each.gt_classes for each in instances]))
    with torch.no_grad():
        put_scalars({"point/accuracy": mask_point_accuracy(logits, point_labels)})
    return mask_point_loss(logits, point_labels)
