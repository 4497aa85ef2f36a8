"""Where tiles lie in an image, and how much each counts where they overlap.

The two axes are independent: tiles are all pairs of an interval of rows and one of columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np


def intervals(length: int, size: int, overlap: int) -> list[tuple[int, int]]:
    """Cover ``length`` pixels with intervals of ``size`` that overlap by ``overlap`` or more.

    They are evenly spread, as few as possible, and the first and last end at the border.

    Args:
        length: 1 or more.
        size: 1 or more; an interval is shorter only where ``length`` is.
        overlap: 0 or more and less than ``size``.

    Returns:
        start and stop of each.

    Example:
        >>> intervals(10, size=4, overlap=1)
        [(0, 4), (3, 7), (6, 10)]
    """
    if length <= size:
        return [(0, length)]
    count = -(-(length - overlap) // (size - overlap))
    starts = [round(k * (length - size) / (count - 1)) for k in range(count)]
    return [(start, start + size) for start in starts]


def blending_weights(spans: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Return the weight of each interval at each of its pixels; they sum to 1 everywhere.

    A weight falls smoothly to 0 towards an end that another interval covers, so that a model's
    output fades into that of the neighbour.

    Args:
        spans: as `intervals` returns them.

    Returns:
        for each interval, float32 values above 0, one for each of its pixels.

    Example:
        >>> [weights.round(2).tolist() for weights in blending_weights([(0, 3), (2, 5)])]
        [[1.0, 1.0, 0.5], [0.5, 1.0, 1.0]]
    """
    length = spans[-1][1]
    windows = []
    for k, (start, stop) in enumerate(spans):
        window = np.ones(stop - start)
        if k:
            ramp = _ramp(spans[k - 1][1] - start)
            window[: len(ramp)] *= ramp
        if k + 1 < len(spans):
            ramp = _ramp(stop - spans[k + 1][0])
            window[len(window) - len(ramp) :] *= ramp[::-1]
        windows.append(window)
    total = np.zeros(length)
    for (start, stop), window in zip(spans, windows, strict=True):
        total[start:stop] += window
    return [
        (window / total[start:stop]).astype(np.float32)
        for (start, stop), window in zip(spans, windows, strict=True)
    ]


def _ramp(length: int) -> np.ndarray:
    """Return values that rise from 0 to 1 like a cosine, both ends left out."""
    return 0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / max(length, 1))


@dataclass(frozen=True)
class TileGrid:
    """The tiles of an image, row by row.

    Attributes:
        rows, columns: intervals of pixels, as `intervals` returns them.
    """

    rows: list[tuple[int, int]]
    columns: list[tuple[int, int]]

    @classmethod
    def cover(cls, height: int, width: int, size: int, overlap: int) -> "TileGrid":
        """Cover an image with tiles of ``size`` that overlap by ``overlap`` pixels or more."""
        return cls(intervals(height, size, overlap), intervals(width, size, overlap))

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def boxes(self) -> list[tuple[int, int, int, int]]:
        """Return x0, y0, x1, y1 of each tile."""
        return [(x0, y0, x1, y1) for (y0, y1), (x0, x1) in product(self.rows, self.columns)]
