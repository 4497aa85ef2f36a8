"""The page of an evaluation: numbers by other ways, nothing from elsewhere, seen in a browser."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from coco_sets import annotation, mask_rle
from pointrend_seg.data.custom.registration import register_custom
from pointrend_seg.errors import InputError
from pointrend_seg.report import write_report, writing
from pointrend_seg.report.charts import line_chart
from pointrend_seg.report.comparison import Objects, boundary_iou, match, open_comparison
from pointrend_seg.report.page import format_cell
from pointrend_seg.report.writing import read_history
from pointrend_seg.structures.rle_masks import RleMasks
from pointrend_seg.structures.run_lengths import encode_columns
from small_configs import small_instance_cfg, small_semantic_cfg

NAMES = ["sky & <sea>", "road"]
DATASET = "report_of_the_tests"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(autouse=True)
def forget():
    yield
    if DATASET in DatasetCatalog:
        DatasetCatalog.remove(DATASET)
        MetadataCatalog.remove(DATASET)


def square(top, left, side=20, size=(48, 64)):
    mask = np.zeros(size, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def evaluated(make_cfg, root, data, **files):
    """Register a data set, and write what an evaluation on it would write; return both."""
    cfg = make_cfg(2, ("OUTPUT_DIR", str(root / "out"), "DATASETS.TEST", (DATASET,)))
    cfg.DATASETS.CUSTOM = [{"name": DATASET, "images": str(root / "images"), **data}]
    register_custom(cfg)
    folder = root / "out/inference" / DATASET
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return cfg, folder


def save(file, pixels):
    file.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(file)


@pytest.fixture
def semantic(tmp_path):
    """Two images; the prediction of the first is right, of the second it is off by two pixels."""
    segments = []
    for k, name in enumerate(("a", "<b>")):
        image = tmp_path / f"images/{name}.png"
        save(image, np.full((48, 64, 3), 90 + k))
        labels = np.where(np.arange(48)[:, None] < 3, 255, square(10, 10))
        save(tmp_path / f"labels/{name}.png", labels)
        predicted = square(10, 10 + 2 * k)
        segments += [
            {"file_name": str(image), "category_id": category, "segmentation": mask_rle(mask)}
            for category, mask in enumerate((~predicted, predicted))
        ]
    scores = {"mIoU": 91.5, "mBoundaryIoU": None}
    scores |= {f"{kind}-{name}": 12.25 for kind in ("IoU", "BoundaryIoU", "ACC") for name in NAMES}
    data = {"annotations": str(tmp_path / "labels"), "classes": NAMES}
    files = {"sem_seg_predictions": segments, "sem_seg_evaluation": scores}
    found = evaluated(small_semantic_cfg, tmp_path, data, **files)
    lines = [{"iteration": k, "total_loss": 3.0 / (k + 1), "lr": 1} for k in range(5)]
    (tmp_path / "out/metrics.json").write_text("\n".join(map(json.dumps, lines)))
    return found


@pytest.fixture
def instance(tmp_path):
    """An image with two objects: one is found, a pixel off, one is missed, and one is invented."""
    save(tmp_path / "images/a.png", np.full((48, 64, 3), 90))
    content = {
        "images": [{"id": 4, "file_name": "a.png", "height": 48, "width": 64}],
        "categories": [{"id": 3, "name": NAMES[0]}, {"id": 7, "name": NAMES[1]}],
        "annotations": [
            annotation(1, 4, 3, square(5, 5)),
            annotation(2, 4, 7, square(20, 40)),
        ],
    }
    (tmp_path / "objects.json").write_text(json.dumps(content))
    results = [
        annotation(1, 4, 3, square(5, 6), score=0.9),
        annotation(2, 4, 7, square(0, 0), score=0.8),
        annotation(3, 4, 7, square(20, 40), score=0.2),
    ]
    scores = {"AP": 40.0, "AP50": 50.0, **{f"AP-{name}": 20.0 for name in NAMES}}
    curves = dict.fromkeys(("50", "75", "all"), [1.0] * 50 + [None] * 51)
    task = {"scores": scores, "precision": curves}
    files = {"coco_instances_results": results}
    files["coco_evaluation"] = dict.fromkeys(("bbox", "segm", "boundary"), task)
    data = {"annotations": str(tmp_path / "objects.json")}
    return evaluated(small_instance_cfg, tmp_path, data, **files)


def test_scores_of_label_maps(semantic):
    comparison = open_comparison(semantic[0], DATASET, semantic[1])
    right, off = sorted((comparison.score(k) for k in range(2)), key=lambda s: -s.iou)
    assert right.iou == right.boundary_iou == 100
    overlap, union = 20 * 18, 2 * 400 - 20 * 18
    background = (45 * 64 - union) / (45 * 64 - overlap)
    assert off.iou == pytest.approx(50 * (overlap / union + background))
    assert off.boundary_iou < off.iou
    counts = comparison.width_counts(off.number, (1, 60))
    wide = counts[1, 0] / counts[1, 1]
    assert wide[1] == pytest.approx(overlap / union)  # as wide as the object: plain IoU
    # the outlines, a pixel wide, of two squares of 20: 76 pixels each
    shared = 2 * 18
    assert counts[0, 0, 1] / counts[0, 1, 1] == pytest.approx(shared / (2 * 76 - shared))
    wrong = comparison.view(off.number).wrong
    assert wrong.sum() == union - overlap and not comparison.view(right.number).wrong.any()


def test_scores_of_objects(instance):
    comparison = open_comparison(instance[0], DATASET, instance[1])
    (score,) = (comparison.score(k) for k in range(len(comparison)))
    iou = 20 * 19 / (800 - 20 * 19)
    assert score.iou == pytest.approx(100 * iou / 3)  # found, missed, invented
    counts = comparison.width_counts(0, (1, 64))
    assert counts[:, 1].tolist() == [[1, 0], [1, 0]]
    assert counts[1, 0, 0] == pytest.approx(iou)
    assert counts[0, 0, 0] == pytest.approx(2 * 19 / (2 * 76 - 2 * 19))


def changed(folder, change):
    """Changes the predictions of an evaluation."""
    file = folder / "coco_instances_results.json"
    results = json.loads(file.read_text())
    change(results)
    file.write_text(json.dumps(results))


def test_which_objects_are_compared(instance):
    """Those of a score of 0.5 with a mask; of the labels those with a mask that are no crowd."""
    cfg, folder = instance

    def change(results):
        results[0]["score"], results[1]["score"] = 0.5, 0.49
        results.append({**results[0], "score": 0.9})
        del results[-1]["segmentation"]

    changed(folder, change)
    comparison = open_comparison(cfg, DATASET, folder)
    labelled, predicted = comparison.objects(0)
    assert (len(labelled), predicted.classes.tolist(), predicted.scores.tolist()) == (2, [0], [0.5])
    first, second = comparison.records[0]["annotations"]
    first["iscrowd"], second["segmentation"] = 1, []
    assert len(comparison.objects(0)[0]) == 0
    assert comparison.score(0).iou == 0  # one is invented
    changed(folder, list.clear)
    comparison = open_comparison(cfg, DATASET, folder)
    assert comparison.score(0).iou == 0  # both are missed
    comparison.records[0]["annotations"].clear()
    assert np.isnan([comparison.score(0).iou, comparison.score(0).boundary_iou]).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda results: results[0]["segmentation"].update(counts="T3"),
            "a prediction for 4 has run lengths that do not add up to its 3072 pixels",
        ),
        (
            lambda results: results[0]["segmentation"].update(size=[64, 48]),
            "has a run-length mask of 48 x 64 (width x height) as its mask, but the image is 64",
        ),
        (lambda results: results[0].update(segmentation=[[1, 2, 3, 4, 5, 6]]), "has polygons"),
        (lambda results: results[1].update(score="high"), "number 1 (from 0) has the score 'high'"),
        (lambda results: results.append(7), "prediction number 3 (from 0) has the image_id None"),
    ],
)
def test_predictions_are_checked_before_they_are_decoded(change, said, instance):
    cfg, folder = instance
    changed(folder, change)
    with pytest.raises(InputError) as caught:
        open_comparison(cfg, DATASET, folder).objects(0)
    assert said in str(caught.value) and "coco_instances_results.json" in str(caught.value)


def test_objects_of_one_class_are_added_up(instance):
    cfg, folder = instance

    def change(results):
        results[0]["segmentation"] = mask_rle(square(5, 5))
        results[2] |= {"category_id": 3, "score": 0.7}

    changed(folder, change)
    comparison = open_comparison(cfg, DATASET, folder)
    for each in comparison.records[0]["annotations"]:
        each["category_id"] = 0
    assert comparison.width_counts(0, (1, 4))[..., 0].tolist() == [[2, 2], [2, 2]]


def test_boundary_iou_of_objects_is_at_most_their_iou(instance):
    """As in evaluation. A hole changes the IoU more than the outlines, two pixels wide here."""
    cfg, folder = instance
    full, hollow = square(4, 10, 40), square(4, 10, 40) & ~square(10, 16, 28)

    def change(results):
        results[0]["segmentation"] = mask_rle(hollow)
        del results[1:]

    changed(folder, change)
    results = folder / "coco_instances_results.json"
    results.rename(folder / "lvis_instances_results.json")  # either file will do
    comparison = open_comparison(cfg, DATASET, folder)
    annotations = comparison.records[0]["annotations"]
    annotations[0]["segmentation"] = mask_rle(full)
    del annotations[1:]
    iou = hollow.sum() / full.sum()
    assert iou < boundary_iou(mask_rle(full), mask_rle(hollow), 2)
    score = comparison.score(0)
    assert score.iou == score.boundary_iou == pytest.approx(100 * iou)
    assert comparison.width_counts(0, (1, 2))[:, 0, 0] == pytest.approx(iou)
    annotations[0]["segmentation"] = mask_rle(hollow ^ square(4, 10, 2))
    outlines = boundary_iou(mask_rle(hollow ^ square(4, 10, 2)), mask_rle(hollow), 2)
    assert comparison.score(0).boundary_iou == pytest.approx(100 * outlines)


def test_images_without_predictions_are_left_out(semantic):
    cfg, folder = semantic
    file = folder / "sem_seg_predictions.json"
    segments = json.loads(file.read_text())
    file.write_text(json.dumps([s for s in segments if s["file_name"].endswith("a.png")]))
    (record,) = open_comparison(cfg, DATASET, folder).records
    assert record["file_name"].endswith("a.png")


def objects(masks, count, class_number=0):
    rles = [mask_rle(mask) for mask in masks]
    return Objects(RleMasks(rles, masks.shape[1:]), np.full(count, class_number))


def test_the_most_certain_chooses_first():
    true = np.stack([square(5, 5), square(5, 8)])
    found = np.stack([square(5, 7), square(5, 8)])
    predicted = objects(found, 2)
    pairs = match(objects(true, 2), predicted)
    assert [(i, j) for i, j, _ in pairs] == [(1, 0), (0, 1)]
    assert match(objects(true, 2, 1), predicted) == []
    assert match(objects(true[:0], 0), predicted) == []


@pytest.mark.parametrize(("overlap", "pairs"), [(50, [(0, 0, 0.5)]), (49, [])])
def test_an_iou_of_a_half_is_a_match(overlap, pairs):
    true = np.ones((1, 10, 10), bool)
    found = (np.arange(100) < overlap).reshape(1, 10, 10)
    assert match(objects(true, 1), objects(found, 1)) == pairs


def test_thousands_of_objects_of_a_large_image_are_matched_in_a_moment():
    """As N x H x W bools they would take 12 GB, and an hour."""
    rles = [
        encode_columns(np.ones((20, 20), bool), 40 * (k % 50), 40 * (k // 50), 2400, 2000)
        for k in range(3000)
    ]
    many = Objects(RleMasks(rles, (2400, 2000)), np.zeros(3000, int))
    assert match(many, many) == [(k, k, 1.0) for k in range(3000)]


def test_boundary_iou_by_hand():
    a, b = mask_rle(square(5, 5, 3)), mask_rle(square(5, 6, 3))
    assert boundary_iou(a, a, 1) == 1.0
    assert boundary_iou(a, b, 1) == pytest.approx(4 / 12)  # rings of 8, which share 4
    assert boundary_iou(a, b, 9) == pytest.approx(6 / 12)


@pytest.mark.parametrize("kind", ["semantic", "instance"])
def test_the_page_stands_alone(kind, request):
    cfg, folder = request.getfixturevalue(kind)
    text = write_report(cfg, DATASET).read_text()
    assert folder / "report.html" == write_report(cfg, DATASET)
    for title in ("Scores by class", "Learning curves", "IoU against boundary width",
                  "Worst images", "Best images", "Configuration", "Versions"):  # fmt: skip
        assert f"<h2>{title}</h2>" in text
    assert "sky &amp; &lt;sea&gt;" in text and "<sea>" not in text
    assert text.count("<img ") >= 12 and text.count("alt=") == text.count("<img ")
    links = set(re.findall(r"(?:src|href)=\"([^\"#][^\"]{0,20})", text))
    assert all(link.startswith("data:") for link in links)
    urls = set(re.findall(r"https?://[^\"' <)]+", text.split("<details>")[0]))
    assert urls <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    if kind == "instance":
        assert "Precision and recall" in text
    else:
        captions = re.findall(r"<figcaption>(.*?): Boundary IoU", text)
        assert captions == ["&lt;b&gt;.png", "a.png", "a.png", "&lt;b&gt;.png"]  # worst, best
        assert "91.50" in text and "–" in text  # a score that is not known


def test_what_is_missing_is_said(semantic):
    cfg, folder = semantic
    for file in folder.iterdir():
        file.unlink()
    Path(cfg.OUTPUT_DIR, "metrics.json").unlink()
    text = write_report(cfg, DATASET).read_text()
    assert "No scores were written" in text and "There are no predictions in" in text
    assert "There is no metrics.json of a training" in text


def test_the_history_is_that_of_the_training(tmp_path):
    """Lines of evaluations afterwards, and a line that was cut off, are left out."""
    assert read_history(tmp_path / "gone.json") == []
    lines = [{"iteration": k, "total_loss": 1.0} for k in (0, 19, 39)]
    lines += [{"iteration": 0, "segm/AP": 3.0}, {"iteration": 39, "segm/AP": 4.0}]
    (tmp_path / "metrics.json").write_text("\n".join(map(json.dumps, lines)) + '\n{"itera')
    history = read_history(tmp_path / "metrics.json")
    assert history == [*lines[:3], lines[4]]
    (tmp_path / "metrics.json").write_text(json.dumps(lines[3]))
    assert read_history(tmp_path / "metrics.json") == lines[3:4]  # an evaluation alone


def test_scores_of_other_evaluators_are_those_of_the_history(semantic):
    cfg, folder = semantic
    (folder / "sem_seg_evaluation.json").unlink()
    entry = {"iteration": 0, "total_loss": 77.25, "panoptic_seg/PQ": 43.21}
    Path(cfg.OUTPUT_DIR, "metrics.json").write_text(json.dumps(entry))
    text = write_report(cfg, DATASET).read_text()
    assert "panoptic_seg/PQ" in text and "43.21" in text and "77.25" not in text


def test_how_many_images_are_compared_and_shown(semantic, monkeypatch):
    cfg, folder = semantic
    for name, most in (("MOST_IMAGES", 100), ("MOST_FOR_WIDTHS", 1), ("GALLERY", 1)):
        monkeypatch.setattr(writing, name, most)
    text = write_report(cfg, DATASET).read_text()
    assert "2 of 2 images were compared" in text and "1 of 2 images were compared" in text
    captions = re.findall(r"<figcaption>(.*?): Boundary IoU", text)
    assert captions == ["&lt;b&gt;.png", "a.png"]  # the worst, the best
    monkeypatch.setattr(writing, "MOST_IMAGES", 1)
    assert "2 of 2 images" not in write_report(cfg, DATASET).read_text()


def test_pictures_worst_first(semantic, run_in_process, tmp_path):
    cfg, _ = semantic
    (tmp_path / "config.yaml").write_text(cfg.dump())
    args = ("--config-file", tmp_path / "config.yaml", "--output", tmp_path / "pictures")
    status, out, _ = run_in_process("visualize_results", *args, "--num", 1)
    assert status == 0 and "<b>" in out
    (file,) = (tmp_path / "pictures").iterdir()
    assert file.name.startswith("0000_") and file.name.endswith("<b>.png")
    assert Image.open(file).size[0] > 3 * 480
    _, out, _ = run_in_process("visualize_results", *args, "--best", "--num", 1)
    assert "0000_100.0_a.png" in out
    status, out, _ = run_in_process("visualize_results", *args[:2], "--report")
    assert status == 0 and "report.html" in out
    status, _, err = run_in_process("visualize_results", *args[:2])
    assert status == 2 and "Nothing to do" in err
    shutil.rmtree(tmp_path / "out/inference")
    status, _, err = run_in_process("visualize_results", *args)
    assert status == 2 and "Evaluate first" in err


def test_charts_have_the_colour_of_the_text():
    svg = line_chart("x", {"a": ([1, 2], [3, 4])}, title='of "a" & b', x="x", y="y", log_x=True)
    assert svg.startswith("<svg ") and "currentColor" in svg and "metadata" not in svg
    assert 'aria-label="of &#34;a&#34; &amp; b"' in svg


def test_numbers_in_tables():
    cells = (1.234, 7, "a", None, float("nan"))
    assert [format_cell(cell) for cell in cells] == ["1.23", "7", "a", "–", "–"]


def browser():
    found = os.environ.get("CHROME") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium: install one (apt install chromium) or set CHROME to its path")
    return found


PROBE = """<script>
const shown = [...document.images].filter(i => i.complete && i.naturalWidth > 0).length;
const charts = [...document.querySelectorAll('svg.chart')];
const drawn = charts.filter(c => c.getBoundingClientRect().width > 100).length;
const wide = document.documentElement.scrollWidth > window.innerWidth;
document.documentElement.dataset.probe =
  `${shown}/${document.images.length} ${drawn}/${charts.length} ${wide}`;
</script>"""


@pytest.mark.parametrize("width", [1280, 500])
def test_in_a_browser(instance, tmp_path, width):
    """It loads, every picture and chart shows, nothing hangs over, and the console is silent."""
    text = write_report(instance[0], DATASET).read_text().replace(' loading="lazy"', "")
    probed = tmp_path / "probed.html"
    probed.write_text(text.replace("</body>", f"{PROBE}</body>"))
    command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr"]
    command += [f"--window-size={width},900", probed.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    (found,) = re.findall(r'data-probe="([^"]+)"', done.stdout)
    images, charts, hangs_over = found.split()
    assert images == "6/6" or images == "12/12"
    assert charts.split("/")[0] == charts.split("/")[1] and charts != "0/0"
    assert hangs_over == "false"
    assert "CONSOLE" not in done.stderr
