"""The checkpointer reads every format as Detectron2's does, but runs no code."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from pointrend_seg.checkpoint.loading import Checkpointer, load_weights
from pointrend_seg.errors import InputError


class Net(nn.Module):
    """With names that Detectron2 makes of those of Caffe2."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleDict({"stem": nn.ModuleDict({"conv1": nn.Conv2d(3, 4, 1)})})
        self.norm = nn.BatchNorm2d(4)


def arrays(model, old=""):
    return {name.removeprefix(old): (v + 1).numpy() for name, v in model.state_dict().items()}


CAFFE2 = {"conv1_w": np.ones((4, 3, 1, 1), "f4"), "conv1_b": np.full(4, 2, "f4"),
          "conv1_w_momentum": np.ones(1, "f4")}  # fmt: skip
CONTENTS = {
    "zoo.pkl": lambda model: {"model": arrays(model), "__author__": "Somebody"},
    "torchvision.pkl": lambda model: {
        "model": arrays(model, "backbone."),
        "__author__": "torchvision",
        "matching_heuristics": True,
    },
    "caffe2.pkl": lambda model: dict(CAFFE2),
    "detectron.pkl": lambda model: {"blobs": CAFFE2, "cfg": "MODEL: {}"},
    "pycls.pyth": lambda model: {
        "epoch": 3,
        "model_state": {k.removeprefix("backbone."): v + 1 for k, v in model.state_dict().items()},
    },
    "plain.pth": lambda model: {k: v + 1 for k, v in model.state_dict().items()},
    "parallel.pth": lambda model: {
        "model": {f"module.{k}": v + 1 for k, v in model.state_dict().items()},
        "iteration": 7,
    },
    "short.pth?matching_heuristics=True": lambda model: {
        k.removeprefix("backbone."): v + 1 for k, v in model.state_dict().items()
    },
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("protocol", [2, 4])
def test_every_format_loads_as_in_detectron2(name, protocol, tmp_path):
    path = tmp_path / name.split("?")[0]
    content = CONTENTS[name](Net())
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(content, protocol))
    else:
        torch.save(content, path)
    ours, theirs = Net(), Net()
    theirs.load_state_dict(ours.state_dict())
    before = {k: v.clone() for k, v in ours.state_dict().items()}
    rest = Checkpointer(ours).load(str(tmp_path / name), checkpointables=[])
    their_rest = DetectionCheckpointer(theirs).load(str(tmp_path / name), checkpointables=[])
    assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))
    assert any(not torch.equal(v, before[k]) for k, v in ours.state_dict().items())
    assert rest.keys() == their_rest.keys()


def test_the_state_of_a_training(tmp_path):
    """Optimizer, schedule, random states: tensors, numbers, texts, tuples, lists, None."""
    model = Net()
    state = {
        "numbers": (1, 2.5, None, True, [3, (4, "x")]),
        "random": torch.get_rng_state(),
        3: {"a": 1},
    }

    class Holder:
        state_dict = staticmethod(lambda: state)
        load_state_dict = staticmethod(lambda loaded: seen.update(loaded))

    seen: dict = {}
    checkpointer = Checkpointer(model, str(tmp_path), trainer=Holder())
    checkpointer.save("model_0000009", iteration=9)
    path = load_weights(checkpointer, "", resume=True, complete=False)
    assert path.endswith("model_0000009.pth")
    assert torch.equal(seen.pop("random"), state.pop("random")) and seen == state


class Call:
    def __reduce__(self):
        return os.system, ("touch marker",)


def hostile(path):
    content = {"model": {"w": Call()}, "__author__": "x", "model_state": {"w": Call()}}
    if path.endswith(".pkl"):
        Path(path).write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization="old" not in path)


@pytest.mark.parametrize("name", ["m.pkl", "m.pth", "old.pth", "m.pyth", "m.pt", "m", "m.bin"])
@pytest.mark.parametrize("forced", [True, False])
def test_no_code_runs(name, forced, tmp_path, monkeypatch):
    """Also where PyTorch's environment variable asks for it."""
    monkeypatch.chdir(tmp_path)
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    hostile(name)
    with pytest.raises(InputError, match="was not loaded: it needs posix.system, which"):
        load_weights(Checkpointer(Net()), name, resume=False, complete=False)
    assert not Path("marker").exists()
    if name.endswith(".pkl"):  # the attack is a real one
        DetectionCheckpointer(Net())._load_file(name)
    else:
        torch.load(name, weights_only=False)
    assert Path("marker").exists()


def test_no_code_runs_in_a_resume(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpointer = Checkpointer(nn.Linear(2, 2), str(tmp_path))
    hostile("model_0000009.pth")
    with pytest.raises(InputError, match="no checkpoint .* it needs posix.system, which PyTorch"):
        load_weights(checkpointer, "", resume=True, complete=False)
    assert not Path("marker").exists()


@pytest.mark.parametrize(
    ("name", "written_as"),
    [("m.pth", "m.pkl"), ("m.pkl", "m.pth"), ("m.pkl", "old.pth"), ("m.safetensors", "m.pkl")],
)
def test_a_file_in_disguise(name, written_as, tmp_path, monkeypatch):
    """The name decides how a file is read, whatever its content is."""
    monkeypatch.chdir(tmp_path)
    hostile(written_as)
    os.rename(written_as, name)
    with pytest.raises(
        InputError, match=r"torch\.save|is not a valid safetensors|safetensors: pip"
    ):
        load_weights(Checkpointer(Net()), name, resume=False, complete=False)
    assert not Path("marker").exists()


def test_names_that_write_to_the_terminal(tmp_path):
    torch.save({"model": {"a\x1b[2J\nb": torch.ones(1)}}, tmp_path / "m.pth")
    with pytest.raises(InputError, match=r"has the weight 'a\\x1b\[2J\\nb'") as caught:
        load_weights(Checkpointer(Net()), str(tmp_path / "m.pth"), resume=False, complete=False)
    assert str(caught.value).isprintable()


def test_an_unknown_query(tmp_path):
    torch.save({"model": Net().state_dict()}, tmp_path / "m.pth")
    with pytest.raises(InputError, match=r"\?heuristics=…. Only \?matching_heuristics=True"):
        Checkpointer(Net()).load(str(tmp_path / "m.pth?heuristics=True"))


def test_an_address_cannot_lead_out_of_the_cache(monkeypatch):
    monkeypatch.setattr("iopath.common.file_io.download", lambda *_, **__: pytest.fail("fetched"))
    for address in ("https://h.invalid/a/../../.profile", "http://h.invalid/..#/x.pth"):
        with pytest.raises(InputError, match="is not fetched, because its path has '..'"):
            load_weights(Checkpointer(Net()), address, resume=False, complete=False)
