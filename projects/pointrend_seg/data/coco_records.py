"""Make Detectron2's data set dicts of a JSON file of COCO's format.

They are those of Detectron2's `load_coco_json`, of contents that `coco_schema` has read: the
records that are trained on are those that were checked.
"""

import logging
from functools import partial
from typing import Any

import pycocotools.mask as mask_util
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from .annotations import (
    Annotation,
    Record,
    Size,
    has_points,
    is_degenerate,
    mask_problem,
    shown,
    stated_size,
)
from .coco_json import let_go, not_coco, read_coco_json
from .coco_schema import is_id
from .problems import Problem

_DETECTRON2_LOADER = "detectron2.data.datasets.coco"
_COPIED = ("iscrowd", "category_id")

logger = logging.getLogger(__name__)


def use_own_reader(name: str) -> bool:
    """Let a data set of `register_coco_instances` be read by `load_records`.

    Args:
        name: of a data set; one with a loader of its own is left as it is.

    Returns:
        whether `load_records` reads it.
    """
    if name not in DatasetCatalog:
        return False
    load = DatasetCatalog[name]
    if isinstance(load, partial) and load.func is load_records:
        return True
    is_coco = MetadataCatalog.get(name).get("evaluator_type") == "coco"
    if not is_coco or getattr(load, "__module__", "") != _DETECTRON2_LOADER:
        return False
    DatasetCatalog[name] = partial(load_records, name)
    return True


def load_records(name: str) -> list[Record]:
    """Return the data set dicts of a data set with a JSON file, in the order of the image ids.

    Its class names and category ids are set in the metadata. Annotations of images that the file
    lacks, and objects without a polygon of 3 points, are left out.

    Args:
        name: a registered data set whose metadata have `json_file` and `image_root`.

    Raises:
        InputError: the file is missing or not of COCO's format, has other classes than the data
            set, or an object of no known category.
    """
    metadata = MetadataCatalog.get(name)
    content = read_coco_json(name, metadata)
    content.check(log=False)  # the checks before training and evaluation do
    numbers = content.class_numbers(metadata)
    if numbers is None:
        raise content.other_classes(name, metadata)
    metadata.set(
        thing_classes=list(content.categories.values()),
        thing_dataset_id_to_contiguous_id=numbers,
    )
    annotations: dict[Any, list[Annotation]] = {image_id: [] for image_id in content.records}
    for annotation in content.annotations or ():
        image_id = annotation.get("image_id")
        if not is_id(image_id) or image_id not in annotations:
            continue
        category = annotation.get("category_id")
        if not is_id(category) or category not in numbers:
            found = f"an annotation has the category_id {shown(category)}, which is no category"
            raise not_coco(content.file, Problem("unknown-class", found))
        size = stated_size(content.records[image_id])
        item = _object(annotation, numbers[category], size)
        if item is not None:
            annotations[image_id].append(item)
    let_go(content.file)
    logger.info(f"Loaded {len(content.records)} images in COCO format from {content.file}")
    return [
        content.records[image_id] | {"annotations": annotations[image_id]}
        for image_id in sorted(content.records)
    ]


def _object(annotation: Annotation, number: int, size: Size | None) -> Annotation | None:
    """Return an annotation as Detectron2 has it, None for one without a polygon of 3 points."""
    item: Annotation = {key: annotation[key] for key in _COPIED if key in annotation}
    item |= {"category_id": number, "bbox_mode": BoxMode.XYWH_ABS}
    if "bbox" in annotation:
        item["bbox"] = annotation["bbox"]
    if has_points(annotation):
        item |= {key: annotation.get(key) for key in ("point_coords", "point_labels")}
    masks = annotation.get("segmentation")
    if masks and isinstance(masks, dict):
        if isinstance(masks.get("counts"), list) and mask_problem(masks, size) is None:
            masks = mask_util.frPyObjects(masks, *masks["size"])
        item["segmentation"] = masks
    elif masks and isinstance(masks, list):
        kept = [each for each in masks if not is_degenerate(each)]
        if not kept:
            return None
        item["segmentation"] = kept
    elif masks:
        item["segmentation"] = masks
    if annotation.get("keypoints"):
        # coordinates of keypoints are indices of pixels, those of masks are not
        shifted = enumerate(annotation["keypoints"])
        item["keypoints"] = [v + 0.5 if place % 3 != 2 else v for place, v in shifted]
    return item
