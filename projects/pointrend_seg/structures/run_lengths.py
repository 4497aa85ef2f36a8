"""Encode and decode COCO's run lengths of masks in a region of the image.

pycocotools works on the whole image, most of which is empty. The result is the same byte for byte.

Shapes:
    H, W: height and width of the image
    w, h: width and height of a region of the image. Runs go down the columns, one column after
        another, so regions are arrays of columns, w x h.
"""

import cv2
import numpy as np
import pycocotools.mask as mask_util

_MOST_DIGITS = 9  # of 5 bits: 2**44 pixels


def encode_columns(columns: np.ndarray, x0: int, y0: int, height: int, width: int) -> dict:
    """Run-length encode a mask that is zero outside a region.

    Args:
        columns: the region, w x h, 0 or 1 as bool or uint8.
        x0, y0: left and upper edge of the region in the image.
        height, width: the image's size, H and W.

    Returns:
        a dict in COCO's compressed format with counts as text, ready for JSON.

    Example:
        >>> encode_columns(np.ones((2, 2), np.uint8), x0=1, y0=0, height=3, width=4)
        {'size': [3, 4], 'counts': '32103'}
    """
    w, h = columns.shape
    rows = _spacing(h, height)
    pixels = np.zeros(w * rows + 2, np.uint8)
    pixels[1:-1].reshape(w, rows)[:, :h] = columns
    x, y = np.divmod(np.flatnonzero(pixels[1:] != pixels[:-1]), rows)
    starts, area = (x0 + x) * height + y0 + y, height * width
    starts = np.concatenate([[0], starts[starts < area], [area]])
    runs = {"size": [height, width], "counts": starts[1:] - starts[:-1]}
    rle = mask_util.frPyObjects(runs, height, width)
    return {"size": rle["size"], "counts": rle["counts"].decode("ascii")}


def decode_columns(rle: dict) -> tuple[np.ndarray, int, int]:
    """Decode run lengths to the smallest region that contains the mask.

    Args:
        rle: in COCO's compressed format, with counts as bytes or text.

    Returns:
        the region as columns (w x h uint8, 0 x 0 for an empty mask), and its left and upper edge
        x0, y0 in the image.

    Example:
        >>> columns, x0, y0 = decode_columns({"size": [3, 4], "counts": "32103"})
        >>> columns.tolist(), x0, y0
        ([[1, 1], [1, 1]], 1, 0)
    """
    height = rle["size"][0]
    edges = np.cumsum(_counts(rle["counts"]))
    ends = edges[1::2]
    starts = edges[0::2][: len(ends)]
    kept = starts < ends  # other encoders may write empty runs
    starts, ends = starts[kept], ends[kept]
    if not len(starts):
        return np.zeros((0, 0), np.uint8), 0, 0
    (x_first, y_first), (x_last, y_last) = np.divmod(starts, height), np.divmod(ends - 1, height)
    x0, x1, y0, y1 = x_first[0], x_last[-1] + 1, y_first.min(), y_last.max() + 1
    if np.any(x_first != x_last):  # a run continues into the next column
        y0, y1 = 0, height
    rows = _spacing(y1 - y0, height)
    steps = np.zeros((x1 - x0) * rows + 1, np.uint8)
    steps[(x_first - x0) * rows + y_first - y0] += 1
    steps[(x_last - x0) * rows + y_last - y0 + 1] -= 1
    columns = np.cumsum(steps[:-1], dtype=np.uint8).reshape(x1 - x0, rows)
    return columns[:, : y1 - y0], int(x0), int(y0)


def values_at(rle: dict, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the values of a mask, 0 or 1, at pixels.

    Args:
        rle: in COCO's compressed format, with counts as bytes or text.
        x, y: columns and rows of N pixels within the image.

    Returns:
        N, int64.

    Example:
        >>> values_at({"size": [3, 4], "counts": "32103"}, np.array([0, 1, 2]), np.array([0, 1, 2]))
        array([0, 1, 0])
    """
    edges = np.cumsum(_counts(rle["counts"]))
    return np.searchsorted(edges, x * rle["size"][0] + y, side="right") % 2


def run_lengths_fault(counts: bytes | str, pixels: int) -> str:
    """Find out why compressed run lengths are not those of a mask.

    pycocotools does not: where runs are missing, its masks hold whatever was in memory.

    Args:
        counts: in COCO's compressed format.
        pixels: height times width of the mask.

    Returns:
        "" if they add up to the pixels; else what completes "run lengths that ...".

    Example:
        >>> run_lengths_fault("32103", 12), run_lengths_fault("3210", 12)
        ('', 'do not add up to its 12 pixels, but to 8')
    """
    text = counts.encode("utf-8", "replace") if isinstance(counts, str) else counts
    digits = np.frombuffer(text, np.uint8)
    if not len(digits):
        return "are empty"
    if digits.min() < 48 or digits.max() > 111:
        return "have characters that no run-length mask has"
    ends = np.flatnonzero((digits - 48) & 32 == 0)
    if not len(ends) or ends[-1] != len(digits) - 1:
        return "break off within a number"
    if np.diff(ends, prepend=-1).max() > _MOST_DIGITS:
        return "have a number of too many digits"
    runs = _counts(counts)
    if runs.min() < 0:
        return "are negative"
    total = int(runs.sum())
    return f"do not add up to its {pixels} pixels, but to {total}" if total != pixels else ""


def transpose(pixels: np.ndarray) -> np.ndarray:
    """Transpose an array with OpenCV, many times as fast as NumPy but not for empty arrays."""
    return cv2.transpose(pixels) if pixels.size else pixels.T


def _spacing(rows: int, height: int) -> int:
    """Return the stride between columns: an extra row separates them unless they are whole."""
    return rows if rows == height else rows + 1


def _counts(counts: bytes | str) -> np.ndarray:
    """Decompress run lengths: 5 bits per character, the lowest first, 32 marks a continuation."""
    text = counts.encode("ascii") if isinstance(counts, str) else counts
    digits = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(digits & 32 == 0)  # last digit of each number
    first = np.concatenate([[0], last[:-1] + 1])
    shifts = 5 * (np.arange(len(digits)) - np.repeat(first, last - first + 1))
    numbers = np.add.reduceat((digits & 31) << shifts, first)
    numbers -= (digits[last] & 16) << (shifts[last] + 1)  # two's complement
    # From the fourth number on, the difference to the number two before is stored.
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
