"""The demos keep what they promise; some minutes each on two cores."""

import json
import subprocess
import sys

import cv2
import pytest

import demo_micrograph
from tool_runs import REPOSITORY


def run(tool, output, height, width, steps):
    """Run a demo twice and check its picture, and that nothing is done again; return its summary.

    Args:
        height, width: of an image; the picture shows four rows and columns.
        steps: number of steps that the second run finds done.
    """
    command = [sys.executable, f"tools/{tool}.py", "--output", str(output)]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    shape = cv2.imread(str(output / "comparison.png")).shape
    assert shape[0] > 4 * height and shape[1] > 4 * width
    again = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert again.stdout.count("is there already") == steps
    return json.loads((output / "summary.json").read_text())


@pytest.mark.slow
def test_the_demo_shows_what_pointrend_gains(cityscapes_scripts, tmp_path):
    summary = run("demo", tmp_path, 256, 512, steps=2)
    coarse, refined = summary["coarse"], summary["pointrend"]
    assert refined["mIoU"] >= coarse["mIoU"] + 8
    assert refined["boundary_IoU"] >= coarse["boundary_IoU"] + 12


@pytest.mark.slow
def test_the_instance_demo_shows_what_pointrend_gains(tmp_path):
    summary = run("demo_instance", tmp_path, 320, 480, steps=5)
    baseline, pointrend = summary["Mask R-CNN"], summary["PointRend"]
    assert pointrend["boundary"] >= baseline["boundary"] + 3
    assert pointrend["segm"] > baseline["segm"]
    assert abs(pointrend["bbox"] - baseline["bbox"]) < 8  # the same boxes, or nearly


@pytest.mark.slow
def test_points_are_nearly_as_good_as_masks(tmp_path):
    summary = run("demo_point_supervision", tmp_path, 320, 480, steps=6)
    full = summary["full masks"]["segm"]
    assert full > 20
    assert summary["10 points"]["segm"] >= 0.9 * full
    assert summary["20 points"]["segm"] >= full - 2


@pytest.mark.slow
def test_nuclei_of_the_micrograph_are_found(tmp_path):
    """With the default options of predict.py, also in the part that was not trained on."""
    try:
        demo_micrograph.fetch(tmp_path)
    except SystemExit as offline:
        pytest.skip(str(offline))
    command = [sys.executable, "tools/demo_micrograph.py", "--output", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["whole"]["found"] + summary["whole"]["missed"] == 125
    assert summary["whole"]["F1"] >= 0.9
    assert summary["held out"]["F1"] >= 0.8
    metrics = json.loads((tmp_path / "model" / "metrics.json").read_text().splitlines()[-1])
    assert metrics["segm/F1"] >= 75
    for name in demo_micrograph.PICTURES:
        assert cv2.imread(str(tmp_path / name)).shape[1] >= 1024
