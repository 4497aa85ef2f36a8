"""Survey one image, which is decoded whole."""

import hashlib
import os
from dataclasses import dataclass, field

from ...errors import InputError
from ...files.regular import check_regular
from ..annotations import Size
from ..images.reader import ImageReader, Stored

_USUAL_KINDS = ("RGB", "L", "uint8")


@dataclass
class ImageSurvey:
    """What was found in one image and its labels.

    Attributes:
        problems: kind and place of each.
        digest: of the file's bytes, or None.
        counts: number of pixels or objects by number of the class.
        areas: number of the class and area in pixels of each object that is no crowd; None where
            pixels are labelled.
        points: number of points, and of those with the label 1, of each object that has points and
            is no crowd.
    """

    problems: list[tuple[str, str]] = field(default_factory=list)
    digest: bytes | None = None
    counts: dict[int, int] = field(default_factory=dict)
    areas: list[tuple[int, float]] | None = None
    points: list[tuple[int, int]] = field(default_factory=list)


def survey_image(
    path: str, stated: Size | None, found: ImageSurvey, reader: ImageReader
) -> Size | None:
    """Decode an image; add its problems and its digest to ``found``.

    Args:
        stated: height and width that the data set gives.
        reader: reads the image as training does.

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
    except (InputError, OSError) as error:
        found.problems.append(("unreadable-image", str(error)))
        return None
    stored = reader.stored(path)
    if not isinstance(stored, Stored):
        where = str(stored) if stored.kind == "unsupported-image" else stored.found
        found.problems.append((stored.kind, where))
        return None
    try:
        scaling = reader.explain_scaling(stored, path)
    except InputError as error:
        found.problems.append(("unsupported-image", str(error)))
        return None
    if scaling:
        found.problems.append(("scaled-image", f"{path}: {scaling}"))
    elif stored.kind not in _USUAL_KINDS:
        found.problems.append(("odd-image", f"{path}: {stored.kind}"))
    size = stored.size
    if stated is not None and stated != size:
        is_turned = stored.orientation >= 5 and stated == size[::-1]
        kind = "turned-image" if is_turned else "image-size"
        found.problems.append(
            (kind, f"{path} is {size[1]} x {size[0]}, stated {stated[1]} x {stated[0]}")
        )
    elif stored.orientation > 1 and (stored.orientation < 5 or size[0] == size[1]):
        found.problems.append(("unsure-orientation", f"{path}: orientation {stored.orientation}"))
    return size
