#!/usr/bin/env python
r"""Check every image and label for problems that would break training.

    python tools/check_data.py --train-data images/train labels/train \
        --val-data images/val labels/val
    python tools/check_data.py --config-file configs/coco/pointrend_rcnn_R_50_FPN_1x_coco.yaml
    python tools/check_data.py --dataset coco_2017_val

Every image, label and mask is decoded. The exit status is 1 if there are errors, otherwise 0.
docs/checking-data.md explains the findings.
"""

import startup  # noqa: F401

import argparse
import json
from collections.abc import Sequence

from detectron2.config import CfgNode
from tabulate import tabulate

from pointrend_seg.command_line.options import (
    add_common_options,
    add_config_changes,
    add_data_options,
    add_remote_option,
    add_workers_option,
    data_opts,
    tool_parser,
)
from pointrend_seg.command_line.running import FoundProblems, run_tool
from pointrend_seg.data.images.reader import ImageReader
from pointrend_seg.data.problems import ERROR, KINDS, NOTE, WARNING
from pointrend_seg.data.survey.datasets import survey_datasets
from pointrend_seg.data.survey.findings import Survey
from pointrend_seg.engine import find_task, load_config
from pointrend_seg.errors import InputError, printable
from pointrend_seg.files.atomic import write_text


def parser() -> argparse.ArgumentParser:
    parser = tool_parser(__doc__)
    parser.add_argument(
        "--config-file", default="", help="check its DATASETS.TRAIN and DATASETS.TEST"
    )
    parser.add_argument("--dataset", nargs="+", help="check registered data sets")
    parser.add_argument(
        "--json", metavar="FILE", help="also write the findings as JSON; -: only JSON"
    )
    parser.add_argument("--strict", action="store_true", help="count warnings as errors")
    add_workers_option(parser)
    add_remote_option(parser)
    add_common_options(parser)
    add_data_options(parser)
    add_config_changes(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    cfg = load_config(
        args.config_file,
        ["MODEL.DEVICE", "cpu", *data_opts(args), *args.opts],
        allow_remote=args.allow_remote_config,
    )
    if args.dataset:
        names, trained_on, task = args.dataset, (), None
    elif args.config_file or args.train_data or args.val_data:
        names, trained_on = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST], cfg.DATASETS.TRAIN
        task = find_task(cfg) if args.config_file else None
    else:
        raise InputError(
            "Nothing to check. Give --train-data IMAGES LABELS and --val-data IMAGES LABELS, "
            "--config-file FILE, or --dataset NAME."
        )
    if not names:
        raise InputError(f"{args.config_file} names no data sets in DATASETS.TRAIN and .TEST.")
    survey = survey_datasets(
        names,
        trained_on=trained_on,
        needs=needs(cfg, trained_on),
        semantic=task.is_semantic if task else None,
        panoptic=task.is_panoptic if task else None,
        workers=args.workers,
        progress=True,
        reader=ImageReader.from_config(cfg),
    )
    write(survey, args)
    errors, warnings = (
        sum(found.count for found in survey.with_severity(severity).values())
        for severity in (ERROR, WARNING)
    )
    if errors or (args.strict and warnings):
        raise FoundProblems(f"{errors} errors and {warnings} warnings")
    if args.json != "-":
        print(f"No error and {warnings} warnings.")


def needs(cfg: CfgNode, trained_on: Sequence[str]) -> dict[str, str]:
    """Return what the objects of data sets need for a model, as `survey_datasets` takes it."""
    masks = dict.fromkeys([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST], "masks")
    points = dict.fromkeys(trained_on, "points")
    return (masks if cfg.MODEL.MASK_ON else {}) | (points if cfg.INPUT.POINT_SUP else {})


def write(survey: Survey, args: argparse.Namespace) -> None:
    """Print the tables of classes and objects and the findings, or write them as JSON."""
    if args.json:
        text = json.dumps(survey.as_json(), indent=1) + "\n"
        if args.json == "-":
            print(text, end="")
            return
        write_text(args.json, text)
    print(printable(class_table(survey), keep="\n"))
    for name in survey.objects:
        print("\n" + printable(object_table(survey, name), keep="\n"))
    for severity in (ERROR, WARNING, NOTE):
        for kind, found in survey.with_severity(severity).items():
            print(f"\n{severity} {kind} ({found.count}): {KINDS[kind].what}. {KINDS[kind].fix}")
            for example in found.examples:
                print(f"  {printable(example)}")
            if found.count > len(found.examples):
                print(f"  and {found.count - len(found.examples)} more")
    print()


def class_table(survey: Survey) -> str:
    """Return a table: per class and set, the images with it and its share of objects or pixels."""
    rows: dict[str, dict[str, list[object]]] = {}
    header = ["class"]
    for name, classes in survey.classes.items():
        header += [f"{name}: images", "share"]
        total = sum(count for _, count in classes.values())
        for each, (images, count) in classes.items():
            row = rows.setdefault(printable(each), {})
            row[name] = [images, f"{100 * count / total:.2f} %" if total else ""]
    empty = ["", ""]
    table = [
        [each, *(cell for name in survey.classes for cell in row.get(name, empty))]
        for each, row in rows.items()
    ]
    table.append(["all", *(cell for n in survey.classes for cell in (survey.images[n], ""))])
    return tabulate(
        table, header, disable_numparse=True, colalign=("left",) + ("right",) * (len(header) - 1)
    )


def object_table(survey: Survey, name: str) -> str:
    """Return a table of a data set with objects: of each class, how many of which size."""
    figures = survey.objects[name].as_json(list(survey.classes[name]))
    columns = ("id", "name", "images", "objects", "small", "medium", "large")
    rows = [[each[key] for key in columns] for each in figures["classes"]]
    sums = [sum(row[k] for row in rows) for k in range(3, len(columns))]
    rows.append(["all", "", survey.images[name], *sums])
    table = tabulate(
        rows,
        (*columns[:1], "class", *columns[2:]),
        disable_numparse=True,
        colalign=("right", "left", *["right"] * 5),
    )
    return (
        f"{name}: {figures['objects']} objects, per image {figures['median']:g} (median) and up to "
        f"{figures['most']}; small: below 32 x 32 pixels, large: from 96 x 96\n"
        f"{point_line(figures)}{table}"
    )


def point_line(figures: dict) -> str:
    """Return a line about labelled points, "" of a data set without any."""
    points = figures.get("points")
    if points is None:
        return ""
    return (
        f"{points['objects']} objects have points, {points['median']:g} each (median), "
        f"{100 * points['share_of_ones']:.0f} % of them on the object\n"
    )


if __name__ == "__main__":
    run_tool(main)
