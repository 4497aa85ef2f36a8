"""What a training shows on the terminal: what a user looks for. All the rest is in log.txt."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

from tqdm import tqdm

LOGGERS = ("detectron2", "fvcore", "pointrend_seg")
# Of Detectron2 and fvcore: losses, evaluations, checkpoints. Their other messages, such as the
# text of a model or a table of all its weights, can have hundreds of lines.
_SHOWN = (
    "detectron2.engine.hooks",
    "detectron2.engine.train_loop",
    "detectron2.evaluation",
    "detectron2.utils.events",
)
_SHOWN_TEXTS = {"fvcore.common.checkpoint": "Saving checkpoint"}
# What a progress bar shows.
_PROGRESS = ("detectron2.evaluation.evaluator", "detectron2.utils.events")


@contextlib.contextmanager
def shown_on_terminal(*, rank: int = 0) -> Iterator[None]:
    """Show the messages of a training on the terminal, those of rank 0; others show none."""
    handler = TerminalHandler() if rank == 0 else logging.NullHandler()
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(each.level, each.propagate, each.handlers) for each in loggers]
    for each in loggers:
        each.setLevel(logging.DEBUG)
        each.propagate = False
        # A terminal's handler of an earlier use of Detectron2 would show all, and rename records.
        each.handlers = [h for h in each.handlers if type(h) is not logging.StreamHandler]
        each.addHandler(handler)
    try:
        yield
    finally:
        for each, (level, propagate, handlers) in zip(loggers, before, strict=True):
            each.handlers = handlers
            each.setLevel(level)
            each.propagate = propagate


class TerminalHandler(logging.StreamHandler):
    """Write messages to standard output, above the progress bars, in colour on a terminal.

    Messages for log.txt alone are those below INFO and most of Detectron2's and fvcore's.
    """

    def __init__(self) -> None:
        super().__init__(sys.stdout)
        self.setLevel(logging.INFO)
        in_color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.setFormatter(_Formatter(in_color=in_color))
        self._has_bars = sys.stdout.isatty() and sys.stderr.isatty()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is shown."""
        if not super().filter(record):
            return False
        if record.levelno > logging.INFO or record.name.startswith("pointrend_seg"):
            return True
        if self._has_bars and record.name.startswith(_PROGRESS):
            return False
        text = _SHOWN_TEXTS.get(record.name)
        shown = record.name.startswith(_SHOWN)
        return shown or (text is not None and record.getMessage().startswith(text))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


class _Formatter(logging.Formatter):
    def __init__(self, *, in_color: bool):
        super().__init__(datefmt="%m/%d %H:%M:%S")
        self._in_color = in_color

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # of the base class
        time = f"[{self.formatTime(record, self.datefmt)}]"
        level = "" if record.levelno == logging.INFO else f"{record.levelname}: "
        if self._in_color:
            time = f"\x1b[32m{time}\x1b[0m"
            level = level and f"\x1b[31m{level}\x1b[0m"
        return f"{time} {level}{record.message}"
