"""Time and memory of two implementations, measured in turn in one process."""

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
        prepare: makes the arguments of a run, which is neither timed nor counted as memory.
        run: what is measured; takes what ``prepare`` made.
    """

    prepare: Callable[[], tuple]
    run: Callable[..., Any]


@dataclass
class Case:
    """What is measured.

    Attributes:
        ours, builtin: the contenders.
        agreement: takes the results of both and returns figures by name.
        builtin_bytes: about what the built-in needs; it is not run where there is less.
    """

    ours: Contender
    builtin: Contender
    agreement: Callable[[Any, Any], dict[str, float]]
    builtin_bytes: int = 0


@dataclass
class Samples:
    """What was measured of one contender: seconds of each run, and bytes of the peak."""

    seconds: list[float] = field(default_factory=list)
    peak_bytes: int | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass
class Measurement:
    """What was measured of a case; ``builtin`` is None where it was not run, ``note`` says why."""

    name: str
    ours: Samples
    builtin: Samples | None
    agreement: dict[str, float]
    note: str = ""

    @property
    def speed_up(self) -> float | None:
        return self.builtin.median / self.ours.median if self.builtin else None

    @property
    def memory_ratio(self) -> float | None:
        """Our peak as a part of the built-in's."""
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
    """Measure both contenders: a run of each for the memory and the results, then times in turn.

    Args:
        repeats: timed runs of each.
        on_run: called after each of the ``2 * (repeats + 1)`` runs.
    """
    contenders, note = {"builtin": case.builtin, "ours": case.ours}, ""
    available = available_bytes(device)
    if available is not None and case.builtin_bytes > available:
        del contenders["builtin"]
        note = f"built-in not run: needs some {case.builtin_bytes / 2**30:.0f} GiB"
    samples = {which: Samples() for which in contenders}
    results = {}
    for which, contender in contenders.items():  # this warms up, too
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
    """The time of one run; on a GPU until it has finished."""
    arguments = contender.prepare()
    wait_for(device)
    start = time.perf_counter()
    result = contender.run(*arguments)
    wait_for(device)
    elapsed = time.perf_counter() - start
    del result
    return elapsed


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class PeakMemory:
    """The most memory that is in use within a ``with`` block, beyond what was at its beginning.

    On a GPU it is what PyTorch's allocator handed out. On a CPU (Linux only) it is the resident
    set of the process, as the kernel counts it, so it holds what libraries take beside tensors.
    Memory that was freed before but not given back would hide some of it, so it is given back
    first.

    Attributes:
        bytes: the peak, after the block; None where it cannot be had.
    """

    def __init__(self, device: torch.device):
        self.device, self.bytes = device, None

    def __enter__(self) -> "PeakMemory":
        if self.device.type == "cuda":
            wait_for(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        elif os.path.exists("/proc/self/clear_refs"):
            give_back_freed_memory()
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")  # makes the peak what is in use now
            self._before = _status("VmRSS")
        return self

    def __exit__(self, *_) -> None:
        if self.device.type == "cuda":
            wait_for(self.device)
            self.bytes = torch.cuda.max_memory_allocated(self.device) - self._before
        elif os.path.exists("/proc/self/clear_refs"):
            self.bytes = max(0, _status("VmHWM") - self._before)


def give_back_freed_memory() -> None:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc
        libc.malloc_trim(0)


def _status(name: str) -> int:
    """Bytes that the kernel counts for this process."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError(f"The kernel does not tell {name}.")


def available_bytes(device: torch.device) -> int | None:
    """Memory that can be had without swapping; None where nobody knows."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if not os.path.exists("/proc/meminfo"):
        return None
    with open("/proc/meminfo") as file:
        amounts = dict(line.split(":", 1) for line in file)
    return int(amounts["MemAvailable"].split()[0]) * 1024
