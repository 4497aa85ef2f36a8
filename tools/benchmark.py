#!/usr/bin/env python
"""Measure speed and memory against the PointRend inside Detectron2, in turn, in one process.

    python tools/benchmark.py
    python tools/benchmark.py --only R100-C80 training
    python tools/benchmark.py --device cuda --dtype float16 --json results.json

All cases take a quarter of an hour; --only takes those with one of the words in their names.
docs/performance.md explains the cases and the figures.
"""

import startup  # noqa: F401

import argparse
import json
import os

import torch

from pointrend_seg.benchmark.cases import MakeCase, all_cases, choose
from pointrend_seg.benchmark.measurement import Measurement, measure
from pointrend_seg.benchmark.setting import Setting
from pointrend_seg.benchmark.tables import as_json, hardware, table
from pointrend_seg.command_line.options import (
    MOST_PROCESSES,
    add_common_options,
    tool_parser,
    whole_number,
)
from pointrend_seg.command_line.running import run_tool
from pointrend_seg.errors import InputError
from pointrend_seg.files.atomic import write_text
from pointrend_seg.files.progress import progress_bar

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def parser() -> argparse.ArgumentParser:
    parser = tool_parser(__doc__)
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="parts of names, or patterns with *"
    )
    parser.add_argument("--list", action="store_true", help="print the names of the cases and exit")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, …")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="dtype of autocast (default float32)"
    )
    parser.add_argument(
        "--threads",
        type=whole_number(1, MOST_PROCESSES),
        help="CPU threads (default: PyTorch's choice)",
    )
    parser.add_argument("--repeats", type=whole_number(1), default=5, help="timed runs (default 5)")
    parser.add_argument(
        "--seed",
        type=whole_number(0, 2**32 - 1),
        default=0,
        help="seed of all random numbers (default 0)",
    )
    parser.add_argument("--json", metavar="FILE", help="also write every sample to FILE")
    add_common_options(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    if args.list:
        print("\n".join(all_cases()))
        return
    check(args)
    if args.threads:
        torch.set_num_threads(args.threads)
    setting = Setting(torch.device(args.device), DTYPES[args.dtype], args.seed)
    measurements = measure_all(choose(args.only), setting, args.repeats)
    machine = hardware()
    print(
        f"\n{machine['gpu'] if setting.device.type == 'cuda' else machine['cpu']}, "
        f"{machine['threads']} threads, PyTorch {torch.__version__}, {args.dtype}\n"
    )
    print(table(measurements))
    if args.json:
        write_text(args.json, json.dumps(as_json(measurements, vars(args)), indent=1))
        print(f"\nEvery sample is in {args.json}.")


def check(args: argparse.Namespace) -> None:
    """Raise `InputError` for values of options that are not allowed."""
    try:
        kind = torch.device(args.device).type
    except RuntimeError:
        kind = None
    if kind not in ("cpu", "cuda"):
        raise InputError(f"--device is '{args.device}'; it must be cpu, cuda, or cuda:NUMBER.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError("--device is cuda, but PyTorch finds no CUDA device. Use --device cpu.")
    if args.json and not os.path.isdir(os.path.dirname(args.json) or "."):
        raise InputError(f"--json: the folder of {args.json} does not exist. Make it first.")


def measure_all(cases: dict[str, MakeCase], setting: Setting, repeats: int) -> list[Measurement]:
    """Measure cases and show a progress bar."""
    measurements = []
    with progress_bar(total=len(cases) * 2 * (repeats + 1), unit="run") as progress:
        options = {"repeats": repeats, "device": setting.device, "on_run": progress.update}
        for name, make in cases.items():
            progress.set_description(name)
            measurements.append(measure(name, make(setting), **options))
    return measurements


if __name__ == "__main__":
    run_tool(main)
