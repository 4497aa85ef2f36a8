#!/usr/bin/env python
"""Generate data, train a small PointRend on it, and compare it with its own coarse output.

    python tools/demo.py --output output/demo

The output folder gets the data, the model, `summary.json` and `comparison.png`. Run the command
again to continue an interrupted run.
"""

from __future__ import annotations

import startup  # noqa: F401

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from demo_steps import ROOT, make_data, run_demo, say, train

if TYPE_CHECKING:  # prepare() must run before Detectron2 is imported
    from detectron2.modeling import SemanticSegmentor

CONFIG = ROOT / "configs" / "quick" / "pointrend_deeplabv3_R_18_OS16.yaml"
NUM_TRAIN, NUM_VAL, SEED = 200, 40, 1
DATASET = "cityscapes_fine_sem_seg_val"


def evaluate(model: SemanticSegmentor, loader: Iterable[list[dict]]) -> dict:
    """Score PointRend's output and the coarse output of the same model, upsampled."""
    from detectron2.evaluation import inference_on_dataset

    from pointrend_seg.evaluation.semantic import SemanticSegmentationEvaluator
    from pointrend_seg.modeling.semantic_head import CoarseOutput

    scores, head = {}, model.sem_seg_head
    for name, each in (("coarse", CoarseOutput(head)), ("pointrend", head)):
        model.sem_seg_head = each
        evaluator = SemanticSegmentationEvaluator(DATASET)
        results = inference_on_dataset(model, loader, evaluator)["sem_seg"]
        scores[name] = {"mIoU": results["mIoU"], "boundary_IoU": results["mBoundaryIoU"]}
    return scores


def draw_comparison(
    model: SemanticSegmentor, loader: Iterable[list[dict]], file: Path, count: int = 2
) -> None:
    """Draw the first validation images, each above the window where PointRend improves most."""
    import numpy as np
    from detectron2.data import DatasetCatalog
    from detectron2.data.datasets.builtin_meta import CITYSCAPES_CATEGORIES
    from PIL import Image

    from pointrend_seg.data.labels import read_labels
    from pointrend_seg.drawing import primitives as vis
    from pointrend_seg.files.atomic import replaces
    from pointrend_seg.modeling.recording import trace_semantic

    by_id = {c["trainId"]: c["color"] for c in CITYSCAPES_CATEGORIES if 0 <= c["trainId"] < 19}
    colors = np.array([by_id[i] for i in range(len(by_id))], dtype=np.uint8)
    label_files = {r["file_name"]: r["sem_seg_file_name"] for r in DatasetCatalog.get(DATASET)}
    rows = []
    for inputs, _ in zip(loader, range(count), strict=False):
        trace = trace_semantic(model, inputs[0]["image"])
        labels = read_labels(label_files[inputs[0]["file_name"]])
        image = inputs[0]["image"].permute(1, 2, 0).numpy().astype(np.uint8)[:, :, ::-1]
        maps = [vis.color_classes(m, colors) for m in (labels, trace.coarse, trace.refined)]
        size = labels.shape[0] // 4, labels.shape[1] // 4
        window = vis.largest_gain(labels, trace.coarse, trace.refined, size)
        pointed = vis.draw_points(image, trace.points[-1])
        rows.append([image, *maps])
        rows.append([vis.enlarge(p[window], image.shape[0]) for p in (pointed, *maps)])
    titles = ["image; enlarged with the last step's points", "labels"]
    titles += ["coarse output at stride 16, upsampled", "PointRend"]
    with replaces(file) as part:
        Image.fromarray(vis.tile(rows, titles)).save(part, optimize=True)


def print_table(scores: dict[str, dict[str, float]]) -> None:
    print(f"\n{'':28}{'mIoU':>8}{'Boundary IoU':>15}")
    for title, name in (("coarse output, upsampled", "coarse"), ("PointRend", "pointrend")):
        values = scores[name]
        print(f"{title:28}{values['mIoU']:8.1f}{values['boundary_IoU']:15.1f}")
    gain = {key: scores["pointrend"][key] - scores["coarse"][key] for key in scores["coarse"]}
    print(f"{'gain':28}{gain['mIoU']:+8.1f}{gain['boundary_IoU']:+15.1f}\n")


def run(output: Path) -> None:
    say(f"1/4  Generating {NUM_TRAIN} + {NUM_VAL} images with exact labels (about 20 seconds)")
    make_data(output / "datasets", layout="cityscapes", train=NUM_TRAIN, val=NUM_VAL, seed=SEED)
    say("2/4  Training, and evaluating with the Cityscapes scripts (4 to 8 minutes)")
    seconds = train(output / "model", CONFIG)

    from pointrend_seg.engine.config_loading import load_config
    from pointrend_seg.engine.trainer import Trainer, load_model
    from pointrend_seg.files.atomic import write_text

    say("3/4  Evaluating the coarse output of the same model (half a minute)")
    cfg = load_config(str(CONFIG), ["MODEL.WEIGHTS", str(output / "model" / "model_final.pth")])
    model = load_model(cfg)
    loader = Trainer.build_test_loader(cfg, DATASET)
    scores = evaluate(model, loader)
    summary = {**scores, "train_and_evaluate_seconds": seconds}
    write_text(output / "summary.json", json.dumps(summary, indent=2) + "\n")
    say("4/4  Drawing the first validation images")
    draw_comparison(model, loader, output / "comparison.png")
    print_table(scores)
    for name in ("summary.json", "comparison.png", "model"):
        print(f"  {output / name}")


if __name__ == "__main__":
    run_demo(run, __doc__, "output/demo")
