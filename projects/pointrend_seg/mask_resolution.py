"""How many cells the masks of boxes have, and masks of different numbers of cells.

Shape shorthand: R boxes, M the side of a mask.
"""

from collections.abc import Callable, Iterator

import torch
from detectron2.layers import paste_masks_in_image
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_inference
from detectron2.structures import BitMasks, Boxes, Instances, ROIMasks
from torch import Tensor

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


def by_side(sides: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Each side that occurs, and the numbers of its boxes."""
    for side in sides.unique().tolist():
        yield side, (sides == side).nonzero()[:, 0]


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


class BoxMasks(ROIMasks):
    """`ROIMasks` each of a resolution of its own.

    Detectron2's postprocessing pastes them as any others. There is no ``tensor`` of all of them.
    """

    def __init__(self, masks: list[Tensor], device: torch.device):
        """
        Args:
            masks: R of (M, M), probabilities in the frames of their boxes.
            device: of all of them, also where there are none.
        """
        self.masks, self._device = list(masks), torch.device(device)

    def to(self, device: torch.device) -> "BoxMasks":
        return BoxMasks([mask.to(device) for mask in self.masks], device)

    @property
    def device(self) -> torch.device:
        return self._device

    def __len__(self) -> int:
        return len(self.masks)

    def __repr__(self) -> str:
        return f"BoxMasks(num_instances={len(self)})"

    def __getitem__(self, item) -> "BoxMasks":
        """
        Args:
            item: a slice, a tensor of bools of this length, or one of numbers.
        """
        if isinstance(item, slice):
            return BoxMasks(self.masks[item], self.device)
        numbers = torch.as_tensor(item)
        if numbers.dtype == torch.bool:
            numbers = numbers.nonzero()[:, 0]
        return BoxMasks([self.masks[k] for k in numbers.reshape(-1).tolist()], self.device)

    def to_bitmasks(
        self, boxes: Boxes, height: int, width: int, threshold: float = 0.5
    ) -> BitMasks:
        """Paste each into an image; see Detectron2's `paste_masks_in_image`."""
        pasted = torch.zeros(len(self), height, width, dtype=torch.bool, device=self.device)
        sides = torch.tensor([len(mask) for mask in self.masks], dtype=torch.long)
        for _, numbers in by_side(sides):
            masks = torch.stack([self.masks[k] for k in numbers.tolist()])
            numbers = numbers.to(self.device)
            pasted[numbers] = paste_masks_in_image(
                masks, boxes.tensor[numbers], (height, width), threshold=threshold
            )
        return BitMasks(pasted)

    @staticmethod
    def cat(parts: list["BoxMasks"]) -> "BoxMasks":
        """All of several."""
        return BoxMasks([mask for part in parts for mask in part.masks], parts[0].device)
