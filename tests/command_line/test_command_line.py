"""Exit statuses and messages of tools, and the shared options."""

import argparse
import logging
import os
import random
import signal

import pytest
import torch
from torch.multiprocessing import ProcessRaisedException

from pointrend_seg.command_line.options import add_common_options, add_data_options, data_opts
from pointrend_seg.command_line.running import FoundProblems, run_tool
from pointrend_seg.command_line.training import setup, train_parser
from pointrend_seg.engine.stopping import Stopped
from pointrend_seg.errors import EndedByPeer, InputError

WRAPPED = "Caught it in worker 0.\nTraceback:\npointrend_seg.errors.InputError: Mend it."


def end(error, capsys):
    """Return exit status and standard error of a tool that raises."""

    def tool():
        raise error

    with pytest.raises(SystemExit) as stopped:
        run_tool(tool)
    return stopped.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        InputError("Mend it."),
        InputError(WRAPPED),  # from a data loader process
        ProcessRaisedException(WRAPPED, 0, 1),  # from a process of `launch`
    ],
)
def test_an_input_error_is_one_message_and_status_2(error, capsys):
    assert end(error, capsys) == (2, "error: Mend it.\n")


def test_debug_shows_the_traceback_too(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["tool.py", "--debug"])
    status, text = end(InputError("Mend it."), capsys)
    assert status == 2 and "Traceback" in text and text.endswith("error: Mend it.\n")


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), "lower SOLVER.IMS_PER_BATCH"),
        (ProcessRaisedException("torch.OutOfMemoryError: no", 0, 1), "SOLVER.IMS_PER_BATCH"),
        (FloatingPointError("Loss became infinite or NaN at iteration=3!"), "SOLVER.BASE_LR"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error."), "shm-size"),
        (
            PermissionError(13, "Permission denied", "/nowhere/out"),
            "/nowhere/out: Permission denied",
        ),
        (
            RuntimeError("[/x/gloo/pair.cc:5] Connection closed by peer"),
            "process of this run broke",
        ),
        (FileNotFoundError(2, "No such file or directory", "/proc/x"), "/proc/x: No such file"),
        (OSError(28, "No space left on device"), "no space left"),
    ],
)
def test_common_errors_are_one_message(error, advice, capsys):
    status, text = end(error, capsys)
    assert status == 2 and advice in text and "Traceback" not in text


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("a defect"),
        ProcessRaisedException("ValueError: a defect", 0, 1),
        # words of other errors, from where they mean nothing
        RuntimeError("a defect after pointrend_seg.errors.InputError: Mend it."),
        RuntimeError("a defect, OutOfMemoryError"),
        OSError("a defect, without number, file or space left"),
        OSError(5, "a defect of the disk"),
        FileNotFoundError(None, None, "a defect"),
    ],
)
def test_bugs_have_traceback_and_versions(error, capsys):
    status, text = end(error, capsys)
    assert status == 70
    assert "Traceback" in text and "a defect" in text
    for name in ("pointrend-seg", "detectron2", f"torch {torch.__version__.split('+')[0]}"):
        assert name in text


def test_the_training_loop_logs_only_tracebacks_of_bugs(capsys):
    """Detectron2's loop logs every exception; explained errors are shown only once."""
    loop = logging.getLogger("detectron2.engine.train_loop")
    seen = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())
    loop.addHandler(handler)

    def tool():
        loop.warning("no error")
        for error in (InputError("Mend it."), RuntimeError("a defect")):
            try:
                raise error
            except Exception:
                loop.exception("stopped by %r", error)

    try:
        run_tool(tool)
    finally:
        loop.removeHandler(handler)
    assert seen == ["no error", "stopped by RuntimeError('a defect')"]


def test_found_problems_and_interruption(capsys):
    assert end(FoundProblems("3 files were passed over."), capsys) == (
        1,
        "3 files were passed over.\n",
    )
    assert end(KeyboardInterrupt(), capsys) == (130, "interrupted\n")
    assert end(Stopped("stopped after 7", 143), capsys) == (143, "stopped after 7\n")


TWO_PROCESSES = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "here", "MASTER_PORT": 1}


@pytest.mark.parametrize("rank", [0, 1])
def test_torchrun_starts_no_tool_of_one_process(rank, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["tools/predict.py"])
    for name, value in (TWO_PROCESSES | {"RANK": rank, "LOCAL_RANK": rank}).items():
        monkeypatch.setenv(name, str(value))
    status, text = end(FoundProblems("was run"), capsys)
    said = "predict.py runs in one process, but torchrun started 2."
    assert status == 2 and (said in text) == (rank == 0) and "was run" not in text
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "?")  # of something else
    assert end(FoundProblems("was run"), capsys) == (1, "was run\n")


@pytest.mark.parametrize(
    ("error", "status"), [(InputError("Mend it."), 2), (RuntimeError("a defect"), 70), (None, 2)]
)
def test_what_another_process_shows_is_not_shown_again(error, status, capsys):
    stopped = EndedByPeer("Rank 0 failed")
    stopped.__cause__ = error
    assert end(stopped, capsys) == (status, "")


def parse(*argv):
    parser = argparse.ArgumentParser()
    add_common_options(parser)
    add_data_options(parser)
    return parser.parse_args(argv)


def test_data_options_become_pairs_of_key_and_value():
    assert data_opts(parse()) == []
    opts = data_opts(parse("--train-data", "a", "b.json", "--classes-from-data"))
    assert dict(zip(opts[::2], opts[1::2], strict=True)) == {
        "DATASETS.TRAIN": ("custom_train",),
        "DATASETS.TEST": (),
        "DATASETS.CUSTOM": [{"name": "custom_train", "images": "a", "annotations": "b.json"}],
        "DATASETS.CLASSES_FROM_DATA": True,
    }
    opts = data_opts(parse("--val-data", "a", "b", "--classes", "c.txt", "--ignore-value", "0"))
    pairs = dict(zip(opts[::2], opts[1::2], strict=True))
    (entry,) = pairs["DATASETS.CUSTOM"]
    assert (entry["classes"], entry["ignore_value"]) == ("c.txt", 0)
    assert (pairs["DATASETS.TRAIN"], pairs["DATASETS.TEST"]) == ((), ("custom_val",))
    opts = data_opts(parse("--val-data", "a", "b", "--train-data", "c", "d"))
    pairs = dict(zip(opts[::2], opts[1::2], strict=True))
    assert [entry["images"] for entry in pairs["DATASETS.CUSTOM"]] == ["c", "a"]
    assert (pairs["DATASETS.TRAIN"], pairs["DATASETS.TEST"]) == (("custom_train",), ("custom_val",))


@pytest.mark.parametrize("options", [("--classes", "c.txt"), ("--ignore-value", "0")])
def test_classes_without_data(options):
    with pytest.raises(InputError, match="--classes and --ignore-value need --train-data"):
        data_opts(parse(*options))


def test_every_training_has_the_options_of_all_tools():
    args = train_parser().parse_args(["--debug", "--train-data", "a", "b", "SEED", "1"])
    assert args.debug is True and args.train_data == ["a", "b"] and args.opts == ["SEED", "1"]


def test_a_run_cannot_change_its_config_and_has_detectron2s_log_and_seed(
    run_in_process, tmp_path, capsys, default_signals
):
    opts = ["MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", "7", "OUTPUT_DIR", str(tmp_path / "out")]
    drawn = []
    for _ in range(2):
        with setup(train_parser().parse_args([*opts, "SEED", "3"])) as (cfg, folder):
            drawn.append(random.random())
            assert cfg.is_frozen() and cfg.SOLVER.MAX_ITER == 7
        assert not (tmp_path / "out").exists()
    assert drawn[0] == drawn[1]
    with pytest.raises(Stopped), setup(train_parser().parse_args(opts)):
        os.kill(os.getpid(), signal.SIGTERM)
    text = capsys.readouterr().out
    for each in ("Environment info", "Command line arguments", "full config", "MAX_ITER: 7"):
        assert each in text
