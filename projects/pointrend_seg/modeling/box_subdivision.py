"""Subdivide the masks of boxes, for both mask heads: resolutions, parts, steps.

Shape shorthand: R boxes of all images together, M the side of a mask, S that of its first grid.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_inference
from detectron2.structures import Instances
from torch import Tensor

from ..errors import InputError
from ..points.precision import at_least_float32
from ..points.subdivision import subdivide_from_grid
from ..structures.box_masks import BoxMasks, group_by_side
from .arguments import SUBDIVISION, check_arguments
from .readers import BoxReader, InferenceObserver, PointInputs

# The value of MODEL.POINT_HEAD.MASK_RESOLUTION for as many cells as the box has pixels.
PER_BOX = -1
# Beyond 7 * 2**7 = 896 cells a side, masks cost more than they show.
_MOST_DOUBLINGS = 7


@dataclass(frozen=True)
class BoxSubdivision:
    """How masks of boxes are subdivided in inference.

    Attributes:
        num_steps: M = S * 2 ** num_steps, where ``mask_resolution`` is 0.
        num_points: points of each box that a step predicts.
        mask_resolution: M, any number of cells; or `PER_BOX`, for each box the smallest S * 2**k
            that is its longer side in pixels.
    """

    num_steps: int
    num_points: int
    mask_resolution: int = 0

    def __post_init__(self) -> None:
        check_arguments(self, SUBDIVISION, vars(self))

    def predict_masks(
        self,
        reader: BoxReader,
        inputs: PointInputs,
        start_side: int,
        observer: InferenceObserver | None = None,
    ) -> Tensor | list[Tensor]:
        """Predict masks from coarse to fine.

        Args:
            inputs: of one class for each box.
            start_side: S.
            observer: sees the steps, for the boxes in parts.

        Returns:
            (R, 1, M, M) logits; or R of (1, M, M), where M is that of the box.

        Raises:
            InputError: `torch.jit.trace` records it, and M is that of the box.
        """
        if self.mask_resolution != PER_BOX:
            resolution = self.mask_resolution or start_side * 2**self.num_steps
            return self._subdivide(reader, inputs, start_side, resolution, observer)
        if torch.jit.is_tracing():
            raise InputError(
                "Masks of different sizes are no tensor that a traced model can return: "
                f"MODEL.POINT_HEAD.MASK_RESOLUTION is {PER_BOX} ('box'). Choose a number, or 0."
            )
        return masks_by_side(
            sides_of_boxes(reader.boxes, start_side),
            lambda resolution, numbers: self._subdivide(
                reader.select(numbers), inputs[numbers], start_side, resolution, observer
            ),
        )

    def _subdivide(
        self,
        reader: BoxReader,
        inputs: PointInputs,
        start_side: int,
        resolution: int,
        observer: InferenceObserver | None,
    ) -> Tensor:
        side, num_steps, last_side = steps_to(resolution, start_side, self.num_points)
        num_reads = 1 + num_steps + (last_side is not None)
        masks = [
            subdivide_from_grid(
                part.stop - part.start,
                side=side,
                num_steps=num_steps,
                num_points=self.num_points,
                predict=predict,
                device=reader.boxes[0].device,
                last_side=last_side,
                on_step=None if observer is None else observer.on_step,
            )
            for part, predict in reader.predictors(
                inputs, num_points=self.num_points, num_reads=num_reads
            )
        ]
        return masks[0] if len(masks) == 1 else torch.cat(masks)


def steps_to(resolution: int, start_side: int, num_points: int) -> tuple[int, int, int | None]:
    """Plan the fewest steps to masks of any resolution.

    Args:
        resolution: M.
        start_side: S, from which the resolution doubles.
        num_points: that a step predicts. Grids of no more cells are predicted in one go, from
            which the result is the same.

    Returns:
        side of the first grid; how often it doubles; and where that does not lead to M, M, to
        which one more step leads.
    """
    if resolution**2 <= num_points:
        return resolution, 0, None
    side, num_steps = start_side, 0
    while (2 * side) ** 2 <= num_points:
        side *= 2
    while side * 2 ** (num_steps + 1) <= resolution:
        num_steps += 1
    return side, num_steps, None if side * 2**num_steps == resolution else resolution


def sides_of_boxes(boxes: list[Tensor], start_side: int) -> Tensor:
    """Return the smallest ``start_side * 2**k``, k from 1, that is the longer side of each box.

    Args:
        boxes: (R_i, 4) of each image, in pixels of the image that the model sees.

    Returns:
        (R,), int64.
    """
    corners = torch.cat(boxes).float()
    longer = (corners[:, 2:] - corners[:, :2]).amax(1).clamp(min=1)
    doublings = (longer / start_side).log2().ceil().clamp(1, _MOST_DOUBLINGS)
    return (start_side * 2**doublings).long()


def masks_by_side(sides: Tensor, predict: Callable[[int, Tensor], Tensor]) -> list[Tensor]:
    """Predict masks (1, M, M) of all boxes, each with the side that it needs.

    Args:
        sides: (R,), int64.
        predict: takes a side and the numbers of n boxes, returns (n, 1, M, M).
    """
    masks: dict[int, Tensor] = {}
    for side, numbers in group_by_side(sides):
        masks.update(zip(numbers.tolist(), predict(side, numbers), strict=True))
    return [masks[number] for number in range(len(sides))]


def put_masks(logits: Tensor | list[Tensor], instances: list[Instances]) -> None:
    """Set ``pred_masks`` of the detections in each image: probabilities.

    Args:
        logits: (R, 1, M, M), of the predicted classes, which become tensors (R_i, 1, M, M); or R
            logits (1, M, M) of different M, which become `BoxMasks`. Probabilities are
            float32: Detectron2 pastes masks with coordinates of the masks' dtype.
    """
    if isinstance(logits, Tensor):
        mask_rcnn_inference(at_least_float32(logits), instances)
        return
    start = 0
    for each in instances:
        own = logits[start : start + len(each)]
        each.pred_masks = BoxMasks(
            [at_least_float32(mask[0]).sigmoid() for mask in own], each.pred_boxes.device
        )
        start += len(each)
