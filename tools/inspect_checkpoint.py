#!/usr/bin/env python
r"""Show what a checkpoint contains and whether it fits a config, without running code from it.

    python tools/inspect_checkpoint.py model_final.pkl
    python tools/inspect_checkpoint.py model_final.pkl \
        --config-file configs/coco/pointrend_rcnn_R_50_FPN_1x_coco.yaml \
        MODEL.ROI_HEADS.NUM_CLASSES 8
    python tools/inspect_checkpoint.py model_final.pth --save model_final.safetensors

Exit status: 0 if it fits (or no config is given), 1 if it does not, 2 if it cannot be read.
"""

import startup  # noqa: F401

import argparse
import sys
from pathlib import Path

from detectron2.config import CfgNode, get_cfg

from pointrend_seg import add_pointrend_config
from pointrend_seg.checkpoint.addresses import find_address
from pointrend_seg.checkpoint.contents import Contents, describe
from pointrend_seg.checkpoint.files import CheckpointFile, read_checkpoint
from pointrend_seg.checkpoint.fit import Fit, fit, settings_that_differ
from pointrend_seg.checkpoint.safe_tensors import save_safetensors
from pointrend_seg.command_line.options import (
    add_common_options,
    add_remote_option,
    tool_parser,
)
from pointrend_seg.command_line.running import run_tool
from pointrend_seg.config.reading import merge_config_file
from pointrend_seg.engine.config_loading import load_config
from pointrend_seg.engine.trainer import Trainer
from pointrend_seg.errors import InputError

MAX_SHOWN = 5  # names per group
ARCHITECTURE = "MODEL.META_ARCHITECTURE"
CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("file", help="checkpoint: .pkl, .pth, .pt or .safetensors")
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FILE.safetensors",
        help="also write the weights to a file that is not a pickle and can be shared safely",
    )
    parser.add_argument("--config-file", default="", help="config that the checkpoint should fit")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="changes to the config")
    add_remote_option(parser)
    add_common_options(parser)
    args = parser.parse_intermixed_args(argv)
    if args.opts and not args.config_file:
        parser.error("KEY VALUE changes a config: give --config-file too")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    file = read_checkpoint(find_address(args.file))
    contents = describe(file.model, str(file.path))
    print_contents(file, contents)
    if args.save:
        save_safetensors(args.save, file.model, file.details)
        print(f"\n{args.save}: {len(file.model)} tensors")
    if not args.config_file:
        print_closest_configs(contents)
    elif not check(file, contents, args):
        sys.exit(1)


def print_contents(file: CheckpointFile, contents: Contents) -> None:
    num_values = sum(weight.numel() for weight in file.model.values())
    dtypes = sorted({str(weight.dtype).removeprefix("torch.") for weight in file.model.values()})
    rows = {
        "file": file.path,
        "format": f"{file.kind}, {file.size / 1e6:.1f} MB",
        **file.details,
        "other content": ", ".join(file.others) or "none",
        "weights": f"{len(file.model)} tensors, {num_values:,} values ({', '.join(dtypes)})",
        "names": contents.name_format,
        "task": "; ".join(contents.tasks),
        **contents.facts,
    }
    print_rows(rows)
    print("\nsettings that follow from the shapes")
    settings = sorted(contents.settings.items())
    print_rows({key: repr(value) for key, value in settings} or {"none": ""})


def print_closest_configs(contents: Contents) -> None:
    """Print the configs of this repository that differ in the fewest settings, and in which."""
    if ARCHITECTURE not in contents.settings:
        return
    differing = {}
    for path in sorted(CONFIGS.rglob("*.yaml")):
        cfg = get_cfg()
        add_pointrend_config(cfg)
        merge_config_file(cfg, str(path))
        differing[path] = settings_that_differ(contents, cfg)
    fewest = min(map(len, differing.values()), default=0)
    print("\nconfigs with the most of these settings")
    for path, changes in differing.items():
        if len(changes) == fewest:
            needed = " ".join(f"{key} {new!r}" for key, (_, new) in changes.items())
            print(printable(f"  {path.relative_to(CONFIGS.parent)} {needed}".rstrip()))


def check(file: CheckpointFile, contents: Contents, args: argparse.Namespace) -> bool:
    """Print how the file fits the config and what to change; return whether it fits."""
    config_file, opts = args.config_file, args.opts
    cfg, result = load_and_fit(file, args, opts)
    print(f"\n{config_file}{' with ' if opts else ''}{' '.join(opts)}")
    print_fit(result, verdict="fits" if result else "does not fit")
    if result:
        return True
    if result.is_start:
        print("\nas a start for training it fits: the rest of the model begins anew")
    changes = settings_that_differ(contents, cfg)
    if ARCHITECTURE in changes:
        here, there = changes[ARCHITECTURE]
        print(f"\nthe config is for another kind of model: {ARCHITECTURE} is {here}, not {there}")
    elif changes:
        print("\nthe config and the checkpoint differ in")
        print_rows({key: f"{old!r} -> {new!r}" for key, (old, new) in changes.items()})
        if result.is_start:
            return False
        needed = [str(item) for key, (_, new) in changes.items() for item in (key, new)]
        print_with_changes(file, args, [*opts, *needed])
    return False


def print_with_changes(file: CheckpointFile, args: argparse.Namespace, opts: list[str]) -> None:
    """Apply the changes to the config, and print whether the checkpoint then fits."""
    try:
        _, result = load_and_fit(file, args, opts)
    except InputError as error:
        print(f"\nwith these values alone, {error}")
        return
    print()
    print_fit(result, verdict=f"with these values it {'fits' if result else 'does not fit yet'}")


def load_and_fit(
    file: CheckpointFile, args: argparse.Namespace, opts: list[str]
) -> tuple[CfgNode, Fit]:
    """Build the model of a config on the CPU and compare its weights with the file."""
    cfg = load_config(
        args.config_file, [*opts, "MODEL.DEVICE", "cpu"], allow_remote=args.allow_remote_config
    )
    return cfg, fit(file, Trainer.build_model(cfg))


def print_fit(result: Fit, verdict: str) -> None:
    wrong = [
        f"{name}: {there} in the file, {here} here" for name, there, here in result.wrong_shapes
    ]
    print(f"{verdict}: {result.loaded} of the model's weights are in the file")
    for title, names in (
        ("missing", result.missing),
        ("unexpected", result.unexpected),
        ("with a different shape", wrong),
    ):
        if names:
            print(f"  {len(names)} {title}")
        for name in names[:MAX_SHOWN]:
            print(f"    {printable(name)}")
        if len(names) > MAX_SHOWN:
            print(f"    and {len(names) - MAX_SHOWN} more")


def print_rows(rows: dict) -> None:
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"  {printable(name):{width}}  {printable(value)}")


def printable(value: object) -> str:
    """Return text from the file without terminal control characters, cut at 200 characters."""
    text = str(value)
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= 200 else f"{text[:200]} …"


if __name__ == "__main__":
    run_tool(main)
