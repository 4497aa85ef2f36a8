"""What a PointRend model does on the way to its output: coarse, each subdivision step, its points.

Shape shorthand: H, W size of an image as the model sees it; P points; R objects.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.modeling import GeneralizedRCNN, SemanticSegmentor
from detectron2.structures import Instances, ROIMasks
from torch import Tensor

from ..errors import InputError
from ..points.frames import extent
from .box_subdivision import OF_BOX
from .coarse_semantic_head import coarse_logits
from .instance_head import PointRendInstanceHead
from .point_heads import select_class
from .semantic_head import PointRendSemanticHead


@dataclass
class SemanticTrace:
    """What a semantic PointRend model did with one image.

    Attributes:
        coarse: (H, W) int, classes of the coarse logits upsampled in one go.
        refined: (H, W) int, classes of PointRend's output.
        steps: (H, W) int for each subdivision step: its classes, a cell of its grid as large as it
            is in the image.
        points: for each step the (P, 2) float places that were predicted again, (x, y) in pixels
            of the image, pixel centres at + 0.5.
    """

    coarse: np.ndarray
    refined: np.ndarray
    steps: list[np.ndarray]
    points: list[np.ndarray]


@torch.no_grad()
def trace_semantic(model: SemanticSegmentor, image: Tensor) -> SemanticTrace:
    """Run a model with a `PointRendSemanticHead` on one image and keep what happens on the way.

    Args:
        model: in evaluation mode.
        image: (3, H, W), as `SemanticMapper` gives it.

    Raises:
        InputError: the model has another head.
    """
    head, (height, width) = model.sem_seg_head, image.shape[-2:]
    _check_head(head, PointRendSemanticHead, "SEM_SEG_HEAD")
    normalized = (image.to(model.device) - model.pixel_mean) / model.pixel_std
    divisor = max(1, model.backbone.size_divisibility)
    below, right = -height % divisor, -width % divisor
    features = model.backbone(torch.nn.functional.pad(normalized, (0, right, 0, below))[None])
    coarse = coarse_logits(head.coarse_sem_seg_head, features)
    frame = extent(coarse, head.coarse_sem_seg_head.common_stride)
    grids, places = [], []

    def keep(logits, coords):
        grids.append(_classes(logits, *logits.shape[-2:]))
        places.append(coords[0])

    refined = head.inference(coarse, features, on_step=keep)
    scale = np.array([frame[1], frame[0]], dtype=np.float32)
    return SemanticTrace(
        coarse=_classes(head.upsample(coarse), height, width),
        refined=_classes(refined, height, width),
        steps=[_enlarged(grid, refined.shape[-2] // len(grid))[:height, :width] for grid in grids],
        points=[coords.cpu().numpy() * scale for coords in places],
    )


def _classes(logits: Tensor, height: int, width: int) -> np.ndarray:
    shown = logits[0, :, :height, :width]
    classes = shown.argmax(0) if shown.shape[0] > 1 else (shown[0] > 0).long()
    return classes.cpu().numpy()


def _enlarged(grid: np.ndarray, factor: int) -> np.ndarray:
    return grid.repeat(factor, axis=0).repeat(factor, axis=1)


@dataclass
class InstanceTrace:
    """What an instance PointRend model did with one image, whose boxes are in pixels (H, W).

    Attributes:
        instances: R detections, with ``pred_masks`` (R, H, W) bool.
        coarse: (R, H, W) bool, the coarse masks of the predicted classes.
        steps: (R, H, W) bool for each subdivision step.
        points: for each step the (P, 2) places that were predicted again, of all objects, (x, y)
            in pixels.
    """

    instances: Instances
    coarse: np.ndarray
    steps: list[np.ndarray]
    points: list[np.ndarray]


@torch.no_grad()
def trace_instances(model: GeneralizedRCNN, image: Tensor) -> InstanceTrace:
    """Run a model with a `PointRendInstanceHead` on one image and keep what happens on the way.

    Args:
        model: in evaluation mode.
        image: (3, H, W), as `InstanceMapper` gives it.

    Raises:
        InputError: the model has another head, or none for points.
    """
    head = getattr(model.roi_heads, "mask_head", None)
    _check_head(head, PointRendInstanceHead, "ROI_MASK_HEAD")
    if head.mask_resolution == OF_BOX:
        raise InputError(
            "Steps and points are drawn of masks of one size, but MODEL.POINT_HEAD.MASK_RESOLUTION "
            "is -1 ('box'). Choose a number, or leave out --points, --steps and --compare."
        )
    with _kept_steps(head) as (coarse, parts):
        (instances,) = model.inference([{"image": image}], do_postprocess=False)
    height, width = image.shape[-2:]
    boxes = instances.pred_boxes

    def paste(logits):
        masks = ROIMasks(logits[:, 0].float().sigmoid())
        return masks.to_bitmasks(boxes, height, width).tensor.cpu().numpy()

    sides = sorted(parts)
    masks = {side: torch.cat([logits for logits, _ in parts[side]]) for side in sides}
    coords = {side: torch.cat([coords for _, coords in parts[side]]) for side in sides}
    final = [paste(masks[side]) for side in sides]
    instances.pred_masks = (
        ROIMasks(instances.pred_masks[:, 0]).to_bitmasks(boxes, height, width).tensor
    )
    corner, size = boxes.tensor[:, None, :2], boxes.tensor[:, None, 2:] - boxes.tensor[:, None, :2]
    return InstanceTrace(
        instances=instances.to("cpu"),
        coarse=paste(coarse[0]) if coarse else np.zeros((0, height, width), bool),
        steps=final,
        points=[(coords[side] * size + corner).flatten(0, 1).cpu().numpy() for side in sides],
    )


@contextlib.contextmanager
def _kept_steps(head: PointRendInstanceHead) -> Iterator[tuple[list[Tensor], dict]]:
    """Coarse masks, and logits and points of each part of the boxes by the side of the masks."""
    coarse, parts = [], {}
    inference = head.inference

    def keep(logits, coords):
        parts.setdefault(logits.shape[-1], []).append((logits.clone(), coords))

    def traced(points, instances):
        classes = torch.cat([each.pred_classes for each in instances])
        coarse.append(select_class(points.coarse(), classes).unsqueeze(1))
        return inference(points, instances, on_step=keep)

    head.inference = traced
    try:
        yield coarse, parts
    finally:
        del head.inference


def _check_head(head, expected: type, node: str) -> None:
    if not isinstance(head, expected) or getattr(head, "point_head", None) is None:
        raise InputError(
            f"Steps and points are those of a {expected.__name__}, but MODEL.{node}.NAME is "
            f"{type(head).__name__}"
            + (" without a point head" if isinstance(head, expected) else "")
            + ". Choose a config of it, or leave out --points, --steps and --compare."
        )
