"""Read and validate the annotations of objects.

Annotations are those of Detectron2's data set dicts and of COCO's JSON, which differ only in how
classes are numbered and boxes are given. Validating an annotation decodes no mask and takes
microseconds, so it is done for whole data sets before training.
"""

import math
import reprlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import pycocotools.mask as mask_util
from detectron2.structures import BoxMode

from ..structures.run_lengths import run_lengths_fault
from .problems import Problem

Annotation = dict[str, Any]  # as read: any key may be missing, and any value may be wrong
Record = dict[str, Any]  # of an image, a data set dict of Detectron2
Size = tuple[int, int]  # height, width

_FARTHEST = 10**6  # pixels
_BOX_TOLERANCE = 2.0  # pixels; annotation tools round
_SHOWN = 60  # characters of a value
_SEQUENCES = (list, tuple, np.ndarray)
_POINT = "A point is [x, y], two finite numbers: the column and the row of a pixel from 0."
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
        own_name = f"id {own if isinstance(own, int) else shown(own).strip(chr(39))}"
        if own is None:
            own_name = f"number {self.number} (from 0)"
        return f"Annotation {own_name} of {image_name(self.record)} {self.record['file_name']}"

    @property
    def is_crowd(self) -> bool:
        """Return whether it is a region of many objects, which is not trained on."""
        return bool(self.annotation.get("iscrowd", 0))

    @property
    def is_used(self) -> bool:
        """Return whether nothing prevents its use for training or evaluation."""
        return not any(problem.leaves_out for problem in self.problems)


def checked_annotations(
    record: Record,
    num_classes: int | None,
    *,
    masks: bool,
    points: bool = False,
    is_train: bool,
) -> Iterator[CheckedAnnotation]:
    """Yield the annotations of a data set dict with their problems.

    Args:
        record: `annotations` have `bbox`, `bbox_mode`, `category_id` and `segmentation`. Sizes of
            masks are compared with `height` and `width`, if it has them.
        num_classes: classes are 0..num_classes-1; None allows any.
        masks: whether every object needs a valid mask.
        points: whether every object needs labelled points.
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
            if points and not annotation.get("iscrowd", 0):
                found.append(points_problem(annotation, size))
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


def has_points(annotation: Annotation) -> bool:
    """Return whether an annotation has labelled points; other tools' `point_coords` have none."""
    return annotation.get("point_labels") is not None


def points_problem(annotation: Annotation, size: Size | None) -> Problem | None:
    """Find what is wrong with the labelled points of an annotation.

    Its `point_coords` are P pairs x, y in pixels, counted from 0 at the centre of the first pixel,
    so that a pixel of the image is a pair of whole numbers; its `point_labels` are P numbers, 1 on
    the object and 0 elsewhere.

    Args:
        size: height and width of the image in pixels; None if they are not known.
    """
    coords: Any = annotation.get("point_coords")
    labels: Any = annotation.get("point_labels")
    for key, values in (("point_coords", coords), ("point_labels", labels)):
        if values is None:
            return Problem("no-points", f"has no {key!r}")
        if not _is_sequence(values):
            return Problem("bad-points", f"has the {key} {shown(values)}, not a list")
    if len(coords) != len(labels):
        found = f"has {len(coords)} point_coords, but {len(labels)} point_labels"
        return Problem("bad-points", found)
    if len(coords) == 0:
        return Problem("no-points", "has empty lists of points")
    for point in coords:
        if not (_is_sequence(point) and len(point) == 2 and all_finite(point)):
            return Problem("bad-points", f"has the point {shown(point)}", _POINT)
    for label in labels:
        if not isinstance(label, int | float | np.number | np.bool_) or label not in (0, 1):
            found = f"has the point label {shown(label)}; it must be 0 or 1"
            return Problem("bad-points", found)
    if size is not None:
        height, width = size
        for x, y in coords:
            if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
                found = f"has the point {x:g}, {y:g}, which lies outside of the {width} x {height}"
                return Problem("bad-points", f"{found} image")
    return None


def all_points_problem(objects: Iterable[tuple[Annotation, Size | None]]) -> Problem | None:
    """Find out whether the points of a whole data set are normalised, or have all the same label.

    Args:
        objects: annotations, each with the size of its image. Those with invalid points or without
            any are passed over; the others are looked at until nothing can be wrong.
    """
    fractions, labels, any_points = True, set(), False
    for annotation, size in objects:
        if not has_points(annotation) or points_problem(annotation, size):
            continue
        any_points = True
        points = np.asarray(annotation["point_coords"], float)
        labels |= {int(label) for label in annotation["point_labels"]}
        fractions &= (size is None or max(size) > 2) and bool(
            points.min() >= 0 and points.max() <= 1
        )
        if not fractions and len(labels) == 2:
            return None
    if any_points and fractions:
        return _normalised("points")._replace(kind="bad-points")
    if len(labels) == 1:
        return Problem("one-label", f"all of its point_labels are {labels.pop()}")
    return None


def coordinates_problem(objects: Iterable[tuple[Any, Any, Size | None]]) -> Problem | None:
    """Find out whether boxes or polygons of a whole data set are not in COCO's coordinates.

    Normalised coordinates lie between 0 and 1 throughout. Boxes are x0, y0, x1, y1 if they agree
    with the masks only so, or, without masks, if most of them reach beyond their image otherwise.
    Objects are looked at until one shows that nothing is wrong, which mostly is the first.

    Args:
        objects: the box (x, y, width, height), the segmentation and the size of the image of each;
            boxes and masks are invalid, missing or sound.
    """
    seen = _Coordinates()
    for box, segmentation, size in objects:
        if not seen.look(box, segmentation, size):
            return None
    return seen.problem()


class _Coordinates:
    """What all boxes and polygons of a data set that were looked at have in common."""

    def __init__(self) -> None:
        self._boxes = self._polygons = 0
        self._empty = self._box_fractions = self._polygon_fractions = self._corners = True
        self._without_mask = self._beyond = self._as_corners = self._as_neither = 0

    def look(self, box: Any, segmentation: Any, size: Size | None) -> bool:
        """Look at an object; return whether there is anything left to find out."""
        is_box = _is_sequence(box) and len(box) == 4 and all_finite(box)
        large = size is None or max(size) > 2
        polygons = segmentation if isinstance(segmentation, list | tuple) else []
        polygons = [p for p in polygons if _is_sequence(p) and len(p) >= 6 and all_finite(p)]
        if is_box:
            self._boxes += 1
            self._empty &= box[2] <= 0 or box[3] <= 0
            self._box_fractions &= large and min(box) >= 0 and max(box) <= 1
            self._corners &= box[2] > box[0] and box[3] > box[1]
        if polygons:
            self._polygons += 1
            flat = [min(map(min, polygons)), max(map(max, polygons))]
            self._polygon_fractions &= large and flat[0] >= 0 and flat[1] <= 1
        if is_box and self._corners:
            self._compare(box, segmentation, polygons, size)
        return any((self._empty, self._box_fractions, self._polygon_fractions, self._corners))

    def _compare(self, box: Any, segmentation: Any, polygons: list, size: Size | None) -> None:
        """Look whether a box may be x0, y0, x1, y1."""
        as_size = box[0], box[1], box[0] + box[2], box[1] + box[3]
        bounds = _mask_bounds(segmentation, polygons)
        if bounds is not None:
            corners, sized = (np.abs(np.subtract(b, bounds)).max() for b in (box, as_size))
            self._as_corners += bool(corners <= _BOX_TOLERANCE < sized)
            self._as_neither += bool(corners > _BOX_TOLERANCE)
            self._corners &= not (sized <= _BOX_TOLERANCE < corners)
        elif size:
            inside = min(box[:2]) >= 0 and box[2] <= size[1] + 1 and box[3] <= size[0] + 1
            self._corners &= bool(inside)
            self._without_mask += 1
            self._beyond += as_size[2] > size[1] + 1 or as_size[3] > size[0] + 1

    def problem(self) -> Problem | None:
        """Return what is wrong with all of them."""
        if self._boxes and self._box_fractions and not self._empty:
            return _normalised("boxes")
        if self._polygons and self._polygon_fractions:
            return _normalised("polygons")
        if self._boxes and self._empty:
            return Problem(
                "not-pixels",
                "all of its boxes have a width or height of 0 (normalised coordinates that became "
                "whole numbers, or boxes that were not exported?)",
                "COCO's boxes are x, y, width, height in pixels.",
            )
        by_masks = self._as_corners > 10 * self._as_neither
        by_edges = self._boxes == self._without_mask > 2 and 2 * self._beyond > self._boxes
        if self._boxes and self._corners and (by_masks or by_edges):
            return Problem(
                "not-pixels",
                "its boxes are x0, y0, x1, y1",
                "COCO's are x, y, width, height: write x1 - x0 and y1 - y0 for the last two.",
            )
        return None


def _mask_bounds(segmentation: Any, polygons: list) -> np.ndarray | None:
    """Return x0, y0, x1, y1 of a mask, None without one."""
    if polygons:
        flat = np.concatenate([np.asarray(p, float).ravel()[: len(p) // 2 * 2] for p in polygons])
        points = flat.reshape(-1, 2)
        return np.concatenate([points.min(0), points.max(0)])
    if isinstance(segmentation, dict) and _run_length_problem(segmentation, None) is None:
        if isinstance(segmentation["counts"], list):
            segmentation = mask_util.frPyObjects(segmentation, *segmentation["size"])
        x0, y0, width, height = mask_util.toBbox(segmentation)
        return np.array([x0, y0, x0 + width, y0 + height])
    return None


def _normalised(what: str) -> Problem:
    return Problem(
        "not-pixels",
        f"all coordinates of its {what} are between 0 and 1: they seem to be normalised",
        "COCO's are pixels: multiply x by the width of the image and y by its height.",
    )


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
        segmentation: of a file or a data set dict; run lengths are summed before they are decoded.

    Returns:
        H x W, uint8, 0 and 1.

    Raises:
        ValueError: the run lengths are invalid, or do not add up to the size. The message completes
            "Annotation 7 ...".
    """
    if isinstance(segmentation, np.ndarray):
        return (segmentation != 0).astype(np.uint8)
    problem = _run_length_problem(segmentation, None)
    if problem:
        raise ValueError(str(problem))
    if isinstance(segmentation["counts"], list):
        segmentation = mask_util.frPyObjects(segmentation, *segmentation["size"])
    return mask_util.decode(segmentation)


def shown(value: Any) -> str:
    """Return a value of a file as messages show it: cut, without control characters."""
    if isinstance(value, list | tuple | dict):
        value = reprlib.repr(value)
        text = value if value.isprintable() and value.isascii() else ascii(value)
    else:
        text = ascii(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."


def unseen_problem(box: Any, segmentation: Any, size: Size | None) -> Problem | None:
    """Find why an object covers no part of its image: it is left out of training and evaluation.

    Args:
        box: x, y, width, height in pixels, in which `box_problem` finds nothing wrong.
        segmentation: in which `mask_problem` finds nothing wrong; or None.
        size: height and width of the image in pixels; None if they are not known.
    """
    x, y, width, height = box
    if width <= 0 or height <= 0:
        return Problem("empty-box", f"has a box of {width:g} x {height:g} pixels", stops=False)
    if size is None:
        return None
    if x >= size[1] or y >= size[0] or x + width <= 0 or y + height <= 0:
        found = f"has the box {shown(box)}, which lies outside of the {size[1]} x {size[0]} image"
        return Problem("outside-image", found, stops=False)
    is_list = isinstance(segmentation, list) and len(segmentation) > 0
    if is_list and all(_is_outside(each, size) for each in segmentation):
        found = f"has a mask that lies outside of the {size[1]} x {size[0]} image"
        return Problem("outside-image", found, stops=False)
    return None


def _is_outside(polygon: Any, size: Size) -> bool:
    if 0 < polygon[0] < size[1] and 0 < polygon[1] < size[0]:  # nearly always
        return False
    xs, ys = polygon[::2], polygon[1::2]
    return min(xs) >= size[1] or min(ys) >= size[0] or max(xs) <= 0 or max(ys) <= 0


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
        return math.isfinite(sum(numbers)) and bool not in map(type, numbers)
    except (TypeError, OverflowError):
        return False


def _run_length_problem(rle: dict, size: Size | None) -> Problem | None:
    counts: Any = rle.get("counts")
    for key, value, is_good in (
        ("size", rle.get("size"), _is_sequence(rle.get("size"))),
        ("counts", counts, isinstance(counts, str | bytes | list)),
    ):
        if not is_good:
            found = f"the {key} {shown(value)}" if key in rle else f"no {key!r}"
            return _bad_mask(f"has a run-length mask with {found}", _FORMS)
    if len(rle["size"]) == 2 and not all(_is_whole(side, 1, _FARTHEST) for side in rle["size"]):
        found = f"has a run-length mask of the size {reprlib.repr(rle['size'])}"
        return _bad_mask(found, "A size is [height, width] in pixels. " + _RUNS)
    problem = _size_problem("a run-length mask", rle["size"], size)
    if problem:
        return problem
    pixels = rle["size"][0] * rle["size"][1]
    if not isinstance(counts, list):
        fault = run_lengths_fault(counts, pixels)
    elif not all(_is_whole(run, 0) for run in counts):
        fault = "are not whole numbers from 0"
    else:
        total = sum(counts)
        fault = f"do not add up to its {pixels} pixels, but to {total}" if total != pixels else ""
    return _bad_mask(f"has run lengths that {fault}", _RUNS) if fault else None


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
