"""`tools/inspect_checkpoint.py` as it is run: what it prints, and its exit status."""

import pickle

import pytest
import torch

from pointrend_seg.engine.config_loading import load_config
from pointrend_seg.engine.trainer import Trainer
from tool_runs import REPOSITORY, message, tool

INSTANCE = "configs/quick/pointrend_rcnn_R_18_FPN.yaml"
SEMANTIC = "configs/quick/pointrend_deeplabv3_R_18_OS16.yaml"
MASK_RCNN = "configs/quick/mask_rcnn_R_18_FPN.yaml"
PANOPTIC = "configs/quick/pointrend_panoptic_R_18_FPN.yaml"


def weights_of(config, *opts):
    cfg = load_config(str(REPOSITORY / config), ["MODEL.DEVICE", "cpu", *opts])
    return Trainer.build_model(cfg).state_dict()


@pytest.fixture(scope="module")
def state():
    return weights_of(INSTANCE)


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


@pytest.fixture
def inspect(monkeypatch, run_in_process):
    """Run the tool within this process and check its exit status; return output and error."""
    monkeypatch.chdir(REPOSITORY)

    def run(*args, status=0):
        found, out, err = run_in_process("inspect_checkpoint", *args)
        assert found == status and "Traceback" not in err, err
        return out, err

    return run


def rows(output):
    """Name and value of each line that has both."""
    pairs = (line.strip().split("  ", 1) for line in output.splitlines())
    return {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}


def test_what_is_in_it(inspect, old, state):
    out, _ = inspect(old)
    told = rows(out)
    assert told["__author__"] == "Somebody" and told["format"].startswith("pickle, ")
    assert told["task"] == "instance segmentation, PointRend"
    assert "before version 2 of PointRendROIHeads" in told["names"]
    numbers = sum(value.numel() for value in state.values())
    assert told["weights"] == f"{len(state)} tensors, {numbers:,} values (float32, int64)"
    assert told["MODEL.RESNETS.DEPTH"] == "18"
    assert "fits" not in out


def test_it_fits(old):
    result = tool("inspect_checkpoint", old, "--config-file", INSTANCE)
    assert result.returncode == 0, result.stderr
    assert "\nfits: " in result.stdout and "missing" not in result.stdout


def test_it_does_not_fit_and_what_to_set(inspect, old, state):
    changes = ("MODEL.ROI_HEADS.NUM_CLASSES", 3, "MODEL.POINT_HEAD.FC_DIM", 24)
    out, _ = inspect(old, "--config-file", INSTANCE, *changes, status=1)
    told = rows(out)
    classes = state["roi_heads.box_predictor.cls_score.weight"].shape[0] - 1
    assert told["MODEL.ROI_HEADS.NUM_CLASSES"] == f"3 -> {classes}"
    assert told["MODEL.POINT_HEAD.FC_DIM"].startswith("24 -> ")
    assert "\ndoes not fit: " in out and " with a different shape" in out
    assert "\nwith these values it fits: " in out


def test_a_semantic_checkpoint_of_torch(inspect, tmp_path):
    path = tmp_path / "model_0000009.pth"
    torch.save({"model": weights_of(SEMANTIC), "iteration": 9}, path)
    told = rows(inspect(path, "--config-file", SEMANTIC)[0])
    assert told["iteration"] == "9" and told["names"] == "current"
    assert told["task"] == "semantic segmentation, PointRend over DeepLabV3Head"
    out, _ = inspect(path, "--config-file", INSTANCE, status=1)
    assert "does not fit" in out
    assert "MODEL.META_ARCHITECTURE is GeneralizedRCNN, not SemanticSegmentor" in out


def test_a_panoptic_checkpoint_and_the_config_for_it(inspect, tmp_path):
    path = tmp_path / "model.pth"
    torch.save(weights_of(PANOPTIC), path)
    told = rows(inspect(path)[0])
    assert told["task"] == (
        "instance segmentation, PointRend; semantic segmentation, PointRend over SemSegFPNHead"
    )
    assert told["MODEL.META_ARCHITECTURE"] == "'PanopticFPN'"
    out, _ = inspect(path)
    assert out.endswith(f"configs with the most of these settings\n  {PANOPTIC}\n")
    torch.save(weights_of(PANOPTIC, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 4), path)
    out, _ = inspect(path)
    assert out.endswith("R_18_FPN.yaml MODEL.SEM_SEG_HEAD.NUM_CLASSES 4\n")
    assert inspect(path, "--config-file", PANOPTIC, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 4)


def test_another_mask_head(inspect, old):
    out, _ = inspect(old, "--config-file", MASK_RCNN, status=1)
    told = rows(out)["MODEL.ROI_MASK_HEAD.NAME"]
    assert told == "'MaskRCNNConvUpsampleHead' -> 'PointRendInstanceHead'"
    assert "\nwith these values it fits: " in out


def test_settings_may_not_be_enough(inspect, old, tmp_path):
    """Shapes do not tell how a Mask R-CNN pools its features."""
    path = tmp_path / "model.pth"
    torch.save(weights_of(MASK_RCNN), path)
    out, _ = inspect(path, "--config-file", INSTANCE, status=1)
    assert "with these values alone, No model can be built from this config: " in out


def test_code_in_the_file_does_not_run(tmp_path):
    marker = tmp_path / "marker"
    call = f"cposix\nsystem\n(S'touch {marker}'\ntR.".encode()
    pickle.loads(call)
    assert marker.exists()
    marker.unlink()
    path = tmp_path / "model.pkl"
    path.write_bytes(call)
    error = message(tool("inspect_checkpoint", path))
    assert error.startswith(f"error: {path} was not loaded: it nee") and not marker.exists()


def test_names_do_not_reach_the_terminal_raw(inspect, tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"model": {"a\x1b[2J": torch.ones(1)}, "\x1bnote": "\x1b]0;title"}, path)
    out, _ = inspect(path)
    assert "\x1b" not in out and r"\x1b]0;title" in out


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
    assert text in inspect(*args, status=2)[1]


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (("configs/gone.yaml",), "The config file configs/gone.yaml does not exist."),
        (
            (INSTANCE, "MODEL.FPN.IN_FEATURES", "['res9']"),
            "MODEL.FPN.IN_FEATURES is ['res9']; it must be one or more of res2, res3",
        ),
    ],
)
def test_a_config_without_a_model(inspect, old, config, text):
    assert f"error: {text}" in inspect(old, "--config-file", *config, status=2)[1]
