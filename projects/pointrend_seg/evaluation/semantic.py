"""Evaluate semantic segmentation: IoU and Boundary IoU.

Shapes:
    H, W: height and width of an image
    C: number of classes
"""

import json
import logging
import os
from collections import OrderedDict

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from ..data.labels import read_record_labels
from ..errors import InputError
from ..files.atomic import replaces
from ..structures.class_map import ClassMap
from .confusion import SemanticConfusion
from .tables import score_table

logger = logging.getLogger(__name__)


class SemanticSegmentationEvaluator(DatasetEvaluator):
    """Evaluator of IoU and Boundary IoU for registered semantic data sets.

    A drop-in replacement for Detectron2's ``SemSegEvaluator`` with the same keys and numbers,
    except Boundary IoU, which is computed per class and averaged (``mBoundaryIoU``). Detectron2
    erodes the label map like a grey image, so its ``BoundaryIoU-*`` are meaningless for more than
    two classes.

    Binary data sets have labels 0 (background) and 1 (foreground), and one or two names in
    ``stuff_classes``; a single name is that of the foreground, and ``background`` is added. The
    model has two output channels, or one with positive logits for the foreground.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        distributed: bool = True,
        output_dir: str | None = None,
        boundary_ratio: float = 0.02,
        default_ignore_label: int = 255,
        save_predictions: bool = True,
    ):
        """
        Args:
            dataset_name: a registered data set with ``sem_seg_file_name`` in its records and
                ``stuff_classes`` in its metadata.
            distributed: gather the counts of all ranks; else evaluate only this process's images.
            output_dir: where to write ``sem_seg_evaluation.json`` (NaN as null) and
                ``sem_seg_predictions.json`` (COCO-stuff results format); None writes nothing.
            boundary_ratio: width of the boundary region as a fraction of the image's diagonal.
            default_ignore_label: used if the metadata has no ``ignore_label``.
            save_predictions: write ``sem_seg_predictions.json``; until then, the encoded
                predictions are held in memory.

        Raises:
            InputError: the data set has no semantic labels or no class names.
        """
        metadata = MetadataCatalog.get(dataset_name)
        self._dataset_name = dataset_name
        self._records = self._read_records()
        self._class_names, self._category_ids = self._read_classes()
        self._ignore_label = metadata.get("ignore_label", default_ignore_label)
        self._boundary_ratio = boundary_ratio
        self._distributed = distributed
        self._output_dir = output_dir
        self._save_predictions = save_predictions and output_dir is not None
        self.reset()

    def _read_records(self) -> dict[str, dict]:
        """Return the data set dicts by the path of their image."""
        return _records(self._dataset_name)

    def _read_classes(self) -> tuple[list[str], dict[int, int]]:
        """Return the names of the classes, and the data set's ids of those that have one."""
        metadata = MetadataCatalog.get(self._dataset_name)
        names = list(metadata.get("stuff_classes") or ())
        if not names:
            raise InputError(
                f"data set '{self._dataset_name}' has no class names: set "
                f"MetadataCatalog.get('{self._dataset_name}').stuff_classes."
            )
        to_contiguous = metadata.get("stuff_dataset_id_to_contiguous_id") or {}
        category_ids = {c: dataset_id for dataset_id, c in to_contiguous.items()}
        if len(names) == 1:
            names = ["background", *names]
            category_ids = category_ids if len(category_ids) == 2 else {}
        return names, category_ids

    def _read_labels(self, record: dict) -> tuple[str, np.ndarray]:
        """Return the label file of a data set dict, for messages, and the labels (H, W)."""
        return record["sem_seg_file_name"], read_record_labels(record)

    def reset(self) -> None:
        self._confusion = self._no_images()
        self._predictions: list[dict] = []

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Compare predictions with the labels and add the counts.

        Args:
            inputs: records with ``file_name`` as in the data set.
            outputs: dicts with ``sem_seg``: logits or scores, C x H x W or (binary) 1 x H x W,
                at the size of the label image; or a `ClassMap`.

        Raises:
            InputError: an image is not in the data set, or its prediction does not fit the labels
                in size or number of classes.
        """
        for record, output in zip(inputs, outputs, strict=True):
            prediction = self._to_classes(output["sem_seg"])
            label_file, labels = self._read_labels(self._record(record["file_name"]))
            try:
                self._confusion.update(prediction, labels)
            except InputError as error:
                raise InputError(f"{label_file}: {error}") from error
            if self._save_predictions:
                self._predictions.extend(self._encode(prediction, record["file_name"]))

    def evaluate(self) -> OrderedDict | None:
        """Score all images since :meth:`reset`.

        Returns:
            ``{"sem_seg": scores}`` on the main rank, with the keys of
            :meth:`SemanticConfusion.scores`; None on the other ranks.
        """
        parts = [(self._confusion, self._predictions)]
        if self._distributed:
            comm.synchronize()
            parts = comm.gather(parts[0], dst=0)
            if not comm.is_main_process():
                return None
        confusion = self._no_images()
        for part, _ in parts:
            confusion.merge(part)
        scores = confusion.scores(self._class_names)
        if self._output_dir is not None:
            finite = {key: None if np.isnan(value) else value for key, value in scores.items()}
            _write_json(self._output_dir, "sem_seg_evaluation.json", finite)
            if self._save_predictions:
                segments = [segment for _, part in parts for segment in part]
                _write_json(self._output_dir, "sem_seg_predictions.json", segments)
        results = OrderedDict({"sem_seg": scores})
        self._log(scores)
        return results

    def _log(self, scores: dict[str, float]) -> None:
        keys = ("mIoU", "mBoundaryIoU", "fwIoU", "mACC", "pACC")
        means = ", ".join(f"{key} {scores[key]:.2f}" for key in keys)
        header = ("class", "IoU", "Boundary IoU", "accuracy")
        rows = [
            (name, [scores[f"{key}-{name}"] for key in ("IoU", "BoundaryIoU", "ACC")])
            for name in self._class_names
        ]
        logger.info("Scores on %s: %s\n%s", self._dataset_name, means, score_table(header, rows))

    def _no_images(self) -> SemanticConfusion:
        return SemanticConfusion(len(self._class_names), self._ignore_label, self._boundary_ratio)

    def _to_classes(self, sem_seg: torch.Tensor | ClassMap) -> np.ndarray:
        channels, num_classes = sem_seg.shape[0], len(self._class_names)
        if channels == 1 and num_classes == 2 and isinstance(sem_seg, torch.Tensor):
            return (sem_seg[0] > 0).cpu().numpy().astype(np.int64)
        if channels != num_classes:
            raise InputError(
                f"the model predicts {channels} classes but data set '{self._dataset_name}' has "
                f"{num_classes}: set MODEL.SEM_SEG_HEAD.NUM_CLASSES to {num_classes}."
            )
        if isinstance(sem_seg, ClassMap):
            return sem_seg.classes
        return sem_seg.argmax(dim=0).cpu().numpy()

    def _record(self, file_name: str) -> dict:
        if file_name not in self._records:
            raise InputError(
                f"{file_name} is not in data set '{self._dataset_name}', whose labels are "
                "compared. Evaluate with the data set that the images come from."
            )
        return self._records[file_name]

    def _encode(self, prediction: np.ndarray, file_name: str) -> list[dict]:
        """Return one run-length encoded segment per class, with the data set's category ids."""
        segments = []
        for c in np.unique(prediction).tolist():
            rle = mask_util.encode(np.asfortranarray(prediction == c, dtype=np.uint8))
            rle["counts"] = rle["counts"].decode("utf-8")
            category = self._category_ids.get(c, c)
            segments.append({"file_name": file_name, "category_id": category, "segmentation": rle})
        return segments


def _write_json(folder: str, name: str, content: dict | list) -> None:
    os.makedirs(folder, exist_ok=True)
    with replaces(os.path.join(folder, name)) as part, open(part, "w") as file:
        json.dump(content, file)


def _records(dataset_name: str) -> dict[str, dict]:
    records = DatasetCatalog.get(dataset_name)
    without = next((r["file_name"] for r in records if "sem_seg_file_name" not in r), None)
    if without is not None:
        raise InputError(
            f"data set '{dataset_name}' has no semantic labels: the record of {without} lacks "
            "'sem_seg_file_name'. Set DATASETS.TEST to a semantic data set."
        )
    return {record["file_name"]: record for record in records}
