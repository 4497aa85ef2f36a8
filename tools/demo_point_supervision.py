#!/usr/bin/env python
"""Train PointRend from full masks and from 20 and 10 labelled points of each object, and compare.

    python tools/demo_point_supervision.py --output output/demo-point-supervision

All three start from the same model of boxes. The output folder gets the data, the models,
`summary.json` and `comparison.png`. Run the command again to continue an interrupted run.
"""

import startup  # noqa: F401

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from demo_steps import (
    BOXES,
    HALF_SIZE,
    QUICK,
    ROOT,
    SHORT_START,
    draw_instances,
    folder_name,
    make_data,
    read_scores,
    run_demo,
    say,
    train,
)

FULL, POINTS = "full masks", (20, 10)
NUM_TRAIN, NUM_VAL, SEED = 400, 60, 1
SCHEDULE = ("SOLVER.MAX_ITER", "200", "SOLVER.STEPS", "(150,)")


def make_points(datasets: Path, count: int) -> str:
    """Write points of the training objects, unless they are there; return the data set's name."""
    masks = datasets / "coco" / "annotations" / "synthetic_instances_train.json"
    version = f"n{count}_v1_without_masks"
    if not masks.with_name(f"{masks.stem}_{version}.json").exists():
        tool = str(ROOT / "tools" / "make_point_labels.py")
        subprocess.run([sys.executable, tool, str(masks), "--points", str(count)], check=True)
    return f"{masks.stem}_points_{version}"


def print_table(summary: dict[str, dict[str, float]]) -> None:
    print(f"\n{'':14}{'box AP':>9}{'mask AP':>9}{'Boundary AP':>13}{'of full masks':>15}")
    full = summary[FULL]["segm"]
    for title, each in summary.items():
        scores = f"{each['bbox']:9.1f}{each['segm']:9.1f}{each['boundary']:13.1f}"
        print(f"{title:14}{scores}{each['segm'] / full:15.0%}")
    print()


def run(output: Path) -> None:
    from pointrend_seg.files.atomic import write_text

    say(f"1/6  Generating {NUM_TRAIN} + {NUM_VAL} images with exact masks (about a minute)")
    datasets = output / "datasets"
    make_data(datasets, layout="coco", train=NUM_TRAIN, val=NUM_VAL, seed=SEED)
    models: dict[str, tuple[Path, tuple[str, ...]]] = {
        FULL: (QUICK / "pointrend_rcnn_R_18_FPN.yaml", ())
    }
    for count in POINTS:
        names = ("DATASETS.TRAIN", f"('{make_points(datasets, count)}',)")
        models[f"{count} points"] = QUICK / "point_sup_pointrend_rcnn_R_18_FPN.yaml", names
    say("2/6  Training backbone and boxes, the start of all models (4 minutes)")
    seconds = {"start": train(output / "start", BOXES, (*HALF_SIZE, *SHORT_START))}
    weights = ("MODEL.WEIGHTS", str(output / "start" / "model_final.pth"))
    summary: dict[str, Any] = {}
    for number, (title, (config, opts)) in enumerate(models.items(), start=3):
        say(f"{number}/6  Training and evaluating PointRend from {title} (3 minutes)")
        folder = output / folder_name(title)
        seconds[title] = train(folder, config, (*weights, *HALF_SIZE, *SCHEDULE, *opts))
        summary[title] = read_scores(folder)
    write_text(
        output / "summary.json", json.dumps({**summary, "seconds": seconds}, indent=2) + "\n"
    )
    say("6/6  Drawing validation images")
    note = f"image; enlarged where {FULL} gain most"
    draw_instances(output / "comparison.png", output, BOXES, list(models)[::-1], note)
    print_table(summary)
    for name in ("summary.json", "comparison.png", *map(folder_name, models)):
        print(f"  {output / name}")


if __name__ == "__main__":
    run_demo(run, __doc__, "output/demo-point-supervision")
