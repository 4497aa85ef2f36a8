"""PointRend for semantic segmentation (section 4.2 of the paper).

Shape shorthand in this module:

    N: number of images
    C: number of classes; 1 is a binary model with one logit
    P: number of points per image
    h, w: size of the coarse logits, at stride s
    H, W: size of the images as they come, padding included

The coarse logits stand for a *frame* of (h * s, w * s) image pixels, which is the image, and at its
right and bottom a rest of less than s pixels when its size is no multiple of s. Points are in the
[0, 1] frame of that; the output covers it, and `detectron2.modeling.SemanticSegmentor` cuts the
image out of it.
"""

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from ..config.adopt import with_pointrend_keys
from ..config.keys import SEMANTIC_NODE
from ..errors import InputError
from ..points.frames import (
    check_same_image,
    extent,
    hide_outside,
    pad_labels,
    shown_extent,
)
from ..points.interpolation import sample_points
from ..points.losses import labels_or_zero, semantic_loss
from ..points.precision import at_least_float32
from ..points.subdivision import subdivide
from ..points.uncertainty import class_uncertainty
from .arguments import (
    SEMANTIC_HEAD,
    check_arguments,
    check_feature_maps,
    check_num_channels,
    check_same,
    check_type,
)
from .coarse_semantic_head import (
    build_coarse_head,
    coarse_logits,
    loss_of_coarse_head,
    prepare_coarse_head,
)
from .point_heads import build_point_head
from .readers import CoarsePrediction, InferenceObserver, ReadSettings, open_frame_reader
from .samplers import PointSampler, build_point_sampler
from .semantic_config import (
    check_class_weights,
    check_semantic_config,
    resolve_subdivision_steps,
)


@SEM_SEG_HEADS_REGISTRY.register()
class PointRendSemanticHead(nn.Module):
    """A coarse semantic head, refined at points.

    State-dict names are those of Detectron2's `PointRendSemSegHead`: ``coarse_sem_seg_head`` and
    ``point_head``.
    """

    @configurable
    def __init__(
        self,
        *,
        coarse_head: Any,
        point_head: nn.Module,
        point_sampler: PointSampler,
        reading: ReadSettings,
        num_classes: int,
        ignore_value: int = 255,
        train_num_points: int = 14 * 14,
        train_points_per_height: float = 0.0,
        avoid_ignored: bool = False,
        subdivision_steps: int = -1,
        subdivision_num_points: int = 28 * 28,
        coarse_loss_weight: float = 1.0,
        coarse_loss_hardest: float = 1.0,
        point_loss_weight: float = 1.0,
        class_weights: list[float] | None = None,
    ):
        """
        Args:
            coarse_head: as described in `coarse_semantic_head.py`.
            point_head: takes fine features (N, C_fine, P) and coarse logits (N, C, P), returns
                logits (N, C, P).
            point_sampler: chooses the training points, see `samplers.py`.
            reading: which maps are read at points, and how.
            ignore_value: label of pixels that are not trained on.
            train_num_points: P in training, if ``train_points_per_height`` is 0.
            train_points_per_height: P as a fraction of H, e.g. 1 / 16.
            avoid_ignored: draw no training points on ignored pixels; padding is labelled so.
            subdivision_steps: at most log2 of the coarse head's stride, or -1 for that number.
                With fewer, the rest is upsampled without points.
            subdivision_num_points: points re-predicted at each step; at most all there are.
            coarse_loss_weight, coarse_loss_hardest: for a coarse head without a loss of its own,
                a binary one or one with class weights, see `semantic_loss`. A coarse head's own
                loss brings its own.
            point_loss_weight: factor of ``loss_sem_seg_point``.
            class_weights: one for each class, for both losses; for C = 1 two, background and
                foreground.
        """
        super().__init__()
        check_arguments(self, SEMANTIC_HEAD, locals())
        check_type(self, ReadSettings, reading=reading)
        check_class_weights("class_weights", class_weights or [], num_classes)
        point_classes = getattr(point_head, "num_classes", num_classes)
        check_same("point_head.num_classes", point_classes, "num_classes", num_classes)
        self.coarse_sem_seg_head = prepare_coarse_head(
            coarse_head, f"coarse_head is a {type(coarse_head).__name__}"
        )
        self.point_head = point_head
        self.point_sampler = point_sampler
        self.num_classes = num_classes
        self.ignore_value = ignore_value
        self.train_num_points = train_num_points
        self.train_points_per_height = train_points_per_height
        self.avoid_ignored = avoid_ignored
        self.subdivision_steps = resolve_subdivision_steps(
            subdivision_steps, coarse_head.common_stride
        )
        self.subdivision_num_points = subdivision_num_points
        self.reading = reading
        self.coarse_loss_weight = coarse_loss_weight
        self.coarse_loss_hardest = coarse_loss_hardest
        self.point_loss_weight = point_loss_weight
        weights = torch.tensor(list(class_weights)).float() if class_weights else None
        # Not persistent: a setting, not a weight, so checkpoints keep the names they have.
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", weights, persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        cfg = with_pointrend_keys(cfg, semantic=True)
        head, node = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.SEM_SEG_POINT_HEAD
        check_semantic_config(cfg, input_shape)
        strides = {name: input_shape[name].stride for name in node.IN_FEATURES}
        in_channels = sum(input_shape[name].channels for name in node.IN_FEATURES)
        coarse_head = build_coarse_head(cfg, input_shape, name=node.COARSE_SEM_SEG_HEAD_NAME)
        # of DeepLab's heads, the part of the pixels that LOSS_TYPE "hard_pixel_mining" averages
        hardest = getattr(getattr(coarse_head, "loss", None), "top_k_percent_pixels", 1.0)
        return {
            "coarse_head": coarse_head,
            "point_head": build_point_head(
                node, in_channels=in_channels, num_classes=head.NUM_CLASSES, key=SEMANTIC_NODE
            ),
            "point_sampler": build_point_sampler(node),
            "reading": ReadSettings(
                strides, {}, padding_mode=node.PADDING_MODE, fast_path=node.FAST_PATH
            ),
            "num_classes": head.NUM_CLASSES,
            "ignore_value": head.IGNORE_VALUE,
            "train_num_points": node.TRAIN_NUM_POINTS,
            "train_points_per_height": node.TRAIN_POINTS_PER_HEIGHT,
            "avoid_ignored": node.AVOID_IGNORED,
            "subdivision_steps": node.SUBDIVISION_STEPS,
            "subdivision_num_points": node.SUBDIVISION_NUM_POINTS,
            "coarse_loss_weight": head.LOSS_WEIGHT,
            "coarse_loss_hardest": hardest,
            "point_loss_weight": node.LOSS_WEIGHT,
            "class_weights": list(head.CLASS_WEIGHTS),
        }

    def forward(
        self,
        features: dict[str, Tensor],
        targets: Tensor | None = None,
        weights: Tensor | None = None,
        observer: InferenceObserver | None = None,
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Compute the losses in training, the logits in inference.

        Args:
            features: the backbone's maps by name, each (N, C_i, ceil(H / s_i), ceil(W / s_i)).
            targets: (N, H, W), int64 labels; needed in training, not looked at else.
            weights: (N, H, W), factors of the losses of the pixels, in training; Panoptic-DeepLab
                gives more to small instances.
            observer: sees the coarse logits and each subdivision step.

        Returns:
            In training, None and the losses ``loss_sem_seg`` (or what the coarse head calls its
            own) and ``loss_sem_seg_point``. Else the logits (N, C, h * s, w * s) and {}.
        """
        coarse = coarse_logits(self.coarse_sem_seg_head, features)
        check_num_channels("coarse_head", coarse, self.num_classes)
        check_feature_maps(features, self.reading.point_strides, "point_strides", self.point_head)
        check_same_image(coarse, self._stride, features, self.reading.point_strides)
        if not self.training:
            return self.inference(coarse, features, observer), {}
        if targets is None:
            raise InputError(
                "Training needs labels: 'sem_seg' in each data set dict, (H, W) of class numbers."
            )
        if weights is not None:
            if weights.shape != targets.shape:
                raise InputError(
                    f"The labels are {tuple(targets.shape)}, but the weights of their pixels are "
                    f"{tuple(weights.shape)}: 'sem_seg_weights' in each data set dict is (H, W), "
                    "as 'sem_seg' is."
                )
            weights = pad_labels(weights, self._frame(coarse), 0)
        targets = pad_labels(targets, self._frame(coarse), self.ignore_value)
        return None, self.losses(coarse, features, targets, weights)

    def losses(
        self,
        coarse: Tensor,
        features: dict[str, Tensor],
        targets: Tensor,
        weights: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute the coarse and the point loss.

        Args:
            coarse: (N, C, h, w) logits.
            targets: (N, h * s, w * s) labels, of the whole frame.
            weights: factors of the losses of their pixels; None: all are 1.
        """
        losses = self._coarse_losses(at_least_float32(coarse), targets, weights)
        valid = targets != self.ignore_value if self.avoid_ignored else None
        num_points = self._num_train_points(targets.shape[1])
        with torch.no_grad():
            coords = self.point_sampler(coarse, num_points, class_uncertainty, valid)
        labels = _read_nearest(targets, coords)
        reader = open_frame_reader(features, self._frame(coarse), self.reading, self.point_head)
        point_loss = semantic_loss(
            reader.predict(CoarsePrediction(coarse), coords),
            labels.long(),
            ignore_value=self.ignore_value,
            class_weights=self.class_weights,
            weights=None if weights is None else _read_nearest(weights, coords),
        )
        losses["loss_sem_seg_point"] = point_loss * self.point_loss_weight
        return losses

    def inference(
        self,
        coarse: Tensor,
        features: dict[str, Tensor],
        observer: InferenceObserver | None = None,
    ) -> Tensor:
        """Refine coarse logits (N, C, h, w) by adaptive subdivision: (N, C, h * s, w * s)."""
        if observer is not None:
            observer.on_coarse(coarse)
        frame = self._frame(coarse)
        shown = shown_extent(frame, features, self.reading.point_strides)
        reader = open_frame_reader(features, frame, self.reading, self.point_head)
        inputs = CoarsePrediction(coarse)
        logits = subdivide(
            coarse,
            num_steps=self.subdivision_steps,
            num_points=self.subdivision_num_points,
            predict=lambda coords: reader.predict(inputs, coords),
            uncertainty=lambda logits: hide_outside(class_uncertainty(logits), frame, shown),
            on_step=None if observer is None else observer.on_step,
        )
        rest = self._stride >> self.subdivision_steps
        return logits if rest == 1 else _upsample(logits, rest)

    def _coarse_losses(
        self, coarse: Tensor, targets: Tensor, weights: Tensor | None
    ) -> dict[str, Tensor]:
        own_loss = loss_of_coarse_head(self.coarse_sem_seg_head, weights)
        if own_loss is not None and self.num_classes > 1 and self.class_weights is None:
            targets, factor = labels_or_zero(targets, self.ignore_value)
            return {name: loss * factor for name, loss in own_loss(coarse, targets).items()}
        loss = semantic_loss(
            self.upsample(coarse),
            targets,
            ignore_value=self.ignore_value,
            class_weights=self.class_weights,
            hardest=self.coarse_loss_hardest,
            weights=weights,
        )
        return {"loss_sem_seg": loss * self.coarse_loss_weight}

    def upsample(self, coarse: Tensor) -> Tensor:
        """Upsample the coarse logits (N, C, h, w) to (N, C, h * s, w * s), without PointRend."""
        return _upsample(coarse, self._stride)

    def _num_train_points(self, height: int) -> int:
        if self.train_points_per_height > 0:
            return max(1, round(self.train_points_per_height * height))
        return self.train_num_points

    @property
    def _stride(self) -> int:
        return self.coarse_sem_seg_head.common_stride

    def _frame(self, coarse: Tensor) -> tuple[int, int]:
        return extent(coarse, self._stride)


def _read_nearest(values: Tensor, coords: Tensor) -> Tensor:
    """Read maps (N, H, W), such as labels, at points (N, P, 2) from the nearest pixel: (N, P)."""
    # float32 holds every label; outside of the map there is nothing to read, only rounding.
    maps = values.unsqueeze(1).float()
    return sample_points(maps, coords, mode="nearest", padding_mode="border").squeeze(1)


def _upsample(logits: Tensor, factor: int) -> Tensor:
    return F.interpolate(logits, scale_factor=factor, mode="bilinear", align_corners=False)


class CoarseOutput(nn.Module):
    """Stands in for a `PointRendSemanticHead` and gives its coarse prediction, upsampled.

    For comparisons: ``model.sem_seg_head = CoarseOutput(model.sem_seg_head)``.
    """

    def __init__(self, head: PointRendSemanticHead):
        super().__init__()
        self.head = head
        self.ignore_value = head.ignore_value

    def forward(
        self, features: dict[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return logits (N, C, h * s, w * s), and {}."""
        return self.head.upsample(coarse_logits(self.head.coarse_sem_seg_head, features)), {}
