"""Survey images with objects: decode the image and every mask, and compare masks with boxes."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pycocotools.mask as mask_util
from detectron2.structures import BoxMode

from ..annotations import (
    Annotation,
    CheckedAnnotation,
    Record,
    Size,
    box_problem,
    decode_mask,
    has_points,
    is_degenerate,
    mask_problem,
    stated_size,
)
from ..images.reader import ImageReader
from ..problems import LEFT_OUT
from .images import ImageSurvey, survey_image

_LEAST_IOU, _TOLERANCE = 0.8, 2.0
_OUTSIDE = 1.0  # pixels; annotation tools round
# What is known before decoding, and leaves nothing to compare.
_INVALID = {"bad-box", "no-mask", "bad-mask", "no-polygon", "empty-box", "outside-image"}
_OF_POINTS = {"no-points", "bad-points", "unused-points"}
_NOT_COUNTED = {"unknown-class", *LEFT_OUT}

Box = tuple[float, float, float, float]  # x0, y0, x1, y1


class InstanceImage(NamedTuple):
    """An image with all of its annotations.

    Attributes:
        record: its data set dict.
        annotations: with the problems that reading them found.
    """

    record: Record
    annotations: list[CheckedAnnotation]

    @property
    def image(self) -> str:
        """Return the path of the image."""
        return self.record["file_name"]


def survey_instance_image(
    job: InstanceImage, *, class_numbers: Mapping[Any, int], masks: bool, reader: ImageReader
) -> ImageSurvey:
    """Decode an image and the masks of its objects, and compare masks with boxes.

    Args:
        class_numbers: by `category_id`.
        masks: whether the objects have masks.
        reader: reads images as training does.

    Returns:
        problems, and counts and areas: the objects of each class without crowds.
    """
    areas: list[tuple[int, float]] = []
    found = ImageSurvey(areas=areas)
    stated = stated_size(job.record)
    decoded = survey_image(job.image, stated, found, reader)
    for each in job.annotations:
        problems = [(problem.kind, problem.found) for problem in each.problems]
        kinds = {kind for kind, _ in problems}
        if not kinds & _INVALID:
            problems += _problems(each.annotation, stated, decoded, masks)
        if has_points(each.annotation) and not (each.is_crowd or kinds & {*_INVALID, *_OF_POINTS}):
            problems += _point_problems(each.annotation)
        found.problems += [
            (kind, f"{each.name}: {what}" if what else each.name) for kind, what in problems
        ]
        if not (each.is_crowd or kinds & _NOT_COUNTED):
            number = class_numbers.get(each.annotation.get("category_id"))
            if number is not None:
                found.counts[number] = found.counts.get(number, 0) + 1
                if has_points(each.annotation) and not kinds & _OF_POINTS:
                    labels = each.annotation["point_labels"]
                    found.points.append((len(labels), int(sum(labels))))
                areas.append((number, _area(each.annotation)))
    if not job.annotations:
        found.problems.append(("no-objects", job.image))
    return found


def _area(annotation: Annotation) -> float:
    """Return the area that evaluation sorts an object by: the stated one, or that of its box."""
    area = annotation.get("area")
    if isinstance(area, int | float) and 0 < area < math.inf:
        return area
    box, mode = annotation.get("bbox"), annotation.get("bbox_mode", BoxMode.XYWH_ABS)
    if mode not in (BoxMode.XYWH_ABS, BoxMode.XYXY_ABS) or box_problem(annotation):
        return 0
    x, y, width, height = BoxMode.convert(list(map(float, box or ())), mode, BoxMode.XYWH_ABS)
    return width * height


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


def _point_problems(annotation: Annotation) -> Iterator[tuple[str, str]]:
    mode = annotation.get("bbox_mode", BoxMode.XYWH_ABS)
    if mode != BoxMode.XYWHA_ABS:
        box = BoxMode.convert(list(map(float, annotation["bbox"])), mode, BoxMode.XYXY_ABS)
        low, high = np.array(box[:2]) - _OUTSIDE, np.array(box[2:]) + _OUTSIDE
        centres = np.array(annotation["point_coords"], float) + 0.5
        outside = ((centres < low) | (centres > high)).any(1)
        if outside.any():
            x, y = annotation["point_coords"][outside.argmax()]
            shown = ", ".join(f"{value:g}" for value in box)
            yield "point-outside-box", f"{x:g}, {y:g} in the box {shown}"
    if not any(annotation["point_labels"]):
        yield "no-point-on-object", ""


def _mask_problems(
    annotation: Annotation, size: Size | None, box: Box
) -> Iterator[tuple[str, str]]:
    segmentation = annotation["segmentation"]
    try:
        bounds = (
            _polygon_bounds([each for each in segmentation if not is_degenerate(each)], size)
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
    if size:
        rles = mask_util.frPyObjects([polygon.tolist() for polygon in flat], *size)
        # one at a time: pycocotools fails on a list of more than 255 with NumPy 2
        if not any(mask_util.area(rle) for rle in rles):
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
