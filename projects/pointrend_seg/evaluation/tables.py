"""Write scores as tables for a terminal and a log."""

import unicodedata
from collections.abc import Sequence

from ..errors import printable

_MOST_WIDE = 110  # columns of a terminal
_MOST_LINES = 20  # of a table in one block
_LONGEST_NAME = 28
_GAP, _BETWEEN = "  ", "  |  "


def score_table(header: Sequence[str], rows: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Return a table with a row of scores for each name; a long one is several blocks wide.

    Args:
        header: title of the names and of each score.
        rows: a name and its scores; NaN is shown as a dash. Long names are cut.

    Example:
        >>> print(score_table(["class", "IoU"], [("sky", [91.27]), ("道路", [float("nan")])]))
        class    IoU
        sky    91.27
        道路       –
    """
    cells = [[_cut(printable(name)), *map(_number, scores)] for name, scores in rows]
    widths = [max(map(_width, column)) for column in zip(header, *cells, strict=True)]
    lines = [_line(row, widths) for row in cells]
    block = sum(widths) + len(_GAP) * (len(widths) - 1)
    most = max(1, (_MOST_WIDE + len(_BETWEEN)) // (block + len(_BETWEEN)))
    blocks = min(most, -(-len(lines) // _MOST_LINES)) or 1
    height = -(-len(lines) // blocks)
    parts = [lines[start : start + height] for start in range(0, len(lines), height)] or [[]]
    text = [_BETWEEN.join([_line(header, widths)] * len(parts))]
    for number in range(height):
        text.append(_BETWEEN.join(part[number] for part in parts if number < len(part)))
    return "\n".join(line.rstrip() for line in text)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    spaces = [" " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True)]
    first = cells[0] + spaces[0]
    return _GAP.join([first, *(s + cell for cell, s in zip(cells[1:], spaces[1:], strict=True))])


def _number(value: float) -> str:
    return "–" if value != value else f"{value:.2f}"


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes: two for a Chinese character."""
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def _cut(name: str) -> str:
    while _width(name) > _LONGEST_NAME:
        name = name.removesuffix("…")[:-1] + "…"
    return name
