"""Looking at one image, which is decoded whole."""

import hashlib
import os
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageOps

_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
_USUAL_MODES = ("RGB", "L")
_ORIENTATION = 0x0112


@dataclass
class Seen:
    """What one image, with its labels, gave.

    Attributes:
        faults: kind and place of each.
        digest: of the file's bytes, or None.
        counts: of each class, how many pixels or objects there are.
    """

    faults: list[tuple[str, str]] = field(default_factory=list)
    digest: bytes | None = None
    counts: dict[int, int] = field(default_factory=dict)


def look_at_image(path: str, stated: tuple[int, int] | None, seen: Seen) -> tuple[int, int] | None:
    """Decode an image, add what is wrong with it, and its digest.

    Args:
        stated: height and width that the data set gives.

    Returns:
        its height and width as training reads it (upright); None where it cannot be read.
    """
    if not os.path.exists(path):
        seen.faults.append(("missing-image", path))
        return None
    try:
        with open(path, "rb") as file:
            seen.digest = hashlib.blake2b(file.read(), digest_size=16).digest()
        with Image.open(path) as image:
            image.load()
            mode, turned = image.mode, image.getexif().get(_ORIENTATION, 1) not in (0, 1)
            stored, upright = image.size[::-1], ImageOps.exif_transpose(image).size[::-1]
    except _UNREADABLE as error:
        seen.faults.append(("unreadable-image", f"{path}: {error}"))
        return None
    if mode not in _USUAL_MODES:
        seen.faults.append(("odd-image", f"{path}: {mode}"))
    if stated is not None and stated != upright:
        kind = "turned-image" if turned and stated == stored else "image-size"
        seen.faults.append(
            (kind, f"{path} is {upright[1]} x {upright[0]}, stated {stated[1]} x {stated[0]}")
        )
    return upright


def read_array(path: str) -> np.ndarray:
    """A label image as it is stored, palette images as their indices.

    Raises:
        OSError, ValueError or what else Pillow raises: it cannot be read; see `UNREADABLE`.
    """
    with Image.open(path) as image:
        return np.asarray(image)


UNREADABLE = _UNREADABLE
