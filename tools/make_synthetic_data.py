#!/usr/bin/env python
r"""Generate images with exact labels, in the layout of Cityscapes, of COCO, or as a plain folder.

    python tools/make_synthetic_data.py --layout cityscapes --output datasets --train 200 --val 40
    python tools/make_synthetic_data.py --layout coco --output datasets --train 400 --val 60
    DETECTRON2_DATASETS=datasets python tools/train_net.py \
        --config-file configs/quick/pointrend_rcnn_R_18_FPN.yaml

    python tools/make_synthetic_data.py --layout folder --output streets --train 40 --val 10
"""

import startup  # noqa: F401

import argparse
from collections.abc import Callable
from pathlib import Path

from pointrend_seg.command_line.options import (
    add_common_options,
    add_workers_option,
    number,
    tool_parser,
    whole_number,
)
from pointrend_seg.command_line.running import run_tool
from pointrend_seg.data.synthetic.cityscapes_layout import CityscapesParameters, write_cityscapes
from pointrend_seg.data.synthetic.coco_layout import CocoParameters, write_coco
from pointrend_seg.data.synthetic.folder_layout import FolderParameters, write_folder
from pointrend_seg.data.synthetic.lvis_annotations import write_lvis
from pointrend_seg.errors import InputError

# Per layout, its folders: name, function that writes it, type of its parameters.
LAYOUTS: dict[str, list[tuple[str, Callable[..., bool], Callable]]] = {
    "cityscapes": [("cityscapes", write_cityscapes, CityscapesParameters)],
    "coco": [("coco", write_coco, CocoParameters), ("lvis", write_lvis, CocoParameters)],
    "folder": [(".", write_folder, FolderParameters)],
}


def parser() -> argparse.ArgumentParser:
    parser = tool_parser(__doc__)
    parser.add_argument(
        "--layout",
        choices=list(LAYOUTS),
        default="cityscapes",
        help="coco: larger objects, with LVIS annotations; folder: as in docs/custom-dataset.md",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder; for cityscapes and coco, DETECTRON2_DATASETS",
    )
    parser.add_argument(
        "--train", type=whole_number(0), default=200, help="number of training images"
    )
    parser.add_argument(
        "--val", type=whole_number(0), default=40, help="number of validation images"
    )
    parser.add_argument(
        "--height", type=whole_number(32, 2**16), help="image height (default 256; coco 320)"
    )
    parser.add_argument(
        "--width",
        type=whole_number(32, 2**16),
        help="image width (default 512; coco 480; folder 384)",
    )
    parser.add_argument(
        "--object-scale", type=number(0), help="size of objects (default 2.0); not for cityscapes"
    )
    parser.add_argument(
        "--seed",
        type=whole_number(0, 2**32 - 1),
        default=0,
        help="the same seed gives the same bytes",
    )
    add_workers_option(parser)
    add_common_options(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    if args.object_scale is not None and (args.layout == "cityscapes" or args.object_scale <= 0):
        raise InputError("--object-scale is above 0, and not for --layout cityscapes.")
    names = ("height", "width", "seed", "object_scale")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    for name, write, parameters in LAYOUTS[args.layout]:
        written = write(
            args.output,
            parameters(args.train, args.val, **given),
            workers=args.workers,
            progress=True,
        )
        print(f"{args.output / name}: {'written' if written else 'is there already'}")


if __name__ == "__main__":
    run_tool(main)
