"""Draw predictions over their images, with names. Pictures are RGB, (H, W, 3), uint8.

Shape legend: H, W size of an image; N objects.
"""

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..data.classes import Classes, palette
from .primitives import color_classes, draw_masks

# Segments that are a smaller share of the image than this get no name.
_LEAST_NAMED_SHARE = 0.004


def draw_instances(
    image: np.ndarray,
    masks: np.ndarray,
    class_numbers: np.ndarray,
    scores: np.ndarray | None,
    classes: Classes,
    *,
    names: bool = True,
) -> np.ndarray:
    """Return an image with coloured objects over it, the most certain on top.

    Args:
        image: (H, W, 3) RGB.
        masks: (N, H, W) bool.
        class_numbers: (N,) integers.
        scores: (N,) 0 to 1; None for labels, which have none.
        names: write names and scores.

    Example:
        >>> classes = Classes(("car", "tree"), palette(2), (0, 1))
        >>> image, masks = np.zeros((40, 60, 3), np.uint8), np.ones((1, 40, 60), bool)
        >>> draw_instances(image, masks, np.array([1]), np.array([0.9]), classes).shape
        (40, 60, 3)
    """
    order = np.arange(len(masks)) if scores is None else np.argsort(scores, kind="stable")
    colors = palette(len(order))
    picture = draw_masks(image, masks[order], colors)
    if not names:
        return picture
    labels = []
    for k, color in zip(order, colors, strict=True):
        if masks[k].any():
            score = "" if scores is None else f" {100 * scores[k]:.0f}"
            labels.append((classes.names[class_numbers[k]] + score, _centre(masks[k]), color))
    return write_names(picture, labels)


def draw_classes(
    image: np.ndarray, class_map: np.ndarray, classes: Classes, *, names: bool = True
) -> np.ndarray:
    """Return an image with a coloured class map over it.

    Args:
        image: (H, W, 3) RGB.
        class_map: (H, W) integers, 0 to 255; values that are no class are black.
        names: write the names of the classes, each into its largest segment.

    Example:
        >>> classes = Classes(("sky", "road"), np.array([[0, 0, 250], [250, 0, 0]]), (0, 1))
        >>> image, class_map = np.full((40, 60, 3), 200, np.uint8), np.ones((40, 60), int)
        >>> draw_classes(image, class_map, classes, names=False)[0, 0].tolist()
        [230, 80, 80]
    """
    colored = color_classes(class_map, classes.colors)
    picture = cv2.addWeighted(image, 0.4, colored, 0.6, 0)
    edge = cv2.morphologyEx(
        class_map.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)
    )
    picture[edge > 0] = 255
    if not names:
        return picture
    labels = []
    for number in np.unique(class_map):
        segment = _largest_segment(class_map == number)
        if number < len(classes) and segment.mean() >= _LEAST_NAMED_SHARE:
            labels.append((classes.names[number], _centre(segment), classes.colors[number]))
    return write_names(picture, labels)


def write_names(
    picture: np.ndarray, labels: list[tuple[str, tuple[int, int], np.ndarray]]
) -> np.ndarray:
    """Return a picture with texts in it, each on its colour and moved so that it is inside.

    Args:
        labels: text, position (x, y) in pixels, and RGB colour of each.
    """
    size = int(np.clip(picture.shape[0] / 32, 11, 40))
    font = ImageFont.load_default(size=size)
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    for text, (x, y), color in labels:
        left, top, right, bottom = draw.textbbox((x, y), text, font=font, anchor="mm")
        dx = max(3 - left, 0) or min(canvas.width - 3 - right, 0)
        dy = max(2 - top, 0) or min(canvas.height - 2 - bottom, 0)
        box = (left + dx - 3, top + dy - 2, right + dx + 3, bottom + dy + 2)
        draw.rectangle(box, fill=tuple(int(part) for part in color))
        ink = "black" if np.dot(color, (0.299, 0.587, 0.114)) > 140 else "white"
        draw.text((x + dx, y + dy), text, fill=ink, font=font, anchor="mm")
    return np.asarray(canvas)


def _largest_segment(mask: np.ndarray) -> np.ndarray:
    count, segments, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    return segments == 1 + stats[1:, cv2.CC_STAT_AREA].argmax() if count > 1 else mask


def _centre(mask: np.ndarray) -> tuple[int, int]:
    """Return (x, y) of the pixel that is farthest from the outline."""
    padded = np.pad(mask, 1).astype(np.uint8)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 3)
    y, x = np.unravel_index(distance.argmax(), distance.shape)
    return int(x) - 1, int(y) - 1
