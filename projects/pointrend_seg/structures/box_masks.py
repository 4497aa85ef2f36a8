"""Masks of different resolutions."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from detectron2.layers import paste_masks_in_image
from detectron2.structures import BitMasks, Boxes, ROIMasks
from torch import Tensor
from torch.nn import functional as F


def group_by_side(sides: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield each side that occurs, and the numbers of its boxes."""
    for side in sides.unique().tolist():
        yield side, (sides == side).nonzero()[:, 0]


class BoxMasks(ROIMasks):
    """`ROIMasks` each of a resolution of its own.

    Detectron2's postprocessing pastes them as any others. There is no ``tensor`` of all of them.
    Its `GeneralizedRCNNWithTTA` averages them as it does a tensor (N, 1, M, M): by `flip`,
    ``torch.stack`` and ``torch.mean``.

    Example:
        >>> masks = BoxMasks([torch.tensor([[0.0, 1.0], [0.0, 1.0]])], torch.device("cpu"))
        >>> masks.flip([3]).masks[0].tolist()
        [[1.0, 0.0], [1.0, 0.0]]
        >>> torch.mean(torch.stack([masks, masks.flip([3])]), dim=0).masks[0].tolist()
        [[0.5, 0.5], [0.5, 0.5]]
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

    def flip(self, dims: Sequence[int]) -> "BoxMasks":
        """Mirror each mask, by the dimensions that a tensor (N, 1, M, M) of them would have.

        Args:
            dims: 3 or -1 exchanges left and right, 2 or -2 top and bottom.
        """
        axes = [dim % 4 - 4 for dim in dims]
        if not {*axes} <= {-2, -1}:
            raise ValueError(f"Masks are mirrored by dimensions 2 and 3, not {list(dims)}.")
        return BoxMasks([mask.flip(axes) for mask in self.masks], self.device)

    def __add__(self, other: "BoxMasks") -> "BoxMasks":
        """Add the masks of the same boxes, each at the larger of both resolutions."""
        pairs = zip(self.masks, other.masks, strict=True)
        return BoxMasks([_sum(pair) for pair in pairs], self.device)

    def __truediv__(self, number: float) -> "BoxMasks":
        """Divide the values of all masks."""
        return BoxMasks([mask / number for mask in self.masks], self.device)

    @classmethod
    def __torch_function__(
        cls, function: Callable, types: Any, args: Sequence = (), kwargs: dict | None = None
    ) -> Any:
        """Let ``torch.stack`` take several `BoxMasks` of the same boxes."""
        if function is torch.stack and not (kwargs or {}).get("dim"):
            return _Stack(list(args[0]))
        return NotImplemented


class _Stack(NamedTuple("_Stack", [("parts", list)])):
    """Several `BoxMasks` of the same boxes, of which ``torch.mean`` makes one."""

    @classmethod
    def __torch_function__(
        cls, function: Callable, types: Any, args: Sequence = (), kwargs: dict | None = None
    ) -> Any:
        if function is not torch.mean or (kwargs or {}).get("dim") != 0:
            return NotImplemented
        (stack,) = args
        together = zip(*(part.masks for part in stack.parts), strict=True)
        sums = BoxMasks([_sum(masks) for masks in together], stack.parts[0].device)
        return sums / len(stack.parts)


def _sum(masks: Sequence[Tensor]) -> Tensor:
    """Add masks (M, M) of a box, each resized to the largest M."""
    side = max(len(mask) for mask in masks)
    return torch.stack([_resized(mask, side) for mask in masks]).sum(0)


def _resized(mask: Tensor, side: int) -> Tensor:
    if len(mask) == side:
        return mask
    size = (side, side)
    return F.interpolate(mask[None, None], size, mode="bilinear", align_corners=False)[0, 0]
