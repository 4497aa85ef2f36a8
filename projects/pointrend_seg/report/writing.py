"""Write the report of an evaluation: one HTML file, from what training and evaluation wrote."""

import contextlib
import json
import math
import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode

from ..data.dataset_files import evenly
from ..drawing.labels import numbered_names
from ..errors import InputError, versions
from ..evaluation.build import results_folder
from ..evaluation.coco import CURVES_FILE
from ..evaluation.panoptic import SCORES_FILE
from ..files.atomic import write_text
from .charts import Line, line_chart
from .comparison import Comparison, Score, open_comparison
from .page import Chart, Figure, Section, Table, render_page
from .panels import LETTERS, PANELS, data_uri, draw_panels

# The most images that are compared, and the most at several boundary widths, which takes longer;
# of a larger set, as many are spread evenly over it. For Cityscapes that is a minute.
MOST_IMAGES, MOST_FOR_WIDTHS = 100, 50
GALLERY = 4
WIDTHS = (1, 2, 4, 8, 16, 32)
_PANEL_WIDTH = 420
_TASKS = {"bbox": "boxes", "segm": "masks", "boundary": "boundaries of masks"}
_CURVES = {"50": "IoU 0.5", "75": "IoU 0.75", "all": "mean of IoU 0.5 to 0.95"}
_SCORES = (
    "panoptic_seg/PQ",
    "sem_seg/mIoU",
    "sem_seg/mBoundaryIoU",
    "bbox/AP",
    "segm/AP",
    "boundary/AP",
)


def write_report(
    cfg: CfgNode, dataset_name: str, *, folder: str | os.PathLike | None = None
) -> Path:
    """Write ``report.html`` beside the predictions of a data set. It says what is missing.

    Args:
        cfg: the config of the evaluation; its data sets are registered.
        folder: where the evaluator wrote to; by default ``OUTPUT_DIR/inference/dataset_name``.

    Returns:
        the path of the report.

    Example:
        >>> from detectron2.config import get_cfg
        >>> cfg = get_cfg()
        >>> cfg.OUTPUT_DIR = "output"
        >>> write_report(cfg, "my_data").as_posix()
        'output/inference/my_data/report.html'
    """
    folder = Path(folder or results_folder(cfg, dataset_name))
    history = read_history(Path(cfg.OUTPUT_DIR) / "metrics.json")
    sections = [
        _overview(cfg, dataset_name),
        *_scores(folder, history),
        _learning_curves(history),
        *_precision(folder),
        *_images(cfg, dataset_name, folder),
        Section("Configuration", listing_name="config.yaml", listing=cfg.dump()),
        Section("Versions", note=versions()),
    ]
    file = folder / "report.html"
    folder.mkdir(parents=True, exist_ok=True)
    write_text(file, render_page(f"Evaluation on {dataset_name}", sections))
    return file


def read_history(file: Path) -> list[dict]:
    """Read the lines of a training's ``metrics.json``, except those that cannot be read."""
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


def _overview(cfg: CfgNode, dataset_name: str) -> Section:
    rows = [
        ("model", cfg.MODEL.META_ARCHITECTURE),
        ("weights", cfg.MODEL.WEIGHTS or "(of this training)"),
        ("data set", dataset_name),
        ("written", datetime.now().strftime("%Y-%m-%d %H:%M")),
    ]
    return Section(table=Table(("", ""), rows))


def _scores(folder: Path, history: list[dict]) -> list[Section]:
    semantic, instance = folder / "sem_seg_evaluation.json", folder / CURVES_FILE
    if (folder / SCORES_FILE).exists():
        return _panoptic_scores(json.loads((folder / SCORES_FILE).read_text()))
    if semantic.exists():
        scores = json.loads(semantic.read_text())
        return [
            Section("Scores", _overall({"pixels": scores})),
            Section("Scores by class", _by_class(scores, ("IoU", "BoundaryIoU", "ACC"))),
        ]
    if instance.exists():
        tasks = {task: each["scores"] for task, each in json.loads(instance.read_text()).items()}
        merged = {
            f"{task} {key}": value
            for task, scores in tasks.items()
            for key, value in scores.items()
            if key.startswith("AP-")
        }
        sections = [Section("Scores", _overall({_TASKS[t]: s for t, s in tasks.items()}))]
        if merged:
            table = _by_class(merged, [f"{task} AP" for task in tasks])
            sections.append(Section("Scores by class", table))
        return sections
    last = {k: v for k, v in (history[-1] if history else {}).items() if "/" in k}
    if last:
        return [Section("Scores", Table(("metric", "value"), list(last.items())))]
    return [Section("Scores", note=f"No scores were written to {folder}.")]


def _panoptic_scores(scores: dict[str, float | None]) -> list[Section]:
    names = ("PQ", "SQ", "RQ")
    groups = {"things and stuff": "", "things": "_th", "stuff": "_st"}
    rows = [
        [group, *(scores.get(f"{name}{suffix}") for name in names)]
        for group, suffix in groups.items()
    ]
    return [
        Section("Scores", Table(["", *names], rows)),
        Section("Scores by class", _by_class(scores, names)),
    ]


def _overall(tasks: dict[str, dict[str, float | None]]) -> Table:
    keys = [key for key in next(iter(tasks.values())) if "-" not in key]
    return Table(["", *keys], [[name, *map(s.get, keys)] for name, s in tasks.items()])


def _by_class(scores: dict[str, float | None], metrics: Sequence[str]) -> Table:
    """Return a row for each class: ``scores`` has its metrics by "metric-class"."""
    first = f"{metrics[0]}-"
    names = [key.removeprefix(first) for key in scores if key.startswith(first)]
    rows = [[name, *(scores.get(f"{metric}-{name}") for metric in metrics)] for name in names]
    titles = [" ".join(_TASKS.get(word, word) for word in metric.split()) for metric in metrics]
    return Table(["class", *titles], rows)


def _learning_curves(history: list[dict]) -> Section:
    names = {key for entry in history for key in entry if "loss" in key and "/" not in key}
    losses, scores = _curves(history, sorted(names)), _curves(history, _SCORES)
    if not losses:
        note = "There is no metrics.json of a training in the output folder."
        return Section("Learning curves", note=note)
    svgs = [line_chart("losses", losses, title="Losses by iteration", x="iteration", y="loss")]
    if scores:
        title = "Scores by iteration"
        svgs.append(
            line_chart("scores", scores, title=title, x="iteration", y="percent", markers=True)
        )
    return Section("Learning curves", charts=[("", svg) for svg in svgs])


def _curves(history: list[dict], keys: Iterable[str]) -> dict[str, Line]:
    """Return iterations and values of each key that has two finite values or more."""
    curves: dict[str, Line] = {}
    for key in keys:
        points = [(e["iteration"], e[key]) for e in history if key in e and "iteration" in e]
        points = [point for point in points if math.isfinite(point[1])]
        if len(points) > 1:
            curves[key] = ([x for x, _ in points], [y for _, y in points])
    return curves


def _precision(folder: Path) -> list[Section]:
    file = folder / CURVES_FILE
    if not file.exists():
        return []
    recall = np.linspace(0, 1, 101).tolist()
    charts: list[Chart] = []
    for task, content in json.loads(file.read_text()).items():
        lines: dict[str, Line] = {
            _CURVES[key]: (recall, [math.nan if v is None else v for v in values])
            for key, values in content["precision"].items()
        }
        title = f"Precision and recall of {_TASKS[task]}, mean over the classes"
        svg = line_chart(
            f"pr-{task}", lines, title=title, x="recall", y="precision", limits=(0, 1.02)
        )
        charts.append((_TASKS[task], svg))
    return [Section("Precision and recall, mean over the classes", charts=charts)]


def _images(cfg: CfgNode, dataset_name: str, folder: Path) -> list[Section]:
    try:
        comparison = open_comparison(cfg, dataset_name, folder)
    except InputError as error:
        return [Section("Images", note=str(error))]
    numbers = evenly(range(len(comparison)), MOST_IMAGES)
    scores = [comparison.score(number) for number in numbers]
    scores = [score for score in scores if not math.isnan(score.boundary_iou)]
    scores.sort(key=lambda score: score.boundary_iou)
    if not scores:
        return [Section("Images", note="No image has both labels and a prediction.")]
    note = (
        f"Sorted by {comparison.sorted_by}. {len(numbers)} of {len(comparison)} images were "
        "compared. From left to right: image, labels, prediction. Below, the window with the most "
        "wrong pixels, which is framed above, enlarged."
    )
    note = f"{note} {numbered_names(comparison.classes)}".strip()
    worst, best = (_gallery(comparison, each[:GALLERY]) for each in (scores, scores[::-1]))
    return [
        _boundary_widths(comparison, evenly(numbers, MOST_FOR_WIDTHS)),
        Section("Worst images", note=note, figures=worst),
        Section("Best images", figures=best),
    ]


def _boundary_widths(comparison: Comparison, numbers: list[int]) -> Section:
    title = "IoU against boundary width"
    note = f"{len(numbers)} of {len(comparison)} images were compared."
    counts = np.sum([comparison.width_counts(number, WIDTHS) for number in numbers], axis=0)
    with np.errstate(invalid="ignore"):
        by_class = 100 * counts[:, 0] / counts[:, 1]
    known = ~np.isnan(by_class).all(axis=1)
    if not known.any():
        none = "No object was found, so there are no boundaries to compare."
        return Section(title, note=f"{none} {note}")
    widths = [width for width, is_known in zip(WIDTHS, known, strict=True) if is_known]
    svg = line_chart(
        "widths",
        {"mean over the classes": (widths, np.nanmean(by_class[known], axis=1).tolist())},
        title="IoU of the pixels near the contours, by how near",
        x="width of the boundary region in pixels",
        y="IoU in percent",
        log_x=True,
        markers=True,
    )
    return Section(title, charts=[("", svg)], note=note)


def _gallery(comparison: Comparison, scores: list[Score]) -> list[Figure]:
    figures: list[Figure] = []
    for score in scores:
        pictures = draw_panels(
            comparison.view(score.number, letters=LETTERS / _PANEL_WIDTH), _PANEL_WIDTH
        )
        name = os.path.basename(score.name)
        caption = f"{name}: Boundary IoU {score.boundary_iou:.1f}, IoU {score.iou:.1f}"
        texts = [f"{panel} of {name}" for panel in PANELS]
        figures.append((caption, list(zip(map(data_uri, pictures), texts, strict=True))))
    return figures
