"""Make a tool's start quiet: Ctrl-C without a traceback, no warnings about other packages' code.

Every tool imports this module first. The imports that follow take seconds, and only after them is
there a `run_tool` that handles errors.
"""

import logging
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType

_INTERRUPTED = 130
# Warnings and log messages about the code of these packages, which nobody who runs a tool can
# change: parts of their texts.
_PACKAGES = r"(torch|torchvision|detectron2|fvcore|iopath)(\.|$)"
_WARNINGS = (
    r"`?torch\.jit\.script`? is deprecated",
    r"`?torch\.cuda\.amp\.",
    r"torch\.meshgrid: in an upcoming release",
    r"You are using `torch\.load` with `weights_only=False`",
    r"pkg_resources is deprecated",
)
_LOG_MESSAGES = {
    "torch.utils.cpp_extension": "No CUDA runtime is found",
    "torch.fx._symbolic_trace": "is_fx_tracing will return true",
}


def run(tool: Callable[[], object]) -> None:
    """Run a tool that needs the standard library alone; Ctrl-C ends it with status 130."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        tool()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(_INTERRUPTED)


def _leave(number: int, frame: FrameType | None) -> None:
    """End this process at Ctrl-C during imports, when there is nothing to save."""
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is None or multiprocessing.parent_process() is None:  # else that one says so
        os.write(2, b"interrupted\n")
    os._exit(_INTERRUPTED)


def _is_a_tool() -> bool:
    """Tell whether this process, or the one that started it, runs a file beside this one."""
    file = getattr(sys.modules.get("__main__"), "__file__", None) or sys.argv[0]
    return Path(file).resolve().parent == Path(__file__).resolve().parent


def _begin() -> None:
    for text in _WARNINGS:
        warnings.filterwarnings("ignore", message=f".*{text}", module=_PACKAGES)
    for name, text in _LOG_MESSAGES.items():
        logging.getLogger(name).addFilter(
            lambda record, text=text: not re.search(text, str(record.msg))
        )
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


if _is_a_tool():
    _begin()
