"""Predictions over their images, with names. Every function returns RGB, (H, W, 3), uint8.

Shape shorthand: H, W size of an image; N objects.
"""

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..data.classes import Classes, palette
from .primitives import color_classes, draw_masks

# A segment that is a smaller part of the image than this has no name written into it.
_WORTH_A_NAME = 0.004


def draw_instances(
    image: np.ndarray,
    masks: np.ndarray,
    classes: np.ndarray,
    scores: np.ndarray | None,
    known: Classes,
    *,
    names: bool = True,
) -> np.ndarray:
    """Objects in colours, the most certain on top, with names and scores.

    Args:
        image: (H, W, 3) RGB.
        masks: (N, H, W) bool.
        classes: (N,) int.
        scores: (N,) 0 to 1; None for labels, which have none.
        names: whether names and scores are written.
    """
    order = np.arange(len(masks)) if scores is None else np.argsort(scores, kind="stable")
    colors = palette(len(order))
    picture = draw_masks(image, masks[order], colors)
    if not names:
        return picture
    labels = []
    for k, color in zip(order, colors, strict=True):
        if masks[k].any():
            text = known.names[classes[k]] + (
                f" {100 * scores[k]:.0f}" if scores is not None else ""
            )
            labels.append((text, _centre(masks[k]), color))
    return write_names(picture, labels)


def draw_classes(
    image: np.ndarray, classes: np.ndarray, known: Classes, *, names: bool = True
) -> np.ndarray:
    """A class map (H, W) in colours over an image, with the names of its larger segments."""
    colored = color_classes(classes, known.colors)
    picture = cv2.addWeighted(image, 0.4, colored, 0.6, 0)
    edge = cv2.morphologyEx(classes.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8))
    picture[edge > 0] = 255
    if not names:
        return picture
    labels = []
    for number in np.unique(classes):
        segment = _largest_segment(classes == number)
        if number < len(known) and segment.mean() >= _WORTH_A_NAME:
            labels.append((known.names[number], _centre(segment), known.colors[number]))
    return write_names(picture, labels)


def write_names(picture: np.ndarray, labels: list[tuple[str, tuple[int, int], np.ndarray]]):
    """Texts at places (x, y) of a picture, each on its colour and moved so that it is inside."""
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
    """(x, y) of the place that is farthest from the outline."""
    padded = np.pad(mask, 1).astype(np.uint8)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 3)
    y, x = np.unravel_index(distance.argmax(), distance.shape)
    return int(x) - 1, int(y) - 1
