"""Loading weights, and errors of weights that cannot be read or do not fit."""

import pickle
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from pointrend_seg.checkpoint.loading import Checkpointer, load_weights
from pointrend_seg.errors import InputError
from small_configs import small_instance_cfg


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def saved(tmp_path, state):
    path = tmp_path / "weights.pth"
    torch.save({"model": state}, path)
    return str(path)


def load(model, path, **how):
    load_weights(Checkpointer(model), path, **{"resume": False, "complete": True, **how})


def test_weights_that_fit(model, tmp_path, caplog):
    other = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    with caplog.at_level("INFO"):
        load(model, saved(tmp_path, other.state_dict()))
    assert torch.equal(model[1].weight, other[1].weight)
    assert "older format" not in caplog.text


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize(
    ("resume", "there", "expected"), [(True, True, 8), (True, False, 9), (False, True, 9)]
)
def test_which_file_is_loaded(model, tmp_path, complete, resume, there, expected):
    """The last checkpoint (with value 8) if resuming and if it exists, else the path."""
    checkpointer = Checkpointer(model, str(tmp_path / "out"))
    (tmp_path / "out").mkdir()
    if there:
        nn.init.constant_(model[1].bias, 8)
        checkpointer.save("model_0000001")
    path = saved(tmp_path, {k: torch.full_like(v, 9) for k, v in model.state_dict().items()})
    load_weights(checkpointer, path, resume=resume, complete=complete)
    assert model[1].bias.eq(expected).all()


def test_no_such_file(model, tmp_path):
    with pytest.raises(InputError, match=r"no weights at .*gone.pth. Set MODEL.WEIGHTS"):
        load(model, str(tmp_path / "gone.pth"))


def test_failed_download(model, tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))

    def refuse(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("iopath.common.file_io.download", refuse)
    monkeypatch.setattr("iopath.common.file_io.get_cache_dir", lambda *args: str(tmp_path))
    with pytest.raises(InputError, match=r"cannot be downloaded \(OSError: no route.*local copy"):
        load(model, "https://example.invalid/R-50.pkl")


def test_truncated_file(model, tmp_path):
    path = saved(tmp_path, model.state_dict())
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: len(content) // 2])
    checkpointer = Checkpointer(model)
    with pytest.raises(InputError, match="weights.pth is not a valid torch.save file.*again"):
        load_weights(checkpointer, path, resume=False, complete=True)
    Path(path).write_bytes(content)  # the complete file is read
    load_weights(checkpointer, path, resume=False, complete=True)


def test_evaluation_needs_every_weight(model, tmp_path):
    state = model.state_dict()
    del state["1.bias"]
    with pytest.raises(InputError, match="does not fit this model: 1.bias is not in the file"):
        load(model, saved(tmp_path, state))
    load(model, saved(tmp_path, state), complete=False)


def test_resuming_needs_every_weight_but_starting_does_not(model, tmp_path):
    checkpointer = Checkpointer(model, str(tmp_path))
    checkpointer.save("model_0000001")
    file = tmp_path / "model_0000001.pth"
    content = torch.load(file)
    del content["model"]["1.bias"]
    torch.save(content, file)
    with pytest.raises(InputError, match="0000001.pth does not fit this model: 1.bias is not"):
        load_weights(checkpointer, "", resume=True, complete=False)
    load_weights(checkpointer, str(file), resume=False, complete=False)
    load_weights(Checkpointer(model, "none"), str(file), resume=True, complete=False)


def test_wrong_shapes_are_named(model, tmp_path):
    state = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 9)).state_dict()
    with pytest.raises(
        InputError, match=r"1.weight has shape \(9, 4\) in the file, \(2, 4\) in .*CLASSES"
    ):
        load(model, saved(tmp_path, state))


def test_weights_of_another_model(model, tmp_path):
    with pytest.raises(InputError, match="does not fit this model.*and 1 more"):
        load(model, saved(tmp_path, {"conv.weight": torch.ones(2)}), complete=False)
    state = {"0.weight": model[0].weight}
    with pytest.raises(InputError, match="does not fit this model") as caught:
        load(model, saved(tmp_path, state))
    assert "1.weight" in str(caught.value) and "more" not in str(caught.value)  # three, all named


def test_nothing_to_evaluate(model):
    with pytest.raises(InputError, match="no weights to evaluate. Set MODEL.WEIGHTS"):
        load(model, "")
    load(model, "", complete=False)


def test_weights_of_the_oldest_format(tmp_path, caplog):
    """Names of `PointRendROIHeads` before version 2."""
    model = build_model(small_instance_cfg())
    old = {}
    for name, value in model.state_dict().items():
        name = name.replace("mask_head.coarse_head.fc", "mask_head.coarse_head.coarse_mask_fc")
        for part in ("coarse", "point"):
            name = name.replace(f"mask_head.{part}_head", f"mask_{part}_head")
        old[name] = value.numpy() + 1
    assert "roi_heads.mask_coarse_head.coarse_mask_fc1.weight" in old
    file = tmp_path / "model_final_000000.pkl"
    file.write_bytes(pickle.dumps({"model": old, "__author__": "somebody"}))
    checkpointer = Checkpointer(model)
    with caplog.at_level("INFO"):
        load_weights(checkpointer, str(file), resume=False, complete=True)
    assert not checkpointer.incompatible.missing_keys
    assert not checkpointer.incompatible.unexpected_keys
    assert "older format" in caplog.text
    assert model.roi_heads.mask_head.coarse_head.fc1.bias.min() == 1
