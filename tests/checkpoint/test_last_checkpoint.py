"""A resume goes past damaged checkpoints to the newest one that can be read, and says so."""

import os

import pytest
import torch
from torch import nn

from pointrend_seg.checkpoint.loading import Checkpointer, load_weights
from pointrend_seg.errors import InputError


@pytest.fixture
def checkpointer(tmp_path):
    """With checkpoints of the iterations 9 (all weights 9) and 19 (all 19), the last one."""
    checkpointer = Checkpointer(nn.Linear(300, 40), str(tmp_path / "out"))
    (tmp_path / "out").mkdir()
    for iteration in (9, 19):
        nn.init.constant_(checkpointer.model.weight, iteration)
        checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
    return checkpointer


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def resume(checkpointer):
    """Resume; return the name of the file and a weight."""
    nn.init.zeros_(checkpointer.model.weight)
    path = load_weights(checkpointer, "", resume=True, complete=False)
    return os.path.basename(path), checkpointer.model.weight[0, 0].item()


def test_whole_checkpoints(checkpointer, out, caplog):
    assert resume(checkpointer) == ("model_0000019.pth", 19)
    (out / "last_checkpoint").write_text("model_0000009.pth\n")  # as the user wants it
    assert resume(checkpointer) == ("model_0000009.pth", 9)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("size", [0, 1, 30, 3000, 0.5, 0.9, -400, -22, -1])
def test_truncated(size, checkpointer, out, caplog):
    file = out / "model_0000019.pth"
    content = file.read_bytes()
    file.write_bytes(content[: int(size * len(content)) if 0 < size < 1 else size])
    assert resume(checkpointer) == ("model_0000009.pth", 9)
    assert "model_0000019.pth is damaged" in caplog.text
    assert f"Continuing from {out / 'model_0000009.pth'} instead" in caplog.text


def garbage(file):
    file.write_bytes(os.urandom(50_000))


def zeros_within(file):
    """As a power cut leaves them; `torch.load` does not see it."""
    content = bytearray(file.read_bytes())
    content[20_000:24_000] = bytes(4000)
    file.write_bytes(content)
    assert not torch.load(file)["model"]["weight"].eq(19).all()


def something_else(file):
    torch.save([1, 2], file)


def folder(file):
    file.unlink()
    file.mkdir()


def gone(file):
    file.unlink()


@pytest.mark.parametrize("damage", [garbage, zeros_within, something_else, folder, gone])
def test_damaged(damage, checkpointer, out, caplog):
    damage(out / "model_0000019.pth")
    assert resume(checkpointer) == ("model_0000009.pth", 9)
    assert "model_0000019.pth" in caplog.text and "model_0000009.pth instead" in caplog.text


@pytest.mark.parametrize(
    "name", ["", "  \n", "../other.pth", "{other}", "sub/model_0000009.pth", "..", "\0\udcff", None]
)
def test_the_name_of_the_last_checkpoint(name, checkpointer, out, tmp_path, caplog):
    other = tmp_path / "other.pth"
    torch.save(torch.load(out / "model_0000009.pth"), other)
    (out / "last_checkpoint").unlink()
    if name is not None:
        text = name.format(other=other).encode(errors="surrogateescape")
        (out / "last_checkpoint").write_bytes(text)
    assert resume(checkpointer) == ("model_0000019.pth", 19)
    assert "last_checkpoint" in caplog.text and "model_0000019.pth instead" in caplog.text


def test_the_newest_is_the_one_written_last(checkpointer, out):
    """A training that goes on after its end, with a higher MAX_ITER."""
    checkpointer.save("model_final", iteration=29)
    checkpointer.save("model_0000039", iteration=39)
    checkpointer.save("model_0000049", iteration=49)
    times = (("0000009", 10), ("0000019", 20), ("final", 30), ("0000039", 40), ("0000049", 50))
    for name, time in times:
        os.utime(out / f"model_{name}.pth", (time, time))
    garbage(out / "model_0000049.pth")
    assert resume(checkpointer)[0] == "model_0000039.pth"
    garbage(out / "model_0000039.pth")
    assert resume(checkpointer)[0] == "model_final.pth"
    garbage(out / "model_final.pth")
    assert resume(checkpointer)[0] == "model_0000019.pth"


def test_files_that_no_training_wrote_are_not_continued_from(checkpointer, out):
    (out / "model_0000009.pth").rename(out / "model_best.pth")
    (out / ".model_0000029.part.pth").write_bytes(b"half")
    garbage(out / "model_0000019.pth")
    with pytest.raises(InputError, match=r"no checkpoint to continue from.*0019.pth is damaged"):
        resume(checkpointer)


def test_nothing_can_be_read(checkpointer, out):
    for name in ("0000009", "0000019"):
        garbage(out / f"model_{name}.pth")
    with pytest.raises(InputError, match=r"0019.pth is damaged.*0009.pth is damaged.*--resume"):
        resume(checkpointer)
    start = out / "start.pth"
    torch.save({"model": nn.Linear(300, 40).state_dict()}, start)
    assert load_weights(checkpointer, str(start), resume=False, complete=True) == ""


def test_no_checkpoints(tmp_path):
    for folder in ("", str(tmp_path), str(tmp_path / "gone")):
        checkpointer = Checkpointer(nn.Linear(3, 4), folder)
        assert load_weights(checkpointer, "", resume=True, complete=False) == ""
