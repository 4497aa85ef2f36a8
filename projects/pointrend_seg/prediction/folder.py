"""Predicting on many files: threads read ahead, the model predicts in batches, threads write.

A file that cannot be read is passed over. What is finished is on the disk, so that a run that was
stopped can be taken up.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from tqdm import tqdm

from ..drawing.predictions import draw_classes, draw_instances
from ..errors import InputError
from .inputs import Source
from .outputs import Output, save_png, to_cpu
from .predictor import Predictor
from .step_pictures import Pictures


@dataclass
class Done:
    """What became of the files: how many were predicted, were there already, could not be read."""

    predicted: int = 0
    skipped: int = 0
    broken: list[str] = field(default_factory=list)


def predict_images(
    predictor: Predictor,
    sources: list[Source],
    output: Output,
    *,
    pictures: Pictures,
    threads: int = 2,
    skip_existing: bool = False,
    progress: bool = False,
) -> Done:
    """Predict on images and write what `Output` and `Pictures` say.

    Args:
        threads: that read, and as many that write.
        skip_existing: leave out images whose result and pictures are there.
        progress: show a progress bar.
    """
    done = Done()
    todo = sources
    if skip_existing:
        todo = [each for each in sources if not _is_there(each, output, pictures)]
        done.skipped = len(sources) - len(todo)
    with ThreadPoolExecutor(threads) as readers, ThreadPoolExecutor(threads) as writers:
        ahead = 2 * threads + predictor.batch_size
        read = _ordered(readers, todo, lambda source: _read(predictor, source), ahead)
        written: deque[Future] = deque()
        bar = tqdm(read, total=len(todo), unit="image", disable=not progress)
        for batch in _batches(bar, predictor.batch_size, done):
            outputs = predictor.predict([inputs for _, _, inputs in batch])
            for (source, image, inputs), found in zip(batch, outputs, strict=True):
                drawn = pictures.of(predictor, image, inputs, found)
                job = _Finished(source, image, to_cpu(found), drawn)
                written.append(writers.submit(_write, job, output, pictures, predictor))
                done.predicted += 1
            while len(written) > ahead:
                written.popleft().result()
        for future in written:
            future.result()
    return done


def _is_there(source: Source, output: Output, pictures: Pictures) -> bool:
    files = [output.result(source.name), *pictures.files(output, source.name)]
    return all(file.exists() for file in files)


def _read(predictor: Predictor, source: Source) -> tuple[Source, np.ndarray, dict]:
    image = predictor.read(source.path)
    return source, image, predictor.prepare_rgb(image)


def _ordered(pool: ThreadPoolExecutor, items: list, work: Callable, ahead: int) -> Iterator[Future]:
    """The work on items, in their order, at most ``ahead`` of them begun and not yet taken."""
    waiting: deque[Future] = deque()
    rest = iter(items)
    waiting.extend(pool.submit(work, item) for item in islice(rest, ahead))
    while waiting:
        future = waiting.popleft()
        yield future
        waiting.extend(pool.submit(work, item) for item in islice(rest, 1))


def _batches(futures: Iterable[Future], size: int, done: Done) -> Iterator[list]:
    batch = []
    for future in futures:
        try:
            batch.append(future.result())
        except InputError as error:
            done.broken.append(str(error))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


@dataclass
class _Finished:
    source: Source
    image: np.ndarray
    found: dict
    drawn: dict[str, Callable[[], np.ndarray]]


def _write(job: _Finished, output: Output, pictures: Pictures, predictor: Predictor) -> None:
    """Pictures first: the result is what says that an image is done."""
    if pictures.overlay:
        save_png(output.picture(job.source.name), overlay(job.image, job.found, predictor))
    for what, draw in job.drawn.items():
        save_png(output.picture(job.source.name, what), draw())
    if "classes" in job.found:
        output.write_labels(job.source.name, job.found["classes"])
    else:
        output.write_objects(job.source.name, job.source.file_name, job.found["instances"])


def overlay(image: np.ndarray, found: dict, predictor: Predictor) -> np.ndarray:
    """A prediction (see `to_cpu`) over its image, RGB."""
    if "classes" in found:
        return draw_classes(image, found["classes"], predictor.classes)
    instances = found["instances"]
    if instances.has("pred_masks"):
        masks = instances.pred_masks.numpy()
    else:
        masks = _box_masks(instances.pred_boxes.tensor.numpy(), image.shape[:2])
    return draw_instances(
        image, masks, instances.pred_classes.numpy(), instances.scores.numpy(), predictor.classes
    )


def _box_masks(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    masks = np.zeros((len(boxes), *size), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.round().astype(int), strict=True):
        mask[max(y0, 0) : y1, max(x0, 0) : x1] = True
    return masks
