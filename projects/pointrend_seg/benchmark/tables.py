"""Present measurements: a table for people, JSON for programs."""

import datetime
import os
import platform
import re
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from tabulate import tabulate

from .measurement import Measurement, Samples

_PACKAGES = ("pointrend-seg", "detectron2", "torch", "torchvision", "numpy", "pycocotools")


def table(measurements: list[Measurement]) -> str:
    """Return a Markdown table. Times are medians, followed by the fastest and the slowest run."""
    headers = ("case", "built-in", "ours", "speed", "built-in", "ours", "memory", "agreement")
    rows = [
        (
            each.name,
            _time(each.builtin),
            _time(each.ours),
            _ratio(each.speed_up, "{:.1f}×"),
            _peak(each.builtin),
            _peak(each.ours),
            _ratio(each.memory_ratio, "{:.2f}×"),
            each.note or ", ".join(f"{name} {value:.7g}" for name, value in each.agreement.items()),
        )
        for each in measurements
    ]
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)


def _time(samples: Samples | None) -> str:
    if samples is None:
        return "–"
    low, high = min(samples.seconds), max(samples.seconds)
    return f"{samples.median:.3f} s ({low:.3f}–{high:.3f})"


def _peak(samples: Samples | None) -> str:
    if samples is None or samples.peak_bytes is None:
        return "–"
    return f"{samples.peak_bytes / 2**20:.0f} MiB"


def _ratio(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def as_json(measurements: list[Measurement], options: dict) -> dict:
    """Return every sample, and what is needed to repeat the measurement."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "options": options,
        "versions": {"python": platform.python_version()} | dict(map(_version, _PACKAGES)),
        "hardware": hardware(),
        "measurements": [
            asdict(each)
            | {"speed_up": each.speed_up, "memory_ratio": each.memory_ratio}
            | {
                "median": {
                    which: samples.median
                    for which, samples in (("ours", each.ours), ("builtin", each.builtin))
                    if samples
                }
            }
            for each in measurements
        ],
    }


def _version(package: str) -> tuple[str, str | None]:
    try:
        return package, version(package)
    except PackageNotFoundError:
        return package, None


def hardware() -> dict:
    """Describe this machine."""
    found = {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "gpu": None,
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found["gpu"] = properties.name
        found["gpu_memory_bytes"] = properties.total_memory
        found["cuda"] = torch.version.cuda
    return found


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    named = re.search(r"^model name.*?:(.*)", cpuinfo.read_text() if cpuinfo.exists() else "", re.M)
    return named[1].strip() if named else platform.processor() or platform.machine()
