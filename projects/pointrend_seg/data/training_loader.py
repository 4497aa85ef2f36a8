"""Batches for training, in an order that a checkpoint can go on with.

A sampler of Detectron2 gives the run's endless order of images. Process r of R takes each R-th of
them, from the r-th on. A *draw* is a pair: the position in that order, and the index of the image
in the data set.

- What becomes of an image follows from the run's seed and the position alone, so neither worker
  processes nor their number matter.
- Batches are put together from draws, before images are read. So the images that still wait for
  others of their shape are a few numbers, and what workers have read ahead does not count.
"""

import contextlib
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetFromList, build_detection_train_loader
from detectron2.data.samplers import TrainingSampler
from detectron2.utils import comm
from detectron2.utils.serialize import PicklableWrapper
from torch.utils.data import DataLoader, Dataset

from .images.decoding import UNREADABLE
from .images.reader import ImageReader
from .random_numbers import kept_random_state, seeded
from .workers import affordable_workers, largest_input, set_up_worker

logger = logging.getLogger(__name__)

Draw = tuple[int, int]
# What makes the order of a sampler: its seeds, and the images that a random subset has.
_SEEDS = ("_seed", "_seed_subset", "_indexes_subset")


class TrainingLoader:
    """Give batches of mapped images without end, and their place in the run's order.

    The order is that of `build_detection_train_loader` with at most one worker: with `grouped`,
    images that are wider than high and others are not mixed in a batch. Each image is augmented
    with random numbers of its own.

    Args:
        records: data set dicts.
        sampler: one of Detectron2's training samplers.
        mapper: makes the model's input of a record; draws from `random`, `numpy.random` and
            torch's CPU generator.
        batch_size: images in a batch of this process.
        grouped: whether a batch has images of similar aspect ratios.
        num_workers: processes that read ahead, or fewer if shared memory is not enough for the
            images; 0 reads in this one.
        image_bytes: tensors of an image that the mapper made.
    """

    def __init__(
        self,
        records: list[dict],
        sampler: Any,
        mapper: Callable[[dict], dict],
        *,
        batch_size: int,
        grouped: bool,
        num_workers: int,
        image_bytes: int = 1,
    ):
        self._wide = [_states_wide(record) for record in records] if grouped else []
        self._records = DatasetFromList(records, copy=False)
        self._sampler = sampler
        self._mapper = PicklableWrapper(mapper)
        self._batch_size = batch_size
        # each worker reads two images ahead if they are grouped, else two batches, as in Detectron2
        self._ahead = 2 if grouped else 2 * batch_size
        self._num_workers = affordable_workers(
            num_workers, image_bytes=image_bytes, ahead=self._ahead, held=2 * batch_size
        )
        self._rank, self._processes = comm.get_rank(), comm.get_world_size()
        # The order: draws that come first, then the sampler's from a position on.
        self._again: list[Draw] = []
        self._first = 0
        # As of the last batch that was handed out: how many draws of this process were taken,
        # and which of them wait for others of their shape.
        self._drawn = 0
        self._waiting: list[Draw] = []

    @property
    def records(self) -> Sequence[dict]:
        """The data set dicts that images are taken from."""
        return self._records

    def __iter__(self) -> Iterator[list[dict]]:
        places: deque[tuple[int, list[Draw]]] = deque()
        images = DataLoader(
            _Images(self._records, self._mapper, self._sampler._seed),
            batch_size=None,  # a worker reads an image, not a batch
            sampler=self._plan(places),
            num_workers=self._num_workers,
            collate_fn=_unchanged,
            prefetch_factor=self._ahead if self._num_workers else None,
            worker_init_fn=set_up_worker,
        )
        # PyTorch draws a number for each iterator; an undisturbed run has one
        with kept_random_state() if self._drawn else contextlib.nullcontext():
            source = iter(images)
        while True:
            batch = list(itertools.islice(source, self._batch_size))
            self._drawn, self._waiting = places.popleft()
            yield batch

    def _plan(self, places: deque[tuple[int, list[Draw]]]) -> Iterator[Draw]:
        """Give the draws of one batch after the other; append the place after each to `places`."""
        buckets: dict[bool, list[Draw]] = {True: [], False: []}
        for draw in self._waiting:
            buckets[self._is_wide(draw)].append(draw)
        first = self._rank + self._drawn * self._processes
        draws = itertools.islice(self._order(), first, None, self._processes)
        drawn = self._drawn
        while True:
            for bucket in buckets.values():
                while len(bucket) >= self._batch_size:
                    batch = bucket[: self._batch_size]
                    del bucket[: self._batch_size]
                    places.append((drawn, sorted(buckets[True] + buckets[False])))
                    yield from batch
            draw = next(draws)
            drawn += 1
            buckets[self._is_wide(draw)].append(draw)

    def _order(self) -> Iterator[Draw]:
        """Give the draws of all processes, from the beginning."""
        draws = enumerate(self._sampler._infinite_indices())
        return itertools.chain(self._again, itertools.islice(draws, self._first, None))

    def _is_wide(self, draw: Draw) -> bool:
        """Return which of two groups the image of a draw is in."""
        if not self._wide:
            return False
        _, index = draw
        wide = self._wide[index]
        if wide is None:  # the record states no size: look at the file, once
            wide = self._wide[index] = _file_is_wide(self._records[index]["file_name"])
        return wide

    def order(self) -> dict:
        """Return what the order of images follows from, the same in all processes."""
        sampler = vars(self._sampler)
        return {
            **self._kind(),
            "seeds": {name: sampler[name] for name in _SEEDS if name in sampler},
            "again": list(self._again),
            "first": self._first,
        }

    def place(self) -> dict:
        """Return where in the order this process is, after the last batch that it handed out."""
        return {"drawn": self._drawn, "waiting": list(self._waiting)}

    def go_on(self, order: dict, places: list[dict]) -> str | None:
        """Go on in an order, for the iterators that are made from now on.

        Args:
            order: what `order` returned.
            places: what `place` returned, for each process.

        Returns:
            why the images are not those of an undisturbed run; None if they are. With another
            number of processes each image comes as often as it would have, in another process.
            With other data the order starts anew.
        """
        kind = self._kind()
        known = {name: order[name] for name in kind}
        if known != kind:
            was, now = (f"{each['sampler']} of {each['images']} images" for each in (known, kind))
            return (
                f"the training data changed ({was}; now {now}), so the order of images starts anew"
            )
        vars(self._sampler).update(order["seeds"])
        self._again, self._first = [tuple(draw) for draw in order["again"]], order["first"]
        if len(places) == self._processes:
            place = places[self._rank]
            self._drawn = place["drawn"]
            self._waiting = [tuple(draw) for draw in place["waiting"]]
            return None
        self._share_out(places)
        return (
            f"{len(places)} process(es) wrote the checkpoint and {self._processes} go(es) on, so "
            "the images that are left are shared out anew"
        )

    def _share_out(self, places: list[dict]) -> None:
        """Let the order begin with what other processes had not handed out yet."""
        waiting = {tuple(draw) for place in places for draw in place["waiting"]}
        looked_at = len(places) * max(place["drawn"] for place in places)
        left = []
        for number, draw in enumerate(itertools.islice(self._order(), looked_at)):
            turn, process = divmod(number, len(places))
            if turn >= places[process]["drawn"] or draw in waiting:
                left.append(draw)
        left += self._again[looked_at:]
        self._first += max(0, looked_at - len(self._again))
        self._again, self._drawn, self._waiting = left, 0, []

    def _kind(self) -> dict:
        """Return what the order depends on besides its seeds."""
        sampler = vars(self._sampler)
        if "_frac_part" in sampler:
            epoch = float((sampler["_int_part"] + sampler["_frac_part"]).sum())
        else:
            epoch = float(sampler.get("_size_subset", len(self._records)))
        name = type(self._sampler).__name__
        return {"sampler": name, "images": len(self._records), "epoch": epoch}


class _Images(Dataset):
    """Read the image of a draw and augment it with random numbers of its own."""

    def __init__(self, records: DatasetFromList, mapper: Callable[[dict], dict], seed: int):
        self._records, self._mapper, self._seed = records, mapper, seed

    def __getitem__(self, draw: Draw) -> dict:
        position, index = draw
        with seeded(self._seed, position):
            return self._mapper(self._records[index])


def _unchanged(image: Any) -> Any:
    return image


def _states_wide(record: dict) -> bool | None:
    return record["width"] > record["height"] if {"width", "height"} <= record.keys() else None


def _file_is_wide(file_name: str) -> bool:
    """Return whether an image is wider than high, upright; the mapper reports unreadable files."""
    try:
        height, width = ImageReader().size(file_name)
    except UNREADABLE:
        return False
    return width > height


def _loader_from_config(cfg: CfgNode, mapper: Callable[[dict], dict]) -> dict:
    parts = build_detection_train_loader.from_config(cfg, mapper=mapper)
    records = parts["dataset"]
    if isinstance(records, list):
        objects = sum(len(record.get("annotations", ())) for record in records)
        logger.info(
            "Training data: %s, %d images%s",
            ", ".join(cfg.DATASETS.TRAIN),
            len(records),
            f" with {objects} objects" if objects else "",
        )
        parts["image_bytes"] = largest_input(cfg, records, is_train=True)
    return parts


@configurable(from_config=_loader_from_config)
def build_training_loader(
    dataset: Any,
    *,
    mapper: Callable[[dict], dict],
    sampler: Any = None,
    total_batch_size: int,
    aspect_ratio_grouping: bool = True,
    num_workers: int = 0,
    image_bytes: int = 1,
    **more: Any,
) -> Any:
    """Build the loader of the training sets, from a config and a mapper or from these arguments.

    Args:
        dataset: data set dicts.
        mapper: makes the model's input of a data set dict.
        sampler: one of Detectron2's training samplers; None for a `TrainingSampler`.
        total_batch_size: images in a batch of all processes, which share them evenly.
        aspect_ratio_grouping, num_workers, image_bytes: as `TrainingLoader` takes them.
        more: other arguments of `build_detection_train_loader`.

    Returns:
        a `TrainingLoader`; for data sets that are no lists, e.g. iterable ones, and with other
        arguments, Detectron2's loader, which starts at the beginning whenever it is made.
    """
    if not isinstance(dataset, list) or more:
        return build_detection_train_loader(
            dataset,
            mapper=mapper,
            sampler=sampler,
            total_batch_size=total_batch_size,
            aspect_ratio_grouping=aspect_ratio_grouping,
            num_workers=num_workers,
            **more,
        )
    return TrainingLoader(
        dataset,
        sampler or TrainingSampler(len(dataset)),
        mapper,
        batch_size=total_batch_size // comm.get_world_size(),
        grouped=aspect_ratio_grouping,
        num_workers=num_workers,
        image_bytes=image_bytes,
    )
