#!/usr/bin/env python
r"""Make labelled points from the masks of a COCO JSON file: training data for point supervision.

    python tools/make_point_labels.py datasets/coco/annotations/synthetic_instances_train.json
    python tools/make_point_labels.py train.json --points 20 --output train_points.json

Each object gets points that are drawn uniformly in its box, each with the label of its pixel (1 on
the object, 0 elsewhere), instead of its mask. docs/point-supervision.md says how to train on them.
"""

import startup  # noqa: F401

import argparse
import json
from pathlib import Path

from pointrend_seg.command_line.options import add_common_options, tool_parser, whole_number
from pointrend_seg.command_line.running import run_tool
from pointrend_seg.data.point_labels import with_points
from pointrend_seg.data.point_sets import points_suffix
from pointrend_seg.errors import InputError, printable
from pointrend_seg.files.atomic import write_text


def parser() -> argparse.ArgumentParser:
    parser = tool_parser(__doc__)
    parser.add_argument("file", type=Path, help="a JSON file of COCO's format, with masks")
    parser.add_argument(
        "--points",
        type=whole_number(1, 10000),
        default=10,
        help="number of points of each object (default 10)",
    )
    parser.add_argument(
        "--seed",
        type=whole_number(0, 2**32 - 1),
        default=0,
        help="the same seed gives the same points (default 0)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="the file that is written, a new one (default: beside the input and named as by "
        "Detectron2's PointSup, with _n10_v1_without_masks for 10 points and seed 0)",
    )
    add_common_options(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    if not args.file.is_file():
        raise InputError(f"There is no file {args.file}. Give a JSON file of COCO's format.")
    output = args.output or args.file.with_name(
        f"{args.file.stem}_{points_suffix(args.points, args.seed)}.json"
    )
    if output.exists() or output.is_symlink():
        raise InputError(f"{output} is there already. Remove it, or choose another --output.")
    made = with_points(str(args.file), args.points, args.seed, progress=True)
    if not made.objects:
        raise InputError(f"There is no object with a mask in {args.file}.")
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, json.dumps(made.content))
    share = 100 * made.ones / (made.objects * args.points)
    print(
        f"{printable(str(output))}: {len(made.content['images'])} images, {made.objects} objects "
        f"with {args.points} points each, {share:.0f} % of them on the object"
    )
    if made.without_ones:
        print(f"note: {made.without_ones} objects have no point on the object.")
    if made.left_out:
        print(
            f"note: {made.left_out} objects without a mask or a box in their image were left out, "
            "as training leaves them out."
        )
    print(f"Train on it: --train-data IMAGES {printable(str(output))} INPUT.POINT_SUP True")


if __name__ == "__main__":
    run_tool(main)
