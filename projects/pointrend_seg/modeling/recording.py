"""Record what a PointRend model does on the way to its output: coarse, each step, its points.

Shape shorthand: H, W size of an image as the model sees it; P points; R objects.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from detectron2.modeling import GeneralizedRCNN, SemanticSegmentor
from detectron2.structures import Instances, ROIMasks
from torch import Tensor, nn

from ..errors import InputError
from ..points.frames import extent
from .box_subdivision import PER_BOX
from .instance_head import PointRendInstanceHead
from .semantic_head import PointRendSemanticHead


@dataclass
class Recorder:
    """An `InferenceObserver` that keeps what it sees.

    Attributes:
        coarse: the coarse logits; None where there are none.
        logits, coords: after each step and by the height of its grid, those of each part.
    """

    coarse: Tensor | None = None
    logits: dict[int, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    coords: dict[int, list[Tensor]] = field(default_factory=lambda: defaultdict(list))

    def on_coarse(self, logits: Tensor) -> None:
        """Keep the coarse logits."""
        self.coarse = logits

    def on_step(self, logits: Tensor, coords: Tensor) -> None:
        """Keep a copy of the logits and the points of a step."""
        self.logits[logits.shape[-2]].append(logits.clone())
        self.coords[logits.shape[-2]].append(coords)

    def steps(self) -> list[tuple[Tensor, Tensor]]:
        """Return logits (N, C, H, W) and points (N, P, 2) of each step, all parts together."""
        return [
            (torch.cat(self.logits[height]), torch.cat(self.coords[height]))
            for height in sorted(self.logits)
        ]


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
    """Run a model with a `PointRendSemanticHead` on one image and record what happens.

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
    recorder = Recorder()
    refined, _ = head(features, observer=recorder)
    assert recorder.coarse is not None
    frame = extent(recorder.coarse, head.coarse_sem_seg_head.common_stride)
    grids = [_classes(logits, *logits.shape[-2:]) for logits, _ in recorder.steps()]
    scale = np.array([frame[1], frame[0]], dtype=np.float32)
    return SemanticTrace(
        coarse=_classes(head.upsample(recorder.coarse), height, width),
        refined=_classes(refined, height, width),
        steps=[_enlarged(grid, refined.shape[-2] // len(grid))[:height, :width] for grid in grids],
        points=[coords[0].cpu().numpy() * scale for _, coords in recorder.steps()],
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
    """Run a model with a `PointRendInstanceHead` on one image and record what happens.

    Args:
        model: in evaluation mode.
        image: (3, H, W), as `InstanceMapper` gives it.

    Raises:
        InputError: the model has another head, or none for points.
    """
    head: Any = getattr(model.roi_heads, "mask_head", None)
    _check_head(head, PointRendInstanceHead, "ROI_MASK_HEAD")
    if head.subdivision.mask_resolution == PER_BOX:
        raise InputError(
            "Steps and points can only be drawn for masks of one size, but "
            "MODEL.POINT_HEAD.MASK_RESOLUTION is -1 ('box'). Choose a number, or leave out "
            "--points, --steps and --compare."
        )
    images = model.preprocess_image([{"image": image}])
    features = model.backbone(images.tensor)
    proposals, _ = model.proposal_generator(images, features, None)
    detections = model.roi_heads._forward_box(features, proposals)
    recorder = Recorder()
    (instances,) = head(features, detections, observer=recorder)
    height, width = image.shape[-2:]
    boxes = instances.pred_boxes

    def paste(probabilities: Tensor) -> Tensor:
        return ROIMasks(probabilities[:, 0].float()).to_bitmasks(boxes, height, width).tensor

    instances.pred_masks = paste(instances.pred_masks)
    corner, size = boxes.tensor[:, None, :2], boxes.tensor[:, None, 2:] - boxes.tensor[:, None, :2]
    assert recorder.coarse is not None
    return InstanceTrace(
        instances=instances.to("cpu"),
        coarse=paste(recorder.coarse.sigmoid()).cpu().numpy(),
        steps=[paste(logits.sigmoid()).cpu().numpy() for logits, _ in recorder.steps()],
        points=[
            (coords * size + corner).flatten(0, 1).cpu().numpy() for _, coords in recorder.steps()
        ],
    )


def _check_head(head: nn.Module | None, expected: type, node: str) -> None:
    if not isinstance(head, expected) or getattr(head, "point_head", None) is None:
        raise InputError(
            f"Steps and points exist only for {expected.__name__}, but MODEL.{node}.NAME is "
            f"{type(head).__name__}"
            + (" without a point head" if isinstance(head, expected) else "")
            + ". Choose a config of it, or leave out --points, --steps and --compare."
        )
