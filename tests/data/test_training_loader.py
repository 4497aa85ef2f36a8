"""The order of training images: that of Detectron2, and the same whatever stops a run."""
# ruff: noqa: NPY002

import collections
import itertools
import random

import numpy as np
import pytest
import torch
from detectron2.data import build_detection_train_loader, samplers
from detectron2.utils import comm
from PIL import Image

from pointrend_seg.data.training_loader import TrainingLoader, build_training_loader
from small_configs import small_instance_cfg

NAME = "training_loader_of_the_tests"
SIZES = [(4, 3), (3, 4), (4, 3), (5, 3), (3, 3)]  # width, height
RECORDS = [{"image_id": i, "width": SIZES[i % 5][0], "height": SIZES[i % 5][1]} for i in range(11)]
SAMPLERS = {
    "TrainingSampler": lambda seed: samplers.TrainingSampler(11, seed=seed),
    "RandomSubsetTrainingSampler": lambda seed: samplers.RandomSubsetTrainingSampler(
        11, 0.7, seed_shuffle=seed, seed_subset=seed
    ),
    "RepeatFactorTrainingSampler": lambda seed: samplers.RepeatFactorTrainingSampler(
        torch.linspace(1, 2.5, 11), seed=seed
    ),
}


def with_numbers(record):
    """A mapper that draws from every generator."""
    return record | {"drawn": (random.random(), np.random.rand(), torch.rand(1).item())}


def make(sampler="TrainingSampler", seed=3, mapper=dict, workers=0, **options):
    options = {"batch_size": 2, "grouped": True} | options
    return TrainingLoader(RECORDS, SAMPLERS[sampler](seed), mapper, num_workers=workers, **options)


@pytest.fixture
def process(monkeypatch):
    """Makes this process the r-th of R."""

    def become(rank, processes):
        monkeypatch.setattr(comm, "get_rank", lambda: rank)
        monkeypatch.setattr(comm, "get_world_size", lambda: processes)

    return become


def take(loader, number):
    return list(itertools.islice(loader, number))


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_images_and_random_numbers_are_those_of_detectron2(sampler, grouped):
    torch.manual_seed(0)
    theirs = build_detection_train_loader(
        RECORDS,
        mapper=dict,
        sampler=SAMPLERS[sampler](3),
        total_batch_size=2,
        aspect_ratio_grouping=grouped,
    )
    expected = take(theirs, 30)
    state = torch.get_rng_state()
    torch.manual_seed(0)
    assert take(make(sampler, grouped=grouped), 30) == expected
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("grouped", [True, False])
def test_the_number_of_workers_does_not_matter(grouped):
    batches = [
        take(make(mapper=with_numbers, workers=workers, grouped=grouped), 12)
        for workers in (0, 1, 2, 4)
    ]
    assert batches[0] == batches[1] == batches[2] == batches[3]
    drawn = [image["drawn"] for batch in batches[0] for image in batch]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_images_go_on_where_training_stopped(sampler, workers):
    undisturbed = take(make(sampler, mapper=with_numbers), 20)
    seen, state = [], None
    for count in (3, 1, 7, 9):  # of which workers read ahead
        loader = make(sampler, seed=len(seen), mapper=with_numbers, workers=workers)
        if state:
            assert loader.go_on(*state) is None
        else:
            loader = make(sampler, mapper=with_numbers, workers=workers)
        seen += take(loader, count)
        state = loader.order(), [loader.place()]
    assert seen == undisturbed


def test_a_second_iterator_draws_no_number_of_the_model():
    first, second = make(), make()
    take(first, 1)
    second.go_on(first.order(), [first.place()])
    state = torch.get_rng_state()
    take(second, 1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("seed", range(30))
def test_no_kill_leaves_an_image_out(seed, process):
    """Whatever the numbers of processes are, each position of the order comes once."""
    rng = random.Random(seed)
    grouped, constant = rng.random() < 0.7, rng.random() < 0.3
    reference = make(grouped=grouped, batch_size=1)
    order = [index for _, index in itertools.islice(reference._order(), 2000)]
    state, seen = None, []
    processes = rng.choice((1, 2, 3))
    for _ in range(rng.randint(1, 8)):
        if not constant:
            processes = rng.choice((1, 2, 3))
        count, places = rng.randint(0, 9), []
        batch_size = rng.choice((1, 2, 3))
        for rank in range(processes):
            process(rank, processes)
            loader = make(seed=99 if state else 3, grouped=grouped, batch_size=batch_size)
            if state:
                loader.go_on(*state)
            for batch in take(loader, count):
                assert len(batch) == batch_size
                if grouped:
                    assert len({image["width"] > image["height"] for image in batch}) == 1
                seen += [image["image_id"] for image in batch]
            places.append(loader.place())
        state = loader.order(), places
    # what waits, or was drawn by another process alone, is all that is missing
    process(0, 1)
    rest = make(seed=99, grouped=grouped, batch_size=1)
    rest.go_on(*state)
    for batch in rest:
        if len(seen) >= 1100:
            break
        seen += [image["image_id"] for image in batch]
    assert collections.Counter(seen) == collections.Counter(order[: len(seen)])


def test_an_epoch_has_each_image_once(process):
    """Eight batches in each of two processes, stopped after each, then one process."""
    state, seen = None, []
    for _ in range(8):
        places = []
        for rank in range(2):
            process(rank, 2)
            loader = make(seed=3 if state is None else 0, grouped=False)
            if state:
                loader.go_on(*state)
            seen += [image["image_id"] for image in take(loader, 1)[0]]
            places.append(loader.place())
        state = loader.order(), places
    process(0, 1)
    loader = make(seed=0, grouped=False, batch_size=1)
    assert "2 process(es) wrote the checkpoint and 1 go(es) on" in loader.go_on(*state)
    seen += [batch[0]["image_id"] for batch in take(loader, 1)]
    assert sorted(seen) == sorted(3 * list(range(11)))


def test_a_smaller_batch_loses_none_that_wait():
    loader = make(batch_size=3)
    seen = [image["image_id"] for batch in take(loader, 1) for image in batch]
    waiting = len(loader.place()["waiting"])
    assert waiting > 1
    for _ in range(22 - len(seen)):
        smaller = make(batch_size=1)
        smaller.go_on(loader.order(), [loader.place()])
        seen += [image["image_id"] for batch in take(smaller, 1) for image in batch]
        loader = smaller
    assert sorted(seen) == sorted(2 * list(range(11)))


def test_other_data_start_anew():
    loader = make()
    take(loader, 4)
    other = TrainingLoader(
        RECORDS[:8],
        samplers.TrainingSampler(8, seed=1),
        dict,
        batch_size=2,
        grouped=True,
        num_workers=0,
    )
    problem = other.go_on(loader.order(), [loader.place()])
    assert "TrainingSampler of 11 images; now TrainingSampler of 8" in problem
    assert problem.endswith("starts anew")
    assert other.place() == {"drawn": 0, "waiting": []}


def test_shapes_that_records_do_not_state_are_read_from_the_files(tmp_path):
    def write(name, size, orientation=None):
        exif = Image.Exif()
        if orientation:
            exif[274] = orientation
        Image.new("RGB", size).save(tmp_path / name, exif=exif)
        return {"file_name": str(tmp_path / name)}

    records = [write("wide.jpg", (9, 5)), write("high.jpg", (5, 9)), write("turned.jpg", (5, 9), 6)]
    (tmp_path / "broken.jpg").write_bytes(b"the mapper says so")
    records.append({"file_name": str(tmp_path / "broken.jpg")})
    sampler = samplers.TrainingSampler(4, shuffle=False, seed=0)
    loader = TrainingLoader(records, sampler, dict, batch_size=2, grouped=True, num_workers=0)
    assert take(loader, 2) == [[records[0], records[2]], [records[1], records[3]]]


# --- from a config --------------------------------------------------------------------------


@pytest.mark.parametrize("as_list", [True, False])
def test_data_sets_of_other_types_are_left_to_detectron2(as_list, registered):
    class Images(torch.utils.data.Dataset):
        def __len__(self):
            return len(RECORDS)

        def __getitem__(self, index):
            return RECORDS[index]

    registered(NAME, (lambda: list(RECORDS)) if as_list else Images)
    opts = ("DATASETS.TRAIN", (NAME,), "DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 2)
    loader = build_training_loader(small_instance_cfg(opts=opts), dict)
    assert isinstance(loader, TrainingLoader) is as_list
    assert len(take(loader, 1)[0]) == 2
