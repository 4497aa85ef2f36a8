"""Average precision of boxes, masks and mask boundaries, by either of two back ends.

faster-coco-eval is used where it is installed, pycocotools elsewhere. Both give the same numbers:
Boundary IoU is computed here for both, and LVIS' rules are added to pycocotools.

Shapes:
    T: IoU thresholds, 0.50, 0.55 ... 0.95
    R: recall thresholds, 0, 0.01 ... 1
    K: categories, in the order of their ids
    A: areas: all, small (below 32²), medium, large (above 96² pixels)
    M: limits on the number of detections per image and category
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import pycocotools.mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..errors import InputError
from .boundary import boundary_distance, boundary_region
from .run_lengths import decode_columns, encode_columns

IOU_TYPES = ("bbox", "segm", "boundary")


@dataclass(frozen=True)
class Curves:
    """Precision at each recall, and the recall that is reached.

    Attributes:
        precision: T x R x K x A, -1 where a category has no annotation that counts. It is taken
            at the last, and largest, limit on the number of detections.
        recall: T x K x A x M, -1 likewise.
    """

    precision: np.ndarray
    recall: np.ndarray

    def average_precision(self, categories: Sequence[int] | None = None) -> float:
        """AP in percent over ``categories`` (indices into K; all if None); NaN if none counts."""
        chosen = slice(None) if categories is None else list(categories)
        return mean_percent(self.precision[:, :, chosen, 0])

    def metrics(self) -> dict[str, float]:
        """AP, AP50, AP75, APs, APm and APl in percent; NaN where no annotation counts."""
        p = self.precision
        parts = {"AP": p[..., 0], "AP50": p[0, ..., 0], "AP75": p[5, ..., 0]}
        parts.update(APs=p[..., 1], APm=p[..., 2], APl=p[..., 3])
        return {name: mean_percent(part) for name, part in parts.items()}

    def mean_precision(self) -> dict[str, list[float | None]]:
        """The mean over classes at each recall 0, 0.01, … 1, None where no class counts.

        At IoU 0.5 ("50"), at 0.75 ("75"), and the mean over all thresholds ("all").
        """
        parts = {"50": self.precision[:1], "75": self.precision[5:6], "all": self.precision}
        return {name: [_mean(part[:, r, :, 0]) for r in range(101)] for name, part in parts.items()}


def _mean(values: np.ndarray) -> float | None:
    counted = values[values > -1]
    return float(counted.mean()) if counted.size else None


def mean_percent(values: np.ndarray) -> float:
    """100 times the mean of what is not -1, NaN if everything is."""
    counted = values[values > -1]
    return 100.0 * float(counted.mean()) if counted.size else float("nan")


def installed_backend() -> str:
    """``"faster_coco_eval"`` where it is installed, else ``"pycocotools"``."""
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
    """Match detections with annotations and draw the curves.

    Args:
        dataset: content of a COCO JSON file. Annotations need an ``area``, and a ``segmentation``
            unless ``iou_type`` is ``"bbox"``. Not changed.
        detections: in COCO's result format, with image and category ids of the data set. Not
            changed.
        iou_type: ``"bbox"``, ``"segm"``, or ``"boundary"`` for Boundary IoU: the smaller of mask
            IoU and the IoU of the boundary regions ("Boundary IoU", CVPR 2021, section 5). A
            crowd, whose outline is no object's, is compared by its mask alone.
        max_dets: M limits, ascending.
        federated: LVIS' rules. Detections of a category count only in the images that are
            annotated for it, by an annotation or by ``neg_category_ids``; where it is in
            ``not_exhaustive_category_ids``, one that matches nothing is left out.
        image_ids: images to evaluate on; all if None.
        backend: ``"faster_coco_eval"`` or ``"pycocotools"``; :func:`installed_backend` if None.

    Raises:
        InputError: ``iou_type`` or ``backend`` is none of these.
    """
    run = {"faster_coco_eval": _run_faster_coco_eval, "pycocotools": _run_pycocotools}
    backend = backend or installed_backend()
    for what, value, known in [("task", iou_type, IOU_TYPES), ("back end", backend, tuple(run))]:
        if value not in known:
            raise InputError(f"'{value}' is no {what} of AP: it is one of {', '.join(known)}.")
    numbers = {i: k for k, i in enumerate(sorted(image["id"] for image in dataset["images"]))}
    images = None if image_ids is None else [numbers[i] for i in image_ids]
    if federated:
        detections = _looked_for(dataset, detections)
    dataset = _numbered(dataset, numbers)
    # Areas decide what is small and large: a mask's comes from the mask only without a box.
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
    curves = run[backend](dataset, detections, iou_type, list(max_dets), federated, images)
    return Curves(precision=curves["precision"][..., -1], recall=curves["recall"])


def _looked_for(dataset: dict, detections: list[dict]) -> list[dict]:
    """Those in images that are annotated for their category.

    Also for faster-coco-eval, which fails where it drops all detections of an unannotated image.
    """
    pairs = {(a["image_id"], a["category_id"]) for a in dataset["annotations"]}
    for image in dataset["images"]:
        pairs.update((image["id"], category) for category in image.get("neg_category_ids") or ())
    return [d for d in detections if (d["image_id"], d["category_id"]) in pairs]


def _numbered(dataset: dict, numbers: dict) -> dict:
    """A copy with ids that both back ends work with.

    faster-coco-eval wants integers for images, and both take annotation 0 for "nothing matched".
    """
    annotations = [
        {"iscrowd": 0, **annotation, "id": k, "image_id": numbers[annotation["image_id"]]}
        for k, annotation in enumerate(dataset["annotations"], start=1)
    ]
    images = [{**image, "id": numbers[image["id"]]} for image in dataset["images"]]
    return {"info": {}, **dataset, "images": images, "annotations": annotations}


def _run_faster_coco_eval(dataset, detections, iou_type, max_dets, federated, image_ids):
    from faster_coco_eval import COCO, COCOeval_faster

    class BoundaryEvaluation(COCOeval_faster):
        """Its own boundaries take five times as long, and their width is rounded differently."""

        def computeIoU(self, imgId, catId):
            ious = super().computeIoU(imgId, catId)
            pair = ([imgId], [catId], True)
            annotations = self.gt_dataset.get_instances(*pair)[0][0]
            return _boundary_ious(ious, annotations, self.dt_dataset.get_instances(*pair)[0][0])

    if federated:  # it wants to know how frequent a category is, which changes no curve
        categories = [{"frequency": "f", **category} for category in dataset["categories"]]
        dataset = {**dataset, "categories": categories}
    truth, nothing = COCO(dataset), {**dataset, "annotations": []}
    evaluation = (BoundaryEvaluation if iou_type == "boundary" else COCOeval_faster)(
        truth,
        truth.loadRes(detections) if detections else COCO(nothing),
        "bbox" if iou_type == "bbox" else "segm",
        lvis_style=federated,
        print_function=lambda *_: None,
    )
    return _run(evaluation, max_dets, image_ids)


def _run_pycocotools(dataset, detections, iou_type, max_dets, federated, image_ids):
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        truth, nothing = _indexed(dataset), {**dataset, "annotations": []}
        found = truth.loadRes(detections) if detections else _indexed(nothing)
        evaluation = _Evaluation(truth, found, iou_type, federated)
        return _run(evaluation, max_dets, image_ids)


def _indexed(dataset: dict) -> COCO:
    api = COCO()
    api.dataset = dataset
    api.createIndex()
    return api


def _run(evaluation, max_dets, image_ids) -> dict:
    evaluation.params.maxDets = max_dets
    if image_ids is not None:
        evaluation.params.imgIds = list(image_ids)
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval


class _Evaluation(COCOeval):
    """pycocotools' evaluation with Boundary IoU and LVIS' rules; see :func:`precision_recall`."""

    def __init__(self, truth: COCO, detections: COCO, iou_type: str, federated: bool):
        super().__init__(truth, detections, "bbox" if iou_type == "bbox" else "segm")
        self._boundary = iou_type == "boundary"
        self._incomplete = {
            image["id"]: image.get("not_exhaustive_category_ids") or () if federated else ()
            for image in truth.dataset["images"]
        }

    def computeIoU(self, imgId, catId):
        ious = super().computeIoU(imgId, catId)
        if not self._boundary:
            return ious
        return _boundary_ious(ious, self._gts[imgId, catId], self._dts[imgId, catId])

    def evaluateImg(self, imgId, catId, aRng, maxDet):
        matches = super().evaluateImg(imgId, catId, aRng, maxDet)
        if matches and catId in self._incomplete[imgId]:
            matches["dtIgnore"] |= matches["dtMatches"] == 0
        return matches


def _boundary_ious(ious, annotations: list[dict], detections: list[dict]):
    """The masks' IoUs of an image and a category, lowered to those of the boundaries."""
    if len(ious) == 0:
        return ious
    # The rows: detections in order of their scores, up to the limit.
    order = np.argsort([-detection["score"] for detection in detections], kind="mergesort")
    found = [_boundary_rle(detections[i]) for i in order[: len(ious)]]
    wanted = [_boundary_rle(annotation) for annotation in annotations]
    crowd = np.array([bool(annotation["iscrowd"]) for annotation in annotations])
    boundary_ious = mask_util.iou(found, wanted, [0] * len(wanted))
    return np.where(crowd, ious, np.minimum(ious, boundary_ious))


def _boundary_rle(annotation: dict) -> dict:
    rle = annotation.get("rle") or annotation["segmentation"]  # of faster-coco-eval, pycocotools
    columns, x0, y0 = decode_columns(rle)
    if columns.size:  # nothing is outside of them: the contour is the same
        columns = boundary_region(columns, boundary_distance(*rle["size"]))
    return encode_columns(columns, x0, y0, *rle["size"])
