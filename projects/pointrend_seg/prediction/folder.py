"""Predict on many images: threads read ahead, the model predicts in batches, threads write.

Images that cannot be read, or that memory is not enough for, are skipped. Finished results are on
the disk, so an interrupted run can continue.
"""

import contextlib
import functools
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple, TypeVar

import cv2
import numpy as np

from ..data.images.decoding import UNREADABLE
from ..errors import InputError
from ..files.progress import progress_bar
from ..files.regular import check_regular
from .inputs import Source, batched
from .outputs import OutputFolder, save_image, to_cpu
from .predictor import Predictor
from .visualizations import Visualizations, draw_overlay

_MOST_AHEAD = 2**25  # pixels of images that are read ahead

T = TypeVar("T")
R = TypeVar("R")
_NO_MEMORY = re.compile("allocate memory|out of memory|Insufficient memory|DefaultCPUAllocator")


@dataclass
class Outcome:
    """Counts of a run, and its errors.

    Attributes:
        predicted: number of images and video frames that were predicted.
        skipped: number of files whose results existed.
        errors: a message for each file that could not be read.
    """

    predicted: int = 0
    skipped: int = 0
    errors: list[str] = field(default_factory=list)


class _Prepared(NamedTuple):
    """An image that was read: RGB, (H, W, 3), uint8, and the model's input."""

    source: Source
    image: np.ndarray
    inputs: dict


def predict_images(
    predictor: Predictor,
    sources: list[Source],
    output: OutputFolder,
    *,
    visualizations: Visualizations,
    threads: int = 2,
    skip_existing: bool = False,
    progress: bool = False,
) -> Outcome:
    """Predict on images and write the results and visualizations.

    Of a file with several frames or pages each is an image NAME/000000, NAME/000001, ….

    Args:
        threads: number of threads that read, and of threads that write.
        skip_existing: skip images whose result and visualizations exist.
        progress: show a progress bar.

    Raises:
        InputError: pictures are wanted that this predictor cannot draw.
    """
    visualizations.check(predictor)
    outcome = Outcome()
    relief = ["a smaller --max-size"]
    relief += ["--tile"] if not predictor.cfg.TEST.TILES.SIZE else []
    relief += ["--no-pictures"] if visualizations.overlay else []
    enough_memory = functools.partial(_enough_memory, relief=" or ".join(relief))

    def is_done(source: Source) -> bool:
        if not (skip_existing and _is_done(source, output, visualizations)):
            return False
        outcome.skipped += 1
        output.keep(source.name, source.file_name, source.path)
        return True

    def pending() -> Iterator[tuple[Source, np.ndarray | None]]:
        """Yield images, and frames with their pixels, that are to be predicted."""
        for source in sources:
            if is_done(source):
                continue
            count = predictor.reader.count_frames(source.path)
            if count == 1:
                yield source, None
                continue
            bar.total += count - 1
            frames = predictor.reader.frames(source.path)
            for number in range(count):
                name = f"{source.name}/{number:06d}"
                part = replace(source, name=name, file_name=name)
                try:
                    frame = next(frames)
                except InputError as error:
                    outcome.errors.append(str(error))
                    break
                if not is_done(part):
                    yield part, frame

    def read(item: tuple[Source, np.ndarray | None]) -> _Prepared:
        source, frame = item
        with _naming(source), enough_memory(source):
            image = predictor.read(source.path) if frame is None else frame
            inputs = predictor.prepare_rgb(image)
        return _Prepared(source, image, {**inputs, "file_name": source.file_name})  # for messages

    def pixels(item: tuple[Source, np.ndarray | None]) -> int:
        source, frame = item
        if frame is not None:
            return frame.shape[0] * frame.shape[1]
        try:
            check_regular(source.path, "image")
            height, width = predictor.reader.size(source.path)
        except (InputError, *UNREADABLE):  # reading it says so
            return 0
        return height * width

    def predict(batch: list[_Prepared]) -> Iterator[tuple[_Prepared, dict]]:
        """Yield predictions; if memory is not enough for a batch, those of its images alone."""
        try:
            with enough_memory(batch[0].source):
                predictions = predictor.predict([each.inputs for each in batch])
        except _NoMemory as error:
            predictions, reason = [], str(error)
        if not predictions and len(batch) == 1:
            outcome.errors.append(reason)
        elif not predictions:  # outside of the handler, which keeps what fills the memory
            for each in batch:
                yield from predict([each])
        else:
            yield from zip(batch, predictions, strict=True)

    def write(
        prepared: _Prepared, prediction: dict, drawings: dict[str, Callable[[], np.ndarray]]
    ) -> None:
        source, image, _ = prepared
        with enough_memory(source):
            if visualizations.overlay:
                picture = draw_overlay(
                    image, prediction, predictor.classes, names=visualizations.names
                )
                save_image(output.picture_path(source.name), picture)
            for suffix, draw in drawings.items():
                save_image(output.picture_path(source.name, suffix), draw())
            # last: it marks the image as done
            output.write(source.name, source.file_name, prediction, source.path)

    with ThreadPoolExecutor(threads) as readers, ThreadPoolExecutor(threads) as writers:
        ahead = 2 * threads + predictor.batch_size
        read_ahead = _submit_in_order(readers, read, pending(), ahead, pixels)
        bar = progress_bar(read_ahead, total=len(sources), unit="image", shown=progress)
        writing: deque[Future] = deque()

        def finish(most: int) -> None:
            """Wait for pictures and results until at most so many images are being written."""
            while len(writing) > most:
                try:
                    writing.popleft().result()
                except _NoMemory as error:
                    outcome.errors.append(str(error))
                else:
                    outcome.predicted += 1

        for batch in batched(_good(bar, outcome), predictor.batch_size):
            for prepared, prediction in predict(batch):
                try:
                    with enough_memory(prepared.source):
                        drawings = visualizations.prepare(predictor, prepared.inputs)
                        on_cpu = to_cpu(prediction, panoptic=predictor.task.is_panoptic)
                except _NoMemory as error:
                    outcome.errors.append(str(error))
                    continue
                writing.append(writers.submit(write, prepared, on_cpu, drawings))
            finish(ahead if batch[-1].image.size < 3 * _MOST_AHEAD else 0)
        finish(0)
    return outcome


class _NoMemory(InputError):
    """Memory is not enough for one image."""


@contextlib.contextmanager
def _naming(source: Source) -> Iterator[None]:
    """Name the image in messages about it."""
    try:
        yield
    except InputError as error:
        if source.path in str(error):
            raise
        raise InputError(f"{source.path}: {error}") from error


@contextlib.contextmanager
def _enough_memory(source: Source, relief: str) -> Iterator[None]:
    """Raise `_NoMemory`, which names the image, where memory is not enough for it.

    Args:
        relief: options that need less memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError, cv2.error) as error:
        if not isinstance(error, MemoryError) and not _NO_MEMORY.search(str(error)):
            raise
        raise _NoMemory(
            f"{source.path}: the memory is not enough for this image. Try {relief}."
        ) from error


def _is_done(source: Source, output: OutputFolder, visualizations: Visualizations) -> bool:
    files = [output.result_path(source.name), *visualizations.files(output, source.name)]
    return all(file.exists() for file in files)


def _submit_in_order(
    pool: ThreadPoolExecutor,
    function: Callable[[T], R],
    items: Iterable[T],
    ahead: int,
    pixels: Callable[[T], int],
) -> Iterator[Future[R]]:
    """Yield a future per item, in order; those submitted and not taken are limited.

    Args:
        ahead: the most of them.
        pixels: of an item; with those of `_MOST_AHEAD` together, no more are submitted.
    """
    iterator = iter(items)
    waiting: deque[tuple[Future[R], int]] = deque()
    while True:
        while len(waiting) < ahead and sum(size for _, size in waiting) < _MOST_AHEAD:
            for item in islice(iterator, 1):
                waiting.append((pool.submit(function, item), pixels(item)))
                break
            else:
                break
        if not waiting:
            return
        yield waiting.popleft()[0]


def _good(futures: Iterable[Future[T]], outcome: Outcome) -> Iterator[T]:
    """Yield the results; add the messages of `InputError` to the outcome."""
    for future in futures:
        try:
            yield future.result()
        except InputError as error:
            outcome.errors.append(str(error))
