"""The objects of an image, whichever format they come from.

Shapes:
    H, W: height and width of the image, upright
    w, h: width and height of a region of the image; arrays of columns are w x h
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pycocotools.mask as mask_util

from ...structures.run_lengths import decode_columns, encode_columns

Polygons = list[list[float]]


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

    def run_lengths(self, height: int, width: int) -> dict:
        """Return the mask in COCO's compressed format for an image of this size."""
        return encode_columns(self.columns, self.x0, self.y0, height, width)


@dataclass(frozen=True)
class ImportedObject:
    """An object of an image.

    Attributes:
        category: the name of its class.
        mask: exact pixels, or the polygons of the source: flat lists x1, y1, x2, y2, … in pixels of
            the image.
        is_crowd: whether it is a region of many objects, or one that is not to be scored.
    """

    category: str
    mask: Region | Polygons
    is_crowd: bool = False

    def region(self, height: int, width: int) -> Region:
        """Return the pixels of the mask."""
        if isinstance(self.mask, Region):
            return self.mask
        parts = mask_util.frPyObjects(self.mask, height, width)
        return Region(*decode_columns(mask_util.merge(parts)))


@dataclass(frozen=True)
class LabelledImage:
    """An image with labels.

    Attributes:
        path: of the image file.
        name: its path in the data set, such as ``day1/a.png``.
        labels: what messages call its labels, mostly the path of a file.
        read: returns the objects, given height and width of the upright image; `InputError` says
            what is wrong with the labels.
        split: "train" or "val" where the source says so, else "".
    """

    path: str
    name: str
    labels: str
    read: Callable[[int, int], list[ImportedObject]]
    split: str = ""


@dataclass(frozen=True)
class Source:
    """Labels of a format.

    Attributes:
        images: the labelled images, in the order of their names.
        categories: the classes in their order where the source lists them; None takes the classes
            of the objects, by name.
        notes: what a user should know, one sentence each.
    """

    images: list[LabelledImage]
    categories: list[str] | None = None
    notes: list[str] = field(default_factory=list)


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


def united(masks: Sequence[Region | Polygons], height: int, width: int) -> Region | Polygons:
    """Return the union of masks; of polygons alone it is a list of all of them."""
    polygons = [mask for mask in masks if not isinstance(mask, Region)]
    if len(polygons) == len(masks):
        return [polygon for mask in polygons for polygon in mask]
    runs = [
        ImportedObject("", mask).region(height, width).run_lengths(height, width) for mask in masks
    ]
    return Region(*decode_columns(mask_util.merge(runs)))
