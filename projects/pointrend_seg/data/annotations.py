"""Read and validate the annotations of objects.

Annotations are those of Detectron2's data set dicts and of COCO's JSON, which differ only in how
classes are numbered and boxes are given. Validating an annotation decodes no mask and takes
microseconds, so it is done for whole data sets before training.
"""

import math
import reprlib
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import pycocotools.mask as mask_util
from detectron2.structures import BoxMode

from .problems import Problem

Annotation = dict[str, Any]  # as read: any key may be missing, and any value may be wrong
Record = dict[str, Any]  # of an image, a data set dict of Detectron2
Size = tuple[int, int]  # height, width

_FARTHEST = 10**6  # pixels
_SEQUENCES = (list, tuple, np.ndarray)
_CLASS_KEY = "MODEL.ROI_HEADS.NUM_CLASSES"
_CLASS = (
    f"Correct it, or set {_CLASS_KEY} to the number of classes of the data set; in data set dicts "
    "they count from 0."
)
_FORMS = (
    "A mask is a list of polygons, a run-length mask (a dict with 'size' and 'counts') or an "
    "H x W array."
)
_POLYGON = (
    "A polygon is a flat list x1, y1, x2, y2, ... of 3 points or more. Correct the polygon or "
    "remove it."
)
_SIZE = (
    "Correct the mask, or the width and height that the data set states for the image; both must "
    "match the image file."
)
_RUNS = "Write the mask again, with pycocotools.mask.encode."


class CheckedAnnotation(NamedTuple):
    """An annotation and its problems.

    Attributes:
        annotation: as read.
        number: its place, from 0, among the annotations of its image or file.
        record: the data set dict of its image.
        problems: empty if it can be used.
    """

    annotation: Annotation
    number: int
    record: Record
    problems: list[Problem]

    @property
    def name(self) -> str:
        """Return what messages call it, such as "Annotation id 3 of image (id 7) 7.png"."""
        own = self.annotation.get("id")
        own_name = f"number {self.number} (from 0)" if own is None else f"id {own}"
        return f"Annotation {own_name} of {image_name(self.record)} {self.record['file_name']}"

    @property
    def is_crowd(self) -> bool:
        """Return whether it is a region of many objects, which is not trained on."""
        return bool(self.annotation.get("iscrowd", 0))


def checked_annotations(
    record: Record, num_classes: int | None, *, masks: bool, is_train: bool
) -> Iterator[CheckedAnnotation]:
    """Yield the annotations of a data set dict with their problems.

    Args:
        record: `annotations` have `bbox`, `bbox_mode`, `category_id` and `segmentation`. Sizes of
            masks are compared with `height` and `width`, if it has them.
        num_classes: classes are 0..num_classes-1; None allows any.
        masks: whether every object needs a valid mask.
        is_train: leave out crowds, which are not trained on.
    """
    size = stated_size(record)
    for number, annotation in enumerate(record.get("annotations", ())):
        if not (is_train and annotation.get("iscrowd", 0)):
            found = [box_problem(annotation)]
            if num_classes is not None:
                found.append(class_problem(annotation, num_classes))
            if masks:
                found.append(mask_problem(annotation.get("segmentation"), size))
            yield CheckedAnnotation(annotation, number, record, [each for each in found if each])


def stated_size(record: Record) -> Size | None:
    """Return the height and width that a data set gives for an image, or None."""
    height, width = record.get("height"), record.get("width")
    return (height, width) if height and width else None


def image_name(record: Record) -> str:
    """Return what messages call an image, to be followed by its `file_name`."""
    return f"image (id {record['image_id']})" if "image_id" in record else "image"


def box_problem(annotation: Annotation) -> Problem | None:
    """Find what is wrong with the `bbox` of an annotation: 4 finite numbers, 5 of rotated boxes."""
    box = annotation.get("bbox")
    numbers = 5 if annotation.get("bbox_mode") == BoxMode.XYWHA_ABS else 4
    if _is_sequence(box) and len(box) == numbers and all_finite(box):
        return None
    if box is None or (_is_sequence(box) and len(box) == 0):
        return Problem("bad-box", "has no 'bbox'")
    return Problem("bad-box", f"has the 'bbox' {reprlib.repr(box)}")


def class_problem(annotation: Annotation, num_classes: int) -> Problem | None:
    """Find what is wrong with the `category_id` of an annotation: one of 0..num_classes-1."""
    category = annotation.get("category_id")
    if isinstance(category, int | float | np.number) and 0 <= category < num_classes:
        return None
    allowed = f"but classes are 0 to {num_classes - 1} ({_CLASS_KEY} is {num_classes})"
    return Problem("unknown-class", f"has category_id {category}, {allowed}", _CLASS)


def mask_problem(segmentation: Any, size: Size | None) -> Problem | None:
    """Find what is wrong with a `segmentation`.

    A polygon without an area is valid: it covers no pixel.

    Args:
        segmentation: list of polygons, run-length mask (its counts compressed or a list), or
            H x W array; None or empty for no mask.
        size: height and width of the image in pixels; None if they are not known.
    """
    if isinstance(segmentation, np.ndarray):
        return _size_problem("an array", segmentation.shape, size)
    if not segmentation:
        return Problem("no-mask", "has no 'segmentation'")
    if isinstance(segmentation, list | tuple):
        return next(filter(None, map(_polygon_problem, segmentation)), None)
    if isinstance(segmentation, dict):
        return _run_length_problem(segmentation, size)
    return _bad_mask(f"has a 'segmentation' of type {type(segmentation).__name__}", _FORMS)


def is_degenerate(polygon: Any) -> bool:
    """Return whether a polygon has fewer than 3 points or an odd number of coordinates.

    Detectron2's COCO loader leaves such polygons out, and its LVIS loader stops at them.
    """
    if not _is_sequence(polygon):
        return False
    count = _count(polygon)
    return count < 6 or count % 2 == 1


def decode_mask(segmentation: dict | np.ndarray) -> np.ndarray:
    """Decode a run-length mask, or an array of any type.

    Args:
        segmentation: one in which `mask_problem` finds nothing wrong.

    Returns:
        H x W, uint8, 0 and 1.

    Raises:
        ValueError: compressed run lengths are invalid. The message completes "Annotation 7 ...".
    """
    if isinstance(segmentation, np.ndarray):
        return (segmentation != 0).astype(np.uint8)
    try:
        if isinstance(segmentation["counts"], list):
            segmentation = mask_util.frPyObjects(segmentation, *segmentation["size"])
        return mask_util.decode(segmentation)
    except ValueError as error:
        found = f"has a run-length mask that cannot be decoded: {error}"
        raise ValueError(str(_bad_mask(found, _RUNS))) from error


def _bad_mask(found: str, fix: str) -> Problem:
    return Problem("bad-mask", found, fix)


def _polygon_problem(polygon: Any) -> Problem | None:
    if not _is_sequence(polygon):
        return _bad_mask(f"has {reprlib.repr(polygon)} where a polygon should be", _POLYGON)
    if is_degenerate(polygon):
        return _bad_mask(f"has a polygon of {_count(polygon)} coordinates", _POLYGON)
    values = polygon.ravel() if isinstance(polygon, np.ndarray) else polygon
    if not all_finite(polygon):  # pycocotools fills the memory with a polygon that has NaN
        bad = next((x for x in values if not all_finite([x])), values)
        return _bad_mask(f"has a polygon with {reprlib.repr(bad)}, not a finite number", _POLYGON)
    if max(-min(values), max(values)) > _FARTHEST:  # which takes all memory, too
        return _bad_mask(f"has a polygon that reaches {_FARTHEST} pixels and more away", _POLYGON)
    return None


def _is_sequence(value: Any) -> TypeGuard[list | tuple | np.ndarray]:
    return isinstance(value, _SEQUENCES)


def _count(polygon: Any) -> int:
    return polygon.size if isinstance(polygon, np.ndarray) else len(polygon)


def all_finite(numbers: Any) -> bool:
    """Return whether numbers are all finite; their sum tells, in a fraction of the time."""
    if isinstance(numbers, np.ndarray):
        return bool(np.isfinite(numbers).all())
    try:
        return math.isfinite(sum(numbers))
    except (TypeError, OverflowError):
        return False


def _run_length_problem(rle: dict, size: Size | None) -> Problem | None:
    counts = rle.get("counts")
    if not _is_sequence(rle.get("size")) or not isinstance(counts, str | bytes | list):
        return _bad_mask(f"has a run-length mask with {', '.join(map(str, rle))} alone", _FORMS)
    if len(rle["size"]) == 2 and not all(_is_whole(side, 1, _FARTHEST) for side in rle["size"]):
        found = f"has a run-length mask of the size {reprlib.repr(rle['size'])}"
        return _bad_mask(found, "A size is [height, width] in pixels. " + _RUNS)
    problem = _size_problem("a run-length mask", rle["size"], size)
    if problem is None and isinstance(counts, list):
        pixels = rle["size"][0] * rle["size"][1]
        if not all(_is_whole(run, 0) for run in counts) or sum(counts) != pixels:
            return _bad_mask(f"has run lengths that do not add up to its {pixels} pixels", _RUNS)
    return problem


def _is_whole(value: Any, least: int, most: float = math.inf) -> bool:
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return bool(is_whole and least <= value <= most)


def _size_problem(what: str, found: Any, size: Size | None) -> Problem | None:
    if len(found) != 2:
        return _bad_mask(f"has {what} of {len(found)} dimensions as its mask", _FORMS)
    if size is None or tuple(found) == tuple(size):
        return None
    return _bad_mask(
        f"has {what} of {found[1]} x {found[0]} (width x height) as its mask, but the image is "
        f"{size[1]} x {size[0]}",
        _SIZE,
    )
