"""Compare predictions with labels, image by image, from the files that an evaluation wrote.

Shape legend: H, W size of an image; C classes; N objects.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from detectron2.config import CfgNode

from ..data.annotations import decode_mask, mask_problem, shown
from ..data.classes import Classes, known_classes, known_panoptic_classes, palette
from ..data.dataset_files import load_dicts
from ..data.images.reader import ImageReader
from ..data.labels import read_record_labels
from ..data.panoptic.classes import panoptic_classes
from ..data.panoptic.records import read_truth
from ..data.panoptic.segments import read_record_segments
from ..drawing.predictions import draw_classes, draw_instances, draw_segments
from ..errors import InputError
from ..evaluation.boundary import boundary_counts, boundary_distance, boundary_run_lengths
from ..evaluation.confusion import SemanticConfusion
from ..evaluation.panoptic import PREDICTIONS_FILE, PREDICTIONS_FOLDER, SCORES_FILE
from ..structures.rle_masks import RleMasks

SEMANTIC_FILE = "sem_seg_predictions.json"
INSTANCE_FILES = ("coco_instances_results.json", "lvis_instances_results.json")
# Predicted objects with a lower score are neither drawn nor compared.
LEAST_SCORE = 0.5
_AT_ONCE = 256  # predicted masks whose IoU with all labelled ones is computed


@dataclass(frozen=True)
class Score:
    """How good the prediction for one image is, in percent; NaN where nothing is labelled.

    Attributes:
        number: of the image in the comparison.
        name: path of the image.
        iou, boundary_iou: for label maps: the mean over the classes that are labelled. For
            instances: the sum of matched IoUs divided by the number of labelled or predicted
            objects; misses and false positives count 0.
    """

    number: int
    name: str
    iou: float
    boundary_iou: float


@dataclass(frozen=True)
class View:
    """Pictures of an image, RGB (H, W, 3), and where its prediction is wrong.

    Attributes:
        image: the image itself.
        named: the image with its labels over it, and with its prediction, names included.
        bare: the same without names.
        wrong: (H, W) bool, the pixels at which labels and prediction differ.
    """

    image: np.ndarray
    named: list[np.ndarray]
    bare: list[np.ndarray]
    wrong: np.ndarray


class SemanticComparison:
    """Compare predicted class maps with label maps.

    Args:
        folder: contains ``sem_seg_predictions.json``.
    """

    sorted_by = "mean Boundary IoU per image, over its classes"

    def __init__(self, cfg: CfgNode, dataset_name: str, folder: Path):
        self._reader = ImageReader.from_config(cfg)
        self.classes: Classes = known_classes(
            cfg, dataset_name, semantic=True, num_classes=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        )
        self._contiguous = {number: k for k, number in enumerate(self.classes.ids)}
        self._segments = defaultdict(list)
        self._file = folder / SEMANTIC_FILE
        for segment in _read(self._file, ("file_name", "category_id", "segmentation")):
            self._segments[segment["file_name"]].append(segment)
        records = load_dicts(dataset_name)
        self.records = [r for r in records if r["file_name"] in self._segments]

    def __len__(self) -> int:
        return len(self.records)

    def maps(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the labels and the prediction of an image, (H, W) class numbers."""
        record = self.records[number]
        labels = read_record_labels(record)
        segments = self._segments[record["file_name"]]
        ids = [segment["category_id"] for segment in segments]
        numbers = [self._contiguous.get(number, number) for number in ids]
        # as small as the numbers allow: eight bytes a pixel are too many for large images
        predicted = np.zeros(
            labels.shape, np.result_type(np.uint8, *map(np.min_scalar_type, numbers))
        )
        for segment, class_number in zip(segments, numbers, strict=True):
            rle = _predicted_run_lengths(segment, labels.shape, self._file)
            predicted[mask_util.decode(rle).astype(bool)] = class_number
        return labels, predicted

    def score(self, number: int) -> Score:
        """Score the prediction for an image."""
        labels, predicted = self.maps(number)
        confusion = SemanticConfusion(self._count, self.classes.ignore_value)
        confusion.update(predicted, labels)
        scores = confusion.scores()
        name = self.records[number]["file_name"]
        return Score(number, name, scores["mIoU"], scores["mBoundaryIoU"])

    def width_counts(self, number: int, widths: Sequence[int]) -> np.ndarray:
        """Count pixels of the boundary regions' intersections and unions, (widths, 2, C)."""
        labels, predicted = self.maps(number)
        counts = [
            boundary_counts(predicted, labels, self._count, width, self.classes.ignore_value)
            for width in widths
        ]
        return np.stack(counts)[:, :2]

    def view(self, number: int, *, letters: float | None = None) -> View:
        """Return what there is to see of an image; ignored pixels are not wrong.

        Args:
            letters: height of names as a share of the image's width; by default as it fits the
                image.
        """
        image = self._reader.read(self.records[number]["file_name"])
        labels, predicted = self.maps(number)
        wrong = (labels != predicted) & (labels != self.classes.ignore_value)
        size = _letter_size(image, letters)
        named, bare = (
            self._drawn(image, number, names=names, letters=size) for names in (True, False)
        )
        return View(image, named, bare, wrong)

    @property
    def _count(self) -> int:
        """Number of the classes that pixels are predicted to have."""
        return len(self.classes)

    def _drawn(
        self, image: np.ndarray, number: int, *, names: bool, letters: int | None
    ) -> list[np.ndarray]:
        """Draw the labels and the prediction over an image."""
        return [
            draw_classes(image, each, self.classes, names=names, letters=letters)
            for each in self.maps(number)
        ]


@dataclass(frozen=True)
class Objects:
    """The objects of an image.

    Attributes:
        masks: N masks of the image.
        classes: (N,) class numbers.
        scores: (N,) 0 to 1, highest first; None for labels.
    """

    masks: RleMasks
    classes: np.ndarray
    scores: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.masks)


class InstanceComparison:
    """Compare predicted objects with labelled ones; crowds are left out.

    Args:
        folder: contains one of `INSTANCE_FILES`.
    """

    sorted_by = f"mean Boundary IoU per image, predictions with score ≥ {LEAST_SCORE}"

    def __init__(self, cfg: CfgNode, dataset_name: str, folder: Path):
        self._reader = ImageReader.from_config(cfg)
        records = load_dicts(dataset_name)  # which fills in the ids of the classes
        self.classes: Classes = known_classes(
            cfg, dataset_name, semantic=False, num_classes=cfg.MODEL.ROI_HEADS.NUM_CLASSES
        )
        contiguous = {number: k for k, number in enumerate(self.classes.ids)}
        self._found = defaultdict(list)
        files = (folder / each for each in INSTANCE_FILES)
        self._file = next(file for file in files if file.exists())
        for item in _read(self._file, ("image_id", "category_id", "score")):
            if item["score"] >= LEAST_SCORE and "segmentation" in item:
                number = contiguous.get(item["category_id"], item["category_id"])
                self._found[item["image_id"]].append({**item, "class": number})
        self.records = [r for r in records if "annotations" in r]

    def __len__(self) -> int:
        return len(self.records)

    def objects(self, number: int) -> tuple[Objects, Objects]:
        """Return the labelled and the predicted objects of an image."""
        record = self.records[number]
        size = record["height"], record["width"]
        true = [a for a in record["annotations"] if not a.get("iscrowd") and a.get("segmentation")]
        found = sorted(self._found[record["image_id"]], key=lambda item: -item["score"])
        return Objects(
            RleMasks([_run_lengths(a["segmentation"], size) for a in true], size),
            np.array([a["category_id"] for a in true], int),
        ), Objects(
            RleMasks([_predicted_run_lengths(item, size, self._file) for item in found], size),
            np.array([item["class"] for item in found], int),
            np.array([item["score"] for item in found], float),
        )

    def score(self, number: int) -> Score:
        """Score the prediction for an image."""
        labelled, predicted = self.objects(number)
        name = self.records[number]["file_name"]
        pairs = match(labelled, predicted)
        count = len(labelled) + len(predicted) - len(pairs)
        if count == 0:
            return Score(number, name, float("nan"), float("nan"))
        width = boundary_distance(*labelled.masks.image_size)
        boundary = sum(
            min(iou, boundary_iou(labelled.masks.rles[i], predicted.masks.rles[j], width))
            for i, j, iou in pairs
        )
        return Score(
            number, name, 100 * sum(iou for *_, iou in pairs) / count, 100 * boundary / count
        )

    def width_counts(self, number: int, widths: Sequence[int]) -> np.ndarray:
        """Sum Boundary IoU over the matched objects, and count these, (widths, 2, C)."""
        counts = np.zeros((len(widths), 2, len(self.classes)))
        labelled, predicted = self.objects(number)
        for i, j, iou in match(labelled, predicted):
            for row, width in zip(counts, widths, strict=True):
                boundary = boundary_iou(labelled.masks.rles[i], predicted.masks.rles[j], width)
                row[:, labelled.classes[i]] += min(iou, boundary), 1
        return counts

    def view(self, number: int, *, letters: float | None = None) -> View:
        """Return what there is to see of an image; wrong are pixels inside objects of one only.

        An object has the same colour among the labels and in the prediction.

        Args:
            letters: height of names as a share of the image's width; by default as it fits the
                image.
        """
        image = self._reader.read(self.records[number]["file_name"])
        labelled, predicted = self.objects(number)
        wrong = np.logical_xor(_covered(labelled.masks), _covered(predicted.masks))
        colors = matched_colors(labelled, predicted)
        size = _letter_size(image, letters)
        named, bare = (
            [
                draw_instances(
                    *(image, each.masks, each.classes, each.scores, self.classes),
                    names=names,
                    colors=own,
                    letters=size,
                )
                for each, own in zip((labelled, predicted), colors, strict=True)
            ]
            for names in (True, False)
        )
        return View(image, named, bare, wrong)


class PanopticComparison(SemanticComparison):
    """Compare predicted panoptic segments with those of the data set, by the classes of pixels.

    Pixels without a predicted segment are of no class, which counts as wrong.

    Args:
        folder: contains ``predictions.json`` and ``predictions/`` in COCO's panoptic format.
    """

    sorted_by = "mean Boundary IoU per image, over its things and kinds of stuff"

    def __init__(self, cfg: CfgNode, dataset_name: str, folder: Path):
        self._reader = ImageReader.from_config(cfg)
        classes = known_panoptic_classes(
            cfg,
            dataset_name,
            num_things=cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            num_semantic=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
        )
        self.classes = replace(classes, ignore_value=2**16 - 1)
        self._numbers = {number: k for k, number in enumerate(classes.ids)}
        content = json.loads((folder / PREDICTIONS_FILE).read_text())
        self._found = {each["image_id"]: each for each in content["annotations"]}
        for each in self._found.values():
            each["pan_seg_file_name"] = str(folder / PREDICTIONS_FOLDER / each["file_name"])
        truth = read_truth(dataset_name, panoptic_classes(dataset_name)).records
        self.records = [truth[image_id] | {"image_id": image_id} for image_id in self._found]

    def segments(self, number: int) -> list[tuple[np.ndarray, list[int]]]:
        """Return the labelled and the predicted segments of an image.

        Returns:
            of each an (H, W) array, k in segment k from 1 and 0 in none; the segments' classes.
        """
        record = self.records[number]
        both = map(read_record_segments, (record, self._found[record["image_id"]]))
        return [
            (each.numbers, [self._numbers[info["category_id"]] for info in each.segments])
            for each in both
        ]

    def maps(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        labelled, predicted = self.segments(number)
        nothing = self.classes.ignore_value, len(self.classes)
        true, found = (
            np.array([none, *numbers], np.uint16)[pixels]
            for none, (pixels, numbers) in zip(nothing, (labelled, predicted), strict=True)
        )
        return true, found

    @property
    def _count(self) -> int:
        return len(self.classes) + 1  # with the pixels of no class

    def width_counts(self, number: int, widths: Sequence[int]) -> np.ndarray:
        return super().width_counts(number, widths)[..., :-1]

    def _drawn(
        self, image: np.ndarray, number: int, *, names: bool, letters: int | None
    ) -> list[np.ndarray]:
        return [
            draw_segments(
                *(image, pixels, range(1, len(numbers) + 1), numbers, self.classes),
                names=names,
                letters=letters,
            )
            for pixels, numbers in self.segments(number)
        ]


Comparison = SemanticComparison | InstanceComparison


def open_comparison(cfg: CfgNode, dataset_name: str, folder: Path) -> Comparison:
    """Open the predictions that an evaluation wrote into a folder.

    Raises:
        InputError: there are no predictions.
    """
    if (folder / SCORES_FILE).exists():
        return PanopticComparison(cfg, dataset_name, folder)
    if (folder / SEMANTIC_FILE).exists():
        return SemanticComparison(cfg, dataset_name, folder)
    if any((folder / file).exists() for file in INSTANCE_FILES):
        return InstanceComparison(cfg, dataset_name, folder)
    raise InputError(
        f"There are no predictions in {folder}: neither {SEMANTIC_FILE} nor {INSTANCE_FILES[0]}. "
        "Evaluate first: tools/train_net.py --eval-only MODEL.WEIGHTS FILE."
    )


def matched_colors(labelled: Objects, predicted: Objects) -> tuple[np.ndarray, np.ndarray]:
    """Return RGB colours, (N, 3) each, in which matched objects have the same one.

    Example:
        >>> masks = RleMasks([{"size": [3, 4], "counts": "32103"}], (3, 4))
        >>> squares = Objects(masks, np.array([0]))
        >>> labels, predictions = matched_colors(squares, squares)
        >>> bool((labels == predictions).all())
        True
    """
    colors = palette(len(labelled) + len(predicted))
    own = colors[len(labelled) :].copy()
    for i, j, _ in match(labelled, predicted, any_class=True):
        own[j] = colors[i]
    return colors[: len(labelled)], own


def match(
    labelled: Objects, predicted: Objects, *, any_class: bool = False
) -> list[tuple[int, int, float]]:
    """Match each predicted object with a labelled one of its class and an IoU of 0.5 or more.

    Args:
        predicted: highest score first; in this order they choose.
        any_class: whether the class may be another.

    Returns:
        of each pair the place among the labelled objects, that among the predicted ones, the IoU.
    """
    pairs, free = [], np.ones(len(labelled), bool)
    for j, ious in enumerate(_ious(predicted.masks.rles, labelled.masks.rles)):
        fits = free & (ious >= 0.5)
        if not any_class:
            fits &= labelled.classes == predicted.classes[j]
        if fits.any():
            best = int(np.where(fits, ious, 0).argmax())
            free[best] = False
            pairs.append((best, j, float(ious[best])))
    return pairs


def _ious(found: list[dict], true: list[dict]) -> Iterator[np.ndarray]:
    """Yield the IoU of each predicted mask with all labelled ones."""
    for start in range(0, len(found), _AT_ONCE):
        some = found[start : start + _AT_ONCE]
        yield from np.reshape(mask_util.iou(some, true, [0] * len(true)), (len(some), len(true)))


def _letter_size(image: np.ndarray, share: float | None) -> int | None:
    return None if share is None else max(8, round(share * image.shape[1]))


def boundary_iou(a: dict, b: dict, width: int) -> float:
    """Return the IoU of the boundary regions of two masks in COCO's compressed format."""
    regions = ([boundary_run_lengths(each, width)] for each in (a, b))
    return float(mask_util.iou(*regions, [0])[0, 0])


def _covered(masks: RleMasks) -> np.ndarray:
    """Return the pixels that are in any of the masks, (H, W) bool."""
    covered = np.zeros(masks.image_size, bool)
    for x0, y0, crop in masks.crops():
        covered[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]] |= crop
    return covered


def _run_lengths(segmentation: list | dict[str, Any], size: tuple[int, ...]) -> dict:
    """Return a mask in COCO's compressed format."""
    if isinstance(segmentation, list):
        polygons = [np.asarray(polygon, np.float64).tolist() for polygon in segmentation]
        return mask_util.merge(mask_util.frPyObjects(polygons, *size))
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str | bytes):
        return segmentation
    return mask_util.encode(np.asfortranarray(decode_mask(segmentation), np.uint8))


def _predicted_run_lengths(item: dict[str, Any], size: tuple[int, ...], file: Path) -> dict:
    """Return the mask of a prediction in COCO's compressed format; it must have this size."""
    segmentation, place = item["segmentation"], item.get("file_name", item.get("image_id"))
    problem = mask_problem(segmentation, (size[0], size[1]))
    if problem or not isinstance(segmentation, dict):
        found = problem.found if problem else "has polygons, where run lengths are expected"
        raise InputError(f"{file}: a prediction for {place} {found}. Evaluate again.")
    return _run_lengths(segmentation, size)


def _read(path: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Read the predictions of an evaluation, dicts with the given keys."""
    try:
        items = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}. Evaluate again.") from error
    types: dict[str, Any] = {
        "file_name": str,
        "image_id": (int, str),
        "category_id": int,
        "score": (int, float),
    }
    for number, item in enumerate(items if isinstance(items, list) else [items]):
        for key in keys:
            value = item.get(key) if isinstance(item, dict) else None
            if not isinstance(value, types.get(key, object)) or value is None:
                raise InputError(
                    f"{path}: prediction number {number} (from 0) has the {key} {shown(value)}. "
                    "Evaluate again."
                )
    if not isinstance(items, list):
        raise InputError(f"{path} is no list of predictions. Evaluate again.")
    return items
