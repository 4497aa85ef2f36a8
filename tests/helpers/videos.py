"""A small video."""

import cv2
import numpy as np
import pytest


def write_video(path):
    """Write 3 grey frames of 64 x 48 pixels; skip the test where OpenCV writes no videos."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no videos")
    for k in range(3):
        writer.write(np.full((48, 64, 3), 60 * k, np.uint8))
    writer.release()
    return path
