"""Scale pixel values of more than 8 bits to 0..255, by the rule in ``INPUT.PIXEL_RANGE``.

A rule is one of

    "percentile": the 1st to the 99.8th percentile of the image, over all of its channels
    "full": the whole range of an integer type; 0 to 1 for floating point
    "LOW..HIGH": fixed numbers, such as "0..4095"

`value_range` finds the two values that become 0 and 255, and `to_uint8` maps to them. To scale
parts of an image alike, find the range of the whole image first.
"""

from collections.abc import Iterator

import numpy as np

from ...config.pixel_range import PIXEL_RANGES, fixed_range
from ...errors import InputError

_PERMILLES = (10, 998)
_BLOCK = 2**22  # values that are handled at once
_SAMPLE = 2**24  # the most values that percentiles of wide types are taken of

Range = tuple[float, float]


def value_range(
    values: np.ndarray, rule: str = "percentile", nodata: float | None = None
) -> Range | None:
    """Find the two values of an image that become 0 and 255.

    Args:
        values: an image, (H, W) or (H, W, C), integers or floating point.
        rule: as in ``INPUT.PIXEL_RANGE``.
        nodata: the value of pixels without data, which do not count; NaN and infinity never do.

    Returns:
        the lower and the higher value; None for an image of one value, which has no range.

    Raises:
        InputError: the rule is unknown.

    Example:
        >>> value_range(np.arange(1001, dtype=np.uint16).reshape(7, 143))
        (10.0, 998.0)
    """
    if rule == "full":
        if not np.issubdtype(values.dtype, np.integer):
            return 0.0, 1.0
        limits = np.iinfo(values.dtype)
        return float(limits.min), float(limits.max)
    if rule != "percentile":
        fixed = fixed_range(rule)
        if fixed is None:
            raise InputError(f"INPUT.PIXEL_RANGE is {rule!r}; it must be {PIXEL_RANGES}.")
        return fixed
    if _is_narrow(values):
        known, counts = _histogram(values)
    else:
        step = -(-values.size // _SAMPLE) or 1  # evenly, and the same each time
        flat = values.reshape(-1)[::step]
        known, counts = np.unique(flat[np.isfinite(flat)], return_counts=True)
    if nodata is not None:
        is_data = known != nodata
        known, counts = known[is_data], counts[is_data]
    if not len(known):
        return None
    # the least values that so many pixels do not exceed; repeated channels change nothing
    shares = [-(-int(counts.sum()) * permille // 1000) for permille in _PERMILLES]
    low, high = known[np.searchsorted(counts.cumsum(), shares)].tolist()
    if low == high:  # few pixels differ
        low, high = known[[0, -1]].tolist()
    return (float(low), float(high)) if low < high else None


def to_uint8(values: np.ndarray, limits: Range | None, nodata: float | None = None) -> np.ndarray:
    """Map pixel values to 0..255; those out of range become 0 or 255.

    Args:
        values: of any shape, integers or floating point.
        limits: as `value_range` returns them; with None values stay, clipped to 0..255.
        nodata: becomes 0, as NaN does.

    Returns:
        uint8, of the same shape.

    Example:
        >>> to_uint8(np.array([[0, 2048, 4095, 9000]], np.uint16), (0, 4095))
        array([[  0, 128, 255, 255]], dtype=uint8)
    """
    low, high = limits or (0.0, 255.0)
    result = np.empty(values.shape, np.uint8)
    flat, mapped = values.reshape(-1), result.reshape(-1)
    table = None
    if _is_narrow(values):
        limit = np.iinfo(values.dtype)
        table = _mapped(np.arange(limit.min, limit.max + 1), low, high, nodata)
        table = np.roll(table, limit.min)  # negative indices count from the end
    for part in _blocks(flat.size):
        block = flat[part]
        mapped[part] = table[block] if table is not None else _mapped(block, low, high, nodata)
    return result


def _is_narrow(values: np.ndarray) -> bool:
    return values.dtype.kind in "ui" and values.dtype.itemsize <= 2


def _mapped(values: np.ndarray, low: float, high: float, nodata: float | None) -> np.ndarray:
    with np.errstate(all="ignore"):
        scaled = np.rint((values.astype(np.float64) - low) * 255 / (high - low))
    scaled[np.isnan(scaled)] = 0
    if nodata is not None:
        scaled[values == nodata] = 0
    return scaled.clip(0, 255).astype(np.uint8)


def _histogram(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values that occur, in ascending order, and how often."""
    limit = np.iinfo(values.dtype)
    flat = values.reshape(-1)
    counts = np.zeros(int(limit.max) - int(limit.min) + 1, np.int64)
    for part in _blocks(flat.size):
        shifted = flat[part].astype(np.int64) - int(limit.min)
        counts += np.bincount(shifted, minlength=len(counts))
    there = np.flatnonzero(counts)
    return there + int(limit.min), counts[there]


def _blocks(size: int) -> Iterator[slice]:
    return (slice(first, first + _BLOCK) for first in range(0, size, _BLOCK))
