"""Make labelled points from masks, in the form of Detectron2's PointSup (Cheng et al., CVPR 2022).

Points are drawn uniformly in the box of an object, as an annotator would be shown them, and have
the label of the pixel that they lie in: 1 on the object, 0 elsewhere.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from detectron2.data.catalog import Metadata

from ..files.progress import progress_bar
from ..structures.run_lengths import values_at
from .annotations import Annotation, Size, is_degenerate
from .coco_json import read_coco_json
from .problems import ProblemLog


@dataclass
class PointFile:
    """What `with_points` made of a file.

    Attributes:
        content: for JSON: the file's, with points instead of masks.
        objects: number of annotations that have points.
        left_out: number of annotations that training leaves out, and that have none.
        ones: number of points of the label 1.
        without_ones: number of annotations without such a point.
    """

    content: dict
    objects: int = 0
    left_out: int = 0
    ones: int = 0
    without_ones: int = 0


def with_points(file: str, count: int, seed: int, *, progress: bool = False) -> PointFile:
    """Read a JSON file of COCO's format, and replace the masks by labelled points.

    Crowds get points, too. The points of an annotation follow from the seed and its id alone; with
    more points, the first ones stay the same.

    Args:
        file: its path. It is not changed.
        count: number of points of each object.
        seed: 0 or more.
        progress: show a progress bar.

    Raises:
        InputError: the file is not of COCO's format, or an annotation has no valid box or mask.
    """
    content = read_coco_json(file, Metadata(json_file=file, image_root=""))
    content.check()
    log, made = ProblemLog(file), PointFile({**content.raw, "annotations": []})
    numbers = {category: number for number, category in enumerate(content.categories)}
    checked = content.checked_annotations(numbers, masks=True)
    total = len(content.annotations or ())
    for each in progress_bar(checked, unit="object", total=total, shown=progress):
        for problem in each.problems:
            log.add(each.name, problem)
        if not each.is_used:
            made.left_out += 1
            continue
        size = each.record["height"], each.record["width"]
        if _is_empty(each.annotation, size):
            made.left_out += 1
            continue
        coords, labels = draw_points(each.annotation, size, count, seed)
        kept = {key: value for key, value in each.annotation.items() if key != "segmentation"}
        made.content["annotations"].append(
            {**kept, "point_coords": coords.tolist(), "point_labels": labels.tolist()}
        )
        made.objects += 1
        made.ones += int(labels.sum())
        made.without_ones += not labels.any()
    log.report()
    return made


def draw_points(
    annotation: Annotation, size: Size, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw pixels in the box of an object, as far as it lies in the image.

    Args:
        annotation: with `id`, `bbox` and `segmentation` as in COCO's JSON, in which no problem was
            found.
        size: height and width of the image in pixels.
        count: number of pixels; one may be drawn twice.
        seed: 0 or more.

    Returns:
        column and row of each pixel, count x 2, and its value in the mask, 0 or 1: int64.

    Example:
        >>> square = [2, 2, 8, 2, 8, 8, 2, 8]
        >>> annotation = {"id": 1, "bbox": [2, 2, 6, 6], "segmentation": [square]}
        >>> coords, labels = draw_points(annotation, (10, 10), 5, seed=0)
        >>> coords.shape, labels
        ((5, 2), array([1, 1, 1, 1, 1]))
    """
    x, y, box_width, box_height = annotation["bbox"]
    limit = np.array([size[1], size[0]])
    low = np.clip([x, y], 0, limit)
    high = np.clip([x + box_width, y + box_height], 0, limit)
    places = low + _generator(annotation["id"], seed).random((count, 2)) * (high - low)
    pixels = np.minimum(places.astype(np.int64), limit - 1)
    labels = np.zeros(count, np.int64)
    for rle in _run_lengths(annotation["segmentation"], size):
        labels |= values_at(rle, *pixels.T)
    return pixels, labels


def _generator(number: int | str, seed: int) -> np.random.Generator:
    """Return a generator for the annotation with an id."""
    if isinstance(number, str):
        number = int.from_bytes(number.encode("utf-8", "surrogatepass"), "little")
    return np.random.default_rng([seed, abs(number), int(number < 0)])


def _run_lengths(segmentation: Any, size: Size) -> list[dict]:
    """Return masks whose union is that of an annotation, in COCO's compressed format."""
    if isinstance(segmentation, dict):
        is_compressed = not isinstance(segmentation["counts"], list)
        return [segmentation if is_compressed else mask_util.frPyObjects(segmentation, *size)]
    polygons = [each for each in segmentation if not is_degenerate(each)]
    return [mask_util.frPyObjects([each], *size)[0] for each in polygons]


def _is_empty(annotation: Annotation, size: Size) -> bool:
    """Return whether a mask covers no pixel."""
    return not any(map(mask_util.area, _run_lengths(annotation["segmentation"], size)))
