#!/usr/bin/env python
"""Generate data, train a Mask R-CNN and a PointRend on it from the same start, and compare masks.

    python tools/demo_instance.py --output output/demo-instance

The output folder gets the data, the three models, `summary.json` and `comparison.png`. Run the
command again to continue an interrupted run.
"""

import startup  # noqa: F401

import json
from pathlib import Path
from typing import Any

from demo_steps import (
    BOXES,
    QUICK,
    draw_instances,
    folder_name,
    make_data,
    read_scores,
    run_demo,
    say,
    train,
)

MODELS = {
    "Mask R-CNN": QUICK / "mask_rcnn_R_18_FPN.yaml",
    "PointRend": QUICK / "pointrend_rcnn_R_18_FPN.yaml",
}
NUM_TRAIN, NUM_VAL, SEED = 400, 60, 1
ITERATIONS = 250
SCHEDULE = (
    *("SOLVER.MAX_ITER", str(ITERATIONS)),
    *("SOLVER.STEPS", f"({ITERATIONS * 3 // 4},)"),
    *("SOLVER.CHECKPOINT_PERIOD", "100"),
)


def print_table(summary: dict[str, dict[str, float]]) -> None:
    print(f"\n{'':14}{'box AP':>9}{'mask AP':>9}{'Boundary AP':>13}")
    for title in MODELS:
        each = summary[title]
        print(f"{title:14}{each['bbox']:9.1f}{each['segm']:9.1f}{each['boundary']:13.1f}")
    gain = {task: summary["PointRend"][task] - summary["Mask R-CNN"][task] for task in each}
    print(f"{'gain':14}{gain['bbox']:+9.1f}{gain['segm']:+9.1f}{gain['boundary']:+13.1f}\n")


def run(output: Path) -> None:
    from pointrend_seg.files.atomic import write_text

    say(f"1/5  Generating {NUM_TRAIN} + {NUM_VAL} images with exact masks (about a minute)")
    make_data(output / "datasets", layout="coco", train=NUM_TRAIN, val=NUM_VAL, seed=SEED)
    say("2/5  Training backbone and boxes, the start of both models (8 to 12 minutes)")
    seconds = {"start": train(output / "start", BOXES)}
    weights = ("MODEL.WEIGHTS", str(output / "start" / "model_final.pth"))
    summary: dict[str, Any] = {}
    for number, (title, config) in enumerate(MODELS.items(), start=3):
        say(f"{number}/5  Training and evaluating {title}, {ITERATIONS} iterations (4 minutes)")
        folder = output / folder_name(title)
        seconds[title] = train(folder, config, (*weights, *SCHEDULE))
        summary[title] = read_scores(folder)
    summary["seconds"] = seconds
    write_text(output / "summary.json", json.dumps(summary, indent=2) + "\n")
    say("5/5  Drawing validation images")
    note = "image; enlarged where PointRend gains most"
    draw_instances(output / "comparison.png", output, BOXES, list(MODELS), note)
    print_table(summary)
    for name in ("summary.json", "comparison.png", *map(folder_name, MODELS)):
        print(f"  {output / name}")


if __name__ == "__main__":
    run_demo(run, __doc__, "output/demo-instance")
