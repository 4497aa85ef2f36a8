"""Draw an image, its labels and its prediction side by side, and the worst window of each."""

import base64

import cv2
import numpy as np

from ..drawing.primitives import densest_window, enlarge, tile
from .comparison import View

_ZOOM = 4
WIDTH = 480  # of a panel in a sheet
LETTERS = 11  # height of names in a panel, in pixels
# What `draw_panels` draws, in its order.
PANELS = ("image", "labels", "prediction", "image, enlarged", "labels, enlarged",
          "prediction, enlarged")  # fmt: skip


def draw_panels(view: View, width: int) -> list[np.ndarray]:
    """Draw `PANELS`, each RGB of a width: the enlarged window has the most wrong pixels."""
    height, full = view.wrong.shape
    window = densest_window(view.wrong, (max(16, height // _ZOOM), max(16, full // _ZOOM)))
    scaled = [_scale(picture, width) for picture in (view.image, *view.named)]
    zoomed = [_fit(picture[window], scaled[0].shape[:2]) for picture in (view.image, *view.bare)]
    return [*(_frame(picture, window, view.wrong.shape) for picture in scaled), *zoomed]


def draw_sheet(view: View, width: int = WIDTH) -> np.ndarray:
    """Draw all panels of a width into one RGB picture."""
    panels = draw_panels(view, width)
    return tile([panels[:3], panels[3:]], list(PANELS[:3]))


def data_uri(picture: np.ndarray) -> str:
    """Encode an RGB picture as a JPEG in a data URI."""
    _, content = cv2.imencode(".jpg", picture[:, :, ::-1], (cv2.IMWRITE_JPEG_QUALITY, 82))
    return "data:image/jpeg;base64," + base64.b64encode(content.tobytes()).decode("ascii")


def _scale(picture: np.ndarray, width: int) -> np.ndarray:
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    is_larger = width > picture.shape[1]
    interpolation = cv2.INTER_NEAREST if is_larger else cv2.INTER_AREA
    return cv2.resize(picture, (width, height), interpolation=interpolation)


def _fit(picture: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Resize a picture to (height, width) by repeating pixels."""
    picture = enlarge(picture, size[0]) if picture.shape[0] < size[0] else picture
    return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_NEAREST)


def _frame(picture: np.ndarray, window: tuple[slice, slice], size: tuple[int, ...]) -> np.ndarray:
    """Draw a frame around a window, which is in pixels of an image of another (height, width)."""
    scale = picture.shape[0] / size[0], picture.shape[1] / size[1]
    (top, bottom), (left, right) = (
        (round(part.start * s), round(part.stop * s) - 1)
        for part, s in zip(window, scale, strict=True)
    )
    framed = picture.copy()
    cv2.rectangle(framed, (left, top), (right, bottom), (255, 255, 255), 3)
    cv2.rectangle(framed, (left, top), (right, bottom), (20, 20, 20), 1)
    return framed
