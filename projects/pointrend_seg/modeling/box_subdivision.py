"""How many cells the masks of boxes have, and masks of different numbers of cells.

Shape shorthand: R boxes, M the side of a mask.
"""

from collections.abc import Callable

import torch
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_inference
from detectron2.structures import Instances
from torch import Tensor

from ..structures.box_masks import BoxMasks, by_side

# The value of MODEL.POINT_HEAD.MASK_RESOLUTION for as many cells as the box has pixels.
OF_BOX = -1
# Beyond 7 * 2**7 = 896 cells a side, masks cost more than they show.
_MOST_DOUBLINGS = 7


def steps_to(resolution: int, start_side: int, num_points: int) -> tuple[int, int, int | None]:
    """How to get to masks of any resolution by as few steps as there are.

    Args:
        resolution: M.
        start_side: of the coarse prediction, from which the resolution doubles.
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
    """The smallest ``start_side * 2**k``, k from 1, that is the longer side of each box: (R,).

    Args:
        boxes: of each image, (R_i, 4), in pixels of the image that the model sees.
    """
    corners = torch.cat(boxes).float()
    longer = (corners[:, 2:] - corners[:, :2]).amax(1).clamp(min=1)
    doublings = (longer / start_side).log2().ceil().clamp(1, _MOST_DOUBLINGS)
    return (start_side * 2**doublings).long()


def masks_by_side(sides: Tensor, predict: Callable[[int, Tensor], Tensor]) -> list[Tensor]:
    """Masks (1, M, M) of all boxes, each of its own side.

    Args:
        predict: takes a side and the numbers of n boxes, returns (n, 1, M, M).
    """
    masks: list[Tensor | None] = [None] * len(sides)
    for side, numbers in by_side(sides):
        for number, mask in zip(numbers.tolist(), predict(side, numbers), strict=True):
            masks[number] = mask
    return masks


def put_masks(logits: Tensor | list[Tensor], instances: list[Instances]) -> None:
    """Set ``pred_masks`` of the detections in each image: probabilities.

    Args:
        logits: (R, 1, M, M), of the predicted classes, which become tensors (R_i, 1, M, M); or R
            logits (1, M, M) of different M, which become `BoxMasks`.
    """
    if isinstance(logits, Tensor):
        mask_rcnn_inference(logits, instances)
        return
    start = 0
    for each in instances:
        own = logits[start : start + len(each)]
        each.pred_masks = BoxMasks([mask[0].sigmoid() for mask in own], each.pred_boxes.device)
        start += len(each)
