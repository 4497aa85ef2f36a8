"""Evaluate instance segmentation with COCO annotations: box, mask and Boundary AP.

Shapes:
    N: number of detections of an image
    H, W: height and width of an image
"""

import itertools
import json
import logging
import math
import os
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.data.datasets import convert_to_coco_json
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Instances, ROIMasks
from detectron2.utils import comm
from detectron2.utils.logger import create_small_table
from pycocotools.coco import COCO

from ..data.coco_schema import unique_names
from ..errors import InputError
from ..files.atomic import replaces, write_text
from ..files.names import path_inside
from .average_precision import IOU_TYPES, Curves, installed_backend, mean_percent, precision_recall
from .coco_ground_truth import complete_areas, limit_problems, read_ground_truth
from .coco_results import encode_instances
from .f1 import LEAST_IOU, LEAST_SCORE, count_objects
from .tables import score_table

logger = logging.getLogger(__name__)

_MOST_SHOWN_CLASSES = 200  # in the table on the terminal; log.txt has all
CURVES_FILE = "coco_evaluation.json"  # scores and curves by task, beside the results file


class CocoInstanceEvaluator(COCOEvaluator):
    """Detectron2's ``COCOEvaluator`` with Boundary AP beside box and mask AP.

    A drop-in replacement with the same keys, numbers and files, plus F1, except that keypoints are
    not scored. Annotations may lack ``iscrowd`` and ``area``, and may have any ids, also 0, which
    pycocotools reads as "unmatched".
    """

    takes_roi_masks = True  # read by `RoiMaskModel`; False gives N x H x W masks
    _results_file = "coco_instances_results.json"
    usual_limit = 100  # of COCO, on the detections of a category in an image
    _federated = False

    def __init__(
        self,
        dataset_name: str,
        tasks: Iterable[str] | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        max_dets_per_image: int | None = None,
        detections_per_image: int | None = None,
        backend: str | None = None,
    ):
        """
        Args:
            dataset_name: a registered data set. If its metadata has no ``json_file``, its records
                are converted to COCO's format, which needs an ``output_dir``.
            tasks: some of ``"bbox"``, ``"segm"`` and ``"boundary"``. None for boxes, and for masks
                and boundaries if masks are predicted.
            distributed: gather the predictions of all ranks; else evaluate only this process's.
            output_dir: where to write ``coco_instances_results.json`` and
                ``instances_predictions.pth``; None writes nothing.
            max_dets_per_image: the limit on detections of a category; None for COCO's 100.
            detections_per_image: ``TEST.DETECTIONS_PER_IMAGE`` of the model. Where it is given,
                ``max_dets_per_image`` grows to the most detections that an image has: tiles and
                images that are larger than in training have more.
            backend: as in `precision_recall`.

        Raises:
            InputError: ``tasks`` has an unknown name.
        """
        unknown = set(tasks or ()) - set(IOU_TYPES)
        if unknown:
            raise InputError(
                f"tasks are {', '.join(IOU_TYPES)}, got {', '.join(sorted(unknown))}. Keypoints "
                "are scored by Detectron2's COCOEvaluator."
            )
        if output_dir:  # where records without a JSON are converted to
            path_inside(output_dir, f"{dataset_name}_coco_format.json")
        # not `super().__init__`, which reads the file as it is
        self._logger, self._cpu_device = logger, torch.device("cpu")
        self._tasks = tuple(tasks) if tasks else None
        self._distributed, self._output_dir = distributed, output_dir or ""
        self._use_fast_impl, self._kpt_oks_sigmas = False, ()
        self._max_dets_per_image: list[int] = [1, 10, max_dets_per_image or 100]
        self._metadata = MetadataCatalog.get(dataset_name)
        self._dataset_name = dataset_name
        self._truth_file, self._coco_api = self._read_truth()
        # files of test sets have none
        self._do_evaluation = "annotations" in self._coco_api.dataset
        self._detections_per_image = detections_per_image
        self._curves: dict[str, Curves] = {}
        self._backend = backend or installed_backend()
        self._mask_problem = complete_areas(self._coco_api)
        self._category_ids = {i: category for category, i in self._contiguous_ids().items()}

    def _read_truth(self) -> tuple[str, COCO]:
        """Return the file that the ground truth comes from, for messages, and the ground truth."""
        if not hasattr(self._metadata, "json_file"):
            if not self._output_dir:
                raise InputError(
                    f"The data set {self._dataset_name} has no JSON file of COCO's format, and to "
                    "convert it a folder is needed: give output_dir."
                )
            path = os.path.join(self._output_dir, f"{self._dataset_name}_coco_format.json")
            self._metadata.json_file = path
            convert_to_coco_json(self._dataset_name, path, allow_cached=False)
        return self._metadata.json_file, read_ground_truth(self._dataset_name, self._metadata)

    def _contiguous_ids(self) -> dict[int, int]:
        """Return class indices by category id; without metadata, in the order of the ids."""
        known = self._metadata.get("thing_dataset_id_to_contiguous_id")
        return known or {c: i for i, c in enumerate(sorted(self._coco_api.getCatIds()))}

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Encode and store predictions.

        Args:
            inputs: records with ``image_id`` as in the data set.
            outputs: dicts with ``instances``: N ``pred_boxes``, ``scores`` and ``pred_classes``,
                and, if the model predicts masks, ``pred_masks``: N x H x W bool, or `ROIMasks` in
                the frames of ``pred_boxes``, which is faster, or `RleMasks`.

        Raises:
            InputError: an image or a class is not in the data set, or a mask does not have the
                image's size.
        """
        for record, output in zip(inputs, outputs, strict=True):
            if "instances" not in output:
                super().process([record], [output])
                continue
            instances = output["instances"].to("cpu")
            self._check(record, instances)
            encoded = encode_instances(instances, record["image_id"])
            self._predictions.append({"image_id": record["image_id"], "instances": encoded})

    def _check(self, record: dict, instances: Instances) -> None:
        image = self._coco_api.imgs.get(record["image_id"])
        if image is None:
            raise InputError(
                f"{record.get('file_name', 'an image')}: image_id {record['image_id']!r} is not "
                f"in {self._truth_file}. Evaluate with the data set that the images come "
                "from."
            )
        wrong = set(instances.pred_classes.tolist()) - set(self._category_ids)
        if wrong:
            count = len(self._category_ids)
            raise InputError(
                f"The model predicts class {min(wrong)}, but data set '{self._dataset_name}' has "
                f"{count} classes (0 to {count - 1}). Set MODEL.ROI_HEADS.NUM_CLASSES to {count}, "
                "or DATASETS.TEST to a data set with the classes that the model was trained for."
            )
        size, predicted = (image["height"], image["width"]), instances.image_size
        if instances.has("pred_masks") and not isinstance(instances.pred_masks, ROIMasks):
            predicted = tuple(instances.pred_masks.shape[-2:])
        if instances.has("pred_masks") and predicted != size:
            got = " x ".join(map(str, predicted))
            raise InputError(
                f"{record.get('file_name', image)}: the predicted masks are {got}, but "
                f"{self._truth_file} says that the image is {size[0]} x {size[1]} (height "
                "x width). Give 'height' and 'width' of the image in the model's input."
            )

    def evaluate(self, img_ids: Sequence | None = None) -> dict:
        """Score all images since :meth:`reset`, or those in ``img_ids``.

        Returns:
            ``{task: scores}`` on the main rank; an empty dict on other ranks and if the data set
            has no annotations. Scores are in percent: AP, AP50, AP75, APs, APm, APl, F1 (of boxes
            and masks) and, with at least two classes, AP-<class>. Scores that cannot be computed
            are NaN, and the log says why.
        """
        if self._output_dir:
            path_inside(self._output_dir, "instances_predictions.pth")
        results = super().evaluate(img_ids)
        main = not self._distributed or comm.is_main_process()
        if not results and main and self._do_evaluation:  # no image was processed
            results = {task: self._score(task, [], img_ids) for task in self._tasks or IOU_TYPES}
        return results

    def _eval_predictions(self, predictions: list[dict], img_ids: Sequence | None = None) -> None:
        detections = [
            {**detection, "category_id": self._category_ids[detection["category_id"]]}
            for detection in itertools.chain(*(p["instances"] for p in predictions))
        ]
        if self._output_dir:
            path = os.path.join(self._output_dir, self._results_file)
            logger.info("Saving results to %s", path)
            with replaces(path) as part, open(part, "w") as file:
                json.dump(detections, file)
        if not self._do_evaluation:
            logger.info("%s has no annotations to evaluate with.", self._truth_file)
            return
        self._look_at_limits(predictions)
        logger.info("Evaluating predictions with %s", self._backend)
        self._curves = {}
        for task in self._tasks or self._tasks_from_predictions(detections):
            self._results[task] = self._score(task, detections, img_ids)
        self._log_classes()
        if self._output_dir:
            self._write_curves()

    def _look_at_limits(self, predictions: list[dict]) -> None:
        """Raise the last limit to what the model gave; say where limits are below the objects."""
        found = {p["image_id"]: len(p["instances"]) for p in predictions}
        limits = list(self._max_dets_per_image)
        if self._detections_per_image is not None:
            limits[-1] = max([limits[-1], *found.values()])
            self._max_dets_per_image = limits
        if limits[-1] != self.usual_limit:
            logger.info(
                "AP counts up to %d detections in an image; the usual limit is %d, and AP at that "
                "can be lower.",
                limits[-1],
                self.usual_limit,
            )
        for message in limit_problems(
            self._coco_api.dataset.get("annotations", ()),
            found,
            limits[-1],
            self._detections_per_image,
        ):
            logger.warning("%s: %s", self._dataset_name, message)

    def _log_classes(self) -> None:
        """Log the AP of each class, for all tasks in one table."""
        tasks = list(self._curves)
        names = [key for key in self._results[tasks[0]] if key.startswith("AP-")] if tasks else []
        rows = [
            (key.removeprefix("AP-"), [self._results[task][key] for task in tasks]) for key in names
        ]
        if rows:
            level = logging.INFO if len(rows) <= _MOST_SHOWN_CLASSES else logging.DEBUG
            table = score_table(("class", *(f"{task} AP" for task in tasks)), rows)
            logger.log(level, "AP of each class:\n%s", table)

    def _write_curves(self) -> None:
        """Write scores, and precision at each recall (the mean over classes), for reports."""
        content = {
            task: {
                "scores": {k: None if np.isnan(v) else v for k, v in self._results[task].items()},
                "precision": curves.mean_precision(),
            }
            for task, curves in self._curves.items()
        }
        write_text(os.path.join(self._output_dir, CURVES_FILE), json.dumps(content))

    def _tasks_from_predictions(self, predictions: list[dict]) -> tuple[str, ...]:
        if any("keypoints" in prediction for prediction in predictions):
            logger.warning("Keypoints are not scored: use Detectron2's COCOEvaluator for them.")
        with_masks = not predictions or any("segmentation" in p for p in predictions)
        return IOU_TYPES if with_masks else ("bbox",)

    def _score(
        self, task: str, detections: list[dict], img_ids: Sequence | None
    ) -> dict[str, float]:
        names = self._class_names()
        obstacle = self._obstacle(task, detections)
        if obstacle:
            logger.warning("%s AP cannot be computed and is NaN: %s", task, obstacle)
            curves = _no_curves(len(names), len(self._max_dets_per_image))
        else:
            curves = precision_recall(
                self._coco_api.dataset,
                self._limited(detections),
                task,
                max_dets=self._max_dets_per_image,
                federated=self._federated,
                image_ids=img_ids,
                backend=self._backend,
            )
        self._curves[task] = curves
        metrics = self._metrics(curves)
        if task != "boundary" and not self._federated:
            metrics["F1"] = math.nan if obstacle else self._f1(task, detections, img_ids)
        logger.info("Evaluation results for %s:\n%s", task, create_small_table(metrics))
        logger.info("Recall for %s:\n%s", task, create_small_table(self._recall(curves)))
        per_class = self._per_class(curves, names)
        return {**metrics, **{f"AP-{name}": ap for name, ap in per_class.items()}}

    def _obstacle(self, task: str, detections: list[dict]) -> str:
        """Return why a task cannot be scored, "" if it can."""
        if not detections:
            return "the model made no predictions."
        if task != "bbox" and not all("segmentation" in d for d in detections):
            return "the model predicts no masks (is MODEL.MASK_ON False?)."
        if task != "bbox" and self._mask_problem:
            return f"{self._truth_file}: {self._mask_problem}"
        return ""

    def _limited(self, detections: list[dict]) -> list[dict]:
        return detections

    def _metrics(self, curves: Curves) -> dict[str, float]:
        return curves.metrics()

    def _f1(self, task: str, detections: list[dict], img_ids: Sequence | None) -> float:
        """Return the mean F1 over categories in percent; log how many objects were found."""
        counts = count_objects(self._coco_api, detections, task, img_ids).values()
        found, missed, wrong = (
            sum(getattr(each, name) for each in counts) for name in ("found", "missed", "wrong")
        )
        logger.info(
            "%s: %d of %d objects found, %d predicted objects are wrong (score ≥ %g, IoU ≥ %g)",
            *(task, found, found + missed, wrong, LEAST_SCORE, LEAST_IOU),
        )
        scores = [each.f1() for each in counts if each.found + each.missed]
        return float(np.mean(scores)) if scores else math.nan

    def _recall(self, curves: Curves) -> dict[str, float]:
        limits = enumerate(self._max_dets_per_image)
        recall = {f"AR@{limit}": mean_percent(curves.recall[:, :, 0, i]) for i, limit in limits}
        for area, name in enumerate("sml", start=1):
            recall[f"AR{name}"] = mean_percent(curves.recall[:, :, area, -1])
        return recall

    def _per_class(self, curves: Curves, names: list[str]) -> dict[str, float]:
        if len(names) < 2:
            return {}
        return {name: curves.average_precision([k]) for k, name in enumerate(names)}

    def _class_names(self) -> list[str]:
        """Return the class names in the order of the category ids, those that are twice with it."""
        classes, contiguous = self._metadata.get("thing_classes") or (), self._contiguous_ids()
        names = {
            category: classes[contiguous[category]]
            if contiguous.get(category, len(classes)) < len(classes)
            else self._coco_api.cats[category]["name"]
            for category in sorted(self._coco_api.getCatIds())
        }
        return unique_names(names)


def _no_curves(categories: int, limits: int) -> Curves:
    return Curves(np.full((10, 101, categories, 4), -1.0), np.full((10, categories, 4, limits), -1))
