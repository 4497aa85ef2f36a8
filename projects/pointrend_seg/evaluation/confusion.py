"""IoU and Boundary IoU of label maps, from counts that are summed over images.

The inputs are NumPy arrays; Detectron2 is not needed.

Shapes:
    H, W: height and width of an image
    C: number of classes
"""

from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from .boundary import boundary_counts, boundary_distance

# Pixels that are counted at once, in 64 bits.
_AT_ONCE = 2**22


class SemanticConfusion:
    """Pixel counts over a set of images, from which IoU and Boundary IoU are computed.

    Counts of parts of a set add up to those of the whole (:meth:`merge`). Images are not stored.

    Example:
        >>> confusion = SemanticConfusion(num_classes=2)
        >>> confusion.update(np.array([[0, 1, 1, 1]]), np.array([[0, 0, 1, 255]]))
        >>> confusion.scores(["road", "car"])["mIoU"]
        50.0
    """

    def __init__(
        self, num_classes: int, ignore_value: int | None = 255, boundary_ratio: float = 0.02
    ):
        """
        Args:
            num_classes: C.
            ignore_value: the label of ignored pixels; None if there are none.
            boundary_ratio: width of the boundary region as a fraction of the image's diagonal.
        """
        self.num_classes = num_classes
        self.ignore_value = ignore_value
        self.boundary_ratio = boundary_ratio
        self.matrix = np.zeros((num_classes, num_classes), dtype=np.int64)  # [predicted, true]
        self.boundary = np.zeros((3, num_classes), dtype=np.int64)  # as boundary_counts

    def update(self, prediction: np.ndarray, labels: np.ndarray) -> None:
        """Add one image.

        Args:
            prediction: H x W integers in [0, C).
            labels: H x W integers in [0, C) or the ignore value.

        Raises:
            InputError: the sizes differ, or a value is neither a class nor the ignore value.
        """
        if prediction.shape != labels.shape:
            raise InputError(
                f"the prediction is {_size(prediction)} but the labels are {_size(labels)} (height "
                "x width). A model must return its output at the size of the labels: check "
                "'height' and 'width' of its input."
            )
        if self.ignore_value is None:
            known = np.ones(labels.shape, dtype=bool)
        else:
            known = labels != self.ignore_value
        self._check_range("labels", labels[known])
        self._check_range("prediction", prediction)
        rows = max(1, _AT_ONCE // max(1, labels.shape[1]))
        for first in range(0, len(labels), rows):
            part = slice(first, first + rows)
            pairs = prediction[part][known[part]].astype(np.int64)
            pairs *= self.num_classes
            pairs += labels[part][known[part]]
            self.matrix += np.bincount(pairs, minlength=self.matrix.size).reshape(self.matrix.shape)
        height, width = labels.shape
        distance = boundary_distance(height, width, self.boundary_ratio)
        self.boundary += boundary_counts(
            prediction, labels, self.num_classes, distance, self.ignore_value
        )

    def merge(self, other: "SemanticConfusion") -> None:
        """Add the counts of another part of the same set."""
        self.matrix += other.matrix
        self.boundary += other.boundary

    def scores(self, class_names: Sequence[str] | None = None) -> dict[str, float]:
        """Return all metrics in percent, with the keys of Detectron2's ``SemSegEvaluator``.

        The keys are ``mIoU``, ``fwIoU`` (IoU weighted by the number of labelled pixels), ``mACC``,
        ``pACC``, ``mBoundaryIoU``, and per class ``IoU-<name>``, ``BoundaryIoU-<name>``,
        ``min(IoU, B-Iou)-<name>`` and ``ACC-<name>``. Classes that are not in the labels (for
        Boundary IoU: without a boundary pixel there) are NaN and left out of the means.

        Args:
            class_names: C names; by default the class indices.
        """
        names = [str(c) for c in range(self.num_classes)] if class_names is None else class_names
        hits = self.matrix.diagonal()
        predicted, true = self.matrix.sum(axis=1), self.matrix.sum(axis=0)
        total = true.sum()
        iou = _percent(hits, predicted + true - hits, true > 0)
        accuracy = _percent(hits, true, true > 0)
        intersection, union, boundary_true = self.boundary
        boundary_iou = _percent(intersection, union, boundary_true > 0)

        result = {
            "mIoU": _mean(iou),
            "fwIoU": float(np.nansum(iou * true) / total) if total else float("nan"),
            "mBoundaryIoU": _mean(boundary_iou),
        }
        for c, name in enumerate(names):
            result[f"IoU-{name}"] = float(iou[c])
            result[f"BoundaryIoU-{name}"] = float(boundary_iou[c])
            result[f"min(IoU, B-Iou)-{name}"] = float(np.minimum(iou[c], boundary_iou[c]))
        result["mACC"] = _mean(accuracy)
        result["pACC"] = 100.0 * float(hits.sum() / total) if total else float("nan")
        for c, name in enumerate(names):
            result[f"ACC-{name}"] = float(accuracy[c])
        return result

    def _check_range(self, what: str, values: np.ndarray) -> None:
        if values.size == 0 or (values.min() >= 0 and values.max() < self.num_classes):
            return
        wrong = np.unique(values[(values < 0) | (values >= self.num_classes)]).tolist()
        shown = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
        raise InputError(
            f"value {shown} in the {what}, which is neither a class (0 to {self.num_classes - 1}) "
            f"nor the ignore value ({self.ignore_value}). Check the data set's classes and "
            "ignore_label."
        )


def _percent(part: np.ndarray, whole: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return 100 * part / whole where ``valid``, else NaN."""
    result = np.full(part.shape, np.nan)
    np.divide(part, whole, out=result, where=valid)
    return 100.0 * result


def _mean(values: np.ndarray) -> float:
    """Return the mean of the values that are not NaN, NaN (without a warning) if all are NaN."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def _size(image: np.ndarray) -> str:
    return " x ".join(map(str, image.shape))
