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

from demo_steps import ROOT, make_data, run_demo, say, train

QUICK = ROOT / "configs" / "quick"
START = QUICK / "faster_rcnn_R_18_FPN.yaml"
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


def read_scores(output: Path) -> dict[str, float]:
    """Read box, mask and Boundary AP of the final evaluation from metrics.json."""
    last = json.loads((output / "metrics.json").read_text().splitlines()[-1])
    return {task: last[f"{task}/AP"] for task in ("bbox", "segm", "boundary")}


def draw_comparison(file: Path, output: Path, count: int = 2) -> None:
    """Draw validation images, each above the object whose mask PointRend improves most."""
    from detectron2.utils.colormap import colormap
    from PIL import Image

    from pointrend_seg.data.images.reader import ImageReader
    from pointrend_seg.drawing import primitives as vis
    from pointrend_seg.engine.config_loading import load_config
    from pointrend_seg.files.atomic import replaces
    from pointrend_seg.report.comparison import InstanceComparison

    cfg = load_config(str(START))
    name = cfg.DATASETS.TEST[0]
    first, second = (
        InstanceComparison(cfg, name, output / folder_name(title) / "inference" / name)
        for title in MODELS
    )
    colors = colormap(rgb=True)[::4]
    rows = []
    for number in [n for n, r in enumerate(first.records) if len(r["annotations"]) > 3][:count]:
        image = ImageReader().read(first.records[number]["file_name"])
        truth, before = first.objects(number)
        _, after = second.objects(number)
        objects = (truth, before, after)
        masks = [each.masks.numpy() for each in objects]
        drawn = [
            vis.draw_masks(image, own, colors[each.classes])
            for own, each in zip(masks, objects, strict=True)
        ]
        window = vis.largest_mask_gain(*masks)
        pictures = [image, *drawn]
        rows.append(pictures)
        rows.append([vis.enlarge(picture[window], image.shape[0]) for picture in pictures])
    titles = ["image; enlarged where PointRend gains most", "ground truth", *MODELS]
    with replaces(file) as part:
        Image.fromarray(vis.tile(rows, titles)).save(part, optimize=True)


def folder_name(title: str) -> str:
    """Return e.g. mask_rcnn for Mask R-CNN."""
    return title.lower().replace(" ", "_").replace("-", "")


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
    seconds = {"start": train(output / "start", START)}
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
    draw_comparison(output / "comparison.png", output)
    print_table(summary)
    for name in ("summary.json", "comparison.png", *map(folder_name, MODELS)):
        print(f"  {output / name}")


if __name__ == "__main__":
    run_demo(run, __doc__, "output/demo-instance")
