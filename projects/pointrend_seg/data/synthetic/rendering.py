"""Render a scene: exact labels from its geometry, and an anti-aliased image.

Shapes and their coordinates are those of `outlines.py`.
"""

import cv2
import numpy as np

from .outlines import Shape
from .scenes import Scene, SceneObject, Surface

SUPERSAMPLING = 4


def fill(shape: Shape, height: int, width: int, scale: int = 1) -> np.ndarray:
    """Return which pixel centres are inside a shape by the even-odd rule, without rounding it.

    Args:
        shape: rings in image coordinates.
        height, width: size of the image in pixels.
        scale: number of samples per pixel in each direction.

    Returns:
        (height * scale, width * scale) bool.
    """
    rows, columns = height * scale, width * scale
    crossings = np.zeros((rows, columns + 1), dtype=np.int32)
    for points in shape:
        ends = points * scale - 0.5  # now sample (row i, column j) is at (j, i)
        (x0, y0), (x1, y1) = ends.T, np.roll(ends, -1, axis=0).T
        row = np.arange(rows)[:, None]
        # Edges are half-open in y, so that a vertex between two edges counts once.
        hit = (np.minimum(y0, y1) <= row) & (row < np.maximum(y0, y1))
        i, edge = np.nonzero(hit)
        slope = (x1 - x0)[edge] / (y1 - y0)[edge]
        x = x0[edge] + (i - y0[edge]) * slope
        first_right = np.clip(np.ceil(x), 0, columns).astype(int)
        np.add.at(crossings, (i, first_right), 1)
    return (crossings.cumsum(axis=1)[:, :columns] % 2).astype(bool)


def render_labels(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Find the topmost object at each pixel centre.

    Returns:
        kinds: (H, W) uint8, index into ``scene.kinds``.
        objects: (H, W) int32, index into ``scene.objects``.
    """
    kinds = np.zeros((scene.height, scene.width), dtype=np.uint8)
    objects = np.zeros((scene.height, scene.width), dtype=np.int32)
    for number, item in enumerate(scene.objects):
        window, shapes = _crop(item, scene)
        inside = np.zeros(kinds[window].shape, dtype=bool)
        for shape in shapes:
            inside |= fill(shape, *inside.shape)
        kinds[window][inside] = scene.kinds.index(item.kind)
        objects[window][inside] = number
    return kinds, objects


def render_image(scene: Scene) -> np.ndarray:
    """Render surfaces, light, blur and noise: (H, W, 3) uint8 RGB.

    Edges are averages over SUPERSAMPLING² samples per pixel.
    """
    rng = np.random.default_rng(scene.noise_seed)
    canvas: np.ndarray = np.zeros((scene.height, scene.width, 3), dtype=np.float32)
    for item in scene.objects:
        window, shapes = _crop(item, scene)
        height, width = canvas[window].shape[:2]
        inside = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING), dtype=bool)
        for shape in shapes:
            inside |= fill(shape, height, width, SUPERSAMPLING)
        coverage = cv2.resize(
            inside.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA
        )[..., None]
        colors = _paint(item.surface, window, rng)
        canvas[window] += coverage * (colors - canvas[window])
    light = np.linspace(scene.light[0], scene.light[1], scene.width, dtype=np.float32)
    canvas = cv2.GaussianBlur(canvas * light[None, :, None], (0, 0), scene.blur)
    noise = rng.normal(0, scene.noise, (scene.height, scene.width, 3))
    return np.clip(np.rint(canvas + noise.astype(np.float32)), 0, 255).astype(np.uint8)


def _crop(item: SceneObject, scene: Scene) -> tuple[tuple[slice, slice], list[Shape]]:
    """Return the window of pixels around an object, and its shapes relative to the window."""
    points = np.concatenate([ring for shape in item.shapes for ring in shape])
    left, top = np.clip(np.floor(points.min(0)).astype(int), 0, (scene.width, scene.height))
    right, bottom = np.clip(np.ceil(points.max(0)).astype(int), 0, (scene.width, scene.height))
    shapes = [[ring - (left, top) for ring in shape] for shape in item.shapes]
    # The window has at least one pixel, also for an object outside the image.
    left, top = min(left, scene.width - 1), min(top, scene.height - 1)
    return (slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1))), shapes


def _paint(surface: Surface, window: tuple[slice, slice], rng: np.random.Generator) -> np.ndarray:
    """Return the colours of a surface, (h, w, 3) float: two in a pattern, with coarse grain."""
    y, x = np.mgrid[window].astype(np.float32)
    along = x * np.cos(surface.angle) + y * np.sin(surface.angle)
    across = y * np.cos(surface.angle) - x * np.sin(surface.angle)
    if surface.pattern == "stripes":
        second = np.sin(2 * np.pi * along / surface.period) > 0.2
    elif surface.pattern == "checks":
        waves = np.sin(2 * np.pi * along / surface.period)
        second = waves * np.sin(2 * np.pi * across / surface.period) > 0
    else:
        second = np.zeros_like(x, dtype=bool)
    first, other = (np.asarray(c, dtype=np.float32) for c in (surface.color, surface.second))
    grain: np.ndarray = rng.normal(0, surface.grain, (y.shape[0] // 4 + 1, y.shape[1] // 4 + 1))
    grain = cv2.resize(grain.astype(np.float32), (y.shape[1], y.shape[0]))
    return np.where(second[..., None], other, first) + grain[..., None]
