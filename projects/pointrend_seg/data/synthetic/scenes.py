"""Generate synthetic street-like scenes of shapes whose edges are hard to segment.

A scene is geometry, colours and a painting order, without pixels (`rendering.py`) and file formats
(`cityscapes_layout.py`).
"""

import colorsys
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from . import outlines
from .outlines import Shape, place

# Kinds of objects. Colour and pattern show the kind of a region; its edges are the difficulty.
KINDS = (
    "sky",
    "ground",
    "path",
    "skyline",
    "bush",
    "comb",
    "pole",
    "ring",
    "star",
    "letter",
    "car",
    "gear",
    "bicycle",
    "hood",
)

# Hue (0 to 1), saturation, brightness and pattern of each kind.
_LOOKS = {
    "sky": (0.58, 0.35, 0.85, "plain"),
    "ground": (0.08, 0.06, 0.42, "plain"),
    "path": (0.09, 0.30, 0.66, "checks"),
    "skyline": (0.04, 0.45, 0.45, "checks"),
    "bush": (0.30, 0.65, 0.42, "plain"),
    "comb": (0.12, 0.75, 0.80, "stripes"),
    "pole": (0.70, 0.25, 0.22, "plain"),
    "ring": (0.16, 0.85, 0.90, "plain"),
    "star": (0.00, 0.85, 0.80, "plain"),
    "letter": (0.86, 0.65, 0.75, "plain"),
    "car": (0.62, 0.75, 0.65, "stripes"),
    "gear": (0.47, 0.65, 0.62, "checks"),
    "bicycle": (0.00, 0.00, 0.95, "plain"),
    "hood": (0.60, 0.10, 0.10, "plain"),
}


@dataclass
class Surface:
    """Two RGB colours (0 to 255) in a pattern with a period in pixels, and coarse grain."""

    color: tuple[float, float, float]
    second: tuple[float, float, float]
    pattern: str
    period: float
    angle: float
    grain: float


@dataclass
class SceneObject:
    """An object in a scene: the union of its shapes.

    Attributes:
        kind: one of KINDS.
        shapes: lists of rings as in `outlines.py`; several if parts overlap.
        is_crowd: True for a group of small objects that are not outlined one by one.
    """

    kind: str
    shapes: list[Shape]
    surface: Surface
    is_crowd: bool = False


@dataclass
class Scene:
    """A scene that fills an image.

    Attributes:
        height, width: size of the image in pixels.
        objects: objects in painting order, the farthest first.
        light: brightness at the left and at the right edge.
        blur: sigma of the blur in pixels.
        noise: sigma of the pixel noise, on a scale of 0 to 255.
        noise_seed: seed of the grain and the pixel noise.
    """

    height: int
    width: int
    objects: list[SceneObject] = field(default_factory=list)
    light: tuple[float, float] = (1.0, 1.0)
    blur: float = 0.6
    noise: float = 5.0
    noise_seed: int = 0
    kinds: tuple[str, ...] = KINDS


def generate_scene(
    seed: int | tuple[int, ...],
    height: int = 256,
    width: int = 512,
    *,
    object_scale: float = 1.0,
    crowds: float = 0.0,
    deserted: float = 0.0,
) -> Scene:
    """Generate a scene; the same arguments give the same scene.

    Args:
        seed: one integer or several, as in `numpy.random.default_rng`.
        height, width: size of the image in pixels. Details are 4 to 14 pixels wide at any size;
            larger images have more objects.
        object_scale: size of the objects. Larger objects are fewer, and have more details of the
            same width.
        crowds: fraction of scenes with a group of small stars.
        deserted: fraction of scenes with only a background.

    Example:
        >>> scene = generate_scene(seed=0, height=64, width=128)
        >>> scene.height, scene.width, scene.objects[0].kind
        (64, 128, 'sky')
    """
    rng = np.random.default_rng(seed)
    scene = Scene(
        height,
        width,
        light=tuple(rng.uniform(0.8, 1.1, 2)),
        blur=rng.uniform(0.45, 0.75),
        noise=rng.uniform(3, 7),
        noise_seed=int(rng.integers(2**31)),
    )
    horizon = height * rng.uniform(0.42, 0.52)
    _add_background(scene, horizon, rng)
    if deserted and rng.random() < deserted:
        return scene
    positions = _positions(scene, object_scale, rng)
    makers = [_MAKERS[kind] for kind in rng.permutation(list(_MAKERS))]
    for number, (x, y) in enumerate(positions):
        kind, parts = makers[number % len(makers)](rng, object_scale)
        angle = 0.0 if kind in ("pole", "car") else rng.uniform(-0.5, 0.5)
        _add(scene, kind, [place(part, x, y, angle) for part in parts], rng)
    if crowds and rng.random() < crowds:
        _add_crowd(scene, rng)
    hood = outlines.circle(width * rng.uniform(0.3, 0.5), 0.12)
    _add(scene, "hood", [place([hood], width * rng.uniform(0.4, 0.6), height, 0)], rng)
    return scene


def _add_background(scene: Scene, horizon: float, rng: np.random.Generator) -> None:
    height, width = scene.height, scene.width
    _add(scene, "sky", [place([outlines.box(0, 0, width, height)], 0, 0)], rng)
    left = 0.0
    while left < width:
        right = left + rng.uniform(40, 110)
        tooth = rng.uniform(6, 13)
        block = outlines.skyline(left, right, horizon - rng.uniform(20, 90), height, tooth)
        _add(scene, "skyline", [place(block, 0, 0)], rng)
        left = right + (rng.uniform(6, 30) if rng.random() < 0.5 else 0)
    _add(scene, "ground", [place([outlines.box(0, horizon, width, height)], 0, 0)], rng)
    tooth = rng.uniform(6, 12)
    bottom = horizon + rng.uniform(25, 55)
    path = outlines.skyline(0, width, horizon + rng.uniform(8, 16), bottom, tooth)
    _add(scene, "path", [place(path, 0, 0)], rng)


def _add_crowd(scene: Scene, rng: np.random.Generator) -> None:
    """Add overlapping small stars within a few dozen pixels."""
    middle = rng.uniform(0.2, 0.8, 2) * (scene.width, scene.height)
    stars = []
    for _ in range(int(rng.integers(8, 15))):
        x, y = middle + rng.normal(0, (22, 12))
        stars.append(place(outlines.star(rng.uniform(7, 12), 6, 0.55), x, y, rng.uniform(0, 1)))
    _add(scene, "star", stars, rng)
    scene.objects[-1].is_crowd = True


def _positions(scene: Scene, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Return (N, 2) object positions: a jittered grid of about 64 x 80 pixels, in random order."""
    rows = max(1, int(scene.height // (64 * scale)))
    columns = max(1, int(scene.width // (80 * scale)))
    row, column = np.divmod(rng.permutation(rows * columns), columns)
    x = (column + rng.uniform(0.1, 0.9, len(column))) * scene.width / columns
    y = (row + rng.uniform(0.15, 0.85, len(row))) * scene.height / rows
    return np.stack((x, y), axis=1)


def _add(scene: Scene, kind: str, parts: list[Shape], rng: np.random.Generator) -> None:
    scene.objects.append(SceneObject(kind, parts, _surface(kind, rng)))


def _surface(kind: str, rng: np.random.Generator) -> Surface:
    hue, saturation, value, pattern = _LOOKS[kind]
    hue = (hue + rng.normal(0, 0.012)) % 1
    saturation = np.clip(saturation + rng.normal(0, 0.05), 0, 1)
    value = np.clip(value + rng.normal(0, 0.05), 0.05, 1)
    return Surface(
        color=_rgb(hue, saturation, value),
        second=_rgb(hue, saturation, value * rng.uniform(0.68, 0.82)),
        pattern=pattern,
        period=rng.uniform(5, 10),
        angle=rng.uniform(0, np.pi),
        grain=rng.uniform(3, 8),
    )


def _rgb(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return 255 * red, 255 * green, 255 * blue


KindAndParts = tuple[str, list[Shape]]


def _scale_count(count: np.integer, scale: float) -> int:
    """Return the number of details on an outline that is ``scale`` times as long."""
    return round(float(count * scale))


def _star(rng: np.random.Generator, scale: float) -> KindAndParts:
    radius = rng.uniform(16, 36) * scale
    return "star", [outlines.star(radius, _scale_count(rng.integers(5, 10), scale**0.5), 0.62)]


def _ring(rng: np.random.Generator, scale: float) -> KindAndParts:
    return "ring", [outlines.ring(rng.uniform(13, 27) * scale, rng.uniform(4, 7))]


def _gear(rng: np.random.Generator, scale: float) -> KindAndParts:
    radius = rng.uniform(18, 34) * scale
    teeth = _scale_count(rng.integers(7, 12), scale)
    return "gear", [
        outlines.gear(radius, teeth, rng.uniform(5, 9), radius * rng.uniform(0.25, 0.4))
    ]


def _comb(rng: np.random.Generator, scale: float) -> KindAndParts:
    tooth, gap = rng.uniform(4, 7, 2)
    teeth = _scale_count(rng.integers(5, 10), scale)
    return "comb", [outlines.comb(teeth, tooth, gap, rng.uniform(26, 50) * scale, 5.0)]


def _letter(rng: np.random.Generator, scale: float) -> KindAndParts:
    return "letter", outlines.letter(rng.uniform(32, 56) * scale, rng.uniform(4.5, 8), rng)


def _pole(rng: np.random.Generator, scale: float) -> KindAndParts:
    height = rng.uniform(60, 120) * scale**0.5
    mast = outlines.pole(height, rng.uniform(4, 6.5), int(rng.integers(1, 4)))
    return "pole", [[mast[0] + (0, 40 * scale**0.5)]]


def _bush(rng: np.random.Generator, scale: float) -> KindAndParts:
    radius = rng.uniform(18, 36) * scale
    return "bush", [outlines.bush(radius, _scale_count(rng.integers(8, 15), scale**0.5), rng)]


def _car(rng: np.random.Generator, scale: float) -> KindAndParts:
    length = rng.uniform(48, 84) * scale
    return "car", [outlines.car(length, rng.uniform(0.5, 0.62), rng.uniform(5, 8))]


def _bicycle(rng: np.random.Generator, scale: float) -> KindAndParts:
    return "bicycle", outlines.bicycle(rng.uniform(11, 18) * scale, rng.uniform(3.5, 5))


_MAKERS: dict[str, Callable[[np.random.Generator, float], KindAndParts]] = {
    "star": _star,
    "ring": _ring,
    "gear": _gear,
    "comb": _comb,
    "letter": _letter,
    "pole": _pole,
    "bush": _bush,
    "car": _car,
    "bicycle": _bicycle,
}
