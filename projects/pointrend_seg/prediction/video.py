"""Predicting on videos, frame by frame."""

from collections.abc import Iterable, Iterator
from itertools import islice

import cv2
import numpy as np
from tqdm import tqdm

from ..errors import InputError
from .folder import overlay
from .inputs import Source
from .outputs import Output, to_cpu
from .predictor import Predictor
from .step_pictures import Pictures

_CODEC = "mp4v"  # the one that every OpenCV writes


def predict_video(
    predictor: Predictor,
    source: Source,
    output: Output,
    *,
    pictures: Pictures,
    skip_existing: bool = False,
    progress: bool = False,
) -> list[str] | None:
    """Predict on each frame; write a video DIR/pictures/NAME.mp4 of it, and results by frame.

    Results are those of images called NAME/000000, NAME/000001, …

    Args:
        progress: show a progress bar.

    Returns:
        the names of the frames; None where the video was there already.

    Raises:
        InputError: it cannot be read.
    """
    target = output.picture(source.name).with_suffix(".mp4")
    if skip_existing and pictures.overlay and target.exists():
        return None
    reader = cv2.VideoCapture(source.path)
    total = int(reader.get(cv2.CAP_PROP_FRAME_COUNT))
    rate = reader.get(cv2.CAP_PROP_FPS) or 25.0
    names, part = [], target.with_name(f"{target.stem}.part.mp4")
    target.parent.mkdir(parents=True, exist_ok=True)
    writer = None
    try:
        frames = tqdm(_frames(reader), total=max(total, 0), unit="frame", disable=not progress)
        for batch in _batches(frames, predictor.batch_size):
            found = predictor.predict([predictor.prepare_rgb(frame) for frame in batch])
            for frame, prediction in zip(batch, map(to_cpu, found), strict=True):
                names.append(f"{source.name}/{len(names):06d}")
                _write(output, names[-1], prediction)
                if pictures.overlay:
                    writer = writer or _writer(part, rate, frame.shape)
                    writer.write(overlay(frame, prediction, predictor)[:, :, ::-1])
    finally:
        reader.release()
        if writer is not None:
            writer.release()
    if not names:
        raise InputError(f"The video {source.path} cannot be read, or has no frames.")
    if pictures.overlay:
        part.replace(target)
    return names


def _frames(reader: cv2.VideoCapture) -> Iterator[np.ndarray]:
    while True:
        there, frame = reader.read()
        if not there:
            return
        yield np.ascontiguousarray(frame[:, :, ::-1])


def _batches(frames: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    frames = iter(frames)
    while batch := list(islice(frames, size)):
        yield batch


def _writer(path, rate: float, shape: tuple[int, ...]) -> cv2.VideoWriter:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*_CODEC), rate, (shape[1], shape[0]))
    if not writer.isOpened():
        raise InputError(
            f"OpenCV cannot write the video {path}. Use --no-pictures, or an OpenCV with FFmpeg "
            "(pip install opencv-python-headless)."
        )
    return writer


def _write(output: Output, name: str, prediction: dict) -> None:
    if "classes" in prediction:
        output.write_labels(name, prediction["classes"])
    else:
        output.write_objects(name, name, prediction["instances"])
