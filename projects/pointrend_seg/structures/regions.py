"""Masks in a region of an image: few bytes for a small object of a large image.

Shapes:
    H, W: height and width of the image
    w, h: width and height of a region of the image; arrays of columns are w x h
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .run_lengths import decode_columns, encode_columns


@dataclass(frozen=True)
class Region:
    """A mask that is zero outside a region of the image.

    Attributes:
        columns: the region, w x h, bool or uint8 of 0 and 1.
        x0, y0: its left and upper edge, in pixels of the image.
    """

    columns: np.ndarray
    x0: int
    y0: int

    @property
    def area(self) -> int:
        """Return the number of pixels in the mask."""
        return int(np.count_nonzero(self.columns))

    def cut(self, x0: int, y0: int, x1: int, y1: int) -> "Region":
        """Return the part in a window, in the window's frame."""
        columns = self.columns[
            max(x0 - self.x0, 0) : max(x1 - self.x0, 0), max(y0 - self.y0, 0) : max(y1 - self.y0, 0)
        ]
        return Region(columns, max(self.x0 - x0, 0), max(self.y0 - y0, 0))

    @property
    def pixels(self) -> np.ndarray:
        """Return the region as h x w."""
        return self.columns.T

    @classmethod
    def from_run_lengths(cls, rle: dict) -> "Region":
        """Decode a mask in COCO's compressed format to the smallest region that contains it."""
        return cls(*decode_columns(rle))

    def run_lengths(self, height: int, width: int) -> dict:
        """Return the mask in COCO's compressed format for an image of this size."""
        return encode_columns(self.columns, self.x0, self.y0, height, width)


def regions_of_values(values: np.ndarray) -> Iterator[tuple[int, Region]]:
    """Yield the mask of each value but 0, in one pass over the pixels.

    Args:
        values: H x W, integers of 0 or more.

    Yields:
        the value and its mask, in the order of the values.
    """
    columns = np.ascontiguousarray(values.T)
    height = columns.shape[1]
    filled = np.flatnonzero(columns)
    found = columns.reshape(-1)[filled]
    order = np.argsort(found, kind="stable")
    filled, found = filled[order], found[order]
    starts = np.flatnonzero(np.diff(found, prepend=0))
    for value, pixels in zip(found[starts], np.split(filled, starts)[1:], strict=True):
        x, y = np.divmod(pixels, height)
        x0, y0 = int(x[0]), int(y.min())
        region = np.zeros((int(x[-1]) + 1 - x0, int(y.max()) + 1 - y0), np.uint8)
        region[x - x0, y - y0] = 1
        yield int(value), Region(region, x0, y0)
