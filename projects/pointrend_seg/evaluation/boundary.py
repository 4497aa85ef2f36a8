"""Boundary regions and Boundary IoU counts of label maps (Cheng et al., "Boundary IoU", CVPR 2021).

Shapes:
    H, W: height and width of an image
    C: number of classes

Distances are in pixels and chessboard (the larger of the two axis differences), which is the
distance that the paper's repeated 3x3 erosion measures. What lies beyond the image counts as
outside every mask, so a mask that touches the image's edge has its contour there.

**Ignored pixels.** Where the labels are unknown, nothing is known about contours either. An
ignored pixel is neither inside nor outside of a class: it is in no boundary region, and the edge
of an ignored area is no contour, neither of the labels nor of the prediction. This gives two
properties that the usual alternatives lack. Counts depend only on what is predicted at pixels
with a known label, and a prediction that is right at all of them scores 1: were the contours
taken first and ignored pixels dropped afterwards, the labels would have contours along every
ignored area that no prediction could know of. And no easy pixels are gained: were ignored pixels
cut out of both masks first, a strip along every ignored area would count as boundary although
no class ends there. Without ignored pixels all three are the paper's definition.
"""

import cv2
import numpy as np


def boundary_distance(height: int, width: int, ratio: float = 0.02) -> int:
    """The width d of the boundary region: ``ratio`` of the image's diagonal, at least one pixel."""
    return max(1, round(ratio * float(np.hypot(height, width))))


def boundary_region(mask: np.ndarray, distance: int) -> np.ndarray:
    """The pixels of a binary mask that lie within ``distance`` of its contour (section 4).

    Args:
        mask: H x W, bool or integers of which zero is outside.
        distance: d >= 1. The contour's own pixels, next to something outside, have distance 1.

    Returns:
        H x W bool, a subset of ``mask``.
    """
    inside = np.ascontiguousarray(mask != 0, dtype=np.uint8)
    eroded = _window_filter(cv2.erode, inside, distance)
    return inside > eroded


def class_boundaries(
    labels: np.ndarray, distance: int, ignored: np.ndarray | None = None
) -> np.ndarray:
    """The union over all classes of :func:`boundary_region` of the class's binary mask.

    Masks of different classes share no pixel, so ``class_boundaries(labels, d) & (labels == c)``
    is the boundary region of class c. The cost does not depend on the number of classes.

    Args:
        labels: H x W integers in [0, 65534]; values at ignored pixels are not read.
        distance: d >= 1.
        ignored: H x W bool, or None for no ignored pixels; see the top of this module.

    Returns:
        H x W bool, False at ignored pixels.
    """
    # A pixel is inside its class's eroded mask if its window holds no other class, that is, if
    # the window's smallest and largest label both are its own. Label 0 stands for what is beyond
    # the image; an ignored pixel must never be the smallest or the largest.
    if ignored is None:
        ignored = np.zeros(labels.shape, dtype=bool)
    dtype = np.uint8 if np.max(labels, where=~ignored, initial=0) < 255 else np.uint16
    own = labels.astype(dtype) + dtype(1)
    highest = dtype(np.iinfo(dtype).max)
    smallest = _window_filter(cv2.erode, np.where(ignored, highest, own), distance)
    largest = _window_filter(cv2.dilate, np.where(ignored, dtype(0), own), distance)
    return ((smallest != own) | (largest != own)) & ~ignored


def boundary_counts(
    prediction: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    distance: int,
    ignore_value: int | None = None,
) -> np.ndarray:
    """What Boundary IoU needs of one image, per class, to be summed over a data set.

    Args:
        prediction: H x W integers in [0, C).
        labels: H x W integers in [0, C) or ``ignore_value``.
        num_classes: C, at most 65535.
        distance: d >= 1, usually :func:`boundary_distance` of the image.
        ignore_value: the label of ignored pixels; None if there are none.

    Returns:
        3 x C int64. Rows: pixels in the class's boundary region of both maps; of either map; of
        the labels. Boundary IoU is the first row over the second (equation 2).
    """
    ignored = None if ignore_value is None else labels == ignore_value
    in_prediction = class_boundaries(prediction, distance, ignored)
    in_labels = class_boundaries(labels, distance, ignored)
    in_both = in_prediction & in_labels & (prediction == labels)

    def per_class(values: np.ndarray) -> np.ndarray:
        return np.bincount(values, minlength=num_classes).astype(np.int64)

    truth = per_class(labels[in_labels])
    intersection = per_class(labels[in_both])
    union = truth + per_class(prediction[in_prediction]) - intersection
    return np.stack([intersection, union, truth])


def _window_filter(operation, image: np.ndarray, distance: int) -> np.ndarray:
    """``cv2.erode`` or ``cv2.dilate`` over the (2d+1)^2 window, with zeros beyond the image."""
    # No pixel is farther from the image's edge than this, and a smaller kernel is faster.
    distance = min(distance, min(image.shape))
    kernel = np.ones((2 * distance + 1, 2 * distance + 1), dtype=np.uint8)
    return operation(image, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
