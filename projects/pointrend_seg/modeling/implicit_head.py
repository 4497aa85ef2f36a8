"""Implicit PointRend: masks as functions of the place, with parameters of their own for each box.

Source: Cheng, Parkhi, Kirillov, "Pointly-Supervised Instance Segmentation" (CVPR 2022), which
introduces it.

Shape shorthand as in `mask_head.py`: R boxes, C classes, P points of one box, M the side of the
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

from ..config.keys import INSTANCE_NODE
from ..errors import InputError
from ..points.boxes import pool, sample_features, some_boxes
from ..points.losses import mask_point_accuracy, mask_point_loss
from ..points.sampling import uniform_points
from ..points.subdivision import subdivide_from_grid
from ..structures.shared_masks import labels_in_box_frames, shared_masks
from .box_subdivision import OF_BOX, masks_by_side, put_masks, sides_of_boxes, steps_to
from .coarse_mask_head import ConvFCHead
from .instance_config import check_mask_config, mask_classes
from .point_heads import build_point_head
from .readers.fast import features_in_parts
from .scalars import put_scalars


@ROI_MASK_HEAD_REGISTRY.register()
class ImplicitPointRendInstanceHead(nn.Module):
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
        parameter_head: nn.Module,
        pooler_strides: dict[str, int],
        point_strides: dict[str, int],
        pooler_size: int,
        train_num_points: int = 14 * 14,
        subdivision_steps: int = 3,
        subdivision_num_points: int = 28 * 28,
        mask_resolution: int = 0,
        padding_mode: str = "zeros",
        point_loss_weight: float = 1.0,
        l2_weight: float = 1e-5,
    ):
        """
        Args:
            point_head: takes fine features (R, C_fine, P), points (R, P, 2), parameters
                (R, num_params) and classes (R,), returns logits (R, P).
            parameter_head: takes features (R, C_in, pooler_size, pooler_size), returns
                (R, num_params).
            pooler_strides: name and stride of the feature maps for the parameter head.
            point_strides: the same for the point head.
            train_num_points: P in training; the points are uniform.
            subdivision_steps: M = sqrt(subdivision_num_points) * 2 ** subdivision_steps, where
                ``mask_resolution`` is 0.
            subdivision_num_points: P at each step of the inference, a square.
            mask_resolution: M, as in `PointRendInstanceHead`.
            padding_mode: "zeros" or "border", see `sample_points`.
            point_loss_weight: factor of ``loss_mask_point``.
            l2_weight: factor of ``loss_l2``, the mean square of the parameters.
        """
        super().__init__()
        self.point_head = point_head
        self.parameter_head = parameter_head
        self.pooler_strides = dict(pooler_strides)
        self.point_strides = dict(point_strides)
        self.pooler_size = pooler_size
        self.train_num_points = train_num_points
        self.subdivision_steps = subdivision_steps
        self.subdivision_num_points = subdivision_num_points
        self.mask_resolution = mask_resolution
        self.padding_mode = padding_mode
        self.point_loss_weight = point_loss_weight
        self.l2_weight = l2_weight
        self.start_side = math.isqrt(subdivision_num_points)
        if self.start_side**2 != subdivision_num_points:
            raise InputError(
                f"{INSTANCE_NODE}.SUBDIVISION_NUM_POINTS is {subdivision_num_points}, but the "
                "implicit head starts from a square grid of so many points. Set it to a square, "
                f"such as {self.start_side**2}."
            )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        check_mask_config(cfg, input_shape)
        head, node = cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.POINT_HEAD
        point_head = build_point_head(
            node,
            in_channels=sum(input_shape[name].channels for name in node.IN_FEATURES),
            num_classes=mask_classes(cfg),
            key=INSTANCE_NODE,
            implicit=cfg.MODEL.IMPLICIT_POINTREND,
        )
        parameter_head = ConvFCHead(
            in_channels=sum(input_shape[name].channels for name in head.IN_FEATURES),
            pooler_size=head.POOLER_RESOLUTION,
            conv_dim=head.CONV_DIM,
            fc_dims=[head.FC_DIM] * head.NUM_FC,
            output_shape=(point_head.num_params,),
        )
        return {
            "point_head": point_head,
            "parameter_head": parameter_head,
            "pooler_strides": {name: input_shape[name].stride for name in head.IN_FEATURES},
            "point_strides": {name: input_shape[name].stride for name in node.IN_FEATURES},
            "pooler_size": head.POOLER_RESOLUTION,
            "train_num_points": node.TRAIN_NUM_POINTS,
            "subdivision_steps": node.SUBDIVISION_STEPS,
            "subdivision_num_points": node.SUBDIVISION_NUM_POINTS,
            "mask_resolution": node.MASK_RESOLUTION,
            "padding_mode": node.PADDING_MODE,
            "point_loss_weight": node.LOSS_WEIGHT,
            "l2_weight": cfg.MODEL.IMPLICIT_POINTREND.PARAMS_L2_REGULARIZER,
        }

    def forward(self, features: dict[str, Tensor], instances: list[Instances]):
        """
        Args:
            features, instances: as `PointRendInstanceHead` takes them.

        Returns:
            In training the losses ``loss_mask_point`` and ``loss_l2``. Else ``instances``, to which
            ``pred_masks`` is added, (boxes, 1, M, M), probabilities; or `BoxMasks` where M is that
            of the box.
        """
        kind = "proposal" if self.training else "pred"
        boxes = [each.get(f"{kind}_boxes").tensor for each in instances]
        parameters = self.parameter_head(
            pool(
                features,
                self.pooler_strides,
                boxes,
                self.pooler_size,
                padding_mode=self.padding_mode,
            )
        )
        if self.training:
            return self.losses(parameters, features, boxes, instances)
        put_masks(self.inference(parameters, features, boxes, instances), instances)
        return instances

    def losses(
        self,
        parameters: Tensor,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        instances: list[Instances],
    ) -> dict[str, Tensor]:
        """The point loss and the L2 term; zero, with gradients of zero, where there is no box.

        Args:
            parameters: (R, num_params).
        """
        classes = torch.cat([each.gt_classes for each in instances])
        coords = uniform_points(len(parameters), self.train_num_points, parameters.device)
        truth = [shared_masks(each) for each in instances]
        labels = labels_in_box_frames(truth, boxes, coords)
        logits = self.predict_points(parameters, features, boxes, classes, coords)
        put_scalars({"point/accuracy": mask_point_accuracy(logits, labels)})
        squares = parameters.float() ** 2
        l2 = squares.mean() if squares.numel() else squares.sum()  # a mean over nothing is NaN
        return {
            "loss_l2": self.l2_weight * l2,
            "loss_mask_point": mask_point_loss(logits, labels) * self.point_loss_weight,
        }

    def inference(
        self,
        parameters: Tensor,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        instances: list[Instances],
        on_step=None,
    ) -> Tensor | list[Tensor]:
        """Adaptive subdivision.

        Args:
            parameters: (R, num_params).
            on_step: see `subdivide`; called for the boxes in parts.

        Returns:
            (R, 1, M, M) logits of the predicted classes, or R of (1, M, M) where M is that of the
            box.
        """
        classes = torch.cat([each.pred_classes for each in instances])
        if self.mask_resolution != OF_BOX:
            side = self.mask_resolution or self.start_side * 2**self.subdivision_steps
            return self.subdivide(parameters, features, boxes, classes, side, on_step)
        return masks_by_side(
            sides_of_boxes(boxes, self.start_side),
            lambda side, numbers: self.subdivide(
                parameters[numbers],
                features,
                some_boxes(boxes, numbers),
                classes[numbers],
                side,
                on_step,
            ),
        )

    def subdivide(
        self,
        parameters: Tensor,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        classes: Tensor,
        resolution: int,
        on_step=None,
    ) -> Tensor:
        """Logits (R, 1, M, M) of the classes (R,), M being the resolution.

        The boxes are worked through in parts, so that no buffer grows with their number.
        """
        side, num_steps, last_side = steps_to(
            resolution, self.start_side, self.subdivision_num_points
        )
        masks = parameters.new_empty(len(parameters), 1, resolution, resolution)
        for part, read in features_in_parts(
            features, self.point_strides, boxes, self.subdivision_num_points, self.padding_mode
        ):
            own = parameters[part], classes[part]
            masks[part] = subdivide_from_grid(
                len(own[0]),
                side=side,
                num_steps=num_steps,
                num_points=self.subdivision_num_points,
                predict=lambda coords, read=read, own=own: self.point_head(
                    read(coords), coords, *own
                ),
                device=parameters.device,
                last_side=last_side,
                on_step=on_step,
            )
        return masks

    def predict_points(
        self,
        parameters: Tensor,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        classes: Tensor,
        coords: Tensor,
    ) -> Tensor:
        """Logits (R, P) of each box's class (R,), at points (R, P, 2)."""
        fine = sample_features(
            features, self.point_strides, boxes, coords, padding_mode=self.padding_mode
        )
        return self.point_head(fine, coords, parameters, classes)
