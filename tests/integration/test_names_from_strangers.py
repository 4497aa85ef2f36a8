"""Names in files from strangers: outputs stay in their folder, through no link; text is plain."""

import json
import logging
import os

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from coco_sets import NAME, predictions, random_set, register, run
from pointrend_seg.engine import load_config
from pointrend_seg.engine.trainer import Trainer, write_reports
from pointrend_seg.errors import InputError
from pointrend_seg.evaluation.build import build_evaluator
from pointrend_seg.evaluation.coco import CocoInstanceEvaluator
from pointrend_seg.evaluation.semantic import SemanticSegmentationEvaluator
from pointrend_seg.report import write_report
from pointrend_seg.report.page import Section, Table, render_page
from small_configs import small_instance_cfg, small_semantic_cfg

NASTY = "a\x1b[31m\u202e\nINFO: all is well"
OUTSIDE = ["../../x", "/tmp/x", "a/../../../x", "../."]


@pytest.fixture
def target(tmp_path):
    """A file and a folder that no output may touch; checks it at the end."""
    target = tmp_path / "precious"
    (target / "folder").mkdir(parents=True)
    (target / "file").write_text("precious")
    yield target
    assert (target / "file").read_text() == "precious"
    assert not os.listdir(target / "folder") and sorted(os.listdir(target)) == ["file", "folder"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The options of a small semantic model for predict.py."""
    root = tmp_path_factory.mktemp("model")
    opts = ("INPUT.MIN_SIZE_TEST", 64, "DATASETS.TEST", "()", "DATASETS.TRAIN", "()")
    cfg = small_semantic_cfg(3, opts)
    torch.save({"model": Trainer.build_model(cfg).state_dict()}, root / "m.pth")
    (root / "config.yaml").write_text(cfg.dump())
    return "--config-file", root / "config.yaml", "--weights", root / "m.pth"


def instance_set(root, names):
    """A COCO JSON whose images have these names, in an image folder; the options of tools."""
    square = [[4, 4, 40, 4, 40, 40, 4, 40]]
    images, annotations = [], []
    for number, name in enumerate(names):
        path = root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(path)
        images.append({"id": f"../{number}", "file_name": name, "height": 64, "width": 64})
        annotations.append(
            {"id": number + 1, "image_id": f"../{number}", "category_id": 1, "iscrowd": 0,
             "bbox": [4, 4, 36, 36], "area": 1296, "segmentation": square}
        )  # fmt: skip
    categories = [{"id": 1, "name": NASTY}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "objects.json").write_text(json.dumps(content))
    return "--train-data", root / "images", root / "objects.json"


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_data_set_cannot_write_outside(name, registered, tmp_path):
    """Refused at the start of a training or evaluation, and by all that writes."""
    cfg = small_instance_cfg(opts=("OUTPUT_DIR", str(tmp_path / "out")))
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (), (name,)
    registered(name, evaluator_type="coco", thing_classes=["a"])
    for start in (
        lambda: Trainer(cfg),
        lambda: build_evaluator(cfg, name),
        lambda: write_report(cfg, name),
        lambda: write_reports(cfg),
        lambda: CocoInstanceEvaluator(name, output_dir=str(tmp_path / "out")),
    ):
        with pytest.raises(InputError, match="cannot be the name of an output"):
            start()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "link", ["log.txt", "metrics.json", "config.yaml", "training.lock", "inference"]
)
def test_a_training_follows_no_planted_link(link, target, datasets, tmp_path, run_in_process):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / link).symlink_to(target / ("folder" if link == "inference" else "file"))
    config = "configs/quick/pointrend_deeplabv3_R_18_OS16.yaml"
    status, _, err = run_in_process(
        "train_net", "--config-file", config, "OUTPUT_DIR", tmp_path / "out", "MODEL.DEVICE", "cpu",
        "MODEL.WEIGHTS", "gone.pth",  # else it would train
    )  # fmt: skip
    assert status == 2 and f"{link} is a link to {target}" in err.splitlines()[-1]


@pytest.mark.parametrize(
    "link", ["coco_instances_results.json", "instances_predictions.pth", "coco_curves.json"]
)
def test_an_evaluator_follows_no_planted_link(link, target, tmp_path):
    content, masks = random_set()
    name = register(tmp_path, content)
    evaluator = CocoInstanceEvaluator(name, output_dir=str(tmp_path / "out"))
    (tmp_path / "out").mkdir()
    from pointrend_seg.evaluation.coco import CURVES_FILE

    (tmp_path / "out" / link.replace("coco_curves.json", CURVES_FILE)).symlink_to(target / "file")
    with pytest.raises(InputError, match="is a link to .*precious/file, and output is not written"):
        run(evaluator, *predictions(content, masks))


def test_the_semantic_evaluator_and_the_report_follow_no_link(target, registered, tmp_path):
    labels = tmp_path / "l.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(labels)
    record = {"file_name": "a.png", "sem_seg_file_name": str(labels)}
    name = registered("links_of_the_tests", [record], stuff_classes=["a", "b"], ignore_label=255)
    cfg = small_semantic_cfg(2, ("OUTPUT_DIR", str(tmp_path / "out")))
    folder = tmp_path / "out/inference" / name
    folder.mkdir(parents=True)
    for file in ("sem_seg_evaluation.json", "report.html"):
        (folder / file).symlink_to(target / "file")
    evaluator = SemanticSegmentationEvaluator(name, output_dir=str(folder))
    with pytest.raises(InputError, match="sem_seg_evaluation.json is a link"):
        run(evaluator, [record], [{"sem_seg": torch.zeros(2, 8, 8)}])
    (folder / "sem_seg_evaluation.json").unlink()
    with pytest.raises(InputError, match="report.html is a link"):
        write_report(cfg, name)
    folder.joinpath("report.html").unlink()
    folder.rmdir()
    folder.symlink_to(target / "folder")
    for start in (write_report, build_evaluator):
        with pytest.raises(InputError, match=f"{name} is a link"):
            start(cfg, name)


@pytest.mark.parametrize(
    ("link", "to"),
    [("pictures", "folder"), ("labels", "folder"), ("labels/sub", "folder"),
     ("pictures/sub/a.png", "file"), ("labels/sub/a.png", "file"), ("labels/sub/a.png", "gone"),
     ("pictures/v.mp4", "file")],
)  # fmt: skip
def test_predictions_follow_no_planted_link(link, to, target, model, tmp_path, run_in_process):
    pixels = np.zeros((64, 64, 3), np.uint8)
    for name in ("sub/a.png", "b.png"):
        (tmp_path / "images/sub").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "images" / name)
    writer = cv2.VideoWriter(
        str(tmp_path / "images/v.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 5, (64, 64)
    )
    writer.write(pixels)
    writer.release()
    path = tmp_path / "out" / link
    path.parent.mkdir(parents=True)
    path.symlink_to(target / to)
    args = (*model, "--input", tmp_path / "images", "--output", tmp_path / "out")
    status, _, err = run_in_process("predict", *args)
    last = [line for line in err.splitlines() if line.strip()][-1]
    assert status == (1 if "mp4" in link else 2) and f"{link} is a link to {target}" in last
    path.unlink()
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").rename(tmp_path / "disk/out")
    (tmp_path / "out").symlink_to(tmp_path / "disk/out")  # the user's own
    assert run_in_process("predict", *args)[0] == 0
    assert (tmp_path / "disk/out/labels/sub/a.png").is_file()
    assert (tmp_path / "disk/out/pictures/v.mp4").stat().st_size > 0


@pytest.mark.parametrize("name", ["../images/../../x.png", f"{NASTY}.png", "s/../../images/y.png"])
def test_pictures_of_training_data_stay_inside(name, target, tmp_path, run_in_process):
    data = instance_set(tmp_path / "data", [name])
    config = "configs/quick/pointrend_rcnn_R_18_FPN.yaml"
    args = ("--config-file", config, *data, "--classes-from-data", "--output", tmp_path / "out")
    before = sorted(tmp_path.rglob("*"))
    status, out, err = run_in_process("visualize_data", *args)
    assert status == 0 and len(list((tmp_path / "out").iterdir())) == 2, err
    assert [p for p in sorted(tmp_path.rglob("*")) if "/out" not in str(p)] == before
    (picture,) = (p for p in (tmp_path / "out").iterdir() if p.name != "contact.png")
    for path in (picture, tmp_path / "out/contact.png"):
        path.unlink()
        path.symlink_to(target / "file")
        status, _, err = run_in_process("visualize_data", *args)
        assert status == 2 and "is a link to" in err.splitlines()[-1]
        path.unlink()


def test_check_data_writes_plain_text(target, tmp_path, run_in_process):
    data = instance_set(tmp_path / "data", [f"{NASTY}.png", "b.png"])
    (tmp_path / f"data/images/{NASTY}.png").write_bytes(b"no image")
    status, out, err = run_in_process("check_data", *data, "--workers", 1)
    assert status == 1
    assert "\\x1b[31m\\u202e\\nINFO" in out and "\\x1b" in out.split("unreadable")[0]
    assert all(line.isprintable() for line in out.splitlines()), out
    assert not [line for line in out.splitlines() if line.startswith("INFO")]
    (tmp_path / "found.json").symlink_to(target / "file")
    args = (*data, "--workers", 1, "--json", tmp_path / "found.json")
    status, _, err = run_in_process("check_data", *args)
    assert status == 2 and "found.json is a link to" in err


RECORDS = [
    ("fvcore", "\x1b[32mok\x1b[0m \x1b[2J\u202e\n", ()),  # Detectron2's colours go
    ("pointrend_seg.x", "%s", (NASTY,)),
    ("pointrend_seg.x", NASTY, ()),
    ("pointrend_seg.x", "T:\n%s", ("a\nb",)),  # a table
]
SHOWN = [
    "ok \\x1b[2J\\u202e\n",
    *["a\\x1b[31m\\u202e\\nINFO: all is well"] * 2,
    "T:\na\nb",
]


def test_messages_and_logs_are_plain_text(tmp_path, run_in_process, caplog):
    """Of a training: the error is one line; of each log record no control character is left."""
    data = instance_set(tmp_path / "data", [f"{NASTY}.png"])
    (tmp_path / f"data/images/{NASTY}.png").unlink()
    factory = logging.getLogRecordFactory()
    config = "configs/quick/pointrend_rcnn_R_18_FPN.yaml"
    try:
        status, out, err = run_in_process(
            "train_net", "--config-file", config, *data, "--classes-from-data",
            "OUTPUT_DIR", tmp_path / "out", "MODEL.DEVICE", "cpu",
        )  # fmt: skip
        shown = [
            logging.getLogRecordFactory()(name, 20, "", 1, text, args, None).getMessage()
            for name, text, args in RECORDS
        ]
        try:
            raise InputError(NASTY)
        except InputError:
            logging.getLogger("x").exception("it failed")
    finally:
        logging.setLogRecordFactory(factory)
    assert shown == SHOWN
    assert "InputError: a\\x1b[31m\\u202e\nINFO" in caplog.text
    assert status == 2
    last = err.rstrip("\n").splitlines()[-1]
    assert last.startswith("error: ") and "\\x1b[31m\\u202e\\nINFO" in last
    for text in (out, err):
        assert "\u202e" not in text and "\x1b[31m\\u" not in text


def test_the_report_shows_control_characters():
    table = Table(["class"], [[NASTY], [1.0], [None]])
    page = render_page(NASTY, [Section(NASTY, table, note="two\nlines \udcff")])
    assert "\u202e" not in page and "\x1b" not in page and "\\u202e" in page
    assert "two\nlines \\udcff" in page and page.encode()


def test_a_name_without_harm_is_a_folder(tmp_path, registered):
    cfg = load_config("", ["OUTPUT_DIR", str(tmp_path), "MODEL.DEVICE", "cpu"])
    registered("my/data", evaluator_type="sem_seg", stuff_classes=["a"])
    assert write_report(cfg, "my/data") == tmp_path / "inference/my/data/report.html"
    assert NAME not in os.listdir(tmp_path)
