"""States of the random number generators, and blocks with seeds of their own."""
# ruff: noqa: NPY002

import random

import numpy as np
import torch

from pointrend_seg.data.random_numbers import (
    kept_random_state,
    random_state,
    seeded,
    set_random_state,
)


def draw():
    normal = np.random.normal(), random.gauss(0, 1)  # both keep a second number for the next call
    return *normal, random.random(), np.random.rand(), torch.rand(1).item()


def test_a_state_is_restored_from_a_file_of_plain_values(tmp_path):
    draw()
    torch.save(random_state(), tmp_path / "state.pth")
    numbers = draw(), draw()
    set_random_state(torch.load(tmp_path / "state.pth", weights_only=True))
    assert (draw(), draw()) == numbers


def test_a_block_leaves_no_trace():
    with kept_random_state():
        first = draw()
    with seeded(1, 2):
        draw()
    assert draw() == first


def test_seeds_decide_every_generator():
    def drawn(*numbers):
        with seeded(*numbers):
            return draw()

    assert drawn(1, 2) == drawn(1, 2)
    seeds = ((1, 2), (2, 1), (1, 3), (0, 2**31), (0, 0))
    everything = [number for each in seeds for number in drawn(*each)]
    assert len(set(everything)) == len(everything)


def test_the_generators_of_python_and_numpy_are_unrelated():
    """The same seed would give both the same numbers."""
    with seeded(5):
        assert random.random() != np.random.rand()
