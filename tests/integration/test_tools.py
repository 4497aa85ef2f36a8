"""The tools as their users run them: commands, exit codes, messages, files."""

import json
import shutil

import cv2
import pytest

from tool_runs import message, tool

QUICK = "configs/quick/pointrend_deeplabv3_R_18_OS16.yaml"
SMALL = (
    *("SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "1"),
    *("INPUT.MIN_SIZE_TRAIN", "(128,)", "INPUT.MIN_SIZE_TEST", "128"),
    *("INPUT.CROP.SIZE", "(128,128)"),
)


def train_net(*args, datasets=None):
    return tool("train_net", "--config-file", QUICK, *args, *SMALL, datasets=datasets)


def test_train_then_evaluate(datasets, cityscapes_scripts, tmp_path):
    trained = train_net("OUTPUT_DIR", tmp_path / "model")
    assert trained.returncode == 0, trained.stderr
    assert "mBoundaryIoU" in trained.stdout and "Task: sem_seg" in trained.stdout
    weights = tmp_path / "model" / "model_final.pth"
    assert (tmp_path / "model/inference/cityscapes_fine_sem_seg_val/report.html").exists()
    again = train_net(
        "--eval-only", "MODEL.WEIGHTS", weights, "OUTPUT_DIR", tmp_path / "evaluation"
    )
    assert again.returncode == 0, again.stderr
    assert "Task: sem_seg" in again.stdout
    (line,) = (tmp_path / "evaluation" / "metrics.json").read_text().splitlines()
    last = (tmp_path / "model" / "metrics.json").read_text().splitlines()[-1]
    for key in ("sem_seg/mIoU", "sem_seg/mBoundaryIoU", "sem_seg/IoU"):
        assert json.loads(line)[key] == pytest.approx(json.loads(last)[key])

    unfit = train_net(
        *("--eval-only", "MODEL.WEIGHTS", weights, "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS", 64),
        *("MODEL.SEM_SEG_HEAD.CONVS_DIM", 64, "OUTPUT_DIR", tmp_path / "other"),
    )
    assert "does not fit this model" in message(unfit)


def test_without_a_data_set(tmp_path):
    result = train_net("OUTPUT_DIR", tmp_path / "out", datasets=tmp_path / "nothing")
    assert "DETECTRON2_DATASETS" in message(result) and "nothing" in message(result)


def test_a_wrong_label_value_in_a_loaders_process(datasets, tmp_path):
    """It names the file and the value, and is not an index error far from its cause."""
    shutil.copytree(datasets / "cityscapes", tmp_path / "cityscapes")
    for path in (tmp_path / "cityscapes/gtFine/train").rglob("*_labelTrainIds.png"):
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        labels[5, 5] = 77
        cv2.imwrite(str(path), labels)
    result = train_net("OUTPUT_DIR", tmp_path / "out", datasets=tmp_path)
    assert "labelTrainIds.png has value 77, but labels must be 0 to 18" in message(result)


def test_making_data(tmp_path):
    small = ("--train", 2, "--val", 1, "--height", 64, "--width", 96, "--workers", 1)
    first = tool("make_synthetic_data", "--output", tmp_path, *small)
    assert first.returncode == 0, first.stderr
    assert "written" in first.stdout and not first.stderr
    again = tool("make_synthetic_data", "--output", tmp_path, *small)
    assert again.returncode == 0 and "is there already" in again.stdout
    other = tool("make_synthetic_data", "--output", tmp_path, *small, "--seed", 5)
    assert "generated with other parameters" in message(other)


def test_making_data_in_the_coco_layout(tmp_path):
    small = ("--layout", "coco", "--train", 2, "--val", 1, "--height", 64, "--workers", 1)
    result = tool("make_synthetic_data", "--output", tmp_path, *small, "--object-scale", 0.5)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("written") == 2
    written = json.loads((tmp_path / "coco" / "synthetic.json").read_text())
    assert (written["height"], written["width"], written["object_scale"]) == (64, 480, 0.5)
    assert (tmp_path / "lvis" / "lvis_v1_val.json").exists()
    result = tool("make_synthetic_data", "--output", tmp_path, "--object-scale", 0.5)
    assert "--object-scale is above 0, and not for --layout cityscapes." in message(result)
