"""Scale predictions down that are drawn over images too large for a picture of their own size."""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from detectron2.structures import Instances

_LONGEST = 4096  # side of a picture
Crop = tuple[int, int, np.ndarray]  # x0, y0 and the pixels of a mask, (h, w) bool


class ScaledCrops:
    """Masks of which each n-th pixel is taken, as parts of an image.

    Args:
        crops: x0, y0 and pixels of each mask.
        step: n.
    """

    def __init__(self, crops: Iterable[Crop], step: int):
        self._crops = [_scaled(*crop, step) for crop in crops]

    def __len__(self) -> int:
        return len(self._crops)

    def crops(self) -> Iterator[Crop]:
        """Yield x0, y0 and the pixels of each mask, without pixels for one that has none left."""
        return iter(self._crops)


def at_picture_size(image: np.ndarray, prediction: dict) -> tuple[np.ndarray, dict]:
    """Scale an image of more than 4096 pixels a side, and its prediction, down by a whole number.

    Args:
        image: RGB, (H, W, 3), uint8.
        prediction: as `to_cpu` returns it.

    Returns:
        both as they are, or the image (H // n, W // n, 3) and its prediction, in which
        ``pred_masks`` (of boxes, if there are no masks) are `ScaledCrops`.
    """
    height, width = image.shape[:2]
    step = -(-max(height, width) // _LONGEST)
    if step <= 1:
        return image, prediction
    height, width = max(1, height // step), max(1, width // step)
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    for key in prediction.keys() & {"classes", "segments"}:  # maps of the pixels
        pixels = prediction[key][step // 2 :: step, step // 2 :: step][:height, :width]
        return small, {**prediction, key: np.ascontiguousarray(pixels)}
    found = prediction["instances"]
    crops = found.pred_masks.crops() if found.has("pred_masks") else _filled(found)
    masks = ScaledCrops(crops, step)
    fields = {"pred_classes": found.pred_classes, "scores": found.scores, "pred_masks": masks}
    return small, {"instances": Instances((height, width), **fields)}


def _filled(found: Instances) -> Iterator[Crop]:
    """Yield a mask that fills each box."""
    height, width = found.image_size
    for x0, y0, x1, y1 in found.pred_boxes.tensor.round().int().tolist():
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
        yield x0, y0, np.ones((max(y1 - y0, 0), max(x1 - x0, 0)), bool)


def _scaled(x0: int, y0: int, pixels: np.ndarray, step: int) -> Crop:
    """Take the pixels at the centres of the squares of ``step`` x ``step`` pixels."""
    left, top = (-(-(start - step // 2) // step) for start in (x0, y0))
    first_x, first_y = left * step + step // 2 - x0, top * step + step // 2 - y0
    taken = pixels[first_y::step, first_x::step]
    if not taken.any():
        return left, top, np.zeros((0, 0), bool)
    return left, top, np.ascontiguousarray(taken)
