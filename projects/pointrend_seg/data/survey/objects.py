"""Data sets of objects: COCO's JSON, and Detectron2's dicts brought into its form."""

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import pycocotools.mask as mask_util
from detectron2.structures import BoxMode

from ..annotations import box_problem, decode_mask, is_degenerate, mask_problem
from .images import Seen, look_at_image

_LEAST_IOU, _TOLERANCE = 0.8, 2.0
_OUTSIDE = 1.0  # pixels; annotation tools round


@dataclass(frozen=True)
class ImageOfObjects:
    """An image with its annotations, whose ``category`` is the number of a class or None."""

    path: str
    size: tuple[int, int] | None
    annotations: list[dict]
    masks: bool


def check_entries(content: dict, add) -> tuple[dict, dict[int, list[dict]], dict]:
    """What can be seen in a JSON alone.

    Args:
        content: its dict; lists may be missing.
        add: takes the kind of a fault and where it is.

    Returns:
        images by id, their annotations by id of the image, names of categories by id.
    """
    images = _by_id("image", content.get("images"), add)
    categories = _by_id("category", content.get("categories"), add)
    names = {}
    for number in sorted(categories, key=str):
        name = categories[number].get("name")
        if not name:
            add("unnamed-class", f"category {number}")
        names[number] = str(name or f"category {number}")
    for name, count in Counter(names.values()).items():
        if count > 1:
            add("same-name", name)
    annotations = defaultdict(list)
    for number, each in _by_id("annotation", content.get("annotations"), add).items():
        where = f"annotation {number} of image {each.get('image_id')}"
        if each.get("category_id") not in names:
            add("unknown-class", f"{where}: category {each.get('category_id')}")
        if each.get("image_id") in images:
            annotations[each["image_id"]].append(each)
        else:
            add("unknown-image", where)
    return images, annotations, names


def _by_id(what: str, entries, add) -> dict:
    found = {}
    for number, entry in enumerate(entries if isinstance(entries, list) else ()):
        if not isinstance(entry, dict) or "id" not in entry:
            add("duplicate-id", f"{what} number {number} (from 0) has no id")
        elif entry["id"] in found:
            add("duplicate-id", f"{what} {entry['id']}")
        else:
            found[entry["id"]] = entry
    return found


def look_at_objects(job: ImageOfObjects) -> Seen:
    """Decode the image and every mask; counts are of objects of each class, crowds left out."""
    seen = Seen()
    size = look_at_image(job.path, job.size, seen) or job.size
    for number, each in enumerate(job.annotations):
        where = f"{job.path}, annotation {each.get('id', f'number {number} (from 0)')}"
        for kind, what in _faults(each, job.size or size, job.masks):
            seen.faults.append((kind, f"{where}: {what}" if what else where))
        if each["category"] is not None and not each.get("iscrowd"):
            seen.counts[each["category"]] = seen.counts.get(each["category"], 0) + 1
    if not job.annotations:
        seen.faults.append(("no-objects", job.path))
    return seen


def _faults(annotation: dict, size: tuple[int, int] | None, masks: bool):
    problem = box_problem(annotation)
    if problem:
        yield "bad-box", problem.what
        return
    if annotation.get("bbox_mode") == BoxMode.XYWHA_ABS:
        return
    mode = annotation.get("bbox_mode", BoxMode.XYWH_ABS)
    x0, y0, x1, y1 = BoxMode.convert(list(map(float, annotation["bbox"])), mode, BoxMode.XYXY_ABS)
    if x1 <= x0 or y1 <= y0:
        yield "empty-box", f"{x1 - x0:g} x {y1 - y0:g}"
        return
    if size and (min(x0, y0) < -_OUTSIDE or x1 > size[1] + _OUTSIDE or y1 > size[0] + _OUTSIDE):
        yield "box-outside", f"{x0:g}, {y0:g} to {x1:g}, {y1:g} in {size[1]} x {size[0]}"
    if masks:
        yield from _mask_faults(annotation, size, (x0, y0, x1, y1))


def _mask_faults(annotation: dict, size, box):
    segmentation = annotation.get("segmentation")
    if segmentation is None or (not isinstance(segmentation, np.ndarray) and not segmentation):
        yield "no-mask", ""
        return
    problem = mask_problem(segmentation, size)
    if problem:
        yield "bad-mask", problem.what
        return
    if isinstance(segmentation, list):
        segmentation = [each for each in segmentation if not is_degenerate(each)]
        bounds = _polygon_bounds(segmentation)
        if size and not _covers_a_pixel(segmentation, size):
            yield "empty-mask", ""
            return
    else:
        try:
            mask = decode_mask(segmentation)
        except ValueError as error:
            yield "bad-mask", str(error)
            return
        if not mask.any():
            yield "empty-mask", ""
            return
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        bounds = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    if not annotation.get("iscrowd") and _disagree(box, bounds):
        shown = ", ".join(f"{value:g}" for value in bounds)
        yield "box-and-mask", f"box {', '.join(f'{value:g}' for value in box)}, mask {shown}"


def _polygon_bounds(polygons: list) -> tuple[float, ...]:
    points = np.concatenate([np.asarray(each, float).reshape(-1, 2) for each in polygons])
    return *points.min(0), *points.max(0)


def _covers_a_pixel(polygons: list, size: tuple[int, int]) -> bool:
    flat = [np.asarray(each, float).ravel().tolist() for each in polygons]
    return bool(mask_util.area(mask_util.frPyObjects(flat, *size)).sum())


def _disagree(box, bounds) -> bool:
    box, bounds = np.asarray(box, float), np.asarray(bounds, float)
    overlap = np.minimum(box[2:], bounds[2:]) - np.maximum(box[:2], bounds[:2])
    overlap = overlap.clip(min=0).prod()
    union = (box[2:] - box[:2]).prod() + (bounds[2:] - bounds[:2]).prod() - overlap
    return overlap < _LEAST_IOU * union and np.abs(box - bounds).max() >= _TOLERANCE
