"""Survey images with objects: decode the image and every mask, and compare masks with boxes."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pycocotools.mask as mask_util
from detectron2.structures import BoxMode

from ..annotations import (
    Annotation,
    CheckedAnnotation,
    Record,
    Size,
    decode_mask,
    mask_problem,
    stated_size,
)
from .images import Seen, look_at_image

_LEAST_IOU, _TOLERANCE = 0.8, 2.0
_OUTSIDE = 1.0  # pixels; annotation tools round
_INVALID = {"bad-box", "no-mask", "bad-mask"}

Box = tuple[float, float, float, float]  # x0, y0, x1, y1


class SurveyedObject(NamedTuple):
    """An annotation of a surveyed image.

    Attributes:
        name: what reports call it.
        annotation: as read.
        class_number: None if its class is unknown.
        valid: whether its box and mask are, as far as can be told without decoding the mask.
    """

    name: str
    annotation: Annotation
    class_number: int | None
    valid: bool


@dataclass(frozen=True)
class ImageOfObjects:
    """An image with its objects.

    Attributes:
        image: its path.
        size: height and width that the data set states, or None.
        objects: all of them.
        problems: kind and place of what was found when the annotations were read.
    """

    image: str
    size: Size | None
    objects: list[SurveyedObject]
    problems: list[tuple[str, str]]


def collect_objects(
    record: Record, annotations: Iterable[CheckedAnnotation], class_numbers: Mapping[Any, int]
) -> ImageOfObjects:
    """Collect the annotations of an image.

    Args:
        record: with `file_name`, and `height` and `width` if they are stated.
        annotations: of the image.
        class_numbers: by `category_id`.
    """
    job = ImageOfObjects(record["file_name"], stated_size(record), [], [])
    for each in annotations:
        kinds = {problem.kind for problem in each.problems}
        known = "unknown-class" not in kinds
        class_number = class_numbers.get(each.annotation.get("category_id")) if known else None
        valid = not kinds & _INVALID
        job.objects.append(SurveyedObject(each.name, each.annotation, class_number, valid))
        job.problems.extend(
            (problem.kind, f"{each.name} {problem.found}") for problem in each.problems
        )
    return job


def look_at_objects(job: ImageOfObjects, *, masks: bool) -> Seen:
    """Decode the image and every mask.

    Args:
        masks: whether the objects have masks.

    Returns:
        problems, and counts: the objects of each class without crowds.
    """
    seen = Seen(problems=list(job.problems))
    size = look_at_image(job.image, job.size, seen)
    for each in job.objects:
        if each.valid:
            seen.problems += [
                (kind, f"{each.name}: {what}" if what else each.name)
                for kind, what in _problems(each.annotation, job.size, size, masks)
            ]
        if each.class_number is not None and not each.annotation.get("iscrowd"):
            seen.counts[each.class_number] = seen.counts.get(each.class_number, 0) + 1
    if not job.objects:
        seen.problems.append(("no-objects", job.image))
    return seen


def _problems(
    annotation: Annotation, stated: Size | None, decoded: Size | None, masks: bool
) -> Iterator[tuple[str, str]]:
    if annotation.get("bbox_mode") == BoxMode.XYWHA_ABS:
        return
    size = stated or decoded
    mode = annotation.get("bbox_mode", BoxMode.XYWH_ABS)
    x0, y0, x1, y1 = BoxMode.convert(list(map(float, annotation["bbox"])), mode, BoxMode.XYXY_ABS)
    if x1 <= x0 or y1 <= y0:
        yield "empty-box", f"{x1 - x0:g} x {y1 - y0:g}"
        return
    if size and (min(x0, y0) < -_OUTSIDE or x1 > size[1] + _OUTSIDE or y1 > size[0] + _OUTSIDE):
        yield "box-outside", f"{x0:g}, {y0:g} to {x1:g}, {y1:g} in {size[1]} x {size[0]}"
    if masks:
        problem = mask_problem(annotation["segmentation"], size) if stated is None else None
        if problem:
            yield problem.kind, problem.found
        else:
            yield from _mask_problems(annotation, size, (x0, y0, x1, y1))


def _mask_problems(
    annotation: Annotation, size: Size | None, box: Box
) -> Iterator[tuple[str, str]]:
    segmentation = annotation["segmentation"]
    try:
        bounds = (
            _polygon_bounds(segmentation, size)
            if isinstance(segmentation, list | tuple)
            else _mask_bounds(decode_mask(segmentation))
        )
    except ValueError as error:
        yield "bad-mask", str(error)
        return
    if bounds is None:
        yield "empty-mask", ""
    elif not annotation.get("iscrowd") and _disagree(box, bounds):
        shown = ", ".join(f"{value:g}" for value in bounds)
        yield "box-and-mask", f"box {', '.join(f'{value:g}' for value in box)}, mask {shown}"


def _polygon_bounds(polygons: Iterable, size: Size | None) -> Box | None:
    """Return the box around polygons, None if they cover no pixel of an image of that size."""
    flat = [np.asarray(polygon, float).ravel() for polygon in polygons]
    if (
        size
        and not mask_util.area(
            mask_util.frPyObjects([polygon.tolist() for polygon in flat], *size)
        ).any()
    ):
        return None
    points = np.concatenate(flat).reshape(-1, 2)
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    return x0, y0, x1, y1


def _mask_bounds(mask: np.ndarray) -> Box | None:
    """Return the box around the pixels of a mask, None if it has none."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if len(rows) else None


def _disagree(first: Box, second: Box) -> bool:
    a, b = np.asarray(first, float), np.asarray(second, float)
    overlap = (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(min=0).prod()
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - overlap
    return bool(overlap < _LEAST_IOU * union and np.abs(a - b).max() >= _TOLERANCE)
