#!/usr/bin/env python
r"""Predict on images, folders and videos.

    python tools/predict.py --config-file output/config.yaml \
        --input images/ 'more/*.jpg' clip.mp4 --output predictions

For each image, write a picture and the prediction: a label image for a semantic model, a JSON file
for an instance model, plus predictions.json for all images in COCO format; for a panoptic model
both, plus panoptic.json in COCO's panoptic format. Images that cannot be read are skipped and
listed at the end; the exit status is then 1.
"""

import startup  # noqa: F401

import argparse
from typing import Any

from pointrend_seg.command_line.options import (
    MOST_PROCESSES,
    add_common_options,
    add_config_changes,
    add_no_labels_option,
    add_remote_option,
    number,
    tool_parser,
    whole_number,
)
from pointrend_seg.command_line.running import FoundProblems, run_tool
from pointrend_seg.drawing.labels import numbered_names
from pointrend_seg.errors import InputError, printable
from pointrend_seg.prediction import Predictor
from pointrend_seg.prediction.exports import EXPORTS, check_exports, export
from pointrend_seg.prediction.folder import predict_images
from pointrend_seg.prediction.inputs import find_sources, left_out
from pointrend_seg.prediction.outputs import OutputFolder
from pointrend_seg.prediction.predictor import DEFAULT_CONFIDENCE
from pointrend_seg.prediction.video import predict_video
from pointrend_seg.prediction.visualizations import Visualizations

MAX_SHOWN = 20  # errors


def parser() -> argparse.ArgumentParser:
    parser = tool_parser(__doc__)
    parser.add_argument(
        "--config-file",
        required=True,
        help="e.g. the config.yaml of a training, or its folder",
    )
    parser.add_argument(
        "--weights",
        help="checkpoint (default: the last of the training that wrote the config.yaml, or "
        "MODEL.WEIGHTS)",
    )
    parser.add_argument(
        "--input", nargs="+", required=True, help="images, folders, quoted patterns, videos"
    )
    parser.add_argument("--output", required=True, help="output folder")
    parser.add_argument(
        "--confidence",
        type=number(0, 1),
        help=f"minimum score of an object (default {DEFAULT_CONFIDENCE})",
    )
    parser.add_argument(
        "--max-size",
        type=whole_number(32, 2**16),
        help="limit the longer side at the model's input",
    )
    parser.add_argument(
        "--scale",
        type=number(0.01, 100),
        help="resize images by this factor at the model's input (default: to the size of the "
        "config, or to the scale of training if all training images had the same)",
    )
    parser.add_argument(
        "--tile",
        type=whole_number(64, 2**16),
        help="split larger images into tiles of this side, in pixels of the model's input",
    )
    parser.add_argument(
        "--overlap",
        type=whole_number(0, 2**15),
        help="overlap of tiles (default 64); objects up to this size are seen whole in one",
    )
    parser.add_argument(
        "--mask-resolution",
        help="mask resolution per box, e.g. 448, or 'box' for one cell per pixel",
    )
    parser.add_argument(
        "--tta",
        action="store_true",
        help="test-time augmentation: average what the model finds at several scales and in the "
        "mirrored image (TEST.AUG); slower by the number of runs, 6 by default for most models",
    )
    parser.add_argument(
        "--batch-size", type=whole_number(1, 2**16), default=1, help="images per forward pass"
    )
    parser.add_argument(
        "--threads",
        type=whole_number(1, MOST_PROCESSES),
        default=2,
        help="reading threads, and as many writing (default 2)",
    )
    parser.add_argument(
        "--label-ids",
        choices=["dataset", "contiguous"],
        default="dataset",
        help="pixel values of label images: as in the data set (default), or 0, 1, 2, …",
    )
    parser.add_argument(
        "--points", action="store_true", help="draw the points of each subdivision step"
    )
    parser.add_argument("--steps", action="store_true", help="draw the prediction after each step")
    parser.add_argument(
        "--compare", action="store_true", help="draw coarse and refined side by side"
    )
    parser.add_argument(
        "--export",
        nargs="+",
        choices=EXPORTS,
        default=[],
        metavar="FORMAT",
        help=f"also write the results for other programs: {', '.join(EXPORTS)}",
    )
    parser.add_argument(
        "--simplify",
        type=number(0, 1000),
        default=0,
        metavar="PIXELS",
        help="how far polygons of --export may be from the outlines (default 0, exact)",
    )
    add_no_labels_option(parser)
    parser.add_argument("--no-pictures", action="store_true", help="write results only")
    parser.add_argument(
        "--skip-existing", action="store_true", help="skip images that have results"
    )
    add_remote_option(parser)
    add_common_options(parser)
    add_config_changes(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    sources = find_sources(args.input, output=args.output)
    export_formats = list(dict.fromkeys(args.export))
    predictor = Predictor(
        args.config_file,
        args.weights,
        opts=args.opts,
        batch_size=args.batch_size,
        confidence=args.confidence,
        max_size=args.max_size,
        mask_resolution=args.mask_resolution,
        scale=args.scale,
        tile=args.tile,
        overlap=args.overlap,
        tta=args.tta or None,
        allow_remote=args.allow_remote_config,
    )
    visualizations = Visualizations(
        not args.no_pictures, args.points, args.steps, args.compare, not args.no_labels
    )
    visualizations.check(predictor)
    check_exports(export_formats, semantic=predictor.is_semantic)
    print(f"weights: {printable(predictor.cfg.MODEL.WEIGHTS) or 'none, random ones'}")
    output = OutputFolder(
        args.output,
        predictor.classes,
        semantic=predictor.is_semantic,
        contiguous=args.label_ids == "contiguous",
    )
    options: dict[str, Any] = {
        "visualizations": visualizations,
        "skip_existing": args.skip_existing,
        "progress": True,
    }
    images = [source for source in sources if not source.is_video]
    outcome = predict_images(predictor, images, output, threads=args.threads, **options)
    for video in (source for source in sources if source.is_video):
        try:
            names = predict_video(predictor, video, output, **options)
        except InputError as error:
            outcome.errors.append(str(error))
            continue
        outcome.predicted += len(names or ())
        outcome.skipped += names is None
    if not predictor.is_semantic:
        kind = "segments" if predictor.task.is_panoptic else "objects"
        print(f"{kind} of all images: {output.write_summary()}")
    skipped = f", {outcome.skipped} were there already" if args.skip_existing else ""
    for path in export(
        output.images(), export_formats, output.folder, output.categories(), args.simplify
    ):
        print(f"exported: {path}")
    print(f"{args.output}: {outcome.predicted} predicted{skipped}")
    if others := left_out(args.input, output=args.output):
        print(f"{printable(others)}.")
    if not args.no_pictures and (note := numbered_names(predictor.classes)):
        print(note)
    if outcome.errors:
        shown = "\n".join(f"  {printable(message)}" for message in outcome.errors[:MAX_SHOWN])
        hidden = len(outcome.errors) - MAX_SHOWN
        more = f"\n  and {hidden} more" if hidden > 0 else ""
        raise FoundProblems(
            f"{len(outcome.errors)} could not be read and were skipped:\n{shown}{more}"
        )


if __name__ == "__main__":
    run_tool(main)
