"""Find a font that has the letters of a text.

Pillow's own font has Latin letters alone. Others are those of matplotlib and of the system.
"""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont, features

_NO_LETTER = "\U0010ffff"  # every font shows its sign for what it lacks
# Names of files that come first, because they have many letters.
_PREFERRED = ("NotoSans", "DejaVuSans.", "wqy", "Droid", "Arial", "msyh", "simhei", "PingFang")

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def find_font(text: str, size: int) -> Font | None:
    """Return a font that has all letters of a text, None if there is none on this machine.

    Args:
        size: height of the letters in pixels.

    Example:
        >>> find_font("Straße", 12) is not None
        True
    """
    letters = "".join(sorted({char for char in text if not char.isspace()}))
    if not _can_be_shaped(letters):
        return None
    if _has_letters("", letters):
        return _load("", size)
    path = _file_with(letters)
    return None if path is None else _load(path, size)


@lru_cache(maxsize=256)
def _file_with(letters: str) -> str | None:
    return next((path for path in _font_files() if _has_letters(path, letters)), None)


@lru_cache(maxsize=64)
def _load(path: str, size: int) -> Font:
    return ImageFont.truetype(path, size) if path else ImageFont.load_default(size=size)


def _has_letters(path: str, letters: str) -> bool:
    try:
        font = _load(path, 20)
        missing = _picture(font, _NO_LETTER)
        return all(_picture(font, char) not in (missing, b"") for char in letters)
    except (OSError, ValueError):  # a file that is no font, or one of bitmaps
        return False


def _picture(font: Font, char: str) -> bytes:
    return bytes(font.getmask(char))


def _can_be_shaped(letters: str) -> bool:
    """Return whether letters stand where they belong: some scripts need the library Raqm."""
    if features.check("raqm"):
        return True
    return not any(
        unicodedata.bidirectional(char) in ("R", "AL") or unicodedata.category(char) == "Mc"
        for char in letters
    )


@lru_cache(maxsize=1)
def _font_files() -> list[str]:
    return sorted(set(_all_files()), key=_rank)


def _rank(path: str) -> tuple[int, str]:
    name = Path(path).name
    ranks = (n for n, start in enumerate(_PREFERRED) if name.startswith(start))
    return next(ranks, len(_PREFERRED)), path


def _all_files() -> Iterator[str]:
    try:
        import matplotlib as mpl
        from matplotlib.font_manager import findSystemFonts
    except ImportError:
        return
    yield str(Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf")
    yield from findSystemFonts()
