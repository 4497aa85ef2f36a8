"""Cut images and their objects into tiles.

An image of 6000 x 6000 pixels with 10,000 objects cannot be cropped at each step of a training:
all its masks are decoded at full size. Tiles are images of their own.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from ...errors import InputError
from ...structures.regions import Region
from .objects import ImportedObject

LEAST_PART = 10  # pixels of an object that is cut by a tile's edge; smaller parts are left out


@dataclass(frozen=True)
class Window:
    """A rectangle of an image, in pixels; x1 and y1 are excluded."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width."""
        return self.y1 - self.y0, self.x1 - self.x0


def windows(area: Window, tile: int, overlap: int) -> list[Window]:
    """Cover an area with tiles, row by row.

    Args:
        area: what is covered.
        tile: the tiles' height and width; an area that is smaller gets smaller ones.
        overlap: the least number of pixels that neighbours share. The last tile of a row or column
            is moved inwards, so that all tiles have the same size.

    Example:
        >>> [(each.x0, each.x1) for each in windows(Window(0, 0, 10, 4), 4, 0)]
        [(0, 4), (4, 8), (6, 10)]
    """
    return [
        Window(x, y, min(x + tile, area.x1), min(y + tile, area.y1))
        for y in _starts(area.y0, area.y1, tile, overlap)
        for x in _starts(area.x0, area.x1, tile, overlap)
    ]


def split_area(height: int, width: int, tile: int, share: float) -> tuple[Window, Window]:
    """Split an image into a part to train on and one to validate on, which share no pixel.

    The second is at the right or, in an image of one tile's width, at the bottom. The cut is at a
    multiple of the tile's size.

    Args:
        share: of the second part, in (0, 1).

    Raises:
        InputError: the image is smaller than two tiles.
    """
    if width >= 2 * tile:
        cut = _cut(width, tile, share)
        return Window(0, 0, cut, height), Window(cut, 0, width, height)
    if height >= 2 * tile:
        cut = _cut(height, tile, share)
        return Window(0, 0, width, cut), Window(0, cut, width, height)
    raise InputError(
        f"One image of {width} x {height} pixels cannot be split into tiles of {tile} for training "
        "and validation. Use a smaller --tile, or --val 0 to train on all of it."
    )


def _cut(length: int, tile: int, share: float) -> int:
    cut = round(length * (1 - share) / tile) * tile
    return min(max(cut, tile), length - tile)


def _starts(first: int, end: int, tile: int, overlap: int) -> Iterator[int]:
    start = first
    while start + tile < end:
        yield start
        start += tile - overlap
    yield max(end - tile, first)


def cut_objects(
    regions: list[tuple[ImportedObject, Region]], window: Window
) -> Iterator[tuple[ImportedObject, Region]]:
    """Yield the objects in a window, in its frame, without the smallest parts of cut ones."""
    for item, region in regions:
        part = region.cut(window.x0, window.y0, window.x1, window.y1)
        area = part.area
        if area and (area >= LEAST_PART or area == region.area):
            yield item, part


def tile_name(name: str, window: Window) -> str:
    """Return the name of a tile, such as ``a_x128_y0.png`` for one of ``a.tif``."""
    return f"{os.path.splitext(name)[0]}_x{window.x0}_y{window.y0}.png"
