"""Run a command-line tool, show its errors and set its exit status.

Exit status:
    0   success
    1   success, but problems were found (`FoundProblems`)
    2   an error that the user can correct: one message, no traceback (also argparse's errors)
    70  a bug: the traceback, and the versions for a bug report
    130 interrupted (Ctrl-C)
    141 the program that reads the output has ended, as `| head` does
    143 a training that SIGTERM or SIGUSR1 stopped
"""

import io
import logging
import os
import re
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from ..errors import EndedByPeer, InputError, first_line, is_peer_error, printable, versions
from .failures import explain_failure, is_from_process

PROBLEMS, INPUT_ERROR, BUG, INTERRUPTED, CUT_OFF = 1, 2, 70, 130, 141

_DIVERGED = (
    "The loss is infinite or NaN. Lower SOLVER.BASE_LR (scale it with SOLVER.IMS_PER_BATCH: half "
    "the batch size, half the learning rate), increase SOLVER.WARMUP_ITERS, or set "
    "SOLVER.CLIP_GRADIENTS.ENABLED True. tools/check_data.py finds errors in labels."
)
# Errors of code; never a consequence of the error that was handled when they came up.
_DEFECTS = (AttributeError, NameError, TypeError, ImportError, AssertionError)


class FoundProblems(Exception):
    """A tool succeeded but found problems: it prints the message and exits with status 1."""


def run_tool(tool: Callable[[], object], *, several_processes: bool = False) -> None:
    """Run a tool, print its errors and exit with the status in this module's docstring.

    Errors from other processes (of a data loader or of `launch`), to which PyTorch adds a
    traceback, give the same message.

    Args:
        several_processes: whether torchrun or srun may start it in several processes. Else all but
            one would do the same once more.
    """
    hide_explained_errors()
    escape_log_messages()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files that are no valid text
            stream.reconfigure(errors="backslashreplace")
    try:
        _raise_at_ctrl_c()
        if not several_processes:
            _check_one_process()
        tool()
        sys.stdout.flush()  # what a reader that ended, as `| head`, makes of it is shown here
    except FoundProblems as problems:
        print(problems, file=sys.stderr)
        sys.exit(PROBLEMS)
    except EndedByPeer as stopped:
        sys.exit(BUG if stopped.__cause__ and explain(stopped.__cause__) is None else INPUT_ERROR)
    except KeyboardInterrupt as stopped:
        print(str(stopped) or "interrupted", file=sys.stderr)
        sys.exit(getattr(stopped, "status", INTERRUPTED))  # of `stopping.Stopped`
    except Exception as error:
        if _was_interrupted(error):
            print("interrupted", file=sys.stderr)
            sys.exit(INTERRUPTED)
        if isinstance(error, BrokenPipeError) and _output_is_cut_off():
            sys.exit(CUT_OFF)
        message = explain(error)
        if message is None or "--debug" in sys.argv:
            print(printable(traceback.format_exc(), keep="\n"), end="", file=sys.stderr)
        if message is None:
            print(
                "\nThis is a bug in pointrend_seg or in a library that it uses. A bug report needs "
                f"the command, the output above and these versions:\n{versions()}",
                file=sys.stderr,
            )
            sys.exit(BUG)
        print(f"error: {printable(message)}", file=sys.stderr)
        sys.exit(INPUT_ERROR)


def _raise_at_ctrl_c() -> None:
    """Let Ctrl-C raise `KeyboardInterrupt` from now on, unless it is ignored (nohup)."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and callable(signal.getsignal(signal.SIGINT)):
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _output_is_cut_off() -> bool:
    """Tell whether nobody reads standard output any more; if so, drop what is left of it."""
    try:
        output = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):  # replaced by something that is no file
        return False
    poll = select.poll()
    poll.register(output, select.POLLOUT)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)  # for what is written at the end
    return True


def _check_one_process() -> None:
    if not {"RANK", "SLURM_PROCID"} & os.environ.keys():
        return
    from ..engine.places import find_place, shown_by_rank_0  # slow: it imports all of the engine

    try:
        place = find_place()
    except InputError:  # of variables that this tool does not need
        return
    if place is not None:
        with shown_by_rank_0(place):
            raise InputError(
                f"{os.path.basename(sys.argv[0])} runs in one process, but {place.starter} started "
                f"{place.world_size}. Start it without {place.starter}, or as one task."
            )


def hide_explained_errors() -> None:
    """Keep Detectron2's training loop from logging tracebacks of errors that get a message."""
    logging.getLogger("detectron2.engine.train_loop").addFilter(_keep_log_record)


class _EscapedRecord(logging.LogRecord):
    """A log record that shows control characters in its message as escapes, without colours.

    Line breaks stay in tables, tracebacks and messages of other packages.
    """

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        if self.exc_info and self.exc_info[0]:
            text = "".join(traceback.format_exception(*self.exc_info)).rstrip("\n")
            self.exc_text = printable(text, keep="\n")

    def getMessage(self) -> str:  # noqa: N802  # named by the base class
        message = super().getMessage()
        ours = self.name.startswith("pointrend_seg") and not (self.args and "\n" in str(self.msg))
        if ours or message.isprintable():
            return printable(message)
        return printable(re.sub(r"\x1b\[[0-9;]*m", "", message), keep="\n\t")


def escape_log_messages() -> None:
    """Make all log messages show control characters, which names of files may have, as escapes."""
    logging.setLogRecordFactory(_EscapedRecord)


def explain(error: BaseException) -> str | None:
    """Return the message for an error that the user can correct, None for a bug.

    Looked at are the error itself, what it was raised from, and the error in whose handling it was
    raised. Of the last, only those of the machine count (memory, disk, files): what goes wrong
    while a mistake of the user is handled is a bug.
    """
    seen: set[int] = set()
    follow: BaseException | None = error
    is_context = False
    while follow is not None and id(follow) not in seen:
        seen.add(id(follow))
        message = explain_failure(follow) if is_context else _explain_one(follow)
        if message is not None:
            return message
        is_context = is_context or follow.__cause__ is None
        if is_context and (follow.__suppress_context__ or isinstance(follow, _DEFECTS)):
            return None
        follow = follow.__cause__ or follow.__context__
    return None


def _explain_one(error: BaseException) -> str | None:
    text = str(error)
    from_process = is_from_process(error)
    if isinstance(error, InputError) or (from_process and f"{InputError.__name__}: " in text):
        return text.rpartition(f"{InputError.__name__}: ")[2].strip()
    if is_peer_error(error):
        return (
            "The connection to another process of this run broke off: it ended without a message, "
            "or the network failed. Look at the end of the output of each machine; a machine may "
            f"have run out of memory. PyTorch says: {first_line(error)}"
        )
    if "Loss became infinite or NaN" in text:
        return _DIVERGED
    return explain_failure(error)


def _was_interrupted(error: BaseException | None) -> bool:
    """Tell whether Ctrl-C led to an error, as when it hits the writing of a file."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


def _keep_log_record(record: logging.LogRecord) -> bool:
    """Return False for the tracebacks that Detectron2's training loop logs of input errors."""
    error = record.exc_info[1] if record.exc_info else None
    return error is None or explain(error) is None
