"""Show how far a long job is: a bar on a terminal, a line now and then in a file."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

_SECONDS = 30  # between lines


def has_terminal() -> bool:
    """Return whether standard error, where bars are shown, is a terminal."""
    return sys.stderr.isatty()


def progress_bar(
    items: Iterable | None = None, *, unit: str, shown: bool = True, **options: Any
) -> tqdm:
    """Return a `tqdm` over items, on standard error.

    Args:
        items: to iterate over; None for a bar whose ``update`` is called.
        unit: what an item is, in the singular.
        shown: if False, nothing is written.
        options: of `tqdm`, such as ``total``.

    Example:
        >>> sum(progress_bar([1, 2, 3], unit="image"))
        6
    """
    options |= {"unit": unit, "disable": not shown}
    if has_terminal():
        return tqdm(items, dynamic_ncols=True, **options)
    options |= {"file": _Lines(), "mininterval": _SECONDS, "delay": _SECONDS}
    form = "{n_fmt} of {total_fmt} " + unit + "s in {elapsed}, {remaining} left"
    return tqdm(items, bar_format=form, **options)


class _Lines:
    """A file to which a bar writes lines, instead of one that changes."""

    def write(self, text: str) -> None:
        text = text.strip()
        if text:
            print(text, file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()
