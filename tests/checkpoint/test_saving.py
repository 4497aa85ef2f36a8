"""Checkpoints that are saved whole or not at all, and never with weights that are not finite."""

import errno
import os

import pytest
import torch
from torch import nn

from pointrend_seg.checkpoint.finite import first_bad_weight
from pointrend_seg.checkpoint.loading import Checkpointer, load_weights
from pointrend_seg.errors import InputError


@pytest.fixture
def checkpointer(tmp_path):
    """With one checkpoint."""
    checkpointer = Checkpointer(nn.Linear(3, 4), str(tmp_path))
    checkpointer.save("model_0000009", iteration=9)
    return checkpointer


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_save_that_is_interrupted_changes_no_file(checkpointer, tmp_path, monkeypatch):
    before = contents(tmp_path)

    def half(content, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    for name in ("model_0000019", "model_0000009"):
        with pytest.raises(KeyboardInterrupt):
            checkpointer.save(name, iteration=19)
        assert contents(tmp_path) == before
    assert checkpointer.saved_iteration == 9


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk(number, checkpointer, tmp_path, monkeypatch):
    before = contents(tmp_path)

    def fill(content, file):
        try:
            raise OSError(number, os.strerror(number))
        finally:
            raise RuntimeError("unexpected pos 12000896 vs 12000848")  # as PyTorch does

    monkeypatch.setattr(torch, "save", fill)
    with pytest.raises(InputError, match=r"no space left.*0019.pth\. .*0009.pth, is kept.*--resum"):
        checkpointer.save("model_0000019", iteration=19)
    assert contents(tmp_path) == before


def test_a_full_disk_at_the_name_of_the_last_checkpoint(checkpointer, tmp_path, monkeypatch):
    def fill(path, text):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pointrend_seg.checkpoint.saving.write_text", fill)
    with pytest.raises(InputError, match=r"no space left.*0009.pth, is kept"):
        checkpointer.save("model_0000019", iteration=19)
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000009.pth"


def test_other_errors_are_not_taken_for_a_full_disk(checkpointer, monkeypatch):
    def fail(content, file):
        raise RuntimeError("another")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="another"):
        checkpointer.save("model_0000019", iteration=19)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_of_a_training_that_diverged_are_not_saved(value, checkpointer, tmp_path):
    before = contents(tmp_path)
    checkpointer.model.bias.data[1] = value
    with pytest.raises(InputError, match=r"0019.pth is not saved.*bias is NaN.*0009.pth, is kept"):
        checkpointer.save("model_0000019", iteration=19)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("resume", [True, False])
def test_weights_of_a_training_that_diverged_are_not_used(complete, resume, checkpointer, tmp_path):
    path = tmp_path / "model_0000009.pth"
    content = torch.load(path)
    content["model"]["weight"][1, 2] = float("nan")
    torch.save(content, path)
    with pytest.raises(InputError, match="0009.pth cannot be used: its weight weight is NaN"):
        load_weights(checkpointer, str(path), resume=resume, complete=complete)


def test_which_weights_are_bad():
    model = nn.BatchNorm1d(3)
    model.weight.data[:] = 3e38  # whose sum is infinite
    assert first_bad_weight(model) is None
    model.register_buffer("mask", torch.tensor([-float("inf"), 0.0]))
    assert first_bad_weight(model) is None
    model.running_var[2] = float("nan")
    assert first_bad_weight(model) == "running_var"
    model.bias.data[0] = -float("inf")
    assert first_bad_weight(model) == "bias"
    assert first_bad_weight(nn.BatchNorm1d(3).half()) is None
