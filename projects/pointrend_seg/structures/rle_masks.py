"""Masks of objects in a large image, each as the run lengths of its pixels.

Shapes:
    N: number of masks
    H, W: height and width of the image
"""

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import pycocotools.mask as mask_util
import torch
from torch import Tensor

from .run_lengths import decode_columns


class RleMasks:
    """N masks of an H x W image in a few bytes each, in the place of N x H x W bools.

    They are ``pred_masks`` of images that were seen in tiles. What is done with a tensor of bools
    works as well, one mask at a time: ``masks[0]`` is H x W, and iteration gives each of them.

    Example:
        >>> masks = RleMasks([{"size": [3, 4], "counts": "32103"}], (3, 4))
        >>> masks.shape, masks.areas().tolist()
        (torch.Size([1, 3, 4]), [4])
        >>> [(x0, y0, crop.tolist()) for x0, y0, crop in masks.crops()]
        [(1, 0, [[True, True], [True, True]])]
    """

    def __init__(self, rles: Sequence[dict], image_size: tuple[int, int]):
        """
        Args:
            rles: N masks in COCO's compressed format with counts as text, of the image's size.
            image_size: H and W.
        """
        self.rles = list(rles)
        self.image_size = image_size

    @property
    def shape(self) -> torch.Size:
        """The shape of the tensor that they stand for, (N, H, W)."""
        return torch.Size([len(self), *self.image_size])

    @property
    def device(self) -> torch.device:
        """The CPU, always."""
        return torch.device("cpu")

    def to(self, *args: Any, **kwargs: Any) -> "RleMasks":
        """Return these masks: run lengths stay in main memory."""
        return self

    def cpu(self) -> "RleMasks":
        """Return these masks."""
        return self

    def __len__(self) -> int:
        return len(self.rles)

    def __repr__(self) -> str:
        return f"RleMasks({len(self)} of {self.image_size[0]} x {self.image_size[1]})"

    @overload
    def __getitem__(self, item: int) -> Tensor: ...

    @overload
    def __getitem__(self, item: slice | Tensor | np.ndarray | Sequence) -> "RleMasks": ...

    def __getitem__(self, item: Any) -> "Tensor | RleMasks":
        """Return one mask, H x W bool, for a number; several masks for anything else.

        Args:
            item: a number, a slice, bools of this length, or numbers.
        """
        if isinstance(item, int | np.integer):
            return torch.from_numpy(mask_util.decode(self._with_bytes(self.rles[item])) > 0)
        if isinstance(item, slice):
            return RleMasks(self.rles[item], self.image_size)
        numbers = torch.as_tensor(item)
        if numbers.dtype == torch.bool:
            numbers = numbers.nonzero()[:, 0]
        return RleMasks([self.rles[k] for k in numbers.reshape(-1).tolist()], self.image_size)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[k] for k in range(len(self)))

    def crops(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield x0, y0 and the pixels (h x w, bool) of the smallest box around each mask."""
        for rle in self.rles:
            columns, x0, y0 = decode_columns(rle)
            yield x0, y0, np.ascontiguousarray(columns.T, dtype=bool)

    def boxes(self) -> Tensor:
        """Return the boxes around the masks: (N, 4) float32, x0, y0, x1, y1 in pixels."""
        if not self.rles:
            return torch.zeros(0, 4)
        boxes = torch.from_numpy(mask_util.toBbox(self.rles)).float()
        boxes[:, 2:] += boxes[:, :2]
        return boxes

    def areas(self) -> Tensor:
        """Return the number of pixels of each mask: (N,) int64."""
        # one by one: given more than 255 at once, pycocotools 2.0 raises an error
        return torch.tensor([int(mask_util.area(rle)) for rle in self.rles], dtype=torch.int64)

    @property
    def tensor(self) -> Tensor:
        """All masks, N x H x W bool: mind the memory that this takes."""
        return torch.stack(list(self)) if self.rles else torch.zeros(self.shape, dtype=torch.bool)

    def numpy(self) -> np.ndarray:
        """Return all masks, N x H x W bool: mind the memory that this takes."""
        return self.tensor.numpy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.numpy().astype(dtype or bool, copy=False)

    @staticmethod
    def cat(parts: Sequence["RleMasks"]) -> "RleMasks":
        """Concatenate masks of the same image."""
        return RleMasks([rle for part in parts for rle in part.rles], parts[0].image_size)

    @staticmethod
    def _with_bytes(rle: dict) -> dict:
        counts = rle["counts"]
        return {**rle, "counts": counts.encode() if isinstance(counts, str) else counts}
