"""Average precision of boxes, masks and mask boundaries, computed by one of two back ends.

faster-coco-eval is used if it is installed, pycocotools otherwise. Both give the same numbers:
Boundary IoU is computed here for both, and the LVIS rules are added to pycocotools.

Shapes:
    T: IoU thresholds, 0.50, 0.55 ... 0.95
    R: recall thresholds, 0, 0.01 ... 1
    K: categories, in the order of their ids
    A: object sizes: all, small (area below 32² pixels), medium, large (above 96²)
    M: limits on the number of detections per image and category
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..errors import InputError
from .boundary import boundary_distance, boundary_run_lengths

IOU_TYPES = ("bbox", "segm", "boundary")


@dataclass(frozen=True)
class Curves:
    """Precision at each recall threshold, and the maximum recall.

    Attributes:
        precision: T x R x K x A in [0, 1], -1 where a category has no annotation to evaluate; at
            the last and largest limit on the number of detections.
        recall: T x K x A x M in [0, 1], -1 where a category has no annotation to evaluate.
    """

    precision: np.ndarray
    recall: np.ndarray

    def average_precision(self, categories: Sequence[int] | None = None) -> float:
        """Return AP in percent over ``categories`` (indices into K; all if None).

        NaN if none of them has an annotation to evaluate.
        """
        chosen = slice(None) if categories is None else list(categories)
        return mean_percent(self.precision[:, :, chosen, 0])

    def metrics(self) -> dict[str, float]:
        """Return AP, AP50, AP75, APs, APm and APl in percent, NaN without annotations."""
        p = self.precision
        parts = {"AP": p[..., 0], "AP50": p[0, ..., 0], "AP75": p[5, ..., 0]}
        parts.update(APs=p[..., 1], APm=p[..., 2], APl=p[..., 3])
        return {name: mean_percent(part) for name, part in parts.items()}

    def mean_precision(self) -> dict[str, list[float | None]]:
        """Return the mean precision over categories at each of the R recall thresholds.

        The keys are "50" (IoU 0.5), "75" (IoU 0.75) and "all" (the mean over IoU thresholds). A
        value is None where no category has an annotation to evaluate.
        """
        parts = {"50": self.precision[:1], "75": self.precision[5:6], "all": self.precision}
        return {name: [_mean(part[:, r, :, 0]) for r in range(101)] for name, part in parts.items()}


def _mean(values: np.ndarray) -> float | None:
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else None


def mean_percent(values: np.ndarray) -> float:
    """Return 100 times the mean of the values that are not -1, NaN if all are -1."""
    mean = _mean(values)
    return float("nan") if mean is None else 100.0 * mean


def installed_backend() -> str:
    """Return ``"faster_coco_eval"`` if it is installed, else ``"pycocotools"``."""
    return "faster_coco_eval" if find_spec("faster_coco_eval") else "pycocotools"


def precision_recall(
    dataset: dict,
    detections: list[dict],
    iou_type: str,
    *,
    max_dets: Sequence[int] = (1, 10, 100),
    federated: bool = False,
    image_ids: Sequence | None = None,
    backend: str | None = None,
) -> Curves:
    """Match detections with annotations and compute precision and recall.

    Args:
        dataset: content of a COCO JSON file. Annotations need an ``area``, and a ``segmentation``
            unless ``iou_type`` is ``"bbox"``. Not modified.
        detections: in COCO's result format, with image and category ids of the data set. Not
            modified.
        iou_type: ``"bbox"``, ``"segm"``, or ``"boundary"`` for the smaller of mask IoU and the
            IoU of the boundary regions ("Boundary IoU", CVPR 2021, section 5). Crowd annotations
            are matched by mask IoU alone, because their boundary is not that of an object.
        max_dets: M limits, ascending.
        federated: apply the LVIS rules. Detections of a category are evaluated only in images
            that are annotated for it, by an annotation or by ``neg_category_ids``. In images that
            list it in ``not_exhaustive_category_ids``, unmatched detections are ignored.
        image_ids: images to evaluate on; all if None.
        backend: ``"faster_coco_eval"`` or ``"pycocotools"``; :func:`installed_backend` if None.

    Raises:
        InputError: unknown ``iou_type`` or ``backend``.
    """
    build = {"faster_coco_eval": _faster_evaluation, "pycocotools": _pycocotools_evaluation}
    backend = backend or installed_backend()
    for what, value, known in [("task", iou_type, IOU_TYPES), ("back end", backend, tuple(build))]:
        if value not in known:
            raise InputError(f"AP has no {what} '{value}': use one of {', '.join(known)}.")
    numbers = {i: k for k, i in enumerate(sorted(image["id"] for image in dataset["images"]))}
    if federated:
        detections = _in_annotated_images(dataset, detections)
    dataset = _renumber(dataset, numbers)
    # The back ends take the area from the mask only if the detection has no box.
    geometry = "bbox" if iou_type == "bbox" else "segmentation"
    detections = [
        {
            "image_id": numbers[detection["image_id"]],
            "category_id": detection["category_id"],
            "score": detection["score"],
            geometry: detection[geometry],
        }
        for detection in detections
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluation = build[backend](dataset, detections, iou_type, federated)
        evaluation.params.maxDets = list(max_dets)
        if image_ids is not None:
            evaluation.params.imgIds = [numbers[image_id] for image_id in image_ids]
        evaluation.evaluate()
        evaluation.accumulate()
    return Curves(evaluation.eval["precision"][..., -1], evaluation.eval["recall"])


def _in_annotated_images(dataset: dict, detections: list[dict]) -> list[dict]:
    """Return the detections in images that are annotated for their category.

    faster-coco-eval does this itself, but fails if it drops all detections of an image.
    """
    pairs = {(a["image_id"], a["category_id"]) for a in dataset["annotations"]}
    for image in dataset["images"]:
        pairs.update((image["id"], category) for category in image.get("neg_category_ids") or ())
    return [d for d in detections if (d["image_id"], d["category_id"]) in pairs]


def _renumber(dataset: dict, numbers: dict) -> dict:
    """Return a copy with image ids from ``numbers`` and annotation ids from 1.

    Annotations of images that are not in the data set are dropped.

    faster-coco-eval needs integer image ids. Both back ends read annotation id 0 as "unmatched".
    """
    annotations = [
        {"iscrowd": 0, **annotation, "id": k, "image_id": numbers[annotation["image_id"]]}
        for k, annotation in enumerate(dataset["annotations"], start=1)
        if annotation["image_id"] in numbers
    ]
    images = [{**image, "id": numbers[image["id"]]} for image in dataset["images"]]
    return {"info": {}, **dataset, "images": images, "annotations": annotations}


def _faster_evaluation(
    dataset: dict, detections: list[dict], iou_type: str, federated: bool
) -> Any:
    from faster_coco_eval import COCO, COCOeval_faster

    # Its own Boundary IoU takes five times as long and rounds the width differently.
    class BoundaryEvaluation(COCOeval_faster):
        def computeIoU(self, imgId: int, catId: int) -> Any:
            ious = super().computeIoU(imgId, catId)
            pair = ([imgId], [catId], True)
            annotations = self.gt_dataset.get_instances(*pair)[0][0]
            return _boundary_ious(ious, annotations, self.dt_dataset.get_instances(*pair)[0][0])

    if federated:  # it requires the key 'frequency', which does not affect the curves
        categories = [{"frequency": "f", **category} for category in dataset["categories"]]
        dataset = {**dataset, "categories": categories}
    truth, empty = COCO(dataset), {**dataset, "annotations": []}
    return (BoundaryEvaluation if iou_type == "boundary" else COCOeval_faster)(
        truth,
        truth.loadRes(detections) if detections else COCO(empty),
        "bbox" if iou_type == "bbox" else "segm",
        lvis_style=federated,
        print_function=lambda *_: None,
    )


def _pycocotools_evaluation(
    dataset: dict, detections: list[dict], iou_type: str, federated: bool
) -> COCOeval:
    truth, empty = _coco_api(dataset), {**dataset, "annotations": []}
    found = truth.loadRes(detections) if detections else _coco_api(empty)
    return _Evaluation(truth, found, iou_type, federated)


def _coco_api(dataset: dict) -> COCO:
    api = COCO()
    api.dataset = dataset
    api.createIndex()
    return api


class _Evaluation(COCOeval):
    """pycocotools' evaluation with Boundary IoU and the LVIS rules of :func:`precision_recall`."""

    def __init__(self, truth: COCO, detections: COCO, iou_type: str, federated: bool):
        super().__init__(truth, detections, "bbox" if iou_type == "bbox" else "segm")
        self._boundary = iou_type == "boundary"
        self._incomplete = {
            image["id"]: image.get("not_exhaustive_category_ids") or () if federated else ()
            for image in truth.dataset["images"]
        }

    def computeIoU(self, imgId: int, catId: int) -> Any:
        ious = super().computeIoU(imgId, catId)
        if not self._boundary:
            return ious
        return _boundary_ious(ious, self._gts[imgId, catId], self._dts[imgId, catId])

    def evaluateImg(self, imgId: int, catId: int, aRng: list[float], maxDet: int) -> dict | None:
        matches = super().evaluateImg(imgId, catId, aRng, maxDet)
        if matches and catId in self._incomplete[imgId]:
            matches["dtIgnore"] |= matches["dtMatches"] == 0
        return matches


def _boundary_ious(ious: Any, annotations: list[dict], detections: list[dict]) -> Any:
    """Return the smaller of mask IoU and boundary IoU for an image and a category.

    Args:
        ious: mask IoUs, detections (by descending score, up to the limit) x annotations; an empty
            list if there are none of either.
    """
    if len(ious) == 0:
        return ious
    order = np.argsort([-detection["score"] for detection in detections], kind="mergesort")
    found = [_boundary_rle(detections[i]) for i in order[: len(ious)]]
    wanted = [_boundary_rle(annotation) for annotation in annotations]
    crowd = np.array([bool(annotation["iscrowd"]) for annotation in annotations])
    boundary_ious = mask_util.iou(found, wanted, [0] * len(wanted))
    return np.where(crowd, ious, np.minimum(ious, boundary_ious))


def _boundary_rle(annotation: dict) -> dict:
    rle = annotation.get("rle") or annotation["segmentation"]  # faster-coco-eval, pycocotools
    return boundary_run_lengths(rle, boundary_distance(*rle["size"]))
