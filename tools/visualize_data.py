#!/usr/bin/env python
r"""Draw the training input of a model: images after augmentation, with their labels.

    python tools/visualize_data.py --config-file configs/quick/pointrend_rcnn_R_18_FPN.yaml \
        --output output/data

Writes one picture per image, and contact.png with all of them.
"""

import startup  # noqa: F401

import argparse
import math
from pathlib import Path

import cv2
import numpy as np
from detectron2.data import transforms as T
from detectron2.utils.env import seed_all_rng
from PIL import Image

from pointrend_seg.command_line.options import (
    add_common_options,
    add_config_changes,
    add_data_options,
    add_no_labels_option,
    add_remote_option,
    data_opts,
    tool_parser,
    whole_number,
)
from pointrend_seg.command_line.running import run_tool
from pointrend_seg.data.dataset_files import evenly, load_dicts
from pointrend_seg.drawing.labels import numbered_names
from pointrend_seg.drawing.training_input import draw_training_input
from pointrend_seg.engine import find_task, load_config
from pointrend_seg.errors import InputError, printable
from pointrend_seg.files.atomic import replaces
from pointrend_seg.files.names import path_inside

_CONTACT_WIDTH = 600
_SHEET_SHAPE = 0.75  # of the contact sheet, height to width, about


def parser() -> argparse.ArgumentParser:
    parser = tool_parser(__doc__)
    parser.add_argument("--config-file", required=True, help="config of the model")
    parser.add_argument("--dataset", help="default: the first of DATASETS.TRAIN")
    parser.add_argument("--output", type=Path, required=True, help="output folder")
    parser.add_argument(
        "--num", type=whole_number(1), default=8, help="number of images, evenly spread (default 8)"
    )
    parser.add_argument(
        "--seed",
        type=whole_number(0, 2**32 - 1),
        default=0,
        help="seed of the augmentation (default 0)",
    )
    add_no_labels_option(parser)
    parser.add_argument("--no-augmentation", action="store_true", help="draw the original images")
    add_remote_option(parser)
    add_common_options(parser)
    add_data_options(parser)
    add_config_changes(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    opts = [*data_opts(args), *args.opts]
    cfg = load_config(
        args.config_file,
        ["MODEL.DEVICE", "cpu", *opts],
        allow_remote=args.allow_remote_config,
    )
    name = args.dataset or next(iter(cfg.DATASETS.TRAIN), None)
    if name is None:
        raise InputError("DATASETS.TRAIN is empty. Name a data set: --dataset NAME.")
    task = find_task(cfg)
    task.check_dataset(cfg, name, is_train=True)
    classes, mapper = task.classes(cfg, name), task.build_mapper(cfg, is_train=True)
    if args.no_augmentation:
        mapper.augmentations = T.AugmentationList([])
    seed_all_rng(args.seed)
    args.output.mkdir(parents=True, exist_ok=True)
    pictures = []
    for number, record in enumerate(evenly(load_dicts(name), args.num)):
        picture = draw_training_input(
            mapper(record), classes, cfg.INPUT.FORMAT, names=not args.no_labels
        )
        file = path_inside(args.output, f"{number:03d}_{Path(record['file_name']).stem}.png")
        with replaces(file) as part:
            Image.fromarray(picture).save(part)
        pictures.append(picture)
    with replaces(args.output / "contact.png") as part:
        Image.fromarray(contact_sheet(pictures)).save(part)
    print(f"{args.output}: {len(pictures)} pictures of {printable(name)}, and contact.png")
    if note := numbered_names(classes):
        print(note)


def contact_sheet(pictures: list[np.ndarray]) -> np.ndarray:
    """Arrange pictures, one or more, in rows and columns; all get the same width."""
    scaled = []
    for picture in pictures:
        height = max(1, round(picture.shape[0] * _CONTACT_WIDTH / picture.shape[1]))
        size = (_CONTACT_WIDTH, height)
        scaled.append(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
    shape = sum(each.shape[0] for each in scaled) / _CONTACT_WIDTH  # of one column, height to width
    columns = int(np.clip(round(math.sqrt(shape / _SHEET_SHAPE)), min(2, len(scaled)), len(scaled)))
    rows = []
    for start in range(0, len(scaled), columns):
        row = scaled[start : start + columns]
        row += [np.full((1, _CONTACT_WIDTH, 3), 255, np.uint8)] * (columns - len(row))
        height = max(each.shape[0] for each in row)
        below = [((0, height - each.shape[0]), (0, 0), (0, 0)) for each in row]
        padded = [np.pad(each, b, constant_values=255) for each, b in zip(row, below, strict=True)]
        rows.append(np.hstack(padded))
    return np.concatenate(rows)


if __name__ == "__main__":
    run_tool(main)
