"""Evaluate panoptic segmentation: panoptic quality, and the scores of both branches.

Shapes:
    H, W: height and width of an image
    T, S: number of classes of things and of stuff
"""

import json
import logging
import os
from collections import OrderedDict
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from ..data.annotations import Record
from ..data.coco_schema import unique_names
from ..data.panoptic.classes import panoptic_classes
from ..data.panoptic.records import Truth, read_truth
from ..data.panoptic.segments import place_ids, read_record_segments
from ..errors import InputError
from ..files.atomic import replaces
from ..files.names import path_inside
from ..structures.panoptic_png import encode_ids
from .panoptic_quality import PanopticQuality, Segmentation
from .tables import score_table

logger = logging.getLogger(__name__)

PREDICTIONS_FILE, PREDICTIONS_FOLDER = "predictions.json", "predictions"
SCORES_FILE = "panoptic_evaluation.json"
_SCORES = ("PQ", "SQ", "RQ")


class PanopticEvaluator(DatasetEvaluator):
    """Evaluator of panoptic quality for registered data sets.

    A drop-in replacement for Detectron2's ``COCOPanopticEvaluator`` with the same keys, which needs
    no panopticapi and also scores each class. The areas of segments are counted in the PNGs; a
    segment without a pixel is left out; all crowds of a class are ignored, not only the last.
    """

    def __init__(
        self, dataset_name: str, *, distributed: bool = True, output_dir: str | None = None
    ):
        """
        Args:
            dataset_name: a registered data set, with ``panoptic_json`` and ``panoptic_root`` in its
                metadata, or ``pan_seg_file_name`` and ``segments_info`` in its records.
            distributed: gather the counts of all ranks; else evaluate only this process's images.
            output_dir: where to write ``panoptic_evaluation.json`` (NaN as null) and the
                predictions in COCO's panoptic format, ``predictions.json`` and ``predictions/``;
                None writes nothing. Until then, the encoded predictions are held in memory.

        Raises:
            InputError: the data set has no panoptic labels, or other classes than its file.
        """
        self._dataset_name = dataset_name
        self._metadata = MetadataCatalog.get(dataset_name)
        self._classes = panoptic_classes(dataset_name)
        self._numbers = {k: number for number, k in enumerate(self._classes.ids)}
        self._truth = read_truth(dataset_name, self._classes)
        self._distributed = distributed
        self._output_dir = output_dir
        self.reset()

    def reset(self) -> None:
        self._quality = PanopticQuality(len(self._classes.ids))
        self._predictions: list[dict] = []

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Compare predicted segments with the true ones.

        Args:
            inputs: records with ``image_id`` as in the data set.
            outputs: dicts with ``panoptic_seg``: ids of segments (H x W, integer, 0 for none), and
                for each segment a dict with ``id``, ``isthing`` and ``category_id``: 0 to T - 1
                for things, 1 to S for stuff; without ``isthing``, the data set's own category id.
                Or None instead of dicts: ids are then class * ``label_divisor`` + number of the
                object, where classes are numbered as in the metadata, and -1 is none.

        Raises:
            InputError: an image or a class is not in the data set, the prediction has another size
                than the PNG, or no dict for a segment.
        """
        for record, output in zip(inputs, outputs, strict=True):
            if "panoptic_seg" not in output:
                raise InputError(
                    f"The model predicts no panoptic segments, but {self._dataset_name} is a "
                    "panoptic data set. Choose a panoptic config, or another data set for "
                    "DATASETS.TEST."
                )
            image_id = record["image_id"]
            if image_id not in self._truth.records:
                raise InputError(
                    f"{record.get('file_name', 'an image')}: image_id {image_id!r} is not in the "
                    f"data set {self._dataset_name}. Evaluate with the data set that the images "
                    "come from."
                )
            true_record = self._truth.records[image_id]
            truth = read_record_segments(true_record)
            ids, segments = self._prediction(*output["panoptic_seg"])
            if ids.shape != truth.numbers.shape:
                got, wanted = (" x ".join(map(str, a.shape)) for a in (ids, truth.numbers))
                raise InputError(
                    f"{true_record['pan_seg_file_name']}: the predicted segments are {got}, but "
                    f"the PNG is {wanted} (height x width). Give 'height' and 'width' of the image "
                    "in the model's input."
                )
            numbers, segments = _consecutive(ids, segments, true_record["file_name"])
            self._quality.update(
                Segmentation(numbers, [self._numbers[each["category_id"]] for each in segments]),
                Segmentation(
                    truth.numbers,
                    [self._numbers[each["category_id"]] for each in truth.segments],
                    [bool(each.get("iscrowd", 0)) for each in truth.segments],
                ),
            )
            if self._output_dir is not None:
                self._predictions.append(_encode(image_id, true_record, numbers, segments))

    def _prediction(self, ids: Any, segments: list[dict] | None) -> tuple[np.ndarray, list[dict]]:
        """Return ids (H, W), and segments with the data set's category ids."""
        ids = np.asarray(ids.cpu() if isinstance(ids, torch.Tensor) else ids).astype(np.int64)
        if segments is not None:
            return ids, [
                {"id": each["id"], "category_id": self._category(each)} for each in segments
            ]
        divisor = self._metadata.get("label_divisor") or 1000
        found = []
        for number in np.unique(ids[ids >= 0]).tolist():
            segment = {"category_id": number // divisor}
            known = self._classes.number(segment)
            if known is None:
                raise self._unknown(segment)
            found.append({"id": number + 1, "category_id": self._class_id(*known)})
        return ids + 1, found

    def _category(self, segment: dict) -> int:
        """Return the category id of a predicted segment."""
        category, is_thing = segment["category_id"], segment.get("isthing")
        if is_thing is None and category in self._numbers:
            return category
        lowest, count = (
            (0, self._classes.num_things) if is_thing else (1, self._classes.num_semantic)
        )
        if is_thing is None or not lowest <= category < count:
            raise self._unknown(segment)
        return self._class_id(is_thing, category)

    def _class_id(self, is_thing: bool, number: int) -> int:
        return self._classes.thing_ids[number] if is_thing else self._classes.stuff_ids[number - 1]

    def _unknown(self, segment: dict) -> InputError:
        what = {True: "the thing", False: "the stuff", None: "the class"}[segment.get("isthing")]
        return InputError(
            f"The model predicts {what} {segment['category_id']}, but data set "
            f"'{self._dataset_name}' has {self._classes.num_things} things (from 0) and "
            f"{len(self._classes.stuff_names)} kinds of stuff (from 1). Set "
            f"MODEL.ROI_HEADS.NUM_CLASSES to {self._classes.num_things} and "
            f"MODEL.SEM_SEG_HEAD.NUM_CLASSES to {self._classes.num_semantic}, or DATASETS.TEST to "
            "a data set with the classes that the model was trained for."
        )

    def evaluate(self) -> OrderedDict | None:
        """Score all images since :meth:`reset`.

        Returns:
            ``{"panoptic_seg": scores}`` on the main rank, None on the others. Scores are in
            percent: PQ, SQ and RQ, the same of things (``PQ_th``) and of stuff (``PQ_st``), and
            ``PQ-<class>``, … of each class. Means are over the classes that occur in the truth or
            the prediction; NaN where none does.
        """
        parts = [(self._quality, self._predictions)]
        if self._distributed:
            comm.synchronize()
            parts = comm.gather(parts[0], dst=0)
            if not comm.is_main_process():
                return None
        quality = PanopticQuality(len(self._classes.ids))
        for part, _ in parts:
            quality.merge(part)
        scores = self._scores(100 * quality.scores())
        if self._output_dir is not None:
            os.makedirs(self._output_dir, exist_ok=True)
            finite = {key: None if np.isnan(value) else value for key, value in scores.items()}
            _write_json(os.path.join(self._output_dir, SCORES_FILE), finite)
            predictions = [each for _, part in parts for each in part]
            _write_predictions(self._output_dir, predictions, self._truth)
        return OrderedDict({"panoptic_seg": scores})

    def _scores(self, by_class: np.ndarray) -> dict[str, float]:
        things = np.arange(by_class.shape[1]) < self._classes.num_things
        groups = {"": things | True, "_th": things, "_st": ~things}
        scores = {
            f"{key}{suffix}": _mean(values[group])
            for suffix, group in groups.items()
            for key, values in zip(_SCORES, by_class, strict=True)
        }
        rows = [
            (name, [scores[f"{key}{suffix}"] for key in _SCORES])
            for name, suffix in (("all", ""), ("things", "_th"), ("stuff", "_st"))
        ]
        names = unique_names(dict(zip(self._classes.ids, self._classes.names, strict=True)))
        classes = list(zip(names, by_class.T.tolist(), strict=True))
        logger.info(
            "Panoptic quality on %s:\n%s\n%s",
            self._dataset_name,
            score_table(("", *_SCORES), rows),
            score_table(("class", *_SCORES), classes),
        )
        for key, values in zip(_SCORES, by_class.tolist(), strict=True):
            scores |= {f"{key}-{name}": value for name, value in zip(names, values, strict=True)}
        return scores


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _consecutive(
    ids: np.ndarray, segments: list[dict], file_name: str
) -> tuple[np.ndarray, list[dict]]:
    """Return the number of each pixel's segment, and the segments that have a pixel."""
    numbers, unlisted = place_ids(ids, [each["id"] for each in segments])
    if unlisted:
        raise InputError(
            f"{file_name}: the model predicts pixels of segment {unlisted[0]}, for which it gives "
            "no dict. 'panoptic_seg' is a map of ids and a dict for each of them."
        )
    areas = np.bincount(numbers.ravel(), minlength=len(segments) + 1)
    kept = [k for k in range(len(segments)) if areas[k + 1]]
    table = np.zeros(len(segments) + 1, np.int32)
    table[[k + 1 for k in kept]] = np.arange(1, len(kept) + 1)
    return table[numbers], [segments[k] | {"area": int(areas[k + 1])} for k in kept]


def _encode(image_id: Any, record: Record, numbers: np.ndarray, segments: list[dict]) -> dict:
    """Return a prediction for COCO's panoptic format, with the bytes of its PNG."""
    stem = os.path.splitext(os.path.basename(record["file_name"]))[0]
    _, png = cv2.imencode(".png", encode_ids(numbers)[..., ::-1])
    listed = [each | {"id": k} for k, each in enumerate(segments, start=1)]
    return {"image_id": image_id, "stem": stem, "segments_info": listed, "png": png.tobytes()}


def _write_predictions(folder: str, predictions: list[dict], truth: Truth) -> None:
    """Write predictions in COCO's panoptic format; names that are taken get a number."""
    target = path_inside(folder, PREDICTIONS_FOLDER)
    os.makedirs(target, exist_ok=True)
    annotations, taken = [], set[str]()
    for number, each in enumerate(predictions):
        stem = each["stem"] if each["stem"] not in taken else f"{each['stem']}_{number}"
        taken.add(stem)
        with replaces(os.path.join(target, f"{stem}.png")) as part, open(part, "wb") as file:
            file.write(each["png"])
        kept = {key: each[key] for key in ("image_id", "segments_info")}
        annotations.append(kept | {"file_name": f"{stem}.png"})
    content = {"images": truth.images, "annotations": annotations, "categories": truth.categories}
    _write_json(os.path.join(folder, PREDICTIONS_FILE), content)


def _write_json(path: str, content: dict) -> None:
    with replaces(path) as part, open(part, "w") as file:
        json.dump(content, file)
