"""Predict on many images: threads read ahead, the model predicts in batches, threads write.

Unreadable files are skipped. Finished results are on the disk, so an interrupted run can continue.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import numpy as np

from ..errors import InputError
from ..files.progress import progress_bar
from .inputs import Source
from .outputs import OutputFolder, save_png, to_cpu
from .predictor import Predictor
from .visualizations import Visualizations, draw_overlay

T = TypeVar("T")
R = TypeVar("R")


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

    Args:
        threads: number of threads that read, and of threads that write.
        skip_existing: skip images whose result and visualizations exist.
        progress: show a progress bar.
    """
    outcome = Outcome()
    pending = sources
    if skip_existing:
        pending = [source for source in sources if not _is_done(source, output, visualizations)]
        outcome.skipped = len(sources) - len(pending)

    def read(source: Source) -> tuple[Source, np.ndarray, dict]:
        image = predictor.read(source.path)
        try:
            inputs = predictor.prepare_rgb(image)
        except InputError as error:
            raise InputError(f"{source.path}: {error}") from error
        return source, image, {**inputs, "file_name": source.file_name}  # for messages

    def write(
        source: Source,
        image: np.ndarray,
        prediction: dict,
        drawings: dict[str, Callable[[], np.ndarray]],
    ) -> None:
        if visualizations.overlay:
            picture = draw_overlay(image, prediction, predictor.classes)
            save_png(output.picture_path(source.name), picture)
        for suffix, draw in drawings.items():
            save_png(output.picture_path(source.name, suffix), draw())
        output.write(source.name, source.file_name, prediction)  # last: it marks the image as done

    with ThreadPoolExecutor(threads) as readers, ThreadPoolExecutor(threads) as writers:
        ahead = 2 * threads + predictor.batch_size
        futures = progress_bar(
            _submit_in_order(readers, read, pending, ahead),
            total=len(pending),
            unit="image",
            shown=progress,
        )
        writing: deque[Future] = deque()
        for batch in batched(_readable(futures, outcome), predictor.batch_size):
            predictions = predictor.predict([inputs for _, _, inputs in batch])
            for (source, image, inputs), prediction in zip(batch, predictions, strict=True):
                drawings = visualizations.prepare(predictor, inputs)
                writing.append(writers.submit(write, source, image, to_cpu(prediction), drawings))
                outcome.predicted += 1
            while len(writing) > ahead:
                writing.popleft().result()
        for future in writing:
            future.result()
    return outcome


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of ``size`` items; the last may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _is_done(source: Source, output: OutputFolder, visualizations: Visualizations) -> bool:
    files = [output.result_path(source.name), *visualizations.files(output, source.name)]
    return all(file.exists() for file in files)


def _submit_in_order(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], ahead: int
) -> Iterator[Future[R]]:
    """Yield a future per item, in order, with at most ``ahead`` of them submitted and not taken."""
    iterator = iter(items)
    waiting = deque(pool.submit(function, item) for item in islice(iterator, ahead))
    while waiting:
        yield waiting.popleft()
        waiting.extend(pool.submit(function, item) for item in islice(iterator, 1))


def _readable(futures: Iterable[Future[T]], outcome: Outcome) -> Iterator[T]:
    """Yield the results; add the messages of `InputError` to the outcome."""
    for future in futures:
        try:
            yield future.result()
        except InputError as error:
            outcome.errors.append(str(error))
