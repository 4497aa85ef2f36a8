"""Count matched, missed and wrong segments, and compute panoptic quality of them.

Shapes:
    H, W: height and width of an image
    C: number of classes; G, P: number of true and of predicted segments of an image
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Segmentation(NamedTuple):
    """A division of an image into segments.

    Attributes:
        numbers: (H, W) integers, 0 where no segment is (void), k for segment k, from 1.
        classes: of each segment, in the order of their numbers, from 0.
        crowds: for each segment, whether it is a region of many objects; None for no crowds.
    """

    numbers: np.ndarray
    classes: Sequence[int]
    crowds: Sequence[bool] | None = None


class PanopticQuality:
    """Panoptic quality (Kirillov et al., CVPR 2019, section 4) over several images.

    A predicted segment matches a true one of its class if their IoU is above 0.5, where pixels
    that are void in the truth do not count for the prediction. Crowds match nothing. A predicted
    segment that matches nothing is left out if more than half of it is void or in crowds of its
    class. Segments without a pixel are left out.

    Example:
        >>> truth = Segmentation(np.array([[1, 1, 2, 2, 0]]), [0, 1])
        >>> prediction = Segmentation(np.array([[1, 1, 1, 2, 2]]), [0, 1])
        >>> quality = PanopticQuality(num_classes=2)
        >>> quality.update(prediction, truth)
        >>> quality.matched.tolist(), quality.missed.tolist(), quality.iou_sum.round(2).tolist()
        ([1, 0], [0, 1], [0.67, 0.0])
    """

    def __init__(self, num_classes: int):
        """Start without images.

        Args:
            num_classes: C.
        """
        self.iou_sum = np.zeros(num_classes)
        self.matched, self.wrong, self.missed = np.zeros((3, num_classes), np.int64)

    def update(self, prediction: Segmentation, truth: Segmentation) -> None:
        """Add an image: compare its segments."""
        predicted = np.asarray(prediction.classes, np.int64)
        true = np.asarray(truth.classes, np.int64)
        crowds = np.zeros(len(true), bool)
        if truth.crowds is not None:
            crowds[:] = truth.crowds
        rows, columns = len(true) + 1, len(predicted) + 1
        pairs = truth.numbers.astype(np.int64) * columns + prediction.numbers
        overlaps = np.bincount(pairs.ravel(), minlength=rows * columns).reshape(rows, columns)
        true_areas, areas = overlaps.sum(1)[1:], overlaps.sum(0)[1:]
        void, both = overlaps[0, 1:], overlaps[1:, 1:]
        unions = true_areas[:, None] + (areas - void) - both
        same = true[:, None] == predicted
        matches = same & ~crowds[:, None] & (2 * both > unions)
        found, right = np.nonzero(matches)
        np.add.at(self.iou_sum, predicted[right], both[found, right] / unions[found, right])
        np.add.at(self.matched, predicted[right], 1)
        np.add.at(self.missed, true[~matches.any(1) & ~crowds & (true_areas > 0)], 1)
        ignored = void + (both * (same & crowds[:, None])).sum(0)
        np.add.at(self.wrong, predicted[~matches.any(0) & (2 * ignored <= areas) & (areas > 0)], 1)

    def merge(self, other: "PanopticQuality") -> None:
        """Add the images of another one."""
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def scores(self) -> np.ndarray:
        """Return PQ, SQ and RQ of each class: (3, C), from 0 to 1.

        They are NaN for classes without any segment, and 0 where none matches.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            recognized = self.matched / (self.matched + (self.wrong + self.missed) / 2)
            quality = np.where(self.matched > 0, self.iou_sum / self.matched, 0)
        quality[np.isnan(recognized)] = np.nan
        return np.stack([quality * recognized, quality, recognized])
