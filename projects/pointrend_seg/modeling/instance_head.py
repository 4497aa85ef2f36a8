"""PointRend for instance segmentation (section 4.1 of the paper): the mask head of an R-CNN.

Shape shorthand in this module:

    R: number of boxes of all images together
    C: number of classes; 1 for masks that are class-agnostic
    P: number of points of one box
    S: side of the coarse masks
    M: side of the refined masks

Points are in the [0, 1] frame of their box. Of all C classes only one is carried for each box:
its label in training, its prediction in inference. How points are read and predicted is in
`readers/`, and the inference loop in `box_subdivision.py`.
"""

import logging

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from detectron2.structures import Instances
from torch import Tensor, nn

from ..config.adopt import with_pointrend_keys
from ..config.keys import INSTANCE_NODE
from ..points.losses import mask_error_rates, mask_point_accuracy, mask_point_loss
from ..points.uncertainty import class_uncertainty
from .arguments import MASK_HEAD, check_arguments, check_mask_parts, check_type
from .box_subdivision import BoxSubdivision, put_masks
from .builtin_names import BuiltinNames
from .coarse_mask_head import ConvFCHead, build_pooled_head
from .instance_config import box_subdivision, check_mask_config, mask_classes, read_settings
from .mask_targets import MaskTargets, find_targets
from .point_heads import build_point_head, select_class
from .readers import (
    BoxReader,
    CoarsePrediction,
    InferenceObserver,
    ReadSettings,
    open_box_reader,
)
from .samplers import PointSampler, build_point_sampler
from .scalars import put_scalars

logger = logging.getLogger(__name__)


@ROI_MASK_HEAD_REGISTRY.register()
class PointRendInstanceHead(BuiltinNames, nn.Module):
    """Coarse masks, refined at points.

    State-dict names are those of Detectron2's `PointRendMaskHead`: ``point_head`` and
    ``coarse_head``. It reads the feature maps itself, so ``MODEL.ROI_MASK_HEAD.POOLER_TYPE`` must
    be "".
    """

    @configurable
    def __init__(
        self,
        *,
        point_head: nn.Module | None,
        coarse_head: ConvFCHead,
        point_sampler: PointSampler,
        reading: ReadSettings,
        subdivision: BoxSubdivision,
        train_num_points: int = 14 * 14,
        point_loss_weight: float = 1.0,
        loss_weight: float = 1.0,
    ):
        """
        Args:
            point_head: takes fine features (R, C_fine, P) and coarse logits (R, C, P), returns
                logits (R, C, P) or (R, 1, P). None leaves the coarse masks as they are.
            coarse_head: takes features (R, C_in, pooler size, pooler size), returns logits
                (R, C, S, S).
            point_sampler: chooses the training points, see `samplers.py`.
            reading: which maps are read, and how.
            subdivision: how inference goes from S to M.
            train_num_points: P in training.
            point_loss_weight: factor of ``loss_mask_point``.
            loss_weight: factor of every loss of this head, which Detectron2's PanopticFPN sets to
                ``MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT``.
        """
        super().__init__()
        check_arguments(self, MASK_HEAD, locals())
        check_type(self, ReadSettings, reading=reading)
        check_type(self, BoxSubdivision, subdivision=subdivision)
        check_mask_parts(coarse_head, point_head, reading.pooler_size)
        self.point_head = point_head
        self.coarse_head = coarse_head
        self.point_sampler = point_sampler
        self.reading = reading
        self.subdivision = subdivision
        self.train_num_points = train_num_points
        self.point_loss_weight = point_loss_weight
        self.loss_weight = loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        cfg = with_pointrend_keys(cfg)
        check_mask_config(cfg, input_shape)
        head, node = cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.POINT_HEAD
        num_classes, side = mask_classes(cfg), head.OUTPUT_SIDE_RESOLUTION
        point_head = None
        # The point head is made first, as in Detectron2: the same seed gives the same weights.
        if head.POINT_HEAD_ON:
            in_channels = sum(input_shape[name].channels for name in node.IN_FEATURES)
            point_head = build_point_head(
                node, in_channels=in_channels, num_classes=num_classes, key=INSTANCE_NODE
            )
        else:
            logger.warning(
                f"MODEL.ROI_MASK_HEAD.POINT_HEAD_ON is False: masks stay coarse, {side} x {side}."
            )
        return {
            "point_head": point_head,
            "coarse_head": build_pooled_head(head, input_shape, (num_classes, side, side)),
            "point_sampler": build_point_sampler(node),
            "reading": read_settings(cfg, input_shape, at_points=head.POINT_HEAD_ON),
            "subdivision": box_subdivision(node),
            "train_num_points": node.TRAIN_NUM_POINTS,
            "point_loss_weight": node.LOSS_WEIGHT,
        }

    def forward(
        self,
        features: dict[str, Tensor],
        instances: list[Instances],
        observer: InferenceObserver | None = None,
    ) -> dict[str, Tensor] | list[Instances]:
        """Compute the losses in training, the masks in inference.

        Args:
            features: the backbone's maps by name, (images, channels, height, width).
            instances: of each image; in training foreground proposals with ``proposal_boxes``,
                ``gt_classes``, and ``gt_masks`` or labelled points (`find_targets`); else
                detections with ``pred_boxes`` and ``pred_classes``.
            observer: sees the coarse masks and each subdivision step.

        Returns:
            In training the losses ``loss_mask`` and ``loss_mask_point``; zero, with gradients of
            zero, where there is no box. Else ``instances``, to which ``pred_masks`` is added,
            (boxes, 1, M, M), probabilities; or `BoxMasks` where M is that of the box.
        """
        kind = "proposal" if self.training else "pred"
        reader = open_box_reader(
            features,
            [each.get(f"{kind}_boxes").tensor for each in instances],
            self.reading,
            pooled_head=self.coarse_head,
            point_head=self.point_head,
        )
        coarse = reader.pool(self.coarse_head)
        if self.training:
            return self.losses(reader, coarse, instances)
        put_masks(self.inference(reader, coarse, instances, observer), instances)
        return instances

    def losses(
        self, reader: BoxReader, coarse: Tensor, instances: list[Instances]
    ) -> dict[str, Tensor]:
        """Compute the coarse and the point loss from coarse logits (R, C, S, S)."""
        classes = torch.cat([each.gt_classes for each in instances])
        targets = self.targets(instances)
        class_logits = select_class(coarse, classes)
        coarse_logits, coarse_labels = targets.on_coarse(class_logits)
        rates = mask_error_rates(coarse_logits, coarse_labels)
        put_scalars({f"mask_rcnn/{name}": rate for name, rate in rates.items()})
        coarse_loss = mask_point_loss(coarse_logits, coarse_labels)
        losses = {"loss_mask": coarse_loss * self.loss_weight}
        if self.point_head is None:
            return losses
        with torch.no_grad():
            coords, labels = targets.at_points(
                lambda: self.point_sampler(
                    class_logits.unsqueeze(1), self.train_num_points, class_uncertainty
                )
            )
        loss, logits = reader.point_loss(CoarsePrediction(coarse, classes), coords, labels)
        put_scalars({"point/accuracy": mask_point_accuracy(logits, labels)})
        losses["loss_mask_point"] = loss * (self.point_loss_weight * self.loss_weight)
        return losses

    def targets(self, instances: list[Instances]) -> MaskTargets:
        """Return what the masks of a batch are compared with; a subclass may have its own.

        Args:
            instances: of each image the foreground proposals, as in `forward`.
        """
        return find_targets(instances)

    def inference(
        self,
        reader: BoxReader,
        coarse: Tensor,
        instances: list[Instances],
        observer: InferenceObserver | None = None,
    ) -> Tensor | list[Tensor]:
        """Refine coarse logits (R, C, S, S) by adaptive subdivision.

        Returns:
            (R, 1, M, M) logits of the predicted classes, or R of (1, M, M) where M is that of the
            box; without a point head the coarse ones, (R, 1, S, S).
        """
        classes = torch.cat([each.pred_classes for each in instances])
        if observer is not None or self.point_head is None:
            class_logits = select_class(coarse, classes).unsqueeze(1)
            if observer is not None:
                observer.on_coarse(class_logits)
            if self.point_head is None:
                return class_logits
        inputs = CoarsePrediction(coarse, classes)
        return self.subdivision.predict_masks(reader, inputs, int(coarse.shape[-1]), observer)
