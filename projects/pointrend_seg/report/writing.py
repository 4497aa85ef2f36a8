"""The report of an evaluation: one HTML file, made from what training and evaluation wrote."""

import contextlib
import json
import math
import os
from datetime import datetime
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode

from ..data.dataset_files import evenly
from ..errors import InputError, versions
from ..evaluation.coco import CURVES_FILE
from . import page
from .charts import line_chart
from .comparison import InstanceCases, Score, SemanticCases, open_cases
from .panels import data_uri, panels

# Images that are compared one by one, and at several boundary widths, which takes longer; of a
# larger set, as many from all of it. Of Cityscapes that is a minute.
MOST_IMAGES, MOST_FOR_WIDTHS = 100, 50
GALLERY = 4
WIDTHS = (1, 2, 4, 8, 16, 32)
_PANEL = 420
_PANELS = ("image", "labels", "prediction", "image, enlarged", "labels, enlarged",
           "prediction, enlarged")  # fmt: skip
_TASKS = {"bbox": "boxes", "segm": "masks", "boundary": "boundaries of masks"}


def write_report(
    cfg: CfgNode, dataset_name: str, *, folder: str | os.PathLike | None = None
) -> Path:
    """Write ``report.html`` beside the predictions of a data set. What is missing is said there.

    Args:
        cfg: of the evaluation; its data sets are registered.
        folder: where the evaluator wrote to; by default ``OUTPUT_DIR/inference/dataset_name``.

    Returns:
        the file.
    """
    folder = Path(folder or Path(cfg.OUTPUT_DIR) / "inference" / dataset_name)
    history = read_history(Path(cfg.OUTPUT_DIR) / "metrics.json")
    parts = [_about(cfg, dataset_name), *_scores(folder, history), *_learning(history)]
    parts += _precision(folder)
    try:
        cases = open_cases(cfg, dataset_name, folder)
    except InputError as error:
        parts.append(page.section("Images", page.note(str(error))))
    else:
        parts += _images(cases)
    parts.append(page.section("Configuration", page.folded("config.yaml", cfg.dump())))
    parts.append(page.section("Versions", page.note(versions())))
    file = folder / "report.html"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(page.page(f"Evaluation on {dataset_name}", parts), encoding="utf-8")
    return file


def read_history(file: Path) -> list[dict]:
    """The lines of ``metrics.json`` that a training wrote, those that can be read."""
    if not file.exists():
        return []
    entries, last = [], -1
    for line in file.read_text().splitlines():
        with contextlib.suppress(ValueError):  # the last line of a run that was killed
            entry = json.loads(line)
            if entry.get("iteration", 0) >= last:  # others are of evaluations alone
                entries.append(entry)
                last = entry.get("iteration", 0)
    return entries


def _about(cfg: CfgNode, dataset_name: str) -> str:
    rows = [
        ("model", cfg.MODEL.META_ARCHITECTURE),
        ("weights", cfg.MODEL.WEIGHTS or "(of this training)"),
        ("data set", dataset_name),
        ("written", datetime.now().strftime("%Y-%m-%d %H:%M")),
    ]
    return page.table(("", ""), rows)


def _scores(folder: Path, history: list[dict]) -> list[str]:
    semantic, instance = folder / "sem_seg_evaluation.json", folder / CURVES_FILE
    if semantic.exists():
        scores = json.loads(semantic.read_text())
        return [
            page.section("Scores", _overall({"pixels": scores})),
            page.section("Scores by class", _by_class(scores, ("IoU", "BoundaryIoU", "ACC"))),
        ]
    if instance.exists():
        tasks = {task: each["scores"] for task, each in json.loads(instance.read_text()).items()}
        merged = {
            f"{task} {key.replace('AP-', 'AP-', 1)}": value
            for task, scores in tasks.items()
            for key, value in scores.items()
            if key.startswith("AP-")
        }
        found = [page.section("Scores", _overall({_TASKS[t]: s for t, s in tasks.items()}))]
        if merged:
            table = _by_class(merged, [f"{task} AP" for task in tasks])
            found.append(page.section("Scores by class", table))
        return found
    last = {k: v for k, v in (history[-1] if history else {}).items() if "/" in k}
    if last:
        return [page.section("Scores", page.table(("metric", "value"), last.items()))]
    return [page.section("Scores", page.note(f"No scores were written to {folder}."))]


def _overall(tasks: dict[str, dict]) -> str:
    keys = [key for key in next(iter(tasks.values())) if "-" not in key]
    return page.table(["", *keys], [[name, *map(s.get, keys)] for name, s in tasks.items()])


def _by_class(scores: dict, kinds) -> str:
    first = f"{kinds[0]}-"
    names = [key.removeprefix(first) for key in scores if key.startswith(first)]
    rows = [[name, *(scores.get(f"{kind}-{name}") for kind in kinds)] for name in names]
    titles = [" ".join(_TASKS.get(word, word) for word in kind.split()) for kind in kinds]
    return page.table(["class", *titles], rows)


def _learning(history: list[dict]) -> list[str]:
    losses = {}
    for key in sorted(
        {key for entry in history for key in entry if "loss" in key and "/" not in key}
    ):
        points = [(e["iteration"], e[key]) for e in history if key in e and "iteration" in e]
        points = [(i, value) for i, value in points if math.isfinite(value)]
        if len(points) > 1:
            losses[key] = tuple(zip(*points, strict=True))
    if not losses:
        text = "There is no metrics.json of a training in the output folder."
        return [page.section("Learning curves", page.note(text))]
    svgs = [line_chart("losses", losses, title="Losses by iteration", x="iteration", y="loss")]
    scores = {}
    for key in ("sem_seg/mIoU", "sem_seg/mBoundaryIoU", "bbox/AP", "segm/AP", "boundary/AP"):
        points = [(e["iteration"], e[key]) for e in history if key in e and "iteration" in e]
        points = [(i, value) for i, value in points if math.isfinite(value)]
        if len(points) > 1:
            scores[key] = tuple(zip(*points, strict=True))
    if scores:
        svgs.append(
            line_chart(
                "scores",
                scores,
                title="Scores by iteration",
                x="iteration",
                y="percent",
                markers=True,
            )  # fmt: skip
        )
    return [page.section("Learning curves", page.charts(*svgs))]


def _precision(folder: Path) -> list[str]:
    file = folder / CURVES_FILE
    if not file.exists():
        return []
    recall, svgs = np.linspace(0, 1, 101), []
    names = {"50": "IoU 0.5", "75": "IoU 0.75", "all": "mean of IoU 0.5 to 0.95"}
    for task, content in json.loads(file.read_text()).items():
        lines = {
            names[key]: (recall, [math.nan if v is None else v for v in values])
            for key, values in content["precision"].items()
        }
        title = f"Precision and recall of {_TASKS[task]}, mean over the classes"
        svg = line_chart(
            f"pr-{task}", lines, title=title, x="recall", y="precision", limits=(0, 1.02)
        )
        svgs.append(f"<p>{_TASKS[task]}</p>{svg}")
    return [page.section("Precision and recall, mean over the classes", page.charts(*svgs))]


def _images(cases: SemanticCases | InstanceCases) -> list[str]:
    numbers = evenly(range(len(cases)), MOST_IMAGES)
    scores = [
        score for number in numbers if not math.isnan((score := cases.score(number)).boundary_iou)
    ]
    scores.sort(key=lambda score: score.boundary_iou)
    if not scores:
        return [page.section("Images", page.note("No image has both labels and a prediction."))]
    compared = f"{len(numbers)} of {len(cases)} images were compared."
    few = evenly(numbers, MOST_FOR_WIDTHS)
    of_few = f"{len(few)} of {len(cases)} images were compared."
    parts = [page.section("IoU against boundary width", *_widths(cases, few), page.note(of_few))]
    about = (
        f"By Boundary IoU, {cases.what}. {compared} From left to right: the image, its labels, the "
    )
    about += "prediction; below, what is in the frame, enlarged: the window "
    about += "with the most wrong pixels."
    worst, best = scores[:GALLERY], scores[::-1][:GALLERY]
    parts.append(page.section("Worst images", page.note(about), *_gallery(cases, worst)))
    parts.append(page.section("Best images", *_gallery(cases, best)))
    return parts


def _widths(cases, numbers) -> list[str]:
    counts = sum(cases.width_counts(number, WIDTHS) for number in numbers)
    with np.errstate(invalid="ignore"):
        by_class = 100 * counts[:, 0] / counts[:, 1]
    known = [(w, float(np.nanmean(row))) for w, row in zip(WIDTHS, by_class, strict=True)
             if not np.isnan(row).all()]  # fmt: skip
    if not known:
        return [page.note("No object was found, so there are no boundaries to compare.")]
    svg = line_chart(
        "widths",
        {"mean over the classes": tuple(zip(*known, strict=True))},
        title="IoU of the pixels near the contours, by how near",
        x="width of the boundary region in pixels",
        y="IoU in percent",
        log_x=True,
        markers=True,
    )
    return [page.charts(svg)]


def _gallery(cases, scores: list[Score]) -> list[str]:
    figures = []
    for score in scores:
        view = cases.view(score.number)
        pictures = zip(map(data_uri, panels(view, _PANEL)), _PANELS, strict=True)
        name = os.path.basename(score.name)
        caption = f"{name}: Boundary IoU {score.boundary_iou:.1f}, IoU {score.iou:.1f}"
        figures.append(
            page.gallery(caption, [(uri, f"{what} of {name}") for uri, what in pictures])
        )
    return figures
