"""Pictures of a case: the image with its labels, with the prediction, and where it is worst."""

import base64

import cv2
import numpy as np

from ..drawing.primitives import enlarge, tile
from .comparison import View, worst_window

_ZOOM = 4


def panels(view: View, width: int) -> list[np.ndarray]:
    """Image, labels and prediction, and the same of the worst window; each of a width."""
    height, full = view.wrong.shape
    window = worst_window(view.wrong, (max(16, height // _ZOOM), max(16, full // _ZOOM)))
    named, bare = (
        [view.image, view.truth(names), view.prediction(names)] for names in (True, False)
    )
    scaled = [_scaled(picture, width) for picture in named]
    zoomed = [_fitted(picture[window], scaled[0].shape[:2]) for picture in bare]
    return [*(_framed(picture, window, view.wrong.shape) for picture in scaled), *zoomed]


def sheet(view: View, width: int = 480) -> np.ndarray:
    """All panels in one picture, RGB."""
    found = panels(view, width)
    return tile([found[:3], found[3:]], ["image", "labels", "prediction"])


def data_uri(picture: np.ndarray) -> str:
    """RGB as a JPEG that stands in the page itself."""
    written, content = cv2.imencode(".jpg", picture[:, :, ::-1], (cv2.IMWRITE_JPEG_QUALITY, 82))
    if not written:
        raise OSError("OpenCV cannot write JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(content.tobytes()).decode("ascii")


def _scaled(picture: np.ndarray, width: int) -> np.ndarray:
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    larger = width > picture.shape[1]
    how = cv2.INTER_NEAREST if larger else cv2.INTER_AREA
    return cv2.resize(picture, (width, height), interpolation=how)


def _fitted(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels repeated, in the size of another picture."""
    picture = enlarge(picture, size[0]) if picture.shape[0] < size[0] else picture
    return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_NEAREST)


def _framed(picture: np.ndarray, window, size: tuple[int, int]) -> np.ndarray:
    """With a frame around what is enlarged."""
    scale = picture.shape[0] / size[0], picture.shape[1] / size[1]
    (top, bottom), (left, right) = (
        (round(part.start * s), round(part.stop * s) - 1)
        for part, s in zip(window, scale, strict=True)
    )
    framed = picture.copy()
    cv2.rectangle(framed, (left, top), (right, bottom), (255, 255, 255), 3)
    cv2.rectangle(framed, (left, top), (right, bottom), (20, 20, 20), 1)
    return framed
