"""Boxes in parts. Shape shorthand as at the top of the package."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

Opened = TypeVar("Opened")

# Rows that are at work together. On a CPU those of 256 floats are 8 MB: with more the memory is
# fresh each time, which costs more than the arithmetic; with less the threads wait for one another.
_ROWS_AT_ONCE = {"cpu": 2**13}
_ROWS_AT_ONCE_ON_GPUS = 2**18


def split_boxes(
    boxes: list[Tensor],
    num_points: int,
    open_image: Callable[[int], Opened],
    *,
    num_buffers: int = 1,
) -> Iterator[tuple[Opened, slice]]:
    """Split boxes into parts, each of one image.

    Args:
        boxes: (R_i, 4) of each image.
        num_points: P.
        open_image: called with the number of an image before its first part.
        num_buffers: how many rows are held for each point, compared with inference.

    Yields:
        what ``open_image`` gave, and the part's place among the boxes of all images.
    """
    rows = _ROWS_AT_ONCE.get(boxes[0].device.type, _ROWS_AT_ONCE_ON_GPUS)
    if torch.compiler.is_compiling():
        rows = _ROWS_AT_ONCE_ON_GPUS  # the loop is unrolled
    size, start = max(1, rows // (num_buffers * num_points)), 0
    for image, image_boxes in enumerate(boxes):
        stop = start + image_boxes.shape[0]
        if torch.jit.is_tracing():  # the numbers of parts and of boxes are not known
            yield open_image(image), slice(start, stop)
        elif start < stop:
            opened = open_image(image)
            for first in range(start, stop, size):
                yield opened, slice(first, min(first + size, stop))
        start = stop
