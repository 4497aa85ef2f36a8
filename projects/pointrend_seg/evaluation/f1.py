"""F1 of objects at one IoU and one score: what share is found, and how many are found wrongly."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pycocotools.mask as mask_util
from pycocotools.coco import COCO

LEAST_IOU = 0.5
LEAST_SCORE = 0.5  # the default confidence of predictions


@dataclass
class Counts:
    """Objects of one category, counted over images.

    Attributes:
        found: labelled objects that a detection matches.
        missed: labelled objects without one.
        wrong: detections without a labelled object.
    """

    found: int = 0
    missed: int = 0
    wrong: int = 0

    def f1(self) -> float:
        """Return F1 in percent, NaN without labelled objects.

        Example:
            >>> Counts(found=3, missed=1, wrong=1).f1()
            75.0
        """
        if not self.found + self.missed:
            return float("nan")
        return 100.0 * 2 * self.found / (2 * self.found + self.missed + self.wrong)


def count_objects(
    truth: COCO, detections: list[dict], iou_type: str, image_ids: Sequence | None = None
) -> dict[int, Counts]:
    """Match detections with labelled objects, and count.

    The detections with a score of 0.5 or more choose, highest score first: each the free object of
    its category with the highest IoU, if that is 0.5 or more. The rest is wrong, except detections
    of which half or more lies in a crowd: these do not count. There is no limit on their number.

    Args:
        truth: the labelled objects, with ``segmentation`` for "segm".
        detections: in COCO's result format, with image and category ids of the data set.
        iou_type: "bbox" or "segm".
        image_ids: images to count in; all if None.

    Returns:
        the counts by category id, of each category of the data set.
    """
    images = set(truth.imgs if image_ids is None else image_ids)
    labelled, predicted = defaultdict(list), defaultdict(list)
    for annotation in truth.anns.values():
        labelled[annotation["image_id"], annotation["category_id"]].append(annotation)
    for detection in detections:
        if detection["score"] >= LEAST_SCORE:
            predicted[detection["image_id"], detection["category_id"]].append(detection)
    counts = {category: Counts() for category in truth.cats}
    for image, category in labelled.keys() | predicted.keys():
        if image not in images or category not in counts:
            continue
        objects = labelled[image, category]
        found = sorted(predicted[image, category], key=lambda detection: -detection["score"])
        crowd = [bool(each.get("iscrowd")) for each in objects]
        if iou_type == "bbox":
            shapes = [[each["bbox"] for each in side] for side in (found, objects)]
        else:
            shapes = [
                [detection["segmentation"] for detection in found],
                [truth.annToRLE(annotation) for annotation in objects],
            ]
        ious = np.zeros((len(found), len(objects)))
        if ious.size:
            ious[:] = mask_util.iou(*shapes, crowd)
        _count(ious, np.array(crowd, bool), counts[category])
    return counts


def _count(ious: np.ndarray, crowd: np.ndarray, counts: Counts) -> None:
    """Add an image to the counts of a category.

    Args:
        ious: detections, highest score first, x objects.
        crowd: of each object whether it is a crowd.
    """
    free = ~crowd
    for row in ious:
        possible = free & (row >= LEAST_IOU)
        if possible.any():
            free[np.where(possible, row, 0).argmax()] = False
        elif not (row[crowd] >= LEAST_IOU).any():
            counts.wrong += 1
    counts.missed += int(free.sum())
    counts.found += int((~crowd).sum() - free.sum())
