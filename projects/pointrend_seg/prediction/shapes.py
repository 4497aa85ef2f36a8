"""What a model found in an image as a list of named masks, for results and exports."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from detectron2.structures import Instances

from ..data.classes import Classes
from ..structures.regions import Region


@dataclass(frozen=True)
class Shape:
    """An object, all pixels of a class, or a panoptic segment.

    Attributes:
        category: the name of its class.
        category_id: the number of its class in the data set.
        region: its mask.
        score: 0 to 1; None for a class of pixels.
        box: x0, y0, x1, y1 in pixels, as predicted; of a class or segment, around its pixels.
    """

    category: str
    category_id: int
    region: Region
    score: float | None
    box: tuple[float, float, float, float]

    def coco(self, height: int, width: int) -> dict:
        """Return an annotation in COCO's format, without ``id`` and ``image_id``."""
        x0, y0, x1, y1 = self.box
        item = {
            "category_id": self.category_id,
            "category_name": self.category,
            "bbox": [round(value, 2) for value in (x0, y0, x1 - x0, y1 - y0)],
            "score": self.score,
            "segmentation": self.region.run_lengths(height, width),
            "area": self.region.area,
            "iscrowd": 0,
        }
        return {key: value for key, value in item.items() if value is not None}


@dataclass(frozen=True)
class ImageShapes:
    """What was found in an image.

    Attributes:
        name: of its results.
        file_name: the path of the image relative to the inputs' common parent folder.
        path: of the image file, "" if there is none.
        height, width: of the image in pixels.
        shapes: its objects, or the classes of its pixels.
    """

    name: str
    file_name: str
    path: str
    height: int
    width: int
    shapes: list[Shape]


def object_shapes(instances: Instances, classes: Classes) -> list[Shape]:
    """Return the objects of an instance model, in their order.

    Args:
        instances: on the CPU; without masks, boxes are filled.
    """
    height, width = instances.image_size
    boxes = instances.pred_boxes.tensor.tolist()
    regions: Iterable[Region] = map(_box_region, boxes)
    if instances.has("pred_masks"):
        regions = mask_regions(instances.pred_masks)
    numbers, scores = instances.pred_classes.tolist(), instances.scores.tolist()
    return [
        Shape(classes.names[number], classes.ids[number], region, score, tuple(box))
        for number, score, box, region in zip(numbers, scores, boxes, regions, strict=True)
    ]


def class_shapes(values: np.ndarray, names: dict[int, str]) -> list[Shape]:
    """Return the classes that pixels have, in the order of their values.

    Args:
        values: (H, W), the numbers of classes in the data set.
        names: of the classes by number.
    """
    found = []
    for value in np.unique(values).tolist():
        region = _mask_region(values == value)
        found.append(Shape(names[value], value, region, None, _box_around(region)))
    return found


def segment_shapes(
    segments: np.ndarray, segments_info: Iterable[dict], names: dict[int, str]
) -> list[Shape]:
    """Return the segments of a panoptic prediction, things and stuff, in their order.

    Args:
        segments: (H, W), the ids of the segments.
        segments_info: ``id`` and ``category_id``, and ``score`` if there is one, of each.
        names: of the classes by ``category_id``.
    """
    found = []
    for info in segments_info:
        region, number = _mask_region(segments == info["id"]), info["category_id"]
        score, box = info.get("score"), _box_around(region)
        found.append(Shape(names[number], number, region, score, box))
    return found


def mask_regions(masks: torch.Tensor) -> Iterator[Region]:
    """Yield the regions of masks, N x H x W bool on the CPU or compact (`RleMasks`), one by one."""
    if hasattr(masks, "rles"):
        yield from map(Region.from_run_lengths, masks.rles)
        return
    for mask in masks:
        yield _mask_region(mask.numpy())


def stored_shapes(objects: list[dict], names: dict[int, str]) -> list[Shape]:
    """Return the objects of a file ``objects/NAME.json``; without masks, boxes are filled."""
    found = []
    for item in objects:
        x, y, width, height = item["bbox"]
        box = (x, y, x + width, y + height)
        rle = item.get("segmentation")
        region = _box_region(box) if rle is None else Region.from_run_lengths(rle)
        number = item["category_id"]
        found.append(Shape(names[number], number, region, item["score"], box))
    return found


def label_image(shapes: list[Shape], height: int, width: int) -> np.ndarray:
    """Return an image in which object k (from 0) has the value k + 1, and 0 is background.

    Where objects overlap, a pixel belongs to the one with the highest score.

    Returns:
        (H, W) uint16, or uint32 for more than 65535 objects.
    """
    labels = np.zeros((height, width), np.uint16 if len(shapes) < 2**16 else np.uint32)
    for k in sorted(range(len(shapes)), key=lambda k: (shapes[k].score or 0, -k)):
        region = shapes[k].region
        pixels = region.pixels > 0
        h, w = pixels.shape
        part = labels[region.y0 : region.y0 + h, region.x0 : region.x0 + w]
        part[pixels[: part.shape[0], : part.shape[1]]] = k + 1
    return labels


def _mask_region(mask: np.ndarray) -> Region:
    pixels = np.ascontiguousarray(mask).view(np.uint8)
    x0, y0, width, height = cv2.boundingRect(pixels)
    return Region(pixels[y0 : y0 + height, x0 : x0 + width].T, x0, y0)


def _box_around(region: Region) -> tuple[float, float, float, float]:
    width, height = region.columns.shape
    x0, y0 = float(region.x0), float(region.y0)
    return x0, y0, x0 + width, y0 + height


def _box_region(box: Iterable[float]) -> Region:
    x0, y0, x1, y1 = (max(round(value), 0) for value in box)
    return Region(np.ones((max(x1 - x0, 0), max(y1 - y0, 0)), np.uint8), x0, y0)
