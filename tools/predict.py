#!/usr/bin/env python
"""Predict on images, folders, patterns and videos.

    python tools/predict.py --config-file output/config.yaml --weights output/model_final.pth \
        --input images/ 'more/*.jpg' clip.mp4 --output predictions

For each image a picture of the prediction is written, and the prediction itself: label images of a
semantic model; of an instance model a JSON file for each image, and predictions.json of them all,
in COCO's format. A file that cannot be read is passed over and named at the end; the exit status is
then 1.
"""

import argparse

from pointrend_seg.command_line.options import add_common_options
from pointrend_seg.command_line.running import Findings, run_tool
from pointrend_seg.errors import InputError
from pointrend_seg.prediction import Predictor
from pointrend_seg.prediction.folder import Outcome, predict_images
from pointrend_seg.prediction.inputs import find_sources
from pointrend_seg.prediction.outputs import OutputFolder
from pointrend_seg.prediction.video import predict_video
from pointrend_seg.prediction.visualizations import Visualizations

SHOWN = 20


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="such as training's config.yaml")
    parser.add_argument("--weights", help="a checkpoint; by default MODEL.WEIGHTS of the config")
    parser.add_argument(
        "--input", nargs="+", required=True, help="files, folders, patterns, videos"
    )
    parser.add_argument("--output", required=True, help="a folder")
    parser.add_argument(
        "--confidence", type=float, default=0.5, help="least score of an object, 0.5"
    )
    parser.add_argument("--max-size", type=int, help="longer side of what the model sees, at most")
    parser.add_argument("--mask-resolution", help="cells of a mask's side in its box, or 'box'")
    parser.add_argument("--batch-size", type=int, default=1, help="images at once, 1")
    parser.add_argument("--threads", type=int, default=2, help="that read, and that write, 2")
    parser.add_argument(
        "--label-ids",
        choices=["dataset", "contiguous"],
        default="dataset",
        help="values of label images: those of the data set (default), or 0, 1, 2, …",
    )
    parser.add_argument("--points", action="store_true", help="draw each step's points")
    parser.add_argument("--steps", action="store_true", help="draw each step, coarse to fine")
    parser.add_argument("--compare", action="store_true", help="draw coarse beside refined")
    parser.add_argument("--no-pictures", action="store_true", help="write results alone")
    parser.add_argument("--skip-existing", action="store_true", help="go on where a run stopped")
    add_common_options(parser)
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, help="KEY VALUE … to change the config by"
    )
    return parser


def main(argv=None) -> None:
    args = parser().parse_args(argv)
    if args.threads < 1:
        raise InputError(f"--threads is {args.threads}; it is 1 or more.")
    sources = find_sources(args.input)
    predictor = Predictor(
        args.config_file,
        args.weights,
        opts=args.opts,
        batch_size=args.batch_size,
        confidence=args.confidence,
        max_size=args.max_size,
        mask_resolution=args.mask_resolution,
    )
    output = OutputFolder(
        args.output,
        predictor.classes,
        semantic=predictor.is_semantic,
        contiguous=args.label_ids == "contiguous",
    )
    visualizations = Visualizations(not args.no_pictures, args.points, args.steps, args.compare)
    report(predict_all(args, predictor, sources, output, visualizations), args)


def predict_all(args, predictor, sources, output, visualizations) -> Outcome:
    images = [source for source in sources if not source.is_video]
    common = {
        "visualizations": visualizations,
        "skip_existing": args.skip_existing,
        "progress": True,
    }
    outcome = predict_images(predictor, images, output, threads=args.threads, **common)
    for source in sources:
        if source.is_video:
            try:
                names = predict_video(predictor, source, output, **common)
            except InputError as error:
                outcome.errors.append(str(error))
                continue
            outcome.predicted += len(names or ())
            outcome.skipped += names is None
    if not predictor.is_semantic:
        print(f"objects of all images: {output.write_summary()}")
    return outcome


def report(outcome: Outcome, args) -> None:
    there = f", {outcome.skipped} were there already" if args.skip_existing else ""
    print(f"{args.output}: {outcome.predicted} predicted{there}")
    if outcome.errors:
        shown = "\n".join(f"  {message}" for message in outcome.errors[:SHOWN])
        more = f"\n  and {len(outcome.errors) - SHOWN} more" if len(outcome.errors) > SHOWN else ""
        raise Findings(
            f"{len(outcome.errors)} could not be read and were passed over:\n{shown}{more}"
        )


if __name__ == "__main__":
    run_tool(main)
