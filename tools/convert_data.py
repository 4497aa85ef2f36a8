#!/usr/bin/env python
r"""Convert labels of other tools to a data set in COCO's format.

    python tools/convert_data.py --format instance-masks --images images --labels masks \
        --class nucleus --output nuclei

Formats:
    instance-masks   PNG, TIFF, … in which each object is a value or a colour, and 0 is background
    labelme          --labels FOLDER: JSON files of labelme
    yolo             --labels data.yaml: polygons of YOLO for segmentation
    voc              --labels VOC2012: SegmentationObject and -Class, or XML with polygons

This writes DIR/images, DIR/train.json and DIR/val.json, checks them as tools/check_data.py does,
and prints the command that trains on them.
"""

import startup  # noqa: F401

import argparse
import shlex
from collections.abc import Callable

import check_data
from pointrend_seg.command_line.options import (
    add_common_options,
    number,
    tool_parser,
    whole_number,
)
from pointrend_seg.command_line.running import run_tool
from pointrend_seg.data.importing import instance_masks, labelme, pascal_voc, yolo
from pointrend_seg.data.importing.objects import Source
from pointrend_seg.data.importing.writing import Written, write_dataset
from pointrend_seg.errors import InputError, printable


def _instance_masks(args: argparse.Namespace) -> Source:
    if args.images is None:
        raise InputError("--format instance-masks needs --images and --labels.")
    return instance_masks.find(
        args.images, args.labels, category=args.category, label_suffix=args.label_suffix
    )


SMALL = 48  # pixels: with a lower median, the config for small objects is proposed
FORMATS: dict[str, Callable[[argparse.Namespace], Source]] = {
    "instance-masks": _instance_masks,
    "labelme": lambda args: labelme.find(args.labels, args.images),
    "yolo": lambda args: yolo.find(args.labels, args.images, args.classes),
    "voc": lambda args: pascal_voc.find(args.labels, args.images, args.classes),
}


def parser() -> argparse.ArgumentParser:
    parser = tool_parser(__doc__)
    parser.add_argument("--format", required=True, choices=FORMATS, help="of the labels")
    parser.add_argument(
        "--images", help="a folder of images, or one image; needed where labels do not name them"
    )
    parser.add_argument("--labels", required=True, help="a folder of labels, or one file")
    parser.add_argument(
        "--classes",
        metavar="FILE",
        help="yolo, voc: names of the classes, if not in the labels",
    )
    parser.add_argument("--output", required=True, help="the data set's folder, new or empty")
    parser.add_argument(
        "--class",
        dest="category",
        metavar="NAME",
        help="instance-masks: the class of all objects (default: the names of the sub-folders)",
    )
    parser.add_argument(
        "--label-suffix",
        default="",
        metavar="TEXT",
        help="instance-masks: what the names of masks have added to those of images, e.g. _masks",
    )
    parser.add_argument(
        "--val",
        type=number(0, 0.9),
        default=0.2,
        metavar="SHARE",
        help="share of the images for validation, where the labels have no splits (default 0.2)",
    )
    parser.add_argument(
        "--seed", type=whole_number(0, 2**32 - 1), default=0, help="of the choice of --val"
    )
    parser.add_argument(
        "--tile", type=whole_number(16, 2**16), help="cut images into tiles of this size in pixels"
    )
    parser.add_argument(
        "--overlap",
        type=whole_number(0, 2**16),
        default=0,
        help="number of pixels that neighbouring tiles share (default 0)",
    )
    parser.add_argument(
        "--pixel-range",
        default="percentile",
        metavar="RULE",
        help="with --tile: how images of more than 8 bits are scaled, as INPUT.PIXEL_RANGE",
    )
    parser.add_argument("--link", action="store_true", help="link images instead of copying them")
    add_common_options(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    source = FORMATS[args.format](args)
    for note in source.notes:
        print(f"note: {printable(note)}")
    written = write_dataset(
        source,
        args.output,
        val_share=args.val,
        seed=args.seed,
        tile=args.tile,
        overlap=args.overlap,
        pixel_range=args.pixel_range,
        link=args.link,
        progress=True,
    )
    report(written, args.output)
    data = []
    for split in written.images:
        data += [f"--{split}-data", f"{args.output}/images", f"{args.output}/{split}.json"]
    print("\nWhat tools/check_data.py finds:")
    check_data.main(["--workers", "1", *data])
    config = "pointrend_rcnn_R_18_FPN"
    if written.median_side() < SMALL:
        config += "_small"
    print(
        "Next, train:\n    python tools/train_net.py "
        f"--config-file configs/quick/{config}.yaml \\\n"
        f"        {shlex.join(data)} \\\n"
        f"        --classes-from-data OUTPUT_DIR {shlex.quote(args.output)}/model"
    )


def report(written: Written, output: str) -> None:
    """Print what was written, and what a user should look at."""
    for split, images in written.images.items():
        print(f"{output}/{split}.json: {images} images, {written.objects[split]} objects")
    if written.empty:
        print(f"note: {written.empty} objects cover no pixel and were left out.")
    if written.in_parts:
        print(
            f"note: {len(written.in_parts)} images, such as {printable(written.in_parts[0])}, have "
            "one object in several parts that do not touch. If these are several objects, give "
            "each a value of its own."
        )


if __name__ == "__main__":
    run_tool(main)
