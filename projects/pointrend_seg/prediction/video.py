"""Predict on videos, frame by frame."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError, printable
from ..files.atomic import replaces
from ..files.progress import progress_bar
from ..files.regular import check_regular
from .folder import batched
from .inputs import Source
from .outputs import OutputFolder, to_cpu
from .predictor import Predictor
from .visualizations import Visualizations, draw_overlay


def predict_video(
    predictor: Predictor,
    source: Source,
    output: OutputFolder,
    *,
    visualizations: Visualizations,
    skip_existing: bool = False,
    progress: bool = False,
) -> list[str] | None:
    """Predict on each frame; write the results, and the overlays as a video pictures/NAME.mp4.

    Args:
        visualizations: of these, only the overlay is drawn.
        skip_existing: do nothing if the video of the overlays exists.
        progress: show a progress bar.

    Returns:
        the names of the frames' results, NAME/000000, NAME/000001, …; None if it was skipped.

    Raises:
        InputError: the video cannot be read, or OpenCV cannot write videos.
    """
    target = output.picture_path(source.name).with_suffix(".mp4")
    if skip_existing and visualizations.overlay and target.exists():
        return None
    check_regular(source.path, "video")
    if not os.fsencode(source.path).decode(errors="replace") == source.path:
        raise InputError(
            f"The name of the video {printable(source.path)} is no valid text, and OpenCV cannot "
            "open it. Rename it."
        )
    reader = cv2.VideoCapture(source.path)
    total = int(reader.get(cv2.CAP_PROP_FRAME_COUNT))
    rate = reader.get(cv2.CAP_PROP_FPS) or 25.0
    names: list[str] = []
    target.parent.mkdir(parents=True, exist_ok=True)
    writer = None
    with contextlib.ExitStack() as stack:
        stack.callback(reader.release)
        part = stack.enter_context(replaces(target)) if visualizations.overlay else target
        frames = progress_bar(_frames(reader), total=max(total, 0), unit="frame", shown=progress)
        for batch in batched(frames, predictor.batch_size):
            outputs = predictor.predict([predictor.prepare_rgb(frame) for frame in batch])
            for frame, prediction in zip(batch, map(to_cpu, outputs), strict=True):
                name = f"{source.name}/{len(names):06d}"
                names.append(name)
                output.write(name, name, prediction)
                if visualizations.overlay:
                    if writer is None:
                        writer = _writer(part, rate, frame.shape)
                        stack.callback(writer.release)  # before the file gets its name
                    picture = draw_overlay(frame, prediction, predictor.classes)
                    writer.write(picture[:, :, ::-1])
        if not names:
            raise InputError(f"The video {source.path} cannot be read, or has no frames.")
    return names


def _frames(reader: cv2.VideoCapture) -> Iterator[np.ndarray]:
    """Yield the remaining frames as RGB, (H, W, 3), uint8."""
    while True:
        success, frame = reader.read()
        if not success:
            return
        yield np.ascontiguousarray(frame[:, :, ::-1])


def _writer(path: Path, rate: float, shape: tuple[int, ...]) -> cv2.VideoWriter:
    codec = cv2.VideoWriter.fourcc(*"mp4v")  # every build of OpenCV that writes videos has it
    writer = cv2.VideoWriter(str(path), codec, rate, (shape[1], shape[0]))
    if not writer.isOpened():
        raise InputError(
            f"OpenCV cannot write the video {path}. Use --no-pictures, or an OpenCV with FFmpeg "
            "(pip install opencv-python-headless)."
        )
    return writer
