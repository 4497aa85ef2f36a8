"""Mask R-CNN's mask head, trained from full masks or from labelled points.

Source: Cheng, Parkhi, Kirillov, "Pointly-Supervised Instance Segmentation" (CVPR 2022).
"""

from typing import Any

import torch
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from detectron2.structures import Instances
from torch import Tensor

from ..points.interpolation import sample_points
from ..points.losses import mask_point_accuracy, mask_point_loss
from .mask_targets import GivenPoints, find_targets
from .point_heads import select_class
from .scalars import put_scalars


@ROI_MASK_HEAD_REGISTRY.register()
class PointSupMaskRCNNHead(MaskRCNNConvUpsampleHead):
    """Detectron2's `MaskRCNNConvUpsampleHead`, which points can train, too.

    Keys, weights and inference are those of that head, and so is training from full masks. Points
    train it as PointSup's head of this kind: the loss is that of the masks, read at the points.
    """

    def forward(self, x: Tensor, instances: list[Instances]) -> Any:
        """Compute ``loss_mask`` in training, the masks in inference.

        Args:
            x: pooled features (R, C, H, W) of the boxes.
            instances: as `PointRendInstanceHead` takes them.
        """
        targets = find_targets(instances) if self.training else None
        if not isinstance(targets, GivenPoints):
            return super().forward(x, instances)
        classes = torch.cat([each.gt_classes for each in instances])
        class_logits = select_class(self.layers(x), classes)
        logits = sample_points(class_logits.unsqueeze(1), targets.coords).squeeze(1)
        put_scalars({"mask_rcnn/accuracy": mask_point_accuracy(logits, targets.labels)})
        return {"loss_mask": mask_point_loss(logits, targets.labels) * self.loss_weight}
