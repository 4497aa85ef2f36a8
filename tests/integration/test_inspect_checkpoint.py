"""`tools/inspect_checkpoint.py` as it is run: what it prints, and its exit status."""

import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import inspect_checkpoint
from pointrend_seg.command_line.running import run_tool
from pointrend_seg.engine.config_loading import load_config
from pointrend_seg.engine.trainer import Trainer

REPOSITORY = Path(__file__).resolve().parents[2]
INSTANCE = "configs/quick/pointrend_rcnn_R_18_FPN.yaml"
SEMANTIC = "configs/quick/pointrend_deeplabv3_R_18_OS16.yaml"


@pytest.fixture(scope="module")
def state():
    cfg = load_config(str(REPOSITORY / INSTANCE))
    cfg.MODEL.DEVICE = "cpu"
    return Trainer.build_model(cfg).state_dict()


@pytest.fixture(scope="module")
def old(state, tmp_path_factory):
    """A pickle as the model zoo has them, with the names of the oldest format."""
    names = {
        name: name.replace("mask_head.coarse_head.fc", "mask_coarse_head.coarse_mask_fc")
        .replace("mask_head.coarse_head", "mask_coarse_head")
        .replace("mask_head.point_head", "mask_point_head")
        for name in state
    }
    path = tmp_path_factory.mktemp("weights") / "model_final.pkl"
    weights = {names[name]: value.numpy() for name, value in state.items()}
    path.write_bytes(pickle.dumps({"model": weights, "__author__": "Somebody"}, 2))
    return path


@dataclass
class Result:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def inspect(monkeypatch, capsys):
    """Runs the tool within this process."""
    monkeypatch.chdir(REPOSITORY)

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["inspect_checkpoint.py", *map(str, args)])
        status = 0
        try:
            run_tool(inspect_checkpoint.main)
        except SystemExit as end:
            status = end.code or 0
        return Result(status, *capsys.readouterr())

    return run


def command(*args):
    """Runs the tool as a command."""
    return subprocess.run(
        [sys.executable, "tools/inspect_checkpoint.py", *map(str, args)],
        cwd=REPOSITORY,
        env=dict(os.environ, PYTHONWARNINGS="ignore"),
        capture_output=True,
        text=True,
        check=False,
    )


def rows(output):
    """Name and value of each line that has both."""
    pairs = (line.strip().split("  ", 1) for line in output.splitlines())
    return {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}


def test_what_is_in_it(inspect, old, state):
    result = inspect(old)
    assert result.returncode == 0, result.stderr
    told = rows(result.stdout)
    assert told["__author__"] == "Somebody" and told["format"].startswith("pickle, ")
    assert told["task"] == "instance segmentation, PointRend"
    assert "before version 2 of PointRendROIHeads" in told["names"]
    numbers = sum(value.numel() for value in state.values())
    assert told["weights"] == f"{len(state)} tensors, {numbers:,} values (float32, int64)"
    assert told["MODEL.RESNETS.DEPTH"] == "18"
    assert "fits" not in result.stdout


def test_it_fits(old):
    result = command(old, "--config-file", INSTANCE)
    assert result.returncode == 0, result.stderr
    assert "\nfits: " in result.stdout and "missing" not in result.stdout


def test_it_does_not_fit_and_what_to_set(inspect, old, state):
    changes = ("MODEL.ROI_HEADS.NUM_CLASSES", 3, "MODEL.POINT_HEAD.FC_DIM", 24)
    result = inspect(old, "--config-file", INSTANCE, *changes)
    assert result.returncode == 1, result.stderr
    told = rows(result.stdout)
    classes = state["roi_heads.box_predictor.cls_score.weight"].shape[0] - 1
    assert told["MODEL.ROI_HEADS.NUM_CLASSES"] == f"3 -> {classes}"
    assert told["MODEL.POINT_HEAD.FC_DIM"].startswith("24 -> ")
    assert "\ndoes not fit: " in result.stdout and " with a different shape" in result.stdout
    assert "\nwith these values it fits: " in result.stdout


def test_a_semantic_checkpoint_of_torch(inspect, tmp_path):
    cfg = load_config(str(REPOSITORY / SEMANTIC))
    cfg.MODEL.DEVICE = "cpu"
    path = tmp_path / "model_0000009.pth"
    torch.save({"model": Trainer.build_model(cfg).state_dict(), "iteration": 9}, path)
    result = inspect(path, "--config-file", SEMANTIC)
    assert result.returncode == 0, result.stderr
    told = rows(result.stdout)
    assert told["iteration"] == "9" and told["names"] == "current"
    assert told["task"] == "semantic segmentation, PointRend over DeepLabV3Head"
    other = inspect(path, "--config-file", INSTANCE)
    assert other.returncode == 1 and "does not fit" in other.stdout, other.stderr
    assert "MODEL.META_ARCHITECTURE is GeneralizedRCNN, not SemanticSegmentor" in other.stdout


def test_another_mask_head(inspect, old):
    result = inspect(old, "--config-file", "configs/quick/mask_rcnn_R_18_FPN.yaml")
    assert result.returncode == 1, result.stderr
    told = rows(result.stdout)["MODEL.ROI_MASK_HEAD.NAME"]
    assert told == "'MaskRCNNConvUpsampleHead' -> 'PointRendInstanceHead'"
    assert "\nwith these values it fits: " in result.stdout


def test_settings_may_not_be_enough(inspect, old, tmp_path):
    """Shapes do not tell how a Mask R-CNN pools its features."""
    cfg = load_config(str(REPOSITORY / "configs/quick/mask_rcnn_R_18_FPN.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    path = tmp_path / "model.pth"
    torch.save(Trainer.build_model(cfg).state_dict(), path)
    result = inspect(path, "--config-file", INSTANCE)
    assert result.returncode == 1, result.stderr
    assert "with these values alone, no model can be built from configs/quick/" in result.stdout


def test_a_config_without_a_model(inspect, old):
    result = inspect(old, "--config-file", INSTANCE, "MODEL.FPN.IN_FEATURES", "['res9']")
    assert result.returncode == 2
    assert "error: no model can be built from configs/quick/" in result.stderr


def test_code_in_the_file_does_not_run(tmp_path):
    marker = tmp_path / "marker"
    call = f"cposix\nsystem\n(S'touch {marker}'\ntR.".encode()
    pickle.loads(call)
    assert marker.exists()
    marker.unlink()
    path = tmp_path / "model.pkl"
    path.write_bytes(call)
    result = command(path)
    assert result.returncode == 2 and not marker.exists()
    assert (
        result.stderr.strip().splitlines()[-1].startswith(f"error: {path} was not loaded: it nee")
    )
    assert "Traceback" not in result.stderr


def test_names_do_not_reach_the_terminal_raw(inspect, tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"model": {"a\x1b[2J": torch.ones(1)}, "\x1bnote": "\x1b]0;title"}, path)
    result = inspect(path)
    assert result.returncode == 0 and "\x1b" not in result.stdout
    assert r"\x1b]0;title" in result.stdout


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("gone.pkl",), "error: There is no file gone.pkl"),
        (("README.md",), "error: README.md is not a torch.save file (it begins with"),
        ((), "the following arguments are required: file"),
        (("gone.pkl", "MODEL.MASK_ON", True), "give --config-file too"),
    ],
)
def test_mistakes(inspect, args, text):
    result = inspect(*args)
    assert result.returncode == 2 and text in result.stderr and "Traceback" not in result.stderr


def test_a_config_that_does_not_load(inspect, old):
    result = inspect(old, "--config-file", "configs/gone.yaml")
    assert result.returncode == 2
    assert "error: The config file configs/gone.yaml does not exist." in result.stderr
