"""Measure time and memory of two implementations, in turn, in one process."""

import ctypes
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class Contender:
    """One of the implementations.

    Attributes:
        prepare: makes the arguments of a run; neither its time nor its memory counts.
        run: what is measured; takes what ``prepare`` returned.
    """

    prepare: Callable[[], tuple]
    run: Callable[..., Any]


@dataclass
class Case:
    """Two implementations of the same computation.

    Attributes:
        ours, builtin: the contenders.
        agreement: takes the results of both (ours first) and returns figures by name.
        builtin_bytes: about the memory that the built-in needs; where there is less, it is not
            run.
    """

    ours: Contender
    builtin: Contender
    agreement: Callable[[Any, Any], dict[str, float]]
    builtin_bytes: int = 0


@dataclass
class Samples:
    """The seconds of each run of a contender, and the bytes of its peak; None if unknown."""

    seconds: list[float] = field(default_factory=list)
    peak_bytes: int | None = None

    @property
    def median(self) -> float:
        """Return the median of the seconds."""
        return statistics.median(self.seconds)


@dataclass
class Measurement:
    """The figures of a case; ``builtin`` is None where it was not run, and ``note`` says why."""

    name: str
    ours: Samples
    builtin: Samples | None
    agreement: dict[str, float]
    note: str = ""

    @property
    def speed_up(self) -> float | None:
        """Return how many times faster we are; None if unknown."""
        return self.builtin.median / self.ours.median if self.builtin else None

    @property
    def memory_ratio(self) -> float | None:
        """Return our peak as a share of the built-in's; None if unknown."""
        if self.builtin is None or not self.builtin.peak_bytes or self.ours.peak_bytes is None:
            return None
        return self.ours.peak_bytes / self.builtin.peak_bytes


def measure(
    name: str,
    case: Case,
    *,
    repeats: int,
    device: torch.device,
    on_run: Callable[[], None] = lambda: None,
) -> Measurement:
    """Measure both contenders: one run of each for memory and results, then timed runs in turn.

    Args:
        repeats: timed runs of each.
        device: that the contenders compute on.
        on_run: called after each of the ``2 * (repeats + 1)`` runs, those left out included.
    """
    contenders, note = {"builtin": case.builtin, "ours": case.ours}, ""
    available = available_bytes(device)
    if available is not None and case.builtin_bytes > available:
        del contenders["builtin"]
        note = f"built-in not run: needs some {case.builtin_bytes / 2**30:.0f} GiB"
    samples = {which: Samples() for which in contenders}
    results = {}
    for which, contender in contenders.items():  # which also warms up
        arguments = contender.prepare()
        with PeakMemory(device) as peak:
            results[which] = contender.run(*arguments)
        samples[which].peak_bytes = peak.bytes
        on_run()
    agreement = case.agreement(results["ours"], results["builtin"]) if len(results) == 2 else {}
    del results
    for _ in range(repeats):
        for which, contender in contenders.items():
            samples[which].seconds.append(seconds(contender, device))
            on_run()
    for _ in range((2 - len(contenders)) * (repeats + 1)):
        on_run()
    return Measurement(name, samples["ours"], samples.get("builtin"), agreement, note)


def seconds(contender: Contender, device: torch.device) -> float:
    """Return the seconds of one run, on a GPU until it has finished.

    `torch.utils.benchmark.Timer` would make two runs more before each, to warm up.
    """
    arguments = contender.prepare()
    wait_for(device)
    start = time.perf_counter()
    result = contender.run(*arguments)
    wait_for(device)
    elapsed = time.perf_counter() - start
    del result
    return elapsed


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has finished; return at once for a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class PeakMemory:
    """Measure the most memory in use within a ``with`` block, beyond what is in use before it.

    On a GPU it is what PyTorch's allocator handed out. On a CPU (Linux only) it is the resident
    set of the process, as the kernel counts it, which includes the memory of libraries. Memory
    that was freed but not returned to the system would hide part of it and is returned first.

    Attributes:
        bytes: the peak, after the block; None where the system does not tell.
    """

    bytes: int | None = None

    def __init__(self, device: torch.device):
        self.device = device

    def __enter__(self) -> "PeakMemory":
        if self.device.type == "cuda":
            wait_for(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        elif os.path.exists("/proc/self/clear_refs"):
            return_freed_memory()
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")  # resets the peak to what is in use now
            self._before = _status("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            wait_for(self.device)
            self.bytes = torch.cuda.max_memory_allocated(self.device) - self._before
        elif os.path.exists("/proc/self/clear_refs"):
            self.bytes = max(0, _status("VmHWM") - self._before)


def return_freed_memory() -> None:
    """Return freed memory to the system, where the C library can."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc
        libc.malloc_trim(0)


def _status(name: str) -> int:
    """Return the bytes that the kernel counts for this process."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}.")


def available_bytes(device: torch.device) -> int | None:
    """Return the bytes that can be allocated without swapping; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if not os.path.exists("/proc/meminfo"):
        return None
    with open("/proc/meminfo") as file:
        amounts = dict(line.split(":", 1) for line in file)
    return int(amounts["MemAvailable"].split()[0]) * 1024
