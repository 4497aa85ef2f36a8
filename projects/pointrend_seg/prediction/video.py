"""Predict on videos, frame by frame."""

import contextlib
import functools
from dataclasses import replace
from pathlib import Path

import cv2

from ..errors import InputError
from ..files.atomic import replaces
from ..files.progress import progress_bar
from .inputs import Source, batched
from .outputs import OutputFolder, save_image, to_cpu
from .predictor import Predictor
from .video_reader import VideoReader
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
        visualizations: the overlay is a video; the others are pictures of each frame.
        skip_existing: do nothing if the video of the overlays, and the pictures of the first frame,
            exist.
        progress: show a progress bar.

    Returns:
        the names of the frames' results, NAME/000000, NAME/000001, …; None if it was skipped.

    Raises:
        InputError: the video cannot be read, or OpenCV cannot write videos.
    """
    visualizations.check(predictor)
    target = output.picture_path(source.name).with_suffix(".mp4")
    first = replace(visualizations, overlay=False).files(output, f"{source.name}/000000")
    done = target.exists() and all(picture.exists() for picture in first)
    if skip_existing and visualizations.overlay and done:
        output.keep(source.name, source.file_name)
        return None
    reader = VideoReader(source.path)
    names: list[str] = []
    target.parent.mkdir(parents=True, exist_ok=True)
    writer = None
    with contextlib.ExitStack() as stack:
        part = stack.enter_context(replaces(target)) if visualizations.overlay else target
        frames = progress_bar(reader.frames(), total=reader.count, unit="frame", shown=progress)
        for batch in batched(frames, predictor.batch_size):
            inputs = [predictor.prepare_rgb(frame) for frame in batch]
            reduce = functools.partial(to_cpu, panoptic=predictor.task.is_panoptic)
            outputs = map(reduce, predictor.predict(inputs))
            for frame, frame_inputs, prediction in zip(batch, inputs, outputs, strict=True):
                name = f"{source.name}/{len(names):06d}"
                names.append(name)
                for suffix, draw in visualizations.prepare(predictor, frame_inputs).items():
                    save_image(output.picture_path(name, suffix), draw())
                output.write(name, name, prediction)
                if visualizations.overlay:
                    if writer is None:
                        writer = _writer(part, reader.rate, frame.shape)
                        stack.callback(writer.release)  # before the file gets its name
                    picture = draw_overlay(
                        frame, prediction, predictor.classes, names=visualizations.names
                    )
                    writer.write(picture[:, :, ::-1])
    return names


def _writer(path: Path, rate: float, shape: tuple[int, ...]) -> cv2.VideoWriter:
    codec = cv2.VideoWriter.fourcc(*"mp4v")  # every build of OpenCV that writes videos has it
    writer = cv2.VideoWriter(str(path), codec, rate, (shape[1], shape[0]))
    if not writer.isOpened():
        raise InputError(
            f"OpenCV cannot write the video {path}. Use --no-pictures, or an OpenCV with FFmpeg "
            "(pip install opencv-python-headless)."
        )
    return writer
