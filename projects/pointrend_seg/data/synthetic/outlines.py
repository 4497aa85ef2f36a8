"""Exact polygons of synthetic shapes, whose edges are hard to segment.

A shape is a list of rings, each an (N, 2) float array of (x, y). A point is inside if a ray from it
crosses the rings an odd number of times, so a ring within a ring is a hole. Lengths are in pixels
of the image, and pixel (row i, column j) has its centre at (j + 0.5, i + 0.5).

Shapes are created around the origin; `place` rotates and moves them. Widths of details (teeth,
strokes, gaps) are arguments.
"""

import numpy as np
from numpy.typing import ArrayLike

Shape = list[np.ndarray]


def circle(radius: float, squeeze: float = 1.0, points: int = 48) -> np.ndarray:
    """Return a ring on an ellipse with vertical radius ``squeeze`` * ``radius``."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack((radius * np.cos(angle), radius * squeeze * np.sin(angle)), axis=1)


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=float)


def stroke(start: ArrayLike, end: ArrayLike, width: float) -> np.ndarray:
    """Return the ring of a straight line with square ends."""
    first, last = np.asarray(start, dtype=float), np.asarray(end, dtype=float)
    along = (last - first) / max(np.linalg.norm(last - first), 1e-6)
    side = np.array([-along[1], along[0]]) * width / 2
    return np.stack((first + side, last + side, last - side, first - side))


def star(radius: float, spikes: int, depth: float) -> Shape:
    """Return a star; ``depth`` is the depth of the notches as a fraction of the radius."""
    angle = np.pi * np.arange(2 * spikes) / spikes
    radii = np.where(np.arange(2 * spikes) % 2, radius * (1 - depth), radius)
    return [np.stack((radii * np.cos(angle), radii * np.sin(angle)), axis=1)]


def ring(radius: float, width: float) -> Shape:
    return [circle(radius), circle(radius - width)]


def gear(radius: float, teeth: int, tooth: float, hole: float) -> Shape:
    """Return a disc with square teeth of length ``tooth`` and a hole of radius ``hole``."""
    steps = np.arange(4 * teeth)
    angle = 2 * np.pi * (steps + 0.5 * (steps % 2)) / (4 * teeth)
    radii = np.where((steps // 2) % 2, radius - tooth, radius)
    return [np.stack((radii * np.cos(angle), radii * np.sin(angle)), axis=1), circle(hole)]


def comb(teeth: int, tooth: float, gap: float, height: float, rail: float) -> Shape:
    """Return a centred fence: teeth with gaps between them, joined by a rail."""
    width = teeth * tooth + (teeth - 1) * gap
    left = -width / 2 + np.arange(teeth) * (tooth + gap)
    low, high = height / 2 - rail, -height / 2
    outline = [(-width / 2, height / 2)]
    for x in left:
        outline += [(x, low), (x, high), (x + tooth, high), (x + tooth, low)]
    outline += [(width / 2, height / 2)]
    return [np.array(outline)]


def pole(height: float, width: float, arms: int) -> Shape:
    """Return a thin mast with crossarms, as one outline, with its foot at y = 0."""
    right = [(width / 2, 0.0)]
    for k in range(arms):
        reach = height * (0.08 + 0.05 * k)
        y = -height * (0.55 + 0.4 * k / max(1, arms - 1))
        right += [(width / 2, y + width / 2), (reach, y + width / 2)]
        right += [(reach, y - width / 2), (width / 2, y - width / 2)]
    right += [(width / 2, -height)]
    right_side = np.array(right)
    return [np.concatenate((right_side, right_side[::-1] * (-1, 1)))]


def bush(radius: float, spikes: int, rng: np.random.Generator) -> Shape:
    """Return an irregular spiked blob."""
    angle = 2 * np.pi * (np.arange(2 * spikes) + rng.uniform(-0.3, 0.3, 2 * spikes))
    angle /= 2 * spikes
    outer = rng.uniform(0.75, 1.0, 2 * spikes)
    radii = radius * np.where(np.arange(2 * spikes) % 2, outer * 0.62, outer)
    return [np.stack((radii * np.cos(angle), radii * np.sin(angle)), axis=1)]


# Strokes of letters in a box of 2 x 4 units, x to the right and y down.
_LETTERS = (
    (((0, 4), (0, 0)), ((0, 0), (2, 0)), ((0, 2), (2, 2))),
    (((0, 4), (1, 0)), ((1, 0), (2, 4)), ((0.5, 2.5), (1.5, 2.5))),
    (((0, 0), (0, 4)), ((2, 0), (2, 4)), ((0, 2), (2, 2))),
    (((0, 0), (2, 4)), ((2, 0), (0, 4))),
    (((0, 0), (2, 0)), ((1, 0), (1, 4)), ((0, 4), (2, 4))),
    (((2, 0), (0, 2)), ((0, 2), (2, 4)), ((0, 0), (0, 4))),
)


def letter(height: float, width: float, rng: np.random.Generator) -> list[Shape]:
    """Return a random letter as one shape for each stroke; the letter is their union."""

    unit = height / 4
    offset = np.array([1.0, 2.0])
    lines = _LETTERS[rng.integers(len(_LETTERS))]
    return [
        [stroke((np.array(a) - offset) * unit, (np.array(b) - offset) * unit, width)]
        for a, b in lines
    ]


def bicycle(wheel: float, width: float) -> list[Shape]:
    """Return two thin wheels and a frame as one shape for each part; the bicycle is their union."""
    left, right = np.array([-1.25 * wheel, 0]), np.array([1.25 * wheel, 0])
    seat, bar = np.array([-0.45 * wheel, -1.15 * wheel]), np.array([0.8 * wheel, -1.25 * wheel])
    wheels = [[each + hub for each in ring(wheel, width)] for hub in (left, right)]
    lines = ((left, seat), (seat, bar), (bar, right), (left + (1.15 * wheel, 0), seat))
    return wheels + [[stroke(a, b, width)] for a, b in lines]


def car(length: float, squeeze: float, gap: float) -> Shape:
    """Return a rounded body with a window and with wheel notches of half-width ``gap``."""
    body = circle(length / 2, squeeze, 64)
    floor = length * squeeze * 0.36
    body[:, 1] = np.minimum(body[:, 1], floor)
    window = circle(length * 0.24, squeeze * 0.55, 24) - (0, length * squeeze * 0.2)
    notches = [
        box(x - gap, floor - gap * 0.9, x + gap, floor) for x in (-length * 0.24, length * 0.24)
    ]
    return [body, window, *notches]


def skyline(left: float, right: float, top: float, bottom: float, tooth: float) -> Shape:
    """Return a block with battlements of width ``tooth`` along its top."""
    outline = [(left, bottom)]
    for k, x in enumerate(np.arange(left, right, tooth).tolist()):
        y = top if k % 2 else top + tooth * 1.2
        outline += [(x, y), (min(x + tooth, right), y)]
    outline.append((right, bottom))
    return [np.array(outline)]


def place(shape: Shape, x: float, y: float, angle: float = 0.0) -> Shape:
    """Rotate a shape by an angle in radians, move it, and round it to multiples of 1/16 pixel.

    Such numbers are exact in every file format.
    """
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return [np.round((points @ rotation + (x, y)) * 16) / 16 for points in shape]


def clip_ring(ring: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the part of a ring within the image (Sutherland and Hodgman, 1974)."""
    for axis, limit, sign in ((0, 0, 1), (0, width, -1), (1, 0, 1), (1, height, -1)):
        depth = sign * (ring[:, axis] - limit)
        kept = []
        for k in range(len(ring)):
            start, end = depth[k - 1], depth[k]
            if (start >= 0) != (end >= 0):
                kept.append(ring[k - 1] + (ring[k] - ring[k - 1]) * start / (start - end))
            if end >= 0:
                kept.append(ring[k])
        ring = np.array(kept).reshape(-1, 2)
    return ring


def join_holes(rings: list[np.ndarray]) -> np.ndarray:
    """Join an outer ring and its holes to one outline, by cuts at the nearest points."""
    outline = rings[0]
    for hole in rings[1:]:
        distance = np.linalg.norm(outline[:, None] - hole[None], axis=2)
        i, j = np.unravel_index(distance.argmin(), distance.shape)
        detour = np.concatenate((hole[j:], hole[: j + 1], outline[i : i + 1]))
        outline = np.concatenate((outline[: i + 1], detour, outline[i + 1 :]))
    return outline
