"""PointRend for instance segmentation (section 4.1 of the paper): the mask head of an R-CNN.

Shape shorthand in this module:

    R: number of boxes of all images together
    C: number of classes; 1 for masks that are class-agnostic
    P: number of points of one box
    S: side of the coarse masks
    M: side of the masks at the end

Points are in the [0, 1] frame of their box. Of all C classes only one is carried for each box:
its label in training, its prediction in inference. How points are read and predicted is in
`plain_path.py`, and how that is done fast in `fast_path/`.
"""

import logging

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from detectron2.structures import Instances
from torch import Tensor, nn

from ..config.keys import INSTANCE_NODE
from ..points.losses import mask_error_rates, mask_point_accuracy, mask_point_loss
from ..points.subdivision import subdivide_from_grid
from ..points.uncertainty import class_uncertainty
from ..structures.shared_masks import labels_in_box_frames, shared_masks
from .box_subdivision import OF_BOX, masks_by_side, put_masks, sides_of_boxes, steps_to
from .coarse_mask_head import ConvFCHead
from .instance_config import check_mask_config, mask_classes
from .point_heads import build_point_head, select_class
from .readers.fast import FastPath
from .readers.plain import PlainPath
from .samplers import build_point_sampler
from .scalars import put_scalars

logger = logging.getLogger(__name__)


@ROI_MASK_HEAD_REGISTRY.register()
class PointRendInstanceHead(nn.Module):
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
        coarse_head: nn.Module,
        point_sampler,
        pooler_strides: dict[str, int],
        point_strides: dict[str, int],
        pooler_size: int,
        train_num_points: int = 14 * 14,
        subdivision_steps: int = 5,
        subdivision_num_points: int = 28 * 28,
        mask_resolution: int = 0,
        padding_mode: str = "zeros",
        point_loss_weight: float = 1.0,
        fast_path: bool = True,
    ):
        """
        Args:
            point_head: takes fine features (R, C_fine, P) and coarse logits (R, C, P), returns
                logits (R, C, P) or (R, 1, P). None leaves the coarse masks as they are.
            coarse_head: takes features (R, C_in, pooler_size, pooler_size), returns logits
                (R, C, S, S).
            point_sampler: as described in `sampling.py`.
            pooler_strides: name and stride of the feature maps for the coarse head.
            point_strides: the same for the point head, in the order in which they are put
                together.
            train_num_points: P in training.
            subdivision_steps: M = S * 2 ** subdivision_steps, where ``mask_resolution`` is 0.
            subdivision_num_points: P at each step of the inference.
            mask_resolution: M, any number of cells; or `OF_BOX`, the smallest S * 2**k that is
                the longer side of the box in pixels, for each box of its own.
            padding_mode: "zeros" or "border", see `sample_points`.
            point_loss_weight: factor of ``loss_mask_point``.
            fast_path: compute in the fast order, where the heads are what that takes apart.
                Results are the same but for rounding.
        """
        super().__init__()
        self.point_head = point_head
        self.coarse_head = coarse_head
        self.point_sampler = point_sampler
        self.pooler_strides = dict(pooler_strides)
        self.point_strides = dict(point_strides)
        self.pooler_size = pooler_size
        self.train_num_points = train_num_points
        self.subdivision_steps = subdivision_steps
        self.subdivision_num_points = subdivision_num_points
        self.mask_resolution = mask_resolution
        self.padding_mode = padding_mode
        self.point_loss_weight = point_loss_weight
        self.fast_path = fast_path

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        check_mask_config(cfg, input_shape)
        head, node = cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.POINT_HEAD
        num_classes = mask_classes(cfg)
        point_head = None
        # The point head is made first, as in Detectron2: the same seed gives the same weights.
        if head.POINT_HEAD_ON:
            in_channels = sum(input_shape[name].channels for name in node.IN_FEATURES)
            point_head = build_point_head(
                node, in_channels=in_channels, num_classes=num_classes, key=INSTANCE_NODE
            )
        else:
            logger.warning(
                "MODEL.ROI_MASK_HEAD.POINT_HEAD_ON is False: masks stay coarse, "
                f"{head.OUTPUT_SIDE_RESOLUTION} x {head.OUTPUT_SIDE_RESOLUTION}."
            )
        coarse_head = ConvFCHead(
            in_channels=sum(input_shape[name].channels for name in head.IN_FEATURES),
            pooler_size=head.POOLER_RESOLUTION,
            conv_dim=head.CONV_DIM,
            fc_dims=[head.FC_DIM] * head.NUM_FC,
            output_shape=(num_classes, head.OUTPUT_SIDE_RESOLUTION, head.OUTPUT_SIDE_RESOLUTION),
        )
        return {
            "point_head": point_head,
            "coarse_head": coarse_head,
            "point_sampler": build_point_sampler(node),
            "pooler_strides": {name: input_shape[name].stride for name in head.IN_FEATURES},
            "point_strides": {
                name: input_shape[name].stride for name in node.IN_FEATURES if head.POINT_HEAD_ON
            },
            "pooler_size": head.POOLER_RESOLUTION,
            "train_num_points": node.TRAIN_NUM_POINTS,
            "subdivision_steps": node.SUBDIVISION_STEPS,
            "subdivision_num_points": node.SUBDIVISION_NUM_POINTS,
            "mask_resolution": node.MASK_RESOLUTION,
            "padding_mode": node.PADDING_MODE,
            "point_loss_weight": node.LOSS_WEIGHT,
            "fast_path": node.FAST_PATH,
        }

    def forward(self, features: dict[str, Tensor], instances: list[Instances]):
        """
        Args:
            features: the backbone's maps by name, (images, channels, height, width).
            instances: of each image; in training foreground proposals with ``proposal_boxes``,
                ``gt_classes`` and ``gt_masks``, else detections with ``pred_boxes`` and
                ``pred_classes``.

        Returns:
            In training the losses ``loss_mask`` and ``loss_mask_point``. Else ``instances``, to
            which ``pred_masks`` is added, (boxes, 1, M, M), probabilities; or `BoxMasks` where M
            is that of the box.
        """
        kind = "proposal" if self.training else "pred"
        boxes = [each.get(f"{kind}_boxes").tensor for each in instances]
        points = self.points_of(features, boxes)
        if self.training:
            return self.losses(points, instances)
        put_masks(self.inference(points, instances), instances)
        return instances

    def points_of(self, features: dict[str, Tensor], boxes: list[Tensor]) -> PlainPath | FastPath:
        """How points are read and predicted: the one place where the path is chosen.

        Args:
            boxes: of each image, (R_i, 4), in pixels.
        """
        fast = self.fast_path and FastPath.fits(self.coarse_head, self.point_head, boxes)
        return (FastPath if fast else PlainPath)(
            features,
            boxes,
            coarse_head=self.coarse_head,
            point_head=self.point_head,
            pooler_strides=self.pooler_strides,
            pooler_size=self.pooler_size,
            point_strides=self.point_strides,
            padding_mode=self.padding_mode,
        )

    def losses(self, points: PlainPath | FastPath, instances: list[Instances]) -> dict[str, Tensor]:
        """The coarse and the point loss; zero, with gradients of zero, where there is no box."""
        coarse = points.coarse()
        classes = torch.cat([each.gt_classes for each in instances])
        truth = [shared_masks(each) for each in instances]
        own = select_class(coarse, classes)
        of_images = zip(truth, points.boxes, strict=True)
        cells = torch.cat(
            [masks.crop_and_resize(each, coarse.shape[-1]) for masks, each in of_images]
        )
        rates = mask_error_rates(own, cells)
        put_scalars({f"mask_rcnn/{name}": rate for name, rate in rates.items()})
        losses = {"loss_mask": mask_point_loss(own, cells.float())}
        if self.point_head is None:
            return losses
        with torch.no_grad():
            coords = self.point_sampler(own.unsqueeze(1), self.train_num_points, class_uncertainty)
        labels = labels_in_box_frames(truth, points.boxes, coords)
        loss, logits = points.point_loss(coarse, classes, coords, labels)
        put_scalars({"point/accuracy": mask_point_accuracy(logits, labels)})
        losses["loss_mask_point"] = loss * self.point_loss_weight
        return losses

    def inference(
        self, points: PlainPath | FastPath, instances: list[Instances], on_step=None
    ) -> Tensor | list[Tensor]:
        """Adaptive subdivision.

        Args:
            on_step: see `subdivide`; called for the boxes in parts.

        Returns:
            (R, 1, M, M) logits of the predicted classes, or R of (1, M, M) where M is that of the
            box; without a point head the coarse ones, (R, 1, h, w).
        """
        coarse = points.coarse()
        classes = torch.cat([each.pred_classes for each in instances])
        side = coarse.shape[-1]
        if self.point_head is None:
            return select_class(coarse, classes).unsqueeze(1)
        if self.mask_resolution != OF_BOX:
            resolution = self.mask_resolution or side * 2**self.subdivision_steps
            return self.subdivide(points, coarse, classes, resolution, on_step)
        return masks_by_side(
            sides_of_boxes(points.boxes, side),
            lambda resolution, numbers: self.subdivide(
                points.only(numbers), coarse[numbers], classes[numbers], resolution, on_step
            ),
        )

    def subdivide(
        self,
        points: PlainPath | FastPath,
        coarse: Tensor,
        classes: Tensor,
        resolution: int,
        on_step=None,
    ) -> Tensor:
        """Logits (R, 1, M, M) of the classes (R,), M being the resolution."""
        side, num_steps, last_side = steps_to(
            resolution, coarse.shape[-1], self.subdivision_num_points
        )
        num_reads = 1 + num_steps + (last_side is not None)
        predictors = points.predictors(
            coarse, classes, num_points=self.subdivision_num_points, num_reads=num_reads
        )
        masks = [
            subdivide_from_grid(
                num_boxes,
                side=side,
                num_steps=num_steps,
                num_points=self.subdivision_num_points,
                predict=predict,
                device=coarse.device,
                last_side=last_side,
                on_step=on_step,
            )
            for num_boxes, predict in predictors
        ]
        return torch.cat(masks)
