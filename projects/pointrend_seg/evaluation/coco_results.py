"""Detections in COCO's result format, with masks as run lengths."""

import cv2
import numpy as np
import torch
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Instances, ROIMasks

from ..structures.box_masks import BoxMasks
from ..structures.rle_masks import RleMasks
from ..structures.run_lengths import encode_columns, transpose
from .region_masks import encode_region_masks


def encode_instances(instances: Instances, image_id: int | str) -> list[dict]:
    """Convert an image's detections to COCO's result format, with class indices as category ids.

    Args:
        instances: N detections on the CPU with ``pred_boxes``, ``scores``, ``pred_classes`` and
            optionally ``pred_masks`` (N x H x W bool, `ROIMasks` or `RleMasks`).
        image_id: copied into the results.
    """
    fields = instances.get_fields()
    masks = fields.get("pred_masks")
    others = {name: value for name, value in fields.items() if name != "pred_masks"}
    detections = instances_to_coco_json(Instances(instances.image_size, **others), image_id)
    if masks is not None:
        if isinstance(masks, ROIMasks):
            boxes, size = instances.pred_boxes.tensor, instances.image_size
            box_masks = masks.masks if isinstance(masks, BoxMasks) else masks.tensor
            rles = encode_region_masks(box_masks, boxes, *size)
        else:
            rles = encode_masks(masks)
        for detection, rle in zip(detections, rles, strict=True):
            detection["segmentation"] = rle
    return detections


def encode_masks(masks: torch.Tensor | RleMasks) -> list[dict]:
    """Run-length encode full-size masks.

    Args:
        masks: N x H x W bool, on the CPU, or `RleMasks`.

    Returns:
        N dicts in COCO's compressed format with counts as text, ready for JSON.
    """
    if isinstance(masks, RleMasks):
        return masks.rles
    pixels = masks.to(torch.bool).contiguous().numpy().view(np.uint8)
    rles = []
    for mask in pixels:
        x0, y0, width, height = cv2.boundingRect(mask)
        region = transpose(mask[y0 : y0 + height, x0 : x0 + width])
        rles.append(encode_columns(region, x0, y0, *mask.shape))
    return rles
