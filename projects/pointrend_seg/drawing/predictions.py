"""Draw predictions over their images, with names. Pictures are RGB, (H, W, 3), uint8.

Shape legend: H, W size of an image; N objects.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from ..data.classes import Classes, palette
from .labels import Label, drawn_name, write_labels
from .primitives import bounding_box, color_classes, draw_crops, mask_crops, outline_width

# Segments that are a smaller share of the image than this get no name.
_LEAST_NAMED_SHARE = 0.004


def draw_instances(
    image: np.ndarray,
    masks: Any,
    class_numbers: np.ndarray,
    scores: np.ndarray | None,
    classes: Classes,
    *,
    names: bool = True,
    colors: np.ndarray | None = None,
    letters: int | None = None,
) -> np.ndarray:
    """Return an image with coloured objects over it, the most certain on top.

    Args:
        image: (H, W, 3) RGB.
        masks: (N, H, W) bool, or compact masks as `mask_crops` takes them.
        class_numbers: (N,) integers.
        scores: (N,) 0 to 1; None for labels, which have none.
        names: write names and scores, where there is room.
        colors: (N, 3) RGB of the objects; by default each has one of its own.
        letters: height of the letters in pixels; by default it follows from the image's size.

    Example:
        >>> classes = Classes(("car", "tree"), palette(2), (0, 1))
        >>> image, masks = np.zeros((40, 60, 3), np.uint8), np.ones((1, 40, 60), bool)
        >>> draw_instances(image, masks, np.array([1]), np.array([0.9]), classes).shape
        (40, 60, 3)
    """
    order = np.arange(len(masks)) if scores is None else np.argsort(scores, kind="stable")
    colors = palette(len(masks)) if colors is None else colors
    crops = list(mask_crops(masks))
    picture = draw_crops(image, (crops[k] for k in order), colors[order])
    if not names:
        return picture
    labels = []
    for k in order:
        x0, y0, mask = crops[k]
        if mask.size:
            x, y = _centre(mask)
            labels.append(
                Label(
                    drawn_name(classes, class_numbers[k]),
                    (x0 + x, y0 + y),
                    mask.shape[::-1],
                    colors[k],
                    "" if scores is None else f"{100 * scores[k]:.0f}%",
                )
            )
    return write_labels(picture, labels, size=letters)


def draw_classes(
    image: np.ndarray,
    class_map: np.ndarray,
    classes: Classes,
    *,
    names: bool = True,
    letters: int | None = None,
) -> np.ndarray:
    """Return an image with a coloured class map over it; background stays as it is.

    Args:
        image: (H, W, 3) RGB.
        class_map: (H, W) integers, 0 to 255; values that are no class are black.
        names: write the names of the classes, each into its largest segment.
        letters: height of the letters in pixels; by default it follows from the image's size.

    Example:
        >>> classes = Classes(("sky", "road"), np.array([[0, 0, 250], [250, 0, 0]]), (0, 1))
        >>> image, class_map = np.full((40, 60, 3), 200, np.uint8), np.ones((40, 60), int)
        >>> draw_classes(image, class_map, classes, names=False)[0, 0].tolist()
        [230, 80, 80]
    """
    colored = color_classes(class_map, classes.colors)
    picture = cv2.addWeighted(image, 0.4, colored, 0.6, 0)
    background = [k for k, name in enumerate(classes.names) if _is_background(name)]
    plain = np.isin(class_map, background)
    picture[plain] = image[plain]
    side = 1 + outline_width(image.shape)
    edge = cv2.morphologyEx(
        class_map.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((side, side), np.uint8)
    )
    picture[edge > 0] = 255
    if not names:
        return picture
    labels = []
    for number in np.unique(class_map):
        if number >= len(classes) or number in background:
            continue
        segment = _largest_segment(class_map == number)
        box = bounding_box(segment)
        if box is not None and segment.mean() >= _LEAST_NAMED_SHARE:
            rows, columns = box
            size = (columns.stop - columns.start, rows.stop - rows.start)
            color = classes.colors[number]
            labels.append(Label(drawn_name(classes, number), _centre(segment), size, color))
    return write_labels(picture, labels, size=letters)


def draw_segments(
    image: np.ndarray,
    segments: np.ndarray,
    ids: Sequence[int],
    class_numbers: Sequence[int],
    classes: Classes,
    *,
    scores: Sequence[float | None] | None = None,
    names: bool = True,
    letters: int | None = None,
) -> np.ndarray:
    """Return an image with panoptic segments over it in the colours of their classes, outlined.

    Args:
        image: (H, W, 3) RGB.
        segments: (H, W) integers, the id of the segment of each pixel.
        ids: of the segments; pixels with another id stay as they are.
        class_numbers: of the segments, as many.
        scores: of the segments; None for one that has none.
        names: write the names of the segments, and their scores, where there is room.
        letters: height of the letters in pixels; by default it follows from the image's size.

    Example:
        >>> classes = Classes(("car", "sky"), palette(2), (1, 2), num_things=1)
        >>> image, segments = np.zeros((40, 60, 3), np.uint8), np.full((40, 60), 7)
        >>> draw_segments(image, segments, [7], [0], classes).shape
        (40, 60, 3)
    """
    places = {number: place for place, number in enumerate(ids, start=1)}
    values, inverse = np.unique(segments, return_inverse=True)
    places_of_values = np.array([places.get(value, 0) for value in values.tolist()], np.uint16)
    drawn = places_of_values[inverse].reshape(segments.shape)  # 0: no segment, k: the k-th
    colors = np.vstack([np.zeros((1, 3), np.uint8), classes.colors[list(class_numbers)]])
    picture = cv2.addWeighted(image, 0.4, colors[drawn], 0.6, 0)
    side = 1 + outline_width(image.shape)
    edge = cv2.morphologyEx(drawn, cv2.MORPH_GRADIENT, np.ones((side, side), np.uint8))
    picture[edge > 0] = 255
    picture[drawn == 0] = image[drawn == 0]
    if not names:
        return picture
    labels = []
    for k, number in enumerate(class_numbers):
        segment = _largest_segment(drawn == k + 1)
        box = bounding_box(segment)
        if box is None or segment.mean() < _LEAST_NAMED_SHARE:
            continue
        rows, columns = box
        size = (columns.stop - columns.start, rows.stop - rows.start)
        score = None if scores is None else scores[k]
        text, color = drawn_name(classes, number), classes.colors[number]
        after = "" if score is None else f"{100 * score:.0f}%"
        labels.append(Label(text, _centre(segment), size, color, after))
    return write_labels(picture, labels, size=letters)


def _is_background(name: str) -> bool:
    return name.strip(" _").lower() in ("background", "bg")


def _largest_segment(mask: np.ndarray) -> np.ndarray:
    count, segments, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    return segments == 1 + stats[1:, cv2.CC_STAT_AREA].argmax() if count > 1 else mask


def _centre(mask: np.ndarray) -> tuple[int, int]:
    """Return (x, y) of the pixel that is farthest from the outline."""
    padded = np.pad(mask, 1).astype(np.uint8)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 3)
    y, x = np.unravel_index(distance.argmax(), distance.shape)
    return int(x) - 1, int(y) - 1
