"""Predictions beside labels, image by image, from the files that an evaluation wrote.

Shape shorthand: H, W size of an image; C classes; N objects.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
from detectron2.config import CfgNode
from detectron2.structures import polygons_to_bitmask

from ..data.annotations import decode_mask
from ..data.classes import Classes, known_classes
from ..data.dataset_files import load_dicts
from ..data.labels import read_file, read_record_labels
from ..drawing.predictions import draw_classes, draw_instances
from ..errors import InputError
from ..evaluation.boundary import boundary_counts, boundary_distance, boundary_region
from ..evaluation.confusion import SemanticConfusion

SEMANTIC_FILE = "sem_seg_predictions.json"
INSTANCE_FILES = ("coco_instances_results.json", "lvis_instances_results.json")
# Objects that are less certain than this are not drawn and not compared.
LEAST_SCORE = 0.5


@dataclass(frozen=True)
class Score:
    """How good the prediction for one image is, in percent; NaN where nothing is labelled.

    Attributes:
        number: of the image among the cases.
        iou, boundary_iou: semantic: the mean over the classes that are labelled. Instances: the
            sum over the objects that were found, over the number of objects that are labelled or
            predicted: what is missed or invented counts 0.
    """

    number: int
    name: str
    iou: float
    boundary_iou: float


@dataclass(frozen=True)
class View:
    """What there is to draw of an image.

    Attributes:
        image: RGB, (H, W, 3).
        truth, prediction: the same with labels or prediction over it; called with whether names
            are written into it.
        wrong: (H, W) bool.
    """

    image: np.ndarray
    truth: Callable[[bool], np.ndarray]
    prediction: Callable[[bool], np.ndarray]
    wrong: np.ndarray


class SemanticCases:
    """Label maps and predicted ones.

    Args:
        folder: with ``sem_seg_predictions.json``.
    """

    what = "the mean over the classes of an image"

    def __init__(self, cfg: CfgNode, dataset_name: str, folder: Path):
        self.classes: Classes = known_classes(
            cfg, dataset_name, semantic=True, num_classes=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        )
        self._contiguous = {number: k for k, number in enumerate(self.classes.ids)}
        self._segments = defaultdict(list)
        for segment in _read(folder / SEMANTIC_FILE):
            self._segments[segment["file_name"]].append(segment)
        records = load_dicts(dataset_name)
        self.records = [r for r in records if r["file_name"] in self._segments]

    def __len__(self) -> int:
        return len(self.records)

    def maps(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Labels and prediction, (H, W) integers."""
        record = self.records[number]
        labels = read_record_labels(record)
        predicted = np.zeros(labels.shape, np.int64)
        for segment in self._segments[record["file_name"]]:
            number = self._contiguous.get(segment["category_id"], segment["category_id"])
            predicted[mask_util.decode(segment["segmentation"]).astype(bool)] = number
        return labels, predicted

    def score(self, number: int) -> Score:
        labels, predicted = self.maps(number)
        confusion = SemanticConfusion(len(self.classes), self.classes.ignore_value)
        confusion.update(predicted, labels)
        scores = confusion.scores()
        name = self.records[number]["file_name"]
        return Score(number, name, scores["mIoU"], scores["mBoundaryIoU"])

    def width_counts(self, number: int, widths: Sequence[int]) -> np.ndarray:
        """(widths, 2, C): pixels of the boundary regions' intersections and unions."""
        labels, predicted = self.maps(number)
        counts = [
            boundary_counts(predicted, labels, len(self.classes), width, self.classes.ignore_value)
            for width in widths
        ]
        return np.stack(counts)[:, :2]

    def view(self, number: int) -> View:
        image = read_file(self.records[number]["file_name"], "image", "RGB")
        labels, predicted = self.maps(number)
        wrong = (labels != predicted) & (labels != self.classes.ignore_value)
        truth, prediction = (
            lambda names, shown=shown: draw_classes(image, shown, self.classes, names=names)
            for shown in (labels, predicted)
        )
        return View(image, truth, prediction, wrong)


class InstanceCases:
    """Labelled objects and predicted ones; crowds are left out.

    Args:
        folder: with one of `INSTANCE_FILES`.
    """

    what = f"the mean over the objects of an image, of those with a score of {LEAST_SCORE}"

    def __init__(self, cfg: CfgNode, dataset_name: str, folder: Path):
        records = load_dicts(dataset_name)  # which fills in the ids of the classes
        self.classes: Classes = known_classes(
            cfg, dataset_name, semantic=False, num_classes=cfg.MODEL.ROI_HEADS.NUM_CLASSES
        )
        contiguous = {number: k for k, number in enumerate(self.classes.ids)}
        self._found = defaultdict(list)
        for item in _read(
            next(folder / each for each in INSTANCE_FILES if (folder / each).exists())
        ):
            if item["score"] >= LEAST_SCORE and "segmentation" in item:
                number = contiguous.get(item["category_id"], item["category_id"])
                self._found[item["image_id"]].append({**item, "class": number})
        self.records = [r for r in records if "annotations" in r]

    def __len__(self) -> int:
        return len(self.records)

    def objects(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list]:
        """Masks (N, H, W) and classes (N,) of the labels; the same of the prediction, scores."""
        record = self.records[number]
        size = record["height"], record["width"]
        true = [a for a in record["annotations"] if not a.get("iscrowd") and a.get("segmentation")]
        found = sorted(self._found[record["image_id"]], key=lambda item: -item["score"])
        return (
            _stack([_mask(a["segmentation"], size) for a in true], size),
            np.array([a["category_id"] for a in true], int),
            _stack([mask_util.decode(item["segmentation"]) for item in found], size),
            np.array([item["class"] for item in found], int),
            [item["score"] for item in found],
        )

    def score(self, number: int) -> Score:
        true, true_classes, found, found_classes, _ = self.objects(number)
        name = self.records[number]["file_name"]
        pairs = match(true, true_classes, found, found_classes)
        count = len(true) + len(found) - len(pairs)
        if count == 0:
            return Score(number, name, float("nan"), float("nan"))
        width = boundary_distance(*true.shape[1:])
        boundary = sum(min(iou, boundary_iou(true[i], found[j], width)) for i, j, iou in pairs)
        return Score(
            number, name, 100 * sum(iou for *_, iou in pairs) / count, 100 * boundary / count
        )

    def width_counts(self, number: int, widths: Sequence[int]) -> np.ndarray:
        """(widths, 2, C): of objects that were found, sums of Boundary IoU, and their number."""
        true, true_classes, found, found_classes, _ = self.objects(number)
        counts = np.zeros((len(widths), 2, len(self.classes)))
        for i, j, iou in match(true, true_classes, found, found_classes):
            for row, width in zip(counts, widths, strict=True):
                row[0, true_classes[i]] += min(iou, boundary_iou(true[i], found[j], width))
                row[1, true_classes[i]] += 1
        return counts

    def view(self, number: int) -> View:
        image = read_file(self.records[number]["file_name"], "image", "RGB")
        true, true_classes, found, found_classes, scores = self.objects(number)
        labelled, predicted = (true, true_classes, None), (found, found_classes, np.array(scores))
        truth, prediction = (
            lambda names, shown=shown: draw_instances(image, *shown, self.classes, names=names)
            for shown in (labelled, predicted)
        )
        return View(image, truth, prediction, true.any(0) ^ found.any(0))


def open_cases(cfg: CfgNode, dataset_name: str, folder: Path) -> SemanticCases | InstanceCases:
    """The cases of what an evaluation wrote into a folder.

    Raises:
        InputError: there are no predictions.
    """
    if (folder / SEMANTIC_FILE).exists():
        return SemanticCases(cfg, dataset_name, folder)
    if any((folder / file).exists() for file in INSTANCE_FILES):
        return InstanceCases(cfg, dataset_name, folder)
    raise InputError(
        f"There are no predictions in {folder}: neither {SEMANTIC_FILE} nor {INSTANCE_FILES[0]}. "
        "Evaluate first: tools/train_net.py --eval-only MODEL.WEIGHTS FILE."
    )


def match(true, true_classes, found, found_classes) -> list[tuple[int, int, float]]:
    """Which labelled object each predicted one is: of its class, with an IoU of 0.5 or more.

    Args:
        true, found: masks (N, H, W) bool; those found in the order of their scores, in which they
            choose.

    Returns:
        pairs of numbers, and the IoU of their masks.
    """
    pairs, free = [], set(range(len(true)))
    for j, mask in enumerate(found):
        ious = {i: _iou(true[i], mask) for i in free if true_classes[i] == found_classes[j]}
        best = max(ious, key=ious.get, default=None)
        if best is not None and ious[best] >= 0.5:
            free.remove(best)
            pairs.append((best, j, ious[best]))
    return pairs


def boundary_iou(a: np.ndarray, b: np.ndarray, width: int) -> float:
    """IoU of the boundary regions of two masks (H, W), both with a pixel."""
    return _iou(boundary_region(a, width), boundary_region(b, width))


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def _mask(segmentation, size: tuple[int, int]) -> np.ndarray:
    if isinstance(segmentation, list):
        return polygons_to_bitmask([np.asarray(polygon) for polygon in segmentation], *size)
    return decode_mask(segmentation)


def _stack(masks: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    return np.array(masks, bool) if masks else np.zeros((0, *size), bool)


def _read(path: Path) -> list[dict]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}. Evaluate again.") from error


def worst_window(wrong: np.ndarray, size: tuple[int, int]) -> tuple[slice, slice]:
    """The window (rows, columns) of a size that has the most wrong pixels."""
    height, width = np.minimum(size, wrong.shape).tolist()
    sums = cv2.boxFilter(
        wrong.astype(np.float32), -1, (width, height), anchor=(0, 0), normalize=False
    )
    sums = sums[: wrong.shape[0] - height + 1, : wrong.shape[1] - width + 1]
    top, left = (int(i) for i in np.unravel_index(sums.argmax(), sums.shape))
    return slice(top, top + height), slice(left, left + width)
