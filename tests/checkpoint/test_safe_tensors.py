"""Weights in safetensors files: written, read, loaded into a model."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn

from pointrend_seg.checkpoint.files import read_checkpoint
from pointrend_seg.checkpoint.loading import Checkpointer, load_weights
from pointrend_seg.checkpoint.safe_tensors import save_safetensors
from pointrend_seg.errors import InputError

needs_library = pytest.mark.skipif(
    find_spec("safetensors") is None, reason="safetensors is not installed"
)


@pytest.fixture
def model():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model[0].weight.data = torch.rand(3, 4).t()  # not contiguous
    model[0].bias.data = model[1].weight.data  # shared
    return model


@needs_library
def test_it_is_read_as_it_was_written(model, tmp_path):
    path = tmp_path / "m.safetensors"
    state = model.state_dict()
    state["half"], state["flags"] = torch.ones(2).bfloat16(), torch.tensor([True, False])
    save_safetensors(path, state, {"__author__": "Somebody", "iteration": 7})
    file = read_checkpoint(path)
    assert file.kind == "safetensors" and file.others == []
    assert file.details == {"__author__": "Somebody"}
    assert file.model.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(file.model[name], value) and file.model[name].dtype == value.dtype
    assert file.model._metadata["1"] == {"version": 2}
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


@needs_library
@pytest.mark.parametrize("heuristics", [True, False])
def test_a_model_takes_it(model, tmp_path, heuristics):
    """Where it says so, by matching the ends of names."""
    path = tmp_path / "m.safetensors"
    save_safetensors(path, model.state_dict(), {"matching_heuristics": heuristics})
    assert read_checkpoint(path).details["matching_heuristics"] is heuristics
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    other = nn.ModuleDict({"backbone": other}) if heuristics else other
    load_weights(Checkpointer(other), str(path), resume=False, complete=True)
    assert all(map(torch.equal, other.state_dict().values(), model.state_dict().values()))


@needs_library
@pytest.mark.parametrize(
    "content", [b"\0", b"\xff" * 100, b"\x80\x04N.", (2**40).to_bytes(8, "little") + b"{}"]
)
def test_files_that_are_none(content, tmp_path):
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="m.safetensors is not a valid safetensors file"):
        read_checkpoint(tmp_path / "m.safetensors")


@needs_library
def test_what_it_cannot_write(tmp_path):
    with pytest.raises(InputError, match="m.pth does not end in .safetensors"):
        save_safetensors(tmp_path / "m.pth", {}, {})
    weights = {"w": torch.from_numpy(np.ones(2, "c8")).to_sparse()}
    with pytest.raises(InputError, match="m.safetensors cannot be written"):
        save_safetensors(tmp_path / "m.safetensors", weights, {})
    assert not list(tmp_path.iterdir())


def test_without_the_package_one_sentence_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    (tmp_path / "m.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="needs the package safetensors: pip install safetensors"):
        read_checkpoint(tmp_path / "m.safetensors")
    with pytest.raises(InputError, match="needs the package safetensors: pip install safetensors"):
        save_safetensors(tmp_path / "n.safetensors", {}, {})
