"""Outlines of the synthetic shapes: exact polygons, all of them with edges that are hard to get.

A shape is a list of rings, each an (N, 2) float array of (x, y); a point is inside when a ray from
it crosses the rings an odd number of times, so a ring within a ring is a hole. Lengths are in
pixels of the image, and pixel (row i, column j) has its centre at (j + 0.5, i + 0.5).

The functions draw around the origin; `place` turns and moves a shape. Widths of the details (teeth,
strokes, gaps) are arguments, so that scenes decide how fine they are.
"""

import numpy as np

Shape = list[np.ndarray]


def circle(radius: float, squeeze: float = 1.0, points: int = 48) -> np.ndarray:
    """A ring on an ellipse whose vertical radius is ``squeeze`` times the horizontal one."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack((radius * np.cos(angle), radius * squeeze * np.sin(angle)), axis=1)


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=float)


def stroke(start, end, width: float) -> np.ndarray:
    """A straight line of some width with square ends."""
    start, end = np.asarray(start, dtype=float), np.asarray(end, dtype=float)
    along = (end - start) / max(np.linalg.norm(end - start), 1e-6)
    side = np.array([-along[1], along[0]]) * width / 2
    return np.stack((start + side, end + side, end - side, start - side))


def star(radius: float, spikes: int, depth: float) -> Shape:
    """Thin spikes; ``depth`` is the part of the radius that the notches reach in."""
    angle = np.pi * np.arange(2 * spikes) / spikes
    radii = np.where(np.arange(2 * spikes) % 2, radius * (1 - depth), radius)
    return [np.stack((radii * np.cos(angle), radii * np.sin(angle)), axis=1)]


def ring(radius: float, width: float) -> Shape:
    return [circle(radius), circle(radius - width)]


def gear(radius: float, teeth: int, tooth: float, hole: float) -> Shape:
    """Square teeth of length ``tooth`` around a disc with a hole of radius ``hole``."""
    steps = np.arange(4 * teeth)
    angle = 2 * np.pi * (steps + 0.5 * (steps % 2)) / (4 * teeth)
    radii = np.where((steps // 2) % 2, radius - tooth, radius)
    return [np.stack((radii * np.cos(angle), radii * np.sin(angle)), axis=1), circle(hole)]


def comb(teeth: int, tooth: float, gap: float, height: float, rail: float) -> Shape:
    """A fence: teeth with gaps between them, joined by a rail; centred."""
    width = teeth * tooth + (teeth - 1) * gap
    left = -width / 2 + np.arange(teeth) * (tooth + gap)
    low, high = height / 2 - rail, -height / 2
    outline = [(-width / 2, height / 2)]
    for x in left:
        outline += [(x, low), (x, high), (x + tooth, high), (x + tooth, low)]
    outline += [(width / 2, height / 2)]
    return [np.array(outline)]


def pole(height: float, width: float, arms: int) -> Shape:
    """A thin mast with crossarms that get shorter downwards, as one outline; its foot at y = 0."""
    right = [(width / 2, 0.0)]
    for k in range(arms):
        reach = height * (0.08 + 0.05 * k)
        y = -height * (0.55 + 0.4 * k / max(1, arms - 1))
        right += [(width / 2, y + width / 2), (reach, y + width / 2)]
        right += [(reach, y - width / 2), (width / 2, y - width / 2)]
    right += [(width / 2, -height)]
    right = np.array(right)
    return [np.concatenate((right, right[::-1] * (-1, 1)))]


def bush(radius: float, spikes: int, rng: np.random.Generator) -> Shape:
    """An irregular spiked blob."""
    angle = 2 * np.pi * (np.arange(2 * spikes) + rng.uniform(-0.3, 0.3, 2 * spikes))
    angle /= 2 * spikes
    outer = rng.uniform(0.75, 1.0, 2 * spikes)
    radii = radius * np.where(np.arange(2 * spikes) % 2, outer * 0.62, outer)
    return [np.stack((radii * np.cos(angle), radii * np.sin(angle)), axis=1)]


# Letters of strokes on a 2 x 4 grid of places, x to the right and y down.
_LETTERS = (
    (((0, 4), (0, 0)), ((0, 0), (2, 0)), ((0, 2), (2, 2))),
    (((0, 4), (1, 0)), ((1, 0), (2, 4)), ((0.5, 2.5), (1.5, 2.5))),
    (((0, 0), (0, 4)), ((2, 0), (2, 4)), ((0, 2), (2, 2))),
    (((0, 0), (2, 4)), ((2, 0), (0, 4))),
    (((0, 0), (2, 0)), ((1, 0), (1, 4)), ((0, 4), (2, 4))),
    (((2, 0), (0, 2)), ((0, 2), (2, 4)), ((0, 0), (0, 4))),
)


def letter(height: float, width: float, rng: np.random.Generator) -> list[Shape]:
    """A text-like sign of strokes of some width.

    Returns:
        one shape for each stroke, since strokes overlap: the sign is the union of them.
    """
    unit = height / 4
    offset = np.array([1.0, 2.0])
    lines = _LETTERS[rng.integers(len(_LETTERS))]
    return [
        [stroke((np.array(a) - offset) * unit, (np.array(b) - offset) * unit, width)]
        for a, b in lines
    ]


def bicycle(wheel: float, width: float) -> list[Shape]:
    """Two thin wheels and a frame, facing right; one shape for each part, the union is meant."""
    left, right = np.array([-1.25 * wheel, 0]), np.array([1.25 * wheel, 0])
    seat, bar = np.array([-0.45 * wheel, -1.15 * wheel]), np.array([0.8 * wheel, -1.25 * wheel])
    wheels = [[each + hub for each in ring(wheel, width)] for hub in (left, right)]
    lines = ((left, seat), (seat, bar), (bar, right), (left + (1.15 * wheel, 0), seat))
    return wheels + [[stroke(a, b, width)] for a, b in lines]


def car(length: float, squeeze: float, gap: float) -> Shape:
    """A rounded body with a window, and notches of width ``gap`` for the wheels."""
    body = circle(length / 2, squeeze, 64)
    floor = length * squeeze * 0.36
    body[:, 1] = np.minimum(body[:, 1], floor)
    window = circle(length * 0.24, squeeze * 0.55, 24) - (0, length * squeeze * 0.2)
    notches = [
        box(x - gap, floor - gap * 0.9, x + gap, floor) for x in (-length * 0.24, length * 0.24)
    ]
    return [body, window, *notches]


def skyline(left: float, right: float, top: float, bottom: float, tooth: float) -> Shape:
    """A block with battlements of width ``tooth`` along its top."""
    edge = np.arange(left, right, tooth)
    outline = [(left, bottom)]
    for k, x in enumerate(edge):
        y = top if k % 2 else top + tooth * 1.2
        outline += [(x, y), (min(x + tooth, right), y)]
    outline.append((right, bottom))
    return [np.array(outline)]


def place(shape: Shape, x: float, y: float, angle: float = 0.0) -> Shape:
    """Turn by an angle in radians and move, to coordinates that are multiples of 1/16 pixel.

    Numbers that binary fractions hold exactly mean the same in every file format.
    """
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return [np.round((points @ turn + (x, y)) * 16) / 16 for points in shape]


def clip_ring(ring: np.ndarray, height: int, width: int) -> np.ndarray:
    """The part of a ring within the image (Sutherland and Hodgman 1974)."""
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
    """One outline from an outer ring and its holes, by a cut from each hole to what is nearest."""
    outline = rings[0]
    for hole in rings[1:]:
        distance = np.linalg.norm(outline[:, None] - hole[None], axis=2)
        i, j = np.unravel_index(distance.argmin(), distance.shape)
        detour = np.concatenate((hole[j:], hole[: j + 1], outline[i : i + 1]))
        outline = np.concatenate((outline[: i + 1], detour, outline[i + 1 :]))
    return outline
