"""Evaluate both branches of panoptic models: objects, and the class of each pixel."""

import logging

import numpy as np
import pycocotools.mask as mask_util
from detectron2.data import DatasetCatalog
from detectron2.utils.file_io import PathManager
from pycocotools.coco import COCO

from ..data.panoptic.classes import THINGS, PanopticClasses, panoptic_classes
from ..data.panoptic.records import Truth, is_separated, read_truth
from ..data.panoptic.segments import read_record_segments
from .coco import CocoInstanceEvaluator
from .coco_ground_truth import index_ground_truth
from .semantic import SemanticSegmentationEvaluator

logger = logging.getLogger(__name__)


class PanopticInstanceEvaluator(CocoInstanceEvaluator):
    """Box, mask and Boundary AP of the instance branch.

    The objects are those of the data set's ``json_file``; without one, the things of its PNGs.
    """

    def _read_truth(self) -> tuple[str, COCO]:
        self._panoptic = panoptic_classes(self._dataset_name)
        file = self._metadata.get("json_file")
        if file and (PathManager.exists(file) or is_separated(self._metadata)):
            return super()._read_truth()
        source = self._metadata.get("panoptic_json") or f"the data set {self._dataset_name}"
        if file:
            logger.warning("%s does not exist: AP is that of the things in %s.", file, source)
        truth = read_truth(self._dataset_name, self._panoptic)
        return source, index_ground_truth(_things_as_coco(truth, self._panoptic))

    def _contiguous_ids(self) -> dict[int, int]:
        return {category: number for number, category in enumerate(self._panoptic.thing_ids)}

    def _class_names(self) -> list[str]:
        return list(self._panoptic.thing_names)


class PanopticSemanticEvaluator(SemanticSegmentationEvaluator):
    """IoU and Boundary IoU of the semantic branch: things, as one class, and each kind of stuff."""

    def _read_records(self) -> dict[str, dict]:
        self._panoptic = panoptic_classes(self._dataset_name)
        return {record["file_name"]: record for record in DatasetCatalog.get(self._dataset_name)}

    def _read_classes(self) -> tuple[list[str], dict[int, int]]:
        classes = self._panoptic
        things = -1 if 0 in classes.stuff_ids else 0  # Detectron2's id of the class "things" is 0
        return [THINGS, *classes.stuff_names], dict(enumerate((things, *classes.stuff_ids)))

    def _read_labels(self, record: dict) -> tuple[str, np.ndarray]:
        if "pan_seg_file_name" not in record:
            return super()._read_labels(record)
        segments = read_record_segments(record, self._panoptic)
        labels = segments.semantic_labels(self._panoptic, self._ignore_label)
        return record["pan_seg_file_name"], labels


def _things_as_coco(truth: Truth, classes: PanopticClasses) -> dict:
    """Return the things of panoptic PNGs in COCO's format."""
    things = set(classes.thing_ids)
    images: list[dict] = []
    annotations: list[dict] = []
    for image_id, record in truth.records.items():
        segments = read_record_segments(record)
        height, width = segments.numbers.shape
        images.append({"id": image_id, "height": height, "width": width})
        for k, segment in enumerate(segments.segments, start=1):
            if segment["category_id"] not in things or not segments.areas[k]:
                continue
            rle = mask_util.encode(np.asfortranarray(segments.numbers == k, dtype=np.uint8))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": segment["category_id"],
                    "iscrowd": int(bool(segment.get("iscrowd", 0))),
                    "bbox": mask_util.toBbox(rle).tolist(),
                    "area": int(segments.areas[k]),
                    "segmentation": rle | {"counts": rle["counts"].decode("ascii")},
                }
            )
    categories = [each for each in truth.categories if each["id"] in things]
    return {"images": images, "annotations": annotations, "categories": categories}
