"""The objects of an image, whichever format they come from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pycocotools.mask as mask_util

from ...structures.regions import Region
from ...structures.run_lengths import decode_columns

Polygons = list[list[float]]


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


def united(masks: Sequence[Region | Polygons], height: int, width: int) -> Region | Polygons:
    """Return the union of masks; of polygons alone it is a list of all of them."""
    polygons = [mask for mask in masks if not isinstance(mask, Region)]
    if len(polygons) == len(masks):
        return [polygon for mask in polygons for polygon in mask]
    runs = [
        ImportedObject("", mask).region(height, width).run_lengths(height, width) for mask in masks
    ]
    return Region(*decode_columns(mask_util.merge(runs)))
