"""Survey one image, which is decoded whole."""

import hashlib
import os
from dataclasses import dataclass, field

from PIL import Image, ImageOps

from ...errors import InputError
from ...files.regular import check_regular
from ..annotations import Size
from ..labels import UNREADABLE

_USUAL_MODES = ("RGB", "L")
_ORIENTATION = 0x0112


@dataclass
class ImageSurvey:
    """What was found in one image and its labels.

    Attributes:
        problems: kind and place of each.
        digest: of the file's bytes, or None.
        counts: number of pixels or objects by number of the class.
    """

    problems: list[tuple[str, str]] = field(default_factory=list)
    digest: bytes | None = None
    counts: dict[int, int] = field(default_factory=dict)


def survey_image(path: str, stated: Size | None, found: ImageSurvey) -> Size | None:
    """Decode an image; add its problems and its digest to ``found``.

    Args:
        stated: height and width that the data set gives.

    Returns:
        its height and width as training reads it (upright); None if it cannot be read.
    """
    if not os.path.exists(path):
        found.problems.append(("missing-image", path))
        return None
    try:
        check_regular(path, "image")
        with open(path, "rb") as file:
            found.digest = hashlib.blake2b(file.read(), digest_size=16).digest()
        with Image.open(path) as image:
            image.load()
            mode, turned = image.mode, image.getexif().get(_ORIENTATION, 1) not in (0, 1)
            stored, upright = image.size[::-1], ImageOps.exif_transpose(image).size[::-1]
    except (InputError, *UNREADABLE) as error:
        shown = str(error) if isinstance(error, InputError) else f"{path}: {error}"
        found.problems.append(("unreadable-image", shown))
        return None
    if mode not in _USUAL_MODES:
        found.problems.append(("odd-image", f"{path}: {mode}"))
    if stated is not None and stated != upright:
        kind = "turned-image" if turned and stated == stored else "image-size"
        found.problems.append(
            (kind, f"{path} is {upright[1]} x {upright[0]}, stated {stated[1]} x {stated[0]}")
        )
    return upright
