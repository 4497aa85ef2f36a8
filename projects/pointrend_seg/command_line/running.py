"""Run a command-line tool, show its errors and set its exit status.

Exit status:
    0   success
    1   success, but problems were found (`FoundProblems`)
    2   an error that the user can correct: one message, no traceback (also argparse's errors)
    70  a bug: the traceback, and the versions for a bug report
    130 interrupted
"""

import logging
import re
import sys
import traceback
from collections.abc import Callable

import torch
from torch.multiprocessing import ProcessRaisedException

from ..errors import InputError, versions

PROBLEMS, INPUT_ERROR, BUG, INTERRUPTED = 1, 2, 70, 130

_OUT_OF_MEMORY = (
    "The GPU ran out of memory. For training, lower SOLVER.IMS_PER_BATCH (and SOLVER.BASE_LR with "
    "it) or INPUT.MIN_SIZE_TRAIN and INPUT.MAX_SIZE_TRAIN; for inference, lower "
    "INPUT.MIN_SIZE_TEST and INPUT.MAX_SIZE_TEST. Check that nothing else uses the GPU "
    "(nvidia-smi)."
)
_DIVERGED = (
    "The loss is infinite or NaN. Lower SOLVER.BASE_LR (scale it with SOLVER.IMS_PER_BATCH: half "
    "the batch size, half the learning rate), increase SOLVER.WARMUP_ITERS, or set "
    "SOLVER.CLIP_GRADIENTS.ENABLED True. tools/check_data.py finds errors in labels."
)
_WORKER_KILLED = (
    "A data loader process was killed, probably because memory ran out. Lower "
    "DATALOADER.NUM_WORKERS (0 loads data in the main process), or give a container more shared "
    "memory (docker run --shm-size 8g)."
)


class FoundProblems(Exception):
    """A tool succeeded but found problems: it prints the message and exits with status 1."""


def run_tool(tool: Callable[[], object]) -> None:
    """Run a tool, print its errors and exit with the status in this module's docstring.

    Errors from other processes (of a data loader or of `launch`), to which PyTorch adds a
    traceback, give the same message.
    """
    logging.getLogger("detectron2.engine.train_loop").addFilter(_keep_log_record)
    try:
        tool()
    except FoundProblems as problems:
        print(problems, file=sys.stderr)
        sys.exit(PROBLEMS)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        message = explain(error)
        if message is None or "--debug" in sys.argv:
            traceback.print_exc()
        if message is None:
            print(
                "\nThis is a bug in pointrend_seg or in a library that it uses. A bug report needs "
                f"the command, the output above and these versions:\n{versions()}",
                file=sys.stderr,
            )
            sys.exit(BUG)
        print(f"error: {message}", file=sys.stderr)
        sys.exit(INPUT_ERROR)


def explain(error: BaseException) -> str | None:
    """Return the message for an error that the user can correct, None for a bug."""
    text = str(error)
    from_process = isinstance(error, ProcessRaisedException)
    if isinstance(error, InputError) or (from_process and f"{InputError.__name__}: " in text):
        return text.rpartition(f"{InputError.__name__}: ")[2].strip()
    if isinstance(error, torch.cuda.OutOfMemoryError) or (
        from_process and "OutOfMemoryError" in text
    ):
        return _OUT_OF_MEMORY
    if "Loss became infinite or NaN" in text:
        return _DIVERGED
    if re.search(r"DataLoader worker \(pid.*\) (is killed|exited unexpectedly)", text):
        return _WORKER_KILLED
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}. Choose another path (OUTPUT_DIR, --output, …)."
    if isinstance(error, OSError) and error.strerror and "space left" in error.strerror:
        return "There is no space left on the device. Free some space or choose another OUTPUT_DIR."
    return None


def _keep_log_record(record: logging.LogRecord) -> bool:
    """Return False for the tracebacks that Detectron2's training loop logs of input errors."""
    error = record.exc_info[1] if record.exc_info else None
    return error is None or explain(error) is None
