"""Reading every kind of file that Detectron2 reads, and errors for all others."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from pointrend_seg.checkpoint.files import read_checkpoint
from pointrend_seg.checkpoint.fit import fit
from pointrend_seg.engine.trainer import Trainer
from pointrend_seg.errors import InputError
from small_configs import small_semantic_cfg


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def zoo(model, **other):
    """Return a checkpoint in the format of the model zoo."""
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    return {"model": arrays, "__author__": "Somebody", **other}


def written(tmp_path, name, content):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif name.endswith(".pkl"):
        path.write_bytes(pickle.dumps(content, 2))
    else:
        torch.save(content, path)
    return path


def same_weights(file, model):
    state = model.state_dict()
    assert list(file.model) == list(state)
    assert all(torch.equal(file.model[name], state[name]) for name in state)


def test_a_pickle_of_the_zoo(model, tmp_path):
    path = written(tmp_path, "m.pkl", zoo(model, matching_heuristics=False, extra=[1]))
    file = read_checkpoint(path)
    same_weights(file, model)
    assert file.kind == "pickle" and file.size == path.stat().st_size and file.others == ["extra"]
    assert file.details == {"__author__": "Somebody", "matching_heuristics": False}


def test_checkpoints_of_the_checkpointer(model, tmp_path):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.rand(5, 3)).sum().backward()
    optimizer.step()
    checkpointer = DetectionCheckpointer(model, str(tmp_path), optimizer=optimizer)
    checkpointer.save("m", iteration=7)
    file = read_checkpoint(tmp_path / "m.pth")
    same_weights(file, model)
    assert file.kind == "torch.save" and file.details == {"iteration": 7}
    assert file.others == ["optimizer"] and file.model._metadata["1"] == {"version": 2}


@pytest.mark.parametrize("new", [True, False])
def test_a_plain_state_dict(model, tmp_path, new):
    path = tmp_path / "m.pt"
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=new)
    file = read_checkpoint(path)
    same_weights(file, model)
    assert file.details == {} and file.others == []


def test_a_backbone_of_caffe2(tmp_path):
    blobs = {"conv1_w": np.ones(2, "f4"), "conv1_w_momentum": np.ones(2, "f4")}
    for content in (blobs, {"blobs": blobs}):
        file = read_checkpoint(written(tmp_path, "m.pkl", content))
        assert list(file.model) == ["conv1_w"] and file.model["conv1_w"].tolist() == [1, 1]
        assert file.details == {"__author__": "Caffe2", "matching_heuristics": True}


def zip_file():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "no weights")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.pkl", b"", "m.pkl is empty"),
        ("m.pth", b"", "m.pth is empty"),
        ("m.pkl", b"a text", "m.pkl is not a valid pickle of weights: it begins with b'a t"),
        ("m.pth", b"<html>404", "m.pth is not a torch.save file .it begins with b'<html>40'"),
        ("m.pth", pickle.dumps({}), "rename it to m.pkl"),
        ("m.pkl", zip_file(), "was written by torch.save, but .* Rename it to m.pth"),
        ("m.pth", zip_file(), "m.pth is not a valid torch.save file"),
        ("m.pkl", [1], "m.pkl contains a list, but a checkpoint is a dict"),
        ("m.pkl", {"model": {"w": np.ones(1)}}, "has 'model' but not '__author__'"),
        ("m.pkl", {"model": [1], "__author__": "x"}, "has a list under 'model'"),
        ("m.pkl", {"w": np.ones(1), "__author__": "x"}, "'__author__' is a str, not an array"),
        ("m.pkl", {"w": 3}, "m.pkl is not a checkpoint: 'w' is an int, not an array"),
        ("m.pkl", {3: np.ones(1)}, "m.pkl is not a checkpoint: '3' is"),
        ("m.pkl", {}, "m.pkl contains no weights"),
        ("m.pth", {"model": {}}, "m.pth contains no weights"),
        ("m.pth", {"w": "text"}, "'w' is a str, not an array"),
        ("m.pth", nn.Linear(1, 2), "it needs torch.nn.modules.linear.Linear, which PyTorch"),
    ],
)  # fmt: skip
def test_invalid_files(tmp_path, name, content, message):
    with pytest.raises(InputError, match=message):
        read_checkpoint(written(tmp_path, name, content))


def test_no_file(tmp_path):
    with pytest.raises(InputError, match="There is no file .*gone.pkl"):
        read_checkpoint(tmp_path / "gone.pkl")
    with pytest.raises(InputError, match="There is no file"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("new", [True, False])
def test_truncated_torch_file(model, tmp_path, new):
    path = tmp_path / "m.pth"
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=new)
    content = path.read_bytes()
    for part in (0.2, 0.5, 0.99):
        path.write_bytes(content[: int(len(content) * part)])
        with pytest.raises(InputError, match="ownload it again"):
            read_checkpoint(path)


class Call:
    def __reduce__(self):
        return os.system, ("touch marker",)


@pytest.mark.parametrize("new", [True, False])
def test_a_torch_file_with_code(tmp_path, monkeypatch, new):
    monkeypatch.chdir(tmp_path)
    content = {"model": {"w": torch.ones(1)}, "other": Call()}
    torch.save(content, "m.pth", _use_new_zipfile_serialization=new)
    with pytest.raises(InputError, match="m.pth was not loaded: it needs posix.system, which"):
        read_checkpoint("m.pth")
    assert not (tmp_path / "marker").exists()
    torch.load("m.pth", weights_only=False)  # the attack is a real one
    assert (tmp_path / "marker").exists()


def test_fit_of_a_model(tmp_path):
    cfg = small_semantic_cfg()
    model = Trainer.build_model(cfg)
    path = written(tmp_path, "m.pkl", zoo(model))
    other = Trainer.build_model(cfg)
    result = fit(read_checkpoint(path), other)
    assert result and result.loaded == len(model.state_dict())
    assert all(map(torch.equal, model.state_dict().values(), other.state_dict().values()))

    content = zoo(model)
    del content["model"]["sem_seg_head.point_head.fc1.bias"]
    content["model"]["more"] = np.ones(2, "f4")
    content["model"]["sem_seg_head.point_head.predictor.bias"] = np.ones(9, "f4")
    for name in ("pixel_mean", "proposal_generator.anchor_generator.cell_anchors.0"):
        content["model"][name] = np.ones(3, "f4")
    result = fit(read_checkpoint(written(tmp_path, "m.pkl", content)), other)
    assert not result
    assert result.missing == ["sem_seg_head.point_head.fc1.bias"] and result.unexpected == ["more"]
    assert result.wrong_shapes == [("sem_seg_head.point_head.predictor.bias", (9,), (5,))]
    assert result.loaded == len(model.state_dict()) - 2


def test_fit_of_a_backbone_with_other_names(tmp_path):
    """With `matching_heuristics` in the file, names are matched by their ends."""
    model = Trainer.build_model(small_semantic_cfg())
    backbone = model.backbone.bottom_up
    path = written(tmp_path, "m.pkl", zoo(backbone, matching_heuristics=True))
    result = fit(read_checkpoint(path), model)
    assert not result and not result.unexpected and not result.wrong_shapes
    assert result.loaded == len(backbone.state_dict())
    assert all(not name.startswith("backbone.bottom_up") for name in result.missing)
