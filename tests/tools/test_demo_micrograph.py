"""Parts of the micrograph demo that need no training; tests/integration/test_demo.py runs all."""

import json
import subprocess

import cv2
import numpy as np
import pytest

import demo_micrograph
from coco_sets import annotation


def test_no_network_is_said_in_one_sentence(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(SystemExit, match=r"error: stardist==0.9.2, which has the mic"):
        demo_micrograph.fetch(tmp_path)
    assert not list(tmp_path.glob("*.tif"))


def test_files_that_are_there_are_not_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", None)
    for name in demo_micrograph.IMAGES:
        (tmp_path / name).touch()
    demo_micrograph.fetch(tmp_path)


def square(x, y, side=8):
    mask = np.zeros((40, 64), bool)
    mask[y : y + side, x : x + side] = True
    return mask


def test_scores_and_pictures(tmp_path):
    """In the held-out part, from x = 48, one is found, one missed and one wrong."""
    labelled = [square(0, 0), square(20, 0), square(44, 0), square(50, 12), square(50, 30)]
    values = sum((k * mask for k, mask in enumerate(labelled, start=3)), np.zeros((40, 64), int))
    cv2.imwrite(str(tmp_path / "nuclei.tif"), values.astype(np.uint16))
    cv2.imwrite(str(tmp_path / "micrograph.tif"), (100 * (values > 0)).astype(np.uint16))
    predicted = [square(1, 0), square(44, 1), square(50, 12), square(51, 12), square(0, 30)]
    (tmp_path / "predictions").mkdir()
    annotations = [annotation(k, 1, 1, mask, score=1 - k / 10) for k, mask in enumerate(predicted)]
    content = json.dumps({"annotations": annotations})
    (tmp_path / "predictions" / "predictions.json").write_text(content)
    (tmp_path / "data").mkdir()
    images = [{"file_name": f"micrograph_x{x}_y0.png"} for x in (56, 48)]
    (tmp_path / "data" / "val.json").write_text(json.dumps({"images": images}))
    (tmp_path / "training-data").mkdir()
    cv2.imwrite(str(tmp_path / "training-data" / "contact.png"), np.ones((20, 30, 3)))
    comparison = demo_micrograph.Comparison(tmp_path)
    assert comparison.scores() == {
        "whole": {"found": 3, "missed": 2, "wrong": 2, "F1": 0.6},
        "held out": {"found": 1, "missed": 1, "wrong": 1, "F1": 0.5},
    }
    demo_micrograph.draw(comparison, tmp_path)
    result = cv2.imread(str(tmp_path / "result.jpg"))
    assert result.shape == (80, 128, 3)
    assert result[:, 96].min() > 150  # the line
    assert cv2.imread(str(tmp_path / "micrograph.jpg")).shape[1] > 128
    assert cv2.imread(str(tmp_path / "tiles.jpg")).shape == (20, 30, 3)
