"""Read the frames of videos."""

import os
from collections.abc import Iterator

import cv2
import numpy as np

from ..errors import InputError, printable
from ..files.regular import check_regular


class VideoReader:
    """The frames of a video, from the first.

    Args:
        path: of the video.

    Attributes:
        count: number of frames as the file says, 0 if it does not.
        rate: frames per second.

    Raises:
        InputError: it is no file, or its name is no valid text.
    """

    def __init__(self, path: str):
        check_regular(path, "video")
        if not os.fsencode(path).decode(errors="replace") == path:
            raise InputError(
                f"The name of the video {printable(path)} is no valid text, and OpenCV cannot "
                "open it. Rename it."
            )
        self._path, self._capture = path, cv2.VideoCapture(path)
        self.count = max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        self.rate = self._capture.get(cv2.CAP_PROP_FPS) or 25.0

    def frames(self) -> Iterator[np.ndarray]:
        """Yield the frames as RGB, (H, W, 3), uint8.

        Raises:
            InputError: there is none.
        """
        number = 0
        try:
            while True:
                success, frame = self._capture.read()
                if not success:
                    break
                number += 1
                yield np.ascontiguousarray(frame[:, :, ::-1])
        finally:
            self._capture.release()
        if not number:
            raise InputError(f"The video {self._path} cannot be read, or has no frames.")
