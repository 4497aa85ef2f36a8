"""Masks of different resolutions."""

from collections.abc import Iterator

import torch
from detectron2.layers import paste_masks_in_image
from detectron2.structures import BitMasks, Boxes, ROIMasks
from torch import Tensor


def group_by_side(sides: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield each side that occurs, and the numbers of its boxes."""
    for side in sides.unique().tolist():
        yield side, (sides == side).nonzero()[:, 0]


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

    def __getitem__(self, item: slice | Tensor) -> "BoxMasks":
        """Select masks.

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
        """Paste each mask into an image, as Detectron2's `paste_masks_in_image` does."""
        pasted = torch.zeros(len(self), height, width, dtype=torch.bool, device=self.device)
        sides = torch.tensor([len(mask) for mask in self.masks], dtype=torch.long)
        for _, numbers in group_by_side(sides):
            masks = torch.stack([self.masks[k] for k in numbers.tolist()])
            numbers = numbers.to(self.device)
            pasted[numbers] = paste_masks_in_image(
                masks, boxes.tensor[numbers], (height, width), threshold=threshold
            )
        return BitMasks(pasted)

    @staticmethod
    def cat(parts: list["BoxMasks"]) -> "BoxMasks":
        """Concatenate several."""
        return BoxMasks([mask for part in parts for mask in part.masks], parts[0].device)
