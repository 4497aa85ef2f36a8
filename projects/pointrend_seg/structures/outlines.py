"""Outlines of masks as polygons, along the edges of pixels or simplified.

An exact outline has its points at corners of pixels: pixel (x, y) covers x to x + 1 and y to y + 1.
Filling it gives the mask again, to the pixel.
"""

from typing import NamedTuple

import cv2
import numpy as np

from .regions import Region


class Polygon(NamedTuple):
    """An outline and its holes, in pixels of the image.

    Attributes:
        outline: (P, 2) float64, x and y; the last point is not the first again.
        holes: (Q, 2) each, inside of the outline.
    """

    outline: np.ndarray
    holes: list[np.ndarray]


def outline_polygons(region: Region, tolerance: float = 0.0) -> list[Polygon]:
    """Return the polygons of a mask: one for each part, with its holes.

    Parts that touch at a corner alone are apart. Holes that touch at a corner are one.

    Args:
        tolerance: the farthest, in pixels, that a simplified outline may be from the exact one; 0
            keeps it exact. A ring of which less than a triangle would be left stays exact.

    Example:
        >>> mask = Region(np.ones((2, 3), np.uint8), x0=5, y0=7)  # 2 wide, 3 high
        >>> outline_polygons(mask)[0].outline.tolist()
        [[5.0, 7.0], [7.0, 7.0], [7.0, 10.0], [5.0, 10.0]]
    """
    if not region.columns.size:
        return []
    pixels = np.ascontiguousarray(region.pixels, np.uint8)
    count, parts = cv2.connectedComponents(pixels, connectivity=4)
    polygons: list[Polygon] = []
    rings: list[list[np.ndarray]] = [[] for _ in range(count)]
    for ring in _rings(pixels):
        x, y = ring[0]
        # Of its first point, the pixel at the lower right is inside; of a hole's, the one above.
        is_outline = _area(ring) > 0
        part = parts[y, x] if is_outline else parts[y - 1, x]
        rings[part].insert(0, ring) if is_outline else rings[part].append(ring)
    offset = np.array([region.x0, region.y0], np.float64)
    for outline, *holes in rings[1:]:
        simple = [_simplified(ring, tolerance) + offset for ring in (outline, *holes)]
        polygons.append(Polygon(simple[0], simple[1:]))
    return polygons


def joined_ring(polygon: Polygon) -> np.ndarray:
    """Return a polygon as one ring: seams of no width join the holes to the outline.

    Formats without holes, such as COCO's polygons, hold it, and what fills polygons by the parity
    of crossings (pycocotools) leaves the holes empty.

    Returns:
        (P, 2) float64.
    """
    ring = polygon.outline
    for hole in sorted(polygon.holes, key=lambda each: each[:, 1].min()):
        start = int(np.lexsort((hole[:, 0], hole[:, 1]))[0])
        distances = np.abs(ring - hole[start]).sum(axis=1)
        near = int(distances.argmin())
        loop = np.concatenate([np.roll(hole, -start, axis=0), hole[start : start + 1]])
        ring = np.concatenate([ring[: near + 1], loop, ring[near:]])
    return ring


def _rings(pixels: np.ndarray) -> list[np.ndarray]:
    """Return all rings of edges by their corners, (P, 2) int, from the leftmost of the topmost.

    The mask is at the right hand, so outlines are clockwise (y goes down) and holes are not.
    """
    inside = np.pad(pixels, 1) > 0
    # The pixels around each corner, and the edges between them by the direction of the walk.
    upper_left, upper_right = inside[:-1, :-1], inside[:-1, 1:]
    lower_left, lower_right = inside[1:, :-1], inside[1:, 1:]
    right_of = lower_right & ~upper_right  # the edges at the right of corners, and so on
    below = lower_left & ~lower_right
    left_of = upper_left & ~lower_left
    above = upper_right & ~upper_left
    leaving = [right_of, below, left_of, above]
    arriving = [
        lower_left & ~upper_left,
        upper_left & ~upper_right,
        upper_right & ~lower_right,
        lower_right & ~lower_left,
    ]
    ends = {}  # the other end of each straight line, by its direction and first corner
    for direction, (leave, arrive) in enumerate(zip(leaving, arriving, strict=True)):
        is_vertical = direction % 2
        starts, stops = (
            np.argwhere(each.T if is_vertical else each)
            for each in (leave & ~arrive, arrive & ~leave)
        )
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            x, y = start if is_vertical else start[::-1]
            ends[direction, x, y] = tuple(stop if is_vertical else stop[::-1])
    rings = []
    while ends:
        place = next(iter(ends))
        ring = []
        while place in ends:
            direction, x, y = place
            ring.append((x, y))
            x, y = ends.pop(place)
            # Where parts meet at a corner, the right hand stays at its own.
            right, left = (direction + 1) % 4, (direction - 1) % 4
            place = (right if leaving[right][y, x] else left), x, y
        points = np.array(ring)
        first = int(np.lexsort((points[:, 0], points[:, 1]))[0])
        rings.append(np.roll(points, -first, axis=0))
    return rings


def _area(ring: np.ndarray) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2


def _simplified(ring: np.ndarray, tolerance: float) -> np.ndarray:
    if tolerance > 0:
        simple = cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance, True)[:, 0]
        if len(simple) >= 3 and _area(simple) != 0:
            return simple.astype(np.float64)
    return ring.astype(np.float64)
