"""The ground truth of a COCO evaluation: read, completed and compared with limits on detections."""

import contextlib
import io
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pycocotools.mask as mask_util
from pycocotools.coco import COCO

from ..data.annotations import stated_size
from ..data.coco_json import file_mask_problem, let_go, read_coco_json


def read_ground_truth(dataset_name: str, metadata: Any) -> COCO:
    """Return the ground truth of a data set, with the values that training reads."""
    content = read_coco_json(dataset_name, metadata).ground_truth()
    let_go(metadata.json_file)
    return index_ground_truth(content)


def index_ground_truth(content: dict) -> COCO:
    """Return the contents of a JSON file of COCO's format as pycocotools has them."""
    coco_api = COCO()
    coco_api.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        coco_api.createIndex()
    return coco_api


def complete_areas(coco_api: COCO) -> str:
    """Add missing areas. Return a message if a mask cannot be scored, else ""."""
    message = ""
    for annotation in coco_api.dataset.get("annotations", ()):
        size = stated_size(coco_api.imgs.get(annotation["image_id"], {}))
        problem = file_mask_problem(annotation.get("segmentation"), size)
        if problem and not message:
            name = f"annotation {annotation.get('id')} of image {annotation['image_id']}"
            message = f"{name} {problem}"
        if "area" not in annotation and not problem:
            annotation["area"] = float(mask_util.area(coco_api.annToRLE(annotation)))
        elif "area" not in annotation:
            annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    return message


def limit_problems(
    annotations: Iterable[dict],
    found: dict,
    limit: int,
    detections_per_image: int | None = None,
) -> list[str]:
    """Return what to say where images have more objects than limits allow detections.

    Args:
        annotations: of a COCO JSON file.
        found: the number of detections, by image id.
        limit: the most detections of a category in an image that are evaluated.
        detections_per_image: the most detections that the model gives; None if unknown.
    """
    by_image: Counter = Counter()
    by_category: Counter = Counter()
    for annotation in annotations:
        if not annotation.get("iscrowd"):
            by_image[annotation["image_id"]] += 1
            by_category[annotation["image_id"], annotation["category_id"]] += 1
    messages = []
    cut = [image for (image, _), count in by_category.items() if count > limit]
    if cut:
        most = max(by_category.values())
        messages.append(
            f"{len(set(cut))} image(s) have more than {limit} objects of a category (the most is "
            f"{most}), and only {limit} detections of a category are evaluated, so that AP stays "
            f"below 100 even for exact predictions. Set TEST.DETECTIONS_PER_IMAGE "
            f"{math.ceil(0.15 * most) * 10}."
        )
    if detections_per_image is not None:
        lost = [k for k, n in found.items() if detections_per_image <= n < by_image[k]]
        if lost:
            most = max(by_image[k] for k in lost)
            messages.append(
                f"the model gave as many detections as TEST.DETECTIONS_PER_IMAGE "
                f"{detections_per_image} allows for {len(lost)} image(s) that have more objects "
                f"(the most is {most}). Set TEST.DETECTIONS_PER_IMAGE "
                f"{math.ceil(0.15 * most) * 10}, and MODEL.RPN.POST_NMS_TOPK_TEST and "
                f"PRE_NMS_TOPK_TEST to {4 * most} or more."
            )
    return messages
