"""What the tools' command lines share, and the one place that decides how a mistake is shown.

Exit status:
    0   done
    1   done, and something was found that the user asked to be told of (`Findings`)
    2   what the user can put right: one message, no traceback (argparse's own mistakes, too)
    70  a fault of this software: the traceback, and the versions that a report needs
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

FOUND, WRONG_INPUT, FAULT, INTERRUPTED = 1, 2, 70, 130

_OUT_OF_MEMORY = (
    "The GPU has not enough memory. In training lower SOLVER.IMS_PER_BATCH (and SOLVER.BASE_LR "
    "with it) or INPUT.MIN_SIZE_TRAIN and INPUT.MAX_SIZE_TRAIN; in inference INPUT.MIN_SIZE_TEST "
    "and INPUT.MAX_SIZE_TEST; or see that nothing else runs on it (nvidia-smi)."
)
_DIVERGED = (
    "The loss is no longer a number. Lower SOLVER.BASE_LR (it belongs to SOLVER.IMS_PER_BATCH: a "
    "batch of half the size takes half of it), lengthen SOLVER.WARMUP_ITERS, or set "
    "SOLVER.CLIP_GRADIENTS.ENABLED True. tools/check_data.py finds what is wrong with labels."
)
_WORKER_KILLED = (
    "A process of the data loader was killed, as happens where memory runs out. Lower "
    "DATALOADER.NUM_WORKERS (0 reads in the main process), or give a container more shared memory "
    "(docker run --shm-size 8g)."
)


class Findings(Exception):
    """A tool did its work and found something: it ends with the message and status 1."""


def run_tool(tool: Callable[[], object]) -> None:
    """Run a command-line tool and show what goes wrong as this module says.

    The message is the same when the error comes from another process, a data loader's or one of
    `launch`, where PyTorch wraps the traceback around it.
    """
    logging.getLogger("detectron2.engine.train_loop").addFilter(_not_explained)
    try:
        tool()
    except Findings as findings:
        print(findings, file=sys.stderr)
        sys.exit(FOUND)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        message = explain(error)
        if message is None or "--debug" in sys.argv:
            traceback.print_exc()
        if message is None:
            print(_report(), file=sys.stderr)
            sys.exit(FAULT)
        print(f"error: {message}", file=sys.stderr)
        sys.exit(WRONG_INPUT)


def explain(error: BaseException) -> str | None:
    """What the user can put right, as one message; None for what only we can."""
    text = str(error)
    of_process = isinstance(error, ProcessRaisedException)
    if isinstance(error, InputError) or (of_process and f"{InputError.__name__}: " in text):
        return text.rpartition(f"{InputError.__name__}: ")[2].strip()
    if isinstance(error, torch.cuda.OutOfMemoryError) or (
        of_process and "OutOfMemoryError" in text
    ):
        return _OUT_OF_MEMORY
    if "Loss became infinite or NaN" in text:
        return _DIVERGED
    if re.search(r"DataLoader worker \(pid.*\) (is killed|exited unexpectedly)", text):
        return _WORKER_KILLED
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}. Choose another path (OUTPUT_DIR, --output, …)."
    if isinstance(error, OSError) and error.strerror and "space left" in error.strerror:
        return "There is no space left on the device. Free some, or choose another OUTPUT_DIR."
    return None


def _report() -> str:
    return (
        "\nThis is a fault of pointrend_seg, or of something that it uses, and none of yours. "
        "A report needs the command, what is above, and these versions:\n" + versions()
    )


def _not_explained(record: logging.LogRecord) -> bool:
    """Detectron2's training loop logs the traceback of whatever stops it."""
    return not (record.exc_info and explain(record.exc_info[1]) is not None)
