"""Save, restore and seed the global random number generators that data and models draw from.

They are Python's `random`, `numpy.random`, torch's on the CPU and, where CUDA is in use, that of
the current device. States are plain values: a checkpoint with them loads with `weights_only=True`.
"""
# ruff: noqa: NPY002

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


def random_state() -> dict:
    """Return the state of every generator, as tuples, numbers and tensors.

    Example:
        >>> state = random_state()
        >>> first = random.random()
        >>> set_random_state(state)
        >>> random.random() == first
        True
    """
    state: Any = np.random.get_state()
    name, keys, *rest = state
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
    }


def set_random_state(state: dict) -> None:
    """Restore what `random_state` returned; a CUDA state only where CUDA is in use."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(state["cuda"])


@contextlib.contextmanager
def kept_random_state() -> Iterator[None]:
    """Restore the state of every generator when the block ends."""
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)


@contextlib.contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Seed `random`, `numpy.random` and torch's CPU generator for a block; it disturbs no other.

    Args:
        numbers: non-negative; other numbers, or another order, give unrelated seeds.
    """
    words = np.random.SeedSequence(numbers).generate_state(6)
    with kept_random_state():
        np.random.seed(words[:2])
        # other words: both are Mersenne Twisters, and the same seed would give the same numbers
        random.seed(words[2:4].tobytes())
        torch.default_generator.manual_seed(int.from_bytes(words[4:].tobytes(), "little"))
        yield
