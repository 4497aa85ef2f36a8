"""The demo keeps what it promises; some minutes on two cores."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_demo_shows_what_pointrend_gains(cityscapes_scripts, tmp_path):
    command = [sys.executable, "tools/demo.py", "--output", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    summary = json.loads((tmp_path / "summary.json").read_text())
    coarse, refined = summary["coarse"], summary["pointrend"]
    assert refined["mIoU"] >= coarse["mIoU"] + 8
    assert refined["boundary_IoU"] >= coarse["boundary_IoU"] + 12
    height, width, _ = cv2.imread(str(tmp_path / "comparison.png")).shape
    assert height > 4 * 256 and width > 4 * 512
    again = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert again.stdout.count("is there already") == 2


@pytest.mark.slow
def test_the_instance_demo_shows_what_pointrend_gains(tmp_path):
    command = [sys.executable, "tools/demo_instance.py", "--output", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    summary = json.loads((tmp_path / "summary.json").read_text())
    baseline, pointrend = summary["Mask R-CNN"], summary["PointRend"]
    assert pointrend["boundary"] >= baseline["boundary"] + 3
    assert pointrend["segm"] > baseline["segm"]
    assert abs(pointrend["bbox"] - baseline["bbox"]) < 8  # the same boxes, or nearly
    height, width, _ = cv2.imread(str(tmp_path / "comparison.png")).shape
    assert height > 4 * 320 and width > 4 * 480
    again = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert again.stdout.count("is there already") == 5
