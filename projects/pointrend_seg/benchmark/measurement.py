"""Measure time and memory of two implementations, in turn, in one process."""

import ctypes
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass
class Case:
    """Two implementations of the same computation.

    Attributes:
        ours, builtin: run one of them and return its result.
        agreement: takes the results of both (ours first) and returns figures by name.
        builtin_bytes: about the memory that the built-in needs; where there is less, it is not
            run.
    """

    ours: Callable[[], Any]
    builtin: Callable[[], Any]
    agreement: Callable[[Any, Any], dict[str, float]]
    builtin_bytes: int = 0


@dataclass
class Samples:
    """The seconds of each run of an implementation, and the bytes of its peak; None if unknown."""

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
    """Run each implementation once for its memory and result, then time runs of both in turn.

    Args:
        repeats: timed runs of each.
        device: that they compute on.
        on_run: called after each of the ``2 * (repeats + 1)`` runs, those left out included.
    """
    runs, note = {"builtin": case.builtin, "ours": case.ours}, ""
    available = available_bytes(device)
    if available is not None and case.builtin_bytes > available:
        del runs["builtin"]
        note = f"built-in not run: needs some {case.builtin_bytes / 2**30:.0f} GiB"
    samples = {which: Samples() for which in runs}
    results = {}
    for which, run in runs.items():  # which also warms up
        results[which], samples[which].peak_bytes = peak_memory(run, device)
        on_run()
    agreement = case.agreement(results["ours"], results["builtin"]) if len(results) == 2 else {}
    del results
    for _ in range(repeats):
        for which, run in runs.items():
            samples[which].seconds.append(seconds(run, device))
            on_run()
    for _ in range((2 - len(runs)) * (repeats + 1)):
        on_run()
    return Measurement(name, samples["ours"], samples.get("builtin"), agreement, note)


def seconds(run: Callable[[], Any], device: torch.device) -> float:
    """Return the seconds of one run, on a GPU until it has finished.

    `torch.utils.benchmark.Timer` would make two runs more before each, to warm up.
    """
    wait_for(device)
    start = time.perf_counter()
    result = run()  # freed after the time is taken
    wait_for(device)
    elapsed = time.perf_counter() - start
    del result
    return elapsed


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has finished; return at once for a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(run: Callable[[], Any], device: torch.device) -> tuple[Any, int | None]:
    """Return the result of a run, and the most bytes in use within it beyond those before it.

    On a GPU they are what PyTorch's allocator handed out. On a CPU (Linux only, otherwise None)
    they are the resident set of the process, as the kernel counts it, which includes the memory of
    libraries. Memory that was freed but not returned to the system would hide part of it and is
    returned first.
    """
    if device.type == "cuda":
        wait_for(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        result = run()
        wait_for(device)
        return result, torch.cuda.max_memory_allocated(device) - before
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        return run(), None
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc returns freed memory to the system
        libc.malloc_trim(0)
    reset.write_text("5")  # resets the peak to what is in use now
    before = _kernel_bytes("/proc/self/status", "VmRSS")
    result = run()
    return result, max(0, _kernel_bytes("/proc/self/status", "VmHWM") - before)


def available_bytes(device: torch.device) -> int | None:
    """Return the bytes that can be allocated without swapping; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    is_linux = Path("/proc/meminfo").exists()
    return _kernel_bytes("/proc/meminfo", "MemAvailable") if is_linux else None


def _kernel_bytes(file: str, name: str) -> int:
    """Return an amount of memory that the kernel lists as "name: amount kB" in a file."""
    amounts = dict(line.split(":", 1) for line in Path(file).read_text().splitlines())
    return int(amounts[name].split()[0]) * 1024
