"""Exit statuses and messages of tools, and the shared options."""

import argparse
import logging
import os
import random
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from torch.multiprocessing import ProcessRaisedException

from pointrend_seg.command_line.options import (
    add_common_options,
    add_data_options,
    data_opts,
    number,
    tool_parser,
    whole_number,
)
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


def test_a_run_cannot_change_its_config_and_has_its_log_and_seed(tmp_path, capsys, default_signals):
    opts = ["--config-file", "configs/quick/pointrend_rcnn_R_18_FPN.yaml", "MODEL.DEVICE", "cpu"]
    opts += ["SOLVER.MAX_ITER", "7", "OUTPUT_DIR", str(tmp_path / "out")]
    drawn = []
    for _ in range(2):
        with setup(train_parser().parse_args([*opts, "SEED", "3"])) as (cfg, folder):
            drawn.append(random.random())
            assert cfg.is_frozen() and cfg.SOLVER.MAX_ITER == 7
            folder.begin(cfg, "config.yaml")
            log = (tmp_path / "out" / "log.txt").read_text()
        shutil.rmtree(tmp_path / "out")
    assert drawn[0] == drawn[1]
    with pytest.raises(Stopped), setup(train_parser().parse_args(opts)):
        os.kill(os.getpid(), signal.SIGTERM)
    shown = capsys.readouterr().out
    assert "Versions: Python" in shown and "Versions: Python" in log
    for each in ("Environment:", "Command line arguments", "Full config", "MAX_ITER: 7"):
        assert each in log and each not in shown


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["0"], "error: --num is 0; it must be from 1 to 9."),
        (["10"], "--num is 10; it must be from 1 to 9."),
        (["1.5"], "--num is '1.5'; it must be a whole number, from 1 to 9."),
        ([""], "--num is ''; it must be a whole number, from 1 to 9."),
        ([], "argument --num: expected one argument"),
    ],
)
def test_ranges_of_options(words, text, capsys):
    parser = tool_parser("A tool.")
    parser.add_argument("--num", type=whole_number(1, 9))
    parser.add_argument("--share", type=number(0))
    assert parser.parse_args(["--num", "9", "--share", "0.5"]).share == 0.5
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(["--num", *words])
    assert stopped.value.code == 2 and text in capsys.readouterr().err
    for infinite in ("nan", "inf", "-1"):
        with pytest.raises(SystemExit):
            parser.parse_args(["--share", infinite])
        assert f"--share is {infinite}; it must be 0 or more." in capsys.readouterr().err


# --- errors of the machine ------------------------------------------------------------------

IN_WORKER = (
    "Caught {0} in DataLoader worker process 0.\nOriginal Traceback (most recent call last):"
)
IN_WORKER += '\n  File "x.py", line 1, in f\n    g()\n    ^^^\n{1}'


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (MemoryError(), "The memory ran out"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "memory ran"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling f"), "The GPU ran out"),
        (RuntimeError("PytorchStreamWriter failed writing file data/0"), "no space left"),
        (RuntimeError("[enforce fail at x] . unexpected pos 64 vs 0"), "no space left"),
        (RuntimeError("can't start new thread"), "No further process"),
        (OSError(24, "Too many open files", "a.png"), "ulimit -n"),
        (OSError(122, "Disk quota exceeded"), "no space left"),
        (OSError(36, "File name too long"), "too long"),
        (
            RuntimeError(IN_WORKER.format("OSError", "OSError: [Errno 28] No space left")),
            "no space",
        ),
        (
            OSError(IN_WORKER.format("OSError", "OSError: [Errno 24] Too many open files: 'a'")),
            "a: Too many open files. Too many",
        ),
        (RuntimeError(IN_WORKER.format("MemoryError", "MemoryError")), "The memory ran out"),
        (
            ProcessRaisedException("\nnumpy._ArrayMemoryError: No", 0, 1),
            "The memory ran out",
        ),
        (ImportError("Cannot import 'detectron2._C', therefore 'x' is not"), "compiled part"),
    ],
)
def test_errors_of_the_machine_have_a_sentence(error, advice, capsys):
    status, text = end(error, capsys)
    assert status == 2 and advice in text and "Traceback" not in text


def chained(error, *, cause=None, context=None):
    error.__context__ = context
    if cause is not None:
        error.__cause__ = cause  # which hides the context
    return error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (chained(RuntimeError("no"), cause=InputError("Mend it.")), 2),
        (chained(RuntimeError("no"), context=OSError(28, "No space left on device")), 2),
        (chained(RuntimeError("no"), context=KeyboardInterrupt()), 130),
        # bugs that come up while an error is handled
        (chained(AttributeError("no"), context=OSError(28, "No space left on device")), 70),
        (chained(RuntimeError("no"), context=InputError("Mend it.")), 70),
        (chained(RuntimeError("no"), cause=KeyError("x"), context=MemoryError()), 70),
    ],
)
def test_causes_are_followed(error, status, capsys):
    assert end(error, capsys)[0] == status


def test_a_cut_off_output_ends_the_tool_in_silence():
    code = (
        "from pointrend_seg.command_line.running import run_tool\n"
        "run_tool(lambda: [print(n) for n in range(10 ** 5)])"
    )
    command = f'{sys.executable} -W ignore -c "{code}" | head -n 1; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["0", "141"] and "rror" not in done.stderr


@pytest.mark.parametrize(
    ("tool", "words", "text"),
    [
        ("benchmark", ("--repeats", 0), "--repeats is 0; it must be 1 or more."),
        ("predict", ("--batch-size", 0), "--batch-size is 0; it must be from 1 to 65536."),
        ("predict", ("--confidence", "nan"), "--confidence is nan; it must be from 0 to 1."),
        ("check_data", ("--workers", -1), "--workers is -1; it must be from 0 to 1024."),
        ("make_synthetic_data", ("--height", 31), "--height is 31; it must be from 32 to 65536."),
        ("visualize_results", ("--most", 0), "--most is 0; it must be 1 or more."),
    ],
)
def test_the_tools_have_ranges(run_in_process, tool, words, text):
    status, _, err = run_in_process(tool, *words)
    assert status == 2 and text in err
