"""The values of ``INPUT.PIXEL_RANGE``: a word, or two numbers."""

import math
import re

PIXEL_RANGES = "'percentile', 'full' or two numbers such as '0..4095', the lower one first"
_NUMBER = r"\s*([-+]?(?:\d+\.?\d*?|\.\d+)(?:[eE][-+]?\d+)?)\s*"
_FIXED = re.compile(rf"{_NUMBER}\.\.{_NUMBER}")


def fixed_range(rule: str) -> tuple[float, float] | None:
    """Return the numbers of a rule "LOW..HIGH"; None if it is no such rule.

    Example:
        >>> fixed_range("0..4095")
        (0.0, 4095.0)
    """
    found = _FIXED.fullmatch(rule)
    if found is None:
        return None
    low, high = map(float, found.groups())
    return (low, high) if math.isfinite(high - low) and low < high else None


def is_pixel_range(rule: str) -> bool:
    """Tell whether a string is a rule of ``INPUT.PIXEL_RANGE``."""
    return rule in ("percentile", "full") or fixed_range(rule) is not None
