"""Implicit PointRend: masks as functions of the place, with parameters of their own for each box.

Source: Cheng, Parkhi, Kirillov, "Pointly-Supervised Instance Segmentation" (CVPR 2022), which
introduces it.

Shape shorthand as in `instance_head.py`: R boxes, C classes, P points of one box, M the side of the
masks. There is no coarse mask: a head like the coarse one predicts the parameters of a point head
for each box.
"""

import math

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from detectron2.structures import Instances
from torch import Tensor, nn

from ..config.adopt import with_pointrend_keys
from ..config.keys import INSTANCE_NODE
from ..errors import InputError
from ..points.losses import mask_point_accuracy
from ..points.sampling import uniform_points
from .arguments import MASK_HEAD, check_arguments, check_implicit_parts, check_type
from .box_subdivision import BoxSubdivision, put_masks
from .builtin_names import BuiltinNames
from .coarse_mask_head import ConvFCHead, build_pooled_head
from .instance_config import box_subdivision, check_mask_config, mask_classes, read_settings
from .mask_targets import MaskTargets, find_targets
from .point_heads import build_point_head
from .readers import (
    BoxReader,
    InferenceObserver,
    PredictedParameters,
    ReadSettings,
    open_box_reader,
)
from .scalars import put_scalars


@ROI_MASK_HEAD_REGISTRY.register()
class ImplicitPointRendInstanceHead(BuiltinNames, nn.Module):
    """Masks from points alone, by a point head whose parameters are predicted for each box.

    State-dict names are those of Detectron2's `ImplicitPointRendMaskHead`: ``point_head`` and
    ``parameter_head``. It reads the feature maps itself, so
    ``MODEL.ROI_MASK_HEAD.POOLER_TYPE`` must be "".
    """

    @configurable
    def __init__(
        self,
        *,
        point_head: nn.Module,
        parameter_head: ConvFCHead,
        reading: ReadSettings,
        subdivision: BoxSubdivision,
        train_num_points: int = 14 * 14,
        point_loss_weight: float = 1.0,
        l2_weight: float = 1e-5,
        loss_weight: float = 1.0,
    ):
        """
        Args:
            point_head: takes fine features (R, C_fine, P), points (R, P, 2), parameters
                (R, num_params) and classes (R,), returns logits (R, P).
            parameter_head: takes features (R, C_in, pooler size, pooler size), returns
                (R, num_params).
            reading: which maps are read, and how.
            subdivision: how inference goes from a grid of ``subdivision.num_points``, a square,
                to M.
            train_num_points: P in training; the points are uniform.
            point_loss_weight: factor of ``loss_mask_point``.
            l2_weight: factor of ``loss_l2``, the mean square of the parameters.
            loss_weight: as `PointRendInstanceHead` takes it.
        """
        super().__init__()
        check_arguments(self, MASK_HEAD, locals())
        check_type(self, ReadSettings, reading=reading)
        check_type(self, BoxSubdivision, subdivision=subdivision)
        check_implicit_parts(parameter_head, point_head, reading.pooler_size)
        self.point_head = point_head
        self.parameter_head = parameter_head
        self.reading = reading
        self.subdivision = subdivision
        self.train_num_points = train_num_points
        self.point_loss_weight = point_loss_weight
        self.l2_weight = l2_weight
        self.loss_weight = loss_weight
        self.start_side = math.isqrt(subdivision.num_points)
        if self.start_side**2 != subdivision.num_points:
            raise InputError(
                f"{INSTANCE_NODE}.SUBDIVISION_NUM_POINTS is {subdivision.num_points}, but the "
                "implicit head starts from a square grid of so many points. Set it to a square, "
                f"such as {self.start_side**2}."
            )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        cfg = with_pointrend_keys(cfg)
        check_mask_config(cfg, input_shape)
        node = cfg.MODEL.POINT_HEAD
        point_head = build_point_head(
            node,
            in_channels=sum(input_shape[name].channels for name in node.IN_FEATURES),
            num_classes=mask_classes(cfg),
            key=INSTANCE_NODE,
            implicit=cfg.MODEL.IMPLICIT_POINTREND,
        )
        shape = (point_head.num_params,)
        return {
            "point_head": point_head,
            "parameter_head": build_pooled_head(cfg.MODEL.ROI_MASK_HEAD, input_shape, shape),
            "reading": read_settings(cfg, input_shape, at_points=True),
            "subdivision": box_subdivision(node),
            "train_num_points": node.TRAIN_NUM_POINTS,
            "point_loss_weight": node.LOSS_WEIGHT,
            "l2_weight": cfg.MODEL.IMPLICIT_POINTREND.PARAMS_L2_REGULARIZER,
        }

    def forward(
        self,
        features: dict[str, Tensor],
        instances: list[Instances],
        observer: InferenceObserver | None = None,
    ) -> dict[str, Tensor] | list[Instances]:
        """Compute the losses in training, the masks in inference.

        Args:
            features, instances: as `PointRendInstanceHead` takes them.
            observer: sees each subdivision step.

        Returns:
            In training the losses ``loss_mask_point`` and ``loss_l2``; zero, with gradients of
            zero, where there is no box. Else ``instances``, to which ``pred_masks`` is added,
            (boxes, 1, M, M), probabilities; or `BoxMasks` where M is that of the box.
        """
        kind = "proposal" if self.training else "pred"
        reader = open_box_reader(
            features,
            [each.get(f"{kind}_boxes").tensor for each in instances],
            self.reading,
            pooled_head=self.parameter_head,
            point_head=self.point_head,
        )
        parameters = reader.pool(self.parameter_head)
        if self.training:
            return self.losses(reader, parameters, instances)
        put_masks(self.inference(reader, parameters, instances, observer), instances)
        return instances

    def losses(
        self, reader: BoxReader, parameters: Tensor, instances: list[Instances]
    ) -> dict[str, Tensor]:
        """Compute the point loss and the L2 term from parameters (R, num_params)."""
        classes = torch.cat([each.gt_classes for each in instances])
        coords, labels = self.targets(instances).at_points(
            lambda: uniform_points(len(parameters), self.train_num_points, parameters.device)
        )
        loss, logits = reader.point_loss(PredictedParameters(parameters, classes), coords, labels)
        put_scalars({"point/accuracy": mask_point_accuracy(logits, labels)})
        squares = parameters.float() ** 2
        l2 = squares.mean() if squares.numel() else squares.sum()  # a mean over nothing is NaN
        return {
            "loss_l2": l2 * (self.l2_weight * self.loss_weight),
            "loss_mask_point": loss * (self.point_loss_weight * self.loss_weight),
        }

    def targets(self, instances: list[Instances]) -> MaskTargets:
        """Return what the masks of a batch are compared with; a subclass may have its own.

        Args:
            instances: of each image the foreground proposals, as in `forward`.
        """
        return find_targets(instances)

    def inference(
        self,
        reader: BoxReader,
        parameters: Tensor,
        instances: list[Instances],
        observer: InferenceObserver | None = None,
    ) -> Tensor | list[Tensor]:
        """Predict masks from parameters (R, num_params) by adaptive subdivision.

        Returns:
            (R, 1, M, M) logits of the predicted classes, or R of (1, M, M) where M is that of the
            box.
        """
        classes = torch.cat([each.pred_classes for each in instances])
        inputs = PredictedParameters(parameters, classes)
        return self.subdivision.predict_masks(reader, inputs, self.start_side, observer)
