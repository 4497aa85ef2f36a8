"""Write names into pictures, where there is room for them. Pictures are RGB, (H, W, 3), uint8."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from ..data.classes import Classes
from ..errors import printable
from .fonts import find_font

_LONGEST = 28  # letters of a name
# So many names, or those that take no more than this share of a picture, are all written. Of more,
# only those that are no larger than their objects.
_FEW, _FEW_SHARE = 4, 0.12
_PAD_X, _PAD_Y = 3, 2  # around a text, in pixels

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class Label:
    """The name of an object or a class in a picture.

    Attributes:
        name: as `drawn_name` returns it.
        extra: what follows the name if there is room, such as a score.
        position: (x, y) of its centre in pixels.
        size: (width, height) of what it names.
        color: RGB of what it names.
    """

    name: str
    position: tuple[float, float]
    size: tuple[float, float]
    color: np.ndarray
    extra: str = ""


def drawn_name(classes: Classes, number: int) -> str:
    """Return the name of a class for a picture: "#" and its id where no font has its letters.

    Example:
        >>> classes = Classes(("sky", "road"), np.zeros((2, 3), np.uint8), (0, 7))
        >>> drawn_name(classes, 1)
        'road'
    """
    name = printable(classes.names[number])
    if find_font(name, 20) is None:
        return f"#{classes.ids[number]}"
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1].rstrip() + "…"


def numbered_names(classes: Classes) -> str:
    """Return a sentence about the classes that pictures show as numbers; "" if there are none."""
    numbers = {k: drawn_name(classes, k) for k in range(len(classes))}
    shown = [
        f"{short} {printable(classes.names[k])}"
        for k, short in numbers.items()
        if find_font(printable(classes.names[k]), 20) is None
    ]
    if not shown:
        return ""
    return (
        f"Pictures show numbers instead of {len(shown)} class name(s), because no font of this "
        f"machine has their letters: {', '.join(shown)}. Install one, for example Noto Sans CJK."
    )


def font_size(picture: np.ndarray) -> int:
    """Return the height of letters for a picture, in pixels."""
    return int(np.clip(min(picture.shape[:2]) / 32, 11, 28))


def write_labels(
    picture: np.ndarray, labels: Sequence[Label], *, size: int | None = None
) -> np.ndarray:
    """Return a picture with names in it, each on its colour and inside of the picture.

    Those of large objects come first. A name that would lie on another, or that is wider than its
    object where there are many, is left out.

    Args:
        size: height of the letters in pixels, by default `font_size`.
    """
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    size = size or font_size(picture)
    texts = [[_Text(label, text, draw, size, canvas.size) for text in _texts(label)]
             for label in labels]  # fmt: skip
    area = sum(choices[0].area for choices in texts)
    are_few = len(texts) <= _FEW or area <= _FEW_SHARE * canvas.width * canvas.height
    taken: list[Box] = []
    for choices in sorted(texts, key=lambda choices: -np.prod(choices[0].label.size)):
        for text in choices:
            fits = are_few or text.is_inside_object
            if fits and not any(_overlap(text.box, other) for other in taken):
                text.write(draw)
                taken.append(text.box)
                break
    return np.asarray(canvas)


def _texts(label: Label) -> list[str]:
    return [f"{label.name}  {label.extra}", label.name] if label.extra else [label.name]


class _Text:
    """A text at its place in a picture."""

    def __init__(
        self, label: Label, text: str, draw: ImageDraw.ImageDraw, size: int, bounds: tuple[int, int]
    ):
        font = find_font(text, size)
        assert font is not None  # `drawn_name` looked for one
        while len(text) > 1 and draw.textlength(text, font=font) + 2 * _PAD_X > bounds[0]:
            text = text.removesuffix("…")[:-1] + "…"
        self.label, self.text, self.font = label, text, font
        left, top, right, bottom = draw.textbbox(label.position, text, font=font, anchor="mm")
        left, top, right, bottom = left - _PAD_X, top - _PAD_Y, right + _PAD_X, bottom + _PAD_Y
        dx = max(-left, 0) or min(bounds[0] - 1 - right, 0)
        dy = max(-top, 0) or min(bounds[1] - 1 - bottom, 0)
        self.position = label.position[0] + dx, label.position[1] + dy
        self.box: Box = (left + dx, top + dy, right + dx, bottom + dy)

    @property
    def area(self) -> float:
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)

    @property
    def is_inside_object(self) -> bool:
        left, top, right, bottom = self.box
        return right - left <= self.label.size[0] and bottom - top <= self.label.size[1]

    def write(self, draw: ImageDraw.ImageDraw) -> None:
        color = self.label.color
        draw.rectangle(self.box, fill=tuple(int(part) for part in color))
        ink = "black" if np.dot(color, (0.299, 0.587, 0.114)) > 140 else "white"
        draw.text(self.position, self.text, fill=ink, font=self.font, anchor="mm")


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
