"""Annotate synthetic scenes in COCO's panoptic format.

Every pixel of a PNG has the id of its segment, R + 256 G + 256² B: one segment for each visible
object, and one for all pixels of a kind of stuff. Pixels of objects that are too small to be
annotated have the id 0 (unlabelled).
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import cv2
import numpy as np
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

from .scenes import Scene

# The COCO category of each kind of stuff.
COCO_STUFF = {
    "sky": "sky-other-merged",
    "ground": "dirt-merged",
    "path": "pavement-merged",
    "skyline": "building-other-merged",
    "hood": "roof",
}
UNLABELLED = 255
_ID_STEP = 7919  # spreads ids over the three channels


class Segments(NamedTuple):
    """The segments of a scene.

    Attributes:
        ids: (H, W) int32, the segment of each pixel, 0 where there is none.
        listed: a dict for each segment: id, kind, isthing, iscrowd, bbox (x, y, width, height) and
            area in pixels.
    """

    ids: np.ndarray
    listed: list[dict]


def scene_segments(
    scene: Scene,
    kinds: np.ndarray,
    objects: np.ndarray,
    things: Collection[str],
    min_pixels: int,
) -> Segments:
    """Divide a scene into segments.

    Args:
        kinds, objects: as `render_labels` returns them.
        things: kinds whose objects are segments of their own.
        min_pixels: things with fewer visible pixels are no segments.
    """
    numbers = np.unique(objects).tolist()
    found = [number for number in numbers if scene.objects[number].kind in things]
    masks = [(scene.objects[n].kind, scene.objects[n].is_crowd, objects == n) for n in found]
    masks = [each for each in masks if each[2].sum() >= min_pixels]
    for kind in COCO_STUFF:
        mask = kinds == scene.kinds.index(kind)
        if mask.any():
            masks.append((kind, False, mask))
    ids = np.zeros(objects.shape, dtype=np.int32)
    listed = []
    for number, (kind, is_crowd, mask) in enumerate(masks, start=1):
        ids[mask] = number * _ID_STEP
        listed.append(
            {
                "id": number * _ID_STEP,
                "kind": kind,
                "isthing": kind in things,
                "iscrowd": int(is_crowd),
                "bbox": list(cv2.boundingRect(mask.astype(np.uint8))),
                "area": int(mask.sum()),
            }
        )
    return Segments(ids, listed)


def stuff_labels(segments: Segments) -> np.ndarray:
    """Return the labels of Detectron2's PanopticFPN, (H, W) uint8.

    They are 0 for things, 1 to 53 for COCO's stuff in the order of its ids, and UNLABELLED.
    """
    numbers = {c["name"]: k for k, c in enumerate(_stuff_categories(), start=1)}
    labels = np.full(segments.ids.shape, UNLABELLED, dtype=np.uint8)
    for each in segments.listed:
        value = 0 if each["isthing"] else numbers[COCO_STUFF[each["kind"]]]
        labels[segments.ids == each["id"]] = value
    return labels


def _stuff_categories() -> list[dict]:
    return [category for category in COCO_CATEGORIES if not category["isthing"]]


def panoptic_content(
    records: Iterable[tuple[dict, list[dict]]],
    thing_ids: Mapping[str, int],
    *,
    coco_names: Mapping[str, str] | None = None,
) -> dict:
    """Return images, annotations and categories of a JSON file in COCO's panoptic format.

    Args:
        records: the entry of each image, and what `Segments.listed` has of it.
        thing_ids: category ids of things; those of stuff follow.
        coco_names: None for categories of these ids; else the names, by kind, of the things among
            COCO's 133 categories, whose ids are used instead.
    """
    ids = {**thing_ids, **stuff_ids(thing_ids)}
    categories = [
        {"id": k, "name": kind, "isthing": int(kind in thing_ids)} for kind, k in ids.items()
    ]
    if coco_names is not None:
        categories = [{key: c[key] for key in ("id", "name", "isthing")} for c in COCO_CATEGORIES]
        coco_ids = {c["name"]: c["id"] for c in COCO_CATEGORIES}
        ids = {kind: coco_ids[name] for kind, name in {**coco_names, **COCO_STUFF}.items()}
    images, annotations = [], []
    for image, listed in records:
        images.append(image)
        segments_info = [
            {
                "id": each["id"],
                "category_id": ids[each["kind"]],
                **{key: each[key] for key in ("iscrowd", "bbox", "area")},
            }
            for each in listed
        ]
        annotations.append(
            {
                "image_id": image["id"],
                "file_name": image["file_name"].replace(".jpg", ".png"),
                "segments_info": segments_info,
            }
        )
    return {"images": images, "annotations": annotations, "categories": categories}


def stuff_ids(thing_ids: Mapping[str, int]) -> dict[str, int]:
    """Return the category ids of stuff by kind, which follow those of things."""
    return {kind: k for k, kind in enumerate(COCO_STUFF, start=max(thing_ids.values()) + 1)}
