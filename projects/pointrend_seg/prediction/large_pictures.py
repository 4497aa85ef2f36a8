"""Draw predictions over images that are too large for a picture of their own size."""

import cv2
import numpy as np

from ..data.classes import Classes, palette
from ..drawing.predictions import draw_classes
from ..drawing.primitives import draw_masks
from ..structures.rle_masks import RleMasks

_LONGEST = 4096  # side of a picture
_MARGIN = 4  # pixels around an object, for its outline


def is_large(image: np.ndarray, prediction: dict) -> bool:
    """Tell whether a prediction is drawn by `draw_large`.

    Args:
        image: RGB, (H, W, 3), uint8.
        prediction: as `to_cpu` returns it.
    """
    instances = prediction.get("instances")
    if instances is not None and instances.has("pred_masks"):
        return isinstance(instances.pred_masks, RleMasks)
    return max(image.shape[:2]) > _LONGEST


def draw_large(image: np.ndarray, prediction: dict, classes: Classes) -> np.ndarray:
    """Draw a prediction over its image, scaled down by a whole number to 4096 pixels at most.

    Objects have no names. Without masks, their boxes are filled.

    Args:
        image: RGB, (H, W, 3), uint8.
        prediction: as `to_cpu` returns it.

    Returns:
        RGB, (H // n, W // n, 3), uint8.
    """
    height, width = image.shape[:2]
    step = -(-max(height, width) // _LONGEST)
    size = (max(1, width // step), max(1, height // step))
    picture = image.copy() if step == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    if "classes" in prediction:
        class_map = prediction["classes"][step // 2 :: step, step // 2 :: step]
        return draw_classes(picture, class_map[: size[1], : size[0]], classes)
    instances = prediction["instances"]
    if instances.has("pred_masks"):
        regions = instances.pred_masks
        order = np.argsort(instances.scores.numpy(), kind="stable")
        crops = regions[order].crops()
    else:
        order = np.argsort(instances.scores.numpy(), kind="stable")
        boxes = instances.pred_boxes.tensor.numpy().round().astype(int)[order]
        crops = (
            (x0, y0, np.ones((max(y1 - y0, 0), max(x1 - x0, 0)), bool)) for x0, y0, x1, y1 in boxes
        )
    colors = palette(len(order))[order]
    for (x0, y0, crop), color in zip(crops, colors, strict=True):
        _draw(picture, x0, y0, crop, color, step)
    return picture


def _draw(
    picture: np.ndarray, x0: int, y0: int, crop: np.ndarray, color: np.ndarray, step: int
) -> None:
    """Draw an object into a picture of which each pixel stands for ``step`` x ``step``."""
    (top, first_y), (left, first_x) = (_first(start, step) for start in (y0, x0))
    mask = crop[first_y::step, first_x::step]
    mask = mask[: picture.shape[0] - top, : picture.shape[1] - left]
    if not mask.any():
        return
    bottom, right = top + mask.shape[0] + _MARGIN, left + mask.shape[1] + _MARGIN
    above, before = max(top - _MARGIN, 0), max(left - _MARGIN, 0)
    part = picture[above:bottom, before:right]
    padded = np.zeros((1, *part.shape[:2]), bool)
    padded[0, top - above :, left - before :][: mask.shape[0], : mask.shape[1]] = mask
    part[:] = draw_masks(part, padded, color[None])


def _first(start: int, step: int) -> tuple[int, int]:
    """Return the first picture pixel whose centre is at ``start`` or later, and its distance."""
    pixel = -(-(start - step // 2) // step)
    return pixel, pixel * step + step // 2 - start
