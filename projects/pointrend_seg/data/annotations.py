"""What can be wrong with the annotation of one object, and its mask as bits.

Annotations are those of Detectron2's data set dicts and of COCO's JSON, which differ only in what
their classes and boxes count from. Looking at an annotation decodes nothing and takes
microseconds, so that whole data sets can be looked at before training.
"""

import logging
import math
import reprlib
from typing import NamedTuple

import numpy as np
import pycocotools.mask as mask_util
from detectron2.structures import BoxMode

from ..errors import InputError

_CLASS_KEY = "MODEL.ROI_HEADS.NUM_CLASSES"


class Problem(NamedTuple):
    """Completes "Annotation 7 of image 3 ..." to two sentences."""

    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.what}. {self.fix}"


class Findings:
    """Problems of the annotations of a whole data set: of each kind the number and the first."""

    def __init__(self, source: str):
        """
        Args:
            source: the data set or its file, for the messages.
        """
        self._source = source
        self._errors: dict[str, list[str]] = {}
        self._warnings: dict[str, list[str]] = {}

    def error(self, name: str, problem: Problem) -> None:
        """Remember what `report` raises; `name` is an `annotation_name`."""
        self._errors.setdefault(problem.fix, []).append(f"{name} {problem}")

    def warn(self, name: str, problem: Problem) -> None:
        """Remember what `report` logs."""
        self._warnings.setdefault(problem.fix, []).append(f"{name} {problem}")

    def report(self) -> None:
        """Logs a warning of each kind and raises the first error."""
        for found in self._warnings.values():
            logging.getLogger(__name__).warning(self._say(found))
        for found in self._errors.values():
            raise InputError(self._say(found))

    def _say(self, found: list[str]) -> str:
        more = f" ({len(found)} annotations of {self._source} are like it.)"
        return found[0] + (more if len(found) > 1 else "")


_BOX = "A box is 4 finite numbers: x, y, width, height in COCO's JSON. Correct the annotation."
_CLASS = (
    f"Correct it, or set {_CLASS_KEY} to the number of classes of the data set; in data set dicts "
    "they count from 0."
)
_NO_MASK = "Annotate its mask, or set MODEL.MASK_ON False to train boxes alone."
_FORMS = (
    "A mask is a list of polygons, a run-length mask (a dict with 'size' and 'counts') or an "
    "H x W array."
)
_POLYGON = (
    "A polygon is a flat list x1, y1, x2, y2, ... of 3 points or more. Correct the polygon or "
    "remove it."
)
_SIZE = (
    "Correct the mask, or the width and height that the data set states for the image; both are "
    "those of the image file."
)
_RUNS = "Write the mask anew, with pycocotools.mask.encode."


def image_name(record: dict) -> str:
    """What a message calls an image, before its `file_name`."""
    return f"image (id {record['image_id']})" if "image_id" in record else "image"


def annotation_name(annotation: dict, number: int, record: dict) -> str:
    """What a message calls the annotation with this number among those of an image.

    Args:
        record: the image's data set dict.
    """
    own = f"id {annotation['id']}" if "id" in annotation else f"number {number} (from 0)"
    return f"Annotation {own} of {image_name(record)} {record['file_name']}"


def annotation_problem(
    annotation: dict, size: tuple[int, int] | None, num_classes: int, mask_on: bool
) -> Problem | None:
    """What is wrong with an annotation of a data set dict.

    Args:
        annotation: with `bbox`, `bbox_mode`, `category_id` and `segmentation`.
        size: height and width of its image in pixels; None where they are not known.
        num_classes: classes are 0..num_classes-1.
        mask_on: whether it needs a mask, and what is wrong with it matters.
    """
    return (
        box_problem(annotation)
        or _class_problem(annotation.get("category_id"), num_classes)
        or (mask_problem(annotation.get("segmentation"), size) if mask_on else None)
    )


def box_problem(annotation: dict) -> Problem | None:
    """What is wrong with its `bbox`."""
    box = annotation.get("bbox")
    if box is None or (_is_sequence(box) and len(box) == 0):
        return Problem("has no 'bbox'", _BOX)
    numbers = 5 if annotation.get("bbox_mode") == BoxMode.XYWHA_ABS else 4
    if not _is_sequence(box) or len(box) != numbers or not _finite(box):
        return Problem(f"has the 'bbox' {reprlib.repr(box)}", _BOX)
    return None


def _class_problem(category, num_classes: int) -> Problem | None:
    if isinstance(category, int | float | np.number) and 0 <= category < num_classes:
        return None
    allowed = f"but classes are 0 to {num_classes - 1} ({_CLASS_KEY} is {num_classes})"
    return Problem(f"has category_id {category}, {allowed}", _CLASS)


def mask_problem(segmentation, size: tuple[int, int] | None) -> Problem | None:
    """What is wrong with a `segmentation`.

    A polygon of no area is right: it covers no pixel.

    Args:
        segmentation: list of polygons, run-length mask (its counts compressed or a list), or
            H x W array; None or empty for no mask.
        size: height and width of the image in pixels; None where they are not known.
    """
    if isinstance(segmentation, np.ndarray):
        return _size_problem("an array", segmentation.shape, size)
    if not segmentation:
        return Problem("has no 'segmentation'", _NO_MASK)
    if isinstance(segmentation, list | tuple):
        return next(filter(None, map(_polygon_problem, segmentation)), None)
    if isinstance(segmentation, dict):
        return _run_length_problem(segmentation, size)
    return Problem(f"has a 'segmentation' of type {type(segmentation).__name__}", _FORMS)


def is_degenerate(polygon) -> bool:
    """Whether a polygon is one that Detectron2's COCO loader leaves out and its LVIS loader
    stops at: of fewer than 3 points, or of an odd number of coordinates.
    """
    return _is_sequence(polygon) and (_count(polygon) < 6 or _count(polygon) % 2 == 1)


def _polygon_problem(polygon) -> Problem | None:
    if not _is_sequence(polygon):
        return Problem(f"has {reprlib.repr(polygon)} where a polygon should be", _POLYGON)
    if is_degenerate(polygon):
        return Problem(f"has a polygon of {_count(polygon)} coordinates", _POLYGON)
    if not _finite(polygon):  # pycocotools fills the memory with a polygon that has NaN
        values = polygon.ravel() if isinstance(polygon, np.ndarray) else polygon
        bad = next((x for x in values if not _finite([x])), values)
        return Problem(f"has a polygon with {reprlib.repr(bad)}, no finite number", _POLYGON)
    return None


def _is_sequence(value) -> bool:
    return isinstance(value, list | tuple | np.ndarray)


def _count(polygon) -> int:
    return polygon.size if isinstance(polygon, np.ndarray) else len(polygon)


def _finite(numbers) -> bool:
    """Whether all are finite numbers: their sum is, which takes a fraction of looking at each."""
    if isinstance(numbers, np.ndarray):
        return bool(np.isfinite(numbers).all())
    try:
        return math.isfinite(sum(numbers))
    except TypeError:
        return False


def _run_length_problem(rle: dict, size: tuple[int, int] | None) -> Problem | None:
    counts = rle.get("counts")
    if not _is_sequence(rle.get("size")) or not isinstance(counts, str | bytes | list):
        return Problem(f"has a run-length mask with {', '.join(map(str, rle))} alone", _FORMS)
    problem = _size_problem("a run-length mask", rle["size"], size)
    if problem is None and isinstance(counts, list):
        pixels = rle["size"][0] * rle["size"][1]
        if not _finite(counts) or sum(counts) != pixels:
            return Problem(f"has run lengths that do not add up to its {pixels} pixels", _RUNS)
    return problem


def _size_problem(what: str, found, size: tuple[int, int] | None) -> Problem | None:
    if len(found) != 2:
        return Problem(f"has {what} of {len(found)} dimensions as its mask", _FORMS)
    if size is None or tuple(found) == tuple(size):
        return None
    return Problem(
        f"has {what} of {found[1]} x {found[0]} (width x height) as its mask, but the image is "
        f"{size[1]} x {size[0]}",
        _SIZE,
    )


def decode_mask(segmentation: dict | np.ndarray) -> np.ndarray:
    """A run-length mask or array as bits.

    Args:
        segmentation: one that `mask_problem` finds nothing wrong with.

    Returns:
        H x W, uint8, 0 and 1.

    Raises:
        ValueError: compressed run lengths that are none.
    """
    if isinstance(segmentation, np.ndarray):
        return (segmentation != 0).astype(np.uint8)
    if isinstance(segmentation["counts"], list):
        segmentation = mask_util.frPyObjects(segmentation, *segmentation["size"])
    return mask_util.decode(segmentation)
