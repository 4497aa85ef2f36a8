#!/usr/bin/env python
"""Draw predictions next to ground truth, worst first, from the files of an evaluation.

    python tools/visualize_results.py --config-file output/config.yaml --output output/worst
    python tools/visualize_results.py --config-file output/config.yaml --report

The first command writes one picture per image, sorted by Boundary IoU; the second writes the HTML
report again. No model is run.
"""

import startup  # noqa: F401

import argparse
import math
from dataclasses import replace
from pathlib import Path

from PIL import Image
from tabulate import tabulate

from pointrend_seg.command_line.options import (
    add_common_options,
    add_config_changes,
    add_no_labels_option,
    add_remote_option,
    tool_parser,
    whole_number,
)
from pointrend_seg.command_line.running import run_tool
from pointrend_seg.data.dataset_files import check_registered, evenly
from pointrend_seg.drawing.labels import numbered_names
from pointrend_seg.engine.config_loading import load_config
from pointrend_seg.errors import InputError, printable
from pointrend_seg.evaluation.build import results_folder
from pointrend_seg.files.atomic import replaces
from pointrend_seg.files.names import path_inside
from pointrend_seg.files.progress import progress_bar
from pointrend_seg.report import write_report
from pointrend_seg.report.comparison import Comparison, open_comparison
from pointrend_seg.report.panels import LETTERS, WIDTH, draw_sheet


def parser() -> argparse.ArgumentParser:
    parser = tool_parser(__doc__)
    parser.add_argument(
        "--config-file", required=True, help="config.yaml, or eval_config.yaml of an evaluation"
    )
    parser.add_argument("--dataset", help="default: the first of DATASETS.TEST")
    parser.add_argument("--predictions", help="folder (default OUTPUT_DIR/inference/DATASET)")
    parser.add_argument("--output", type=Path, help="output folder of the pictures")
    parser.add_argument(
        "--num", type=whole_number(1), default=20, help="number of pictures (default 20)"
    )
    parser.add_argument(
        "--most", type=whole_number(1), metavar="N", help="compare at most N images, evenly spread"
    )
    parser.add_argument("--best", action="store_true", help="best first")
    add_no_labels_option(parser)
    parser.add_argument("--report", action="store_true", help="write report.html")
    add_remote_option(parser)
    add_common_options(parser)
    add_config_changes(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    if not (args.report or args.output):
        raise InputError("Nothing to do. Give --output FOLDER for pictures, or --report.")
    cfg = load_config(
        args.config_file,
        ["MODEL.DEVICE", "cpu", *args.opts],
        allow_remote=args.allow_remote_config,
    )
    name = args.dataset or next(iter(cfg.DATASETS.TEST), None)
    if name is None:
        raise InputError("DATASETS.TEST is empty. Name a data set: --dataset NAME.")
    check_registered(name, "DatasetCatalog.register(name, function)")
    if args.report:
        print(write_report(cfg, name, folder=args.predictions))
    if args.output:
        folder = Path(args.predictions or results_folder(cfg, name))
        draw(open_comparison(cfg, name, folder), args)


def draw(comparison: Comparison, args: argparse.Namespace) -> None:
    """Draw the worst (or best) images and print a table of their scores."""
    numbers = evenly(range(len(comparison)), args.most or max(1, len(comparison)))
    scores = [comparison.score(number) for number in progress_bar(numbers, unit="image")]
    scores = [score for score in scores if not math.isnan(score.boundary_iou)]
    scores.sort(key=lambda score: score.boundary_iou, reverse=args.best)
    args.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for place, score in enumerate(scores[: args.num]):
        file = f"{place:04d}_{score.boundary_iou:05.1f}_{Path(score.name).stem}.png"
        view = comparison.view(score.number, letters=LETTERS / WIDTH)
        if args.no_labels:
            view = replace(view, named=view.bare)
        with replaces(path_inside(args.output, file)) as part:
            Image.fromarray(draw_sheet(view)).save(part)
        rows.append([printable(file), score.iou, score.boundary_iou])
    print(tabulate(rows, ["picture", "IoU", "Boundary IoU"], floatfmt=".1f"))
    print(f"{args.output}: {len(rows)} pictures, sorted by {comparison.sorted_by}.")
    if note := numbered_names(comparison.classes):
        print(note)


if __name__ == "__main__":
    run_tool(main)
