#!/usr/bin/env python
"""Generate data, train a Panoptic FPN without and with PointRend from the same start, and compare.

    python tools/demo_panoptic.py --output output/demo-panoptic

The output folder gets the data, the three models, `summary.json` and `comparison.png`. Run the
command again to continue an interrupted run.
"""

import startup  # noqa: F401

import json
from pathlib import Path
from typing import Any

from demo_steps import (
    BOXES,
    HALF_SIZE,
    QUICK,
    SHORT_START,
    folder_name,
    make_data,
    run_demo,
    say,
    train,
)

MODELS = {
    "Panoptic FPN": QUICK / "panoptic_fpn_R_18_FPN.yaml",
    "PointRend": QUICK / "pointrend_panoptic_R_18_FPN.yaml",
}
NUM_TRAIN, NUM_VAL, SEED = 400, 60, 1
ITERATIONS = 250
SCHEDULE = (
    *("SOLVER.MAX_ITER", str(ITERATIONS)),
    *("SOLVER.STEPS", f"({ITERATIONS * 3 // 5},)"),
    *("SOLVER.CHECKPOINT_PERIOD", "50"),
)
# Suffixes of the scores of all classes, of things and of stuff.
GROUPS = {"all": "", "things": "_th", "stuff": "_st"}


def read_scores(output: Path) -> dict[str, float]:
    """Read PQ, SQ and RQ of the final evaluation from metrics.json."""
    last = json.loads((output / "metrics.json").read_text().splitlines()[-1])
    names = [f"{score}{suffix}" for suffix in GROUPS.values() for score in ("PQ", "SQ", "RQ")]
    return {name: last[f"panoptic_seg/{name}"] for name in names}


def draw_comparison(file: Path, output: Path, count: int = 2) -> None:
    """Draw validation images, each above the window where PointRend gains the most pixels."""
    from PIL import Image

    from pointrend_seg.data.images.reader import ImageReader
    from pointrend_seg.drawing import primitives as vis
    from pointrend_seg.drawing.predictions import draw_segments
    from pointrend_seg.engine.config_loading import load_config
    from pointrend_seg.files.atomic import replaces
    from pointrend_seg.report.comparison import PanopticComparison

    cfg = load_config(str(MODELS["PointRend"]))
    name = cfg.DATASETS.TEST[0]
    first, second = (
        PanopticComparison(cfg, name, output / folder_name(title) / "inference" / name)
        for title in MODELS
    )
    classes = first.classes
    rows = []
    for number in [n for n, r in enumerate(first.records) if len(r["segments_info"]) > 7][:count]:
        image = ImageReader().read(first.records[number]["file_name"])
        found = [*first.segments(number), second.segments(number)[1]]
        drawn = [
            draw_segments(image, pixels, range(1, len(numbers) + 1), numbers, classes, names=False)
            for pixels, numbers in found
        ]
        labels, before = first.maps(number)
        _, after = second.maps(number)
        size = image.shape[0] // 4, image.shape[1] // 4
        window = vis.largest_gain(labels, before, after, size, classes.ignore_value)
        pictures = [image, *drawn]
        rows.append(pictures)
        rows.append([vis.enlarge(picture[window], image.shape[0]) for picture in pictures])
    titles = ["image; enlarged where PointRend gains most", "ground truth", *MODELS]
    with replaces(file) as part:
        Image.fromarray(vis.tile(rows, titles)).save(part, optimize=True)


def print_table(summary: dict[str, dict[str, float]]) -> None:
    columns = [f"{score}{suffix}" for suffix in GROUPS.values() for score in ("PQ", "SQ", "RQ")]
    print("\n" + " " * 14 + "".join(f"{group:>21}" for group in GROUPS))
    print(" " * 14 + "".join(f"{name.partition('_')[0]:>7}" for name in columns))
    for title in MODELS:
        print(f"{title:14}" + "".join(f"{summary[title][name]:7.1f}" for name in columns))
    before, after = (summary[title] for title in MODELS)
    gains = (after[name] - before[name] for name in columns)
    print(f"{'gain':14}" + "".join(f"{gain:+7.1f}" for gain in gains) + "\n")


def run(output: Path) -> None:
    from pointrend_seg.files.atomic import write_text

    say(f"1/5  Generating {NUM_TRAIN} + {NUM_VAL} images with exact segments (about a minute)")
    make_data(output / "datasets", layout="coco", train=NUM_TRAIN, val=NUM_VAL, seed=SEED)
    say("2/5  Training backbone and boxes, the start of both models (5 minutes)")
    seconds = {"start": train(output / "start", BOXES, (*SHORT_START, *HALF_SIZE))}
    weights = ("MODEL.WEIGHTS", str(output / "start" / "model_final.pth"))
    summary: dict[str, Any] = {}
    for number, (title, config) in enumerate(MODELS.items(), start=3):
        say(f"{number}/5  Training and evaluating {title}, {ITERATIONS} iterations (6 minutes)")
        folder = output / folder_name(title)
        seconds[title] = train(folder, config, (*weights, *SCHEDULE, *HALF_SIZE))
        summary[title] = read_scores(folder)
    summary["seconds"] = seconds
    write_text(output / "summary.json", json.dumps(summary, indent=2) + "\n")
    say("5/5  Drawing validation images")
    draw_comparison(output / "comparison.png", output)
    print_table(summary)
    for name in ("summary.json", "comparison.png", *map(folder_name, MODELS)):
        print(f"  {output / name}")


if __name__ == "__main__":
    run_demo(run, __doc__, "output/demo-panoptic")
