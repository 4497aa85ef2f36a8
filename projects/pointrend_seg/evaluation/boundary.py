"""Boundary regions and Boundary IoU counts of label maps (Cheng et al., "Boundary IoU", CVPR 2021).

Shapes:
    H, W: height and width of an image
    C: number of classes

Distances are chessboard distances in pixels (the larger of the two axis differences), as measured
by the paper's repeated 3x3 erosion. Pixels beyond the image are outside every mask, so a mask that
touches the image's edge has its contour there.

**Ignored pixels.** An ignored pixel is neither inside nor outside a class. It is in no boundary
region, and the edge of an ignored area is not a contour, neither of the labels nor of the
prediction. This has two advantages over the usual alternatives:

- Counts depend only on predictions at labelled pixels, and a prediction that is right at all of
  them scores 1. If contours were found first and ignored pixels dropped afterwards, the labels
  would have contours along ignored areas that no prediction can know.
- No easy pixels are added. If ignored pixels were cut out of both masks first, a strip along every
  ignored area would count as boundary although no class ends there.

Without ignored pixels, all three are the paper's definition.
"""

from collections.abc import Callable

import cv2
import numpy as np

from ..structures.run_lengths import decode_columns, encode_columns

_AT_ONCE = 2**22  # pixels that are counted at once


def boundary_distance(height: int, width: int, ratio: float = 0.02) -> int:
    """Return the boundary region's width d: ``ratio`` of the image's diagonal, at least 1 pixel."""
    return max(1, round(ratio * float(np.hypot(height, width))))


def boundary_region(mask: np.ndarray, distance: int) -> np.ndarray:
    """Return the pixels of a binary mask that are within ``distance`` of its contour (section 4).

    Args:
        mask: H x W, bool or integers; zero is outside.
        distance: d >= 1. Mask pixels next to an outside pixel have distance 1.

    Returns:
        H x W bool, a subset of ``mask``.

    Example:
        >>> mask = np.ones((4, 5), dtype=bool)
        >>> boundary_region(mask, distance=1).sum(axis=1).tolist()
        [5, 2, 2, 5]
    """
    inside = np.ascontiguousarray(mask != 0, dtype=np.uint8)
    eroded = _window_filter(cv2.erode, inside, distance)
    return inside > eroded


def boundary_run_lengths(rle: dict, distance: int) -> dict:
    """Return the `boundary_region` of a mask, both in COCO's compressed format.

    Args:
        rle: run lengths with counts as bytes or text.
        distance: d >= 1.
    """
    columns, x0, y0 = decode_columns(rle)
    if columns.size:
        columns = boundary_region(columns, distance)
    return encode_columns(columns, x0, y0, *rle["size"])


def class_boundaries(
    labels: np.ndarray, distance: int, ignored: np.ndarray | None = None
) -> np.ndarray:
    """Return the union of the boundary regions of all classes.

    Classes do not overlap, so ``class_boundaries(labels, d) & (labels == c)`` is the
    :func:`boundary_region` of class c. The cost does not depend on the number of classes.

    Args:
        labels: H x W integers in [0, 65534]; values at ignored pixels are not read.
        distance: d >= 1.
        ignored: H x W bool, or None if no pixel is ignored; the module's docstring explains how
            ignored pixels count.

    Returns:
        H x W bool, False at ignored pixels.
    """
    # A pixel is inside its class's eroded mask if its window contains no other class: if the
    # smallest and the largest label in the window are its own. Labels are shifted by one, 0 is
    # beyond the image, and an ignored pixel must be neither the smallest nor the largest.
    if ignored is None:
        ignored = np.zeros(labels.shape, dtype=bool)
    dtype = np.uint8 if np.max(labels, where=~ignored, initial=0) < 255 else np.uint16
    own: np.ndarray = labels.astype(dtype)
    own += 1
    smallest = _window_filter(cv2.erode, np.where(ignored, np.iinfo(dtype).max, own), distance)
    largest = _window_filter(cv2.dilate, np.where(ignored, 0, own), distance)
    return ((smallest != own) | (largest != own)) & ~ignored


def boundary_counts(
    prediction: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    distance: int,
    ignore_value: int | None = None,
) -> np.ndarray:
    """Count one image's pixels for Boundary IoU, per class; sum the counts over a data set.

    Args:
        prediction: H x W integers in [0, C).
        labels: H x W integers in [0, C) or ``ignore_value``.
        num_classes: C, at most 65535.
        distance: d >= 1, usually :func:`boundary_distance` of the image.
        ignore_value: the label of ignored pixels; None if there are none.

    Returns:
        3 x C int64. The rows count pixels in the class's boundary region in both maps
        (intersection), in either map (union) and in the labels. Boundary IoU is the first row
        divided by the second (equation 2).

    Example:
        >>> labels = np.array([[0, 0, 0, 1, 1, 1]] * 4)
        >>> intersection, union, _ = boundary_counts(labels, labels, num_classes=2, distance=1)
        >>> (intersection / union).tolist()
        [1.0, 1.0]
    """
    ignored = None if ignore_value is None else labels == ignore_value
    in_prediction = class_boundaries(prediction, distance, ignored)
    in_labels = class_boundaries(labels, distance, ignored)
    in_both = in_prediction & in_labels & (prediction == labels)

    def per_class(values: np.ndarray) -> np.ndarray:
        # in parts, because NumPy counts in 64 bits
        counts = np.zeros(num_classes, np.int64)
        for first in range(0, len(values), _AT_ONCE):
            counts += np.bincount(values[first : first + _AT_ONCE], minlength=num_classes)
        return counts

    truth = per_class(labels[in_labels])
    intersection = per_class(labels[in_both])
    union = truth + per_class(prediction[in_prediction]) - intersection
    return np.stack([intersection, union, truth])


def _window_filter(
    operation: Callable[..., np.ndarray], image: np.ndarray, distance: int
) -> np.ndarray:
    """Apply ``cv2.erode`` or ``cv2.dilate`` with a (2d+1)² window, with zeros beyond the image."""
    # No pixel is farther from the image's edge, and a smaller kernel is faster.
    distance = min(distance, min(image.shape))
    kernel = np.ones((2 * distance + 1, 2 * distance + 1), dtype=np.uint8)
    return operation(image, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
