"""Stop a training at a signal: after the present iteration, with a checkpoint.

SIGINT (Ctrl-C), SIGTERM (Slurm's and Kubernetes' preemption) and SIGUSR1 (``sbatch --signal``) only
leave a note while `iterations` are run, which all processes look at together. A second Ctrl-C ends
the run at once, and so does each signal before and after the iterations.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from detectron2.utils import comm

from ..files.progress import has_terminal, progress_bar

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_SAME_KEY = 1.0  # seconds in which a starter's Ctrl-C and the terminal's are one


class Stopped(KeyboardInterrupt):
    """A signal ended the run; the message says what there is to go on from.

    Attributes:
        status: exit status, 130 after SIGINT and 143 after the other signals.
    """

    def __init__(self, message: str = "interrupted", status: int = 128 + signal.SIGINT):
        super().__init__(message, status)
        self.status = status

    def __str__(self) -> str:
        return str(self.args[0])


class AgreedStop(Stopped):
    """All processes stop at the same iteration; what they did can be saved."""


class _Note:
    """What this process knows of signals."""

    process = 0  # in others, which were forked, signals of this one are not theirs
    status = 0  # 0: none came
    time = 0.0
    waits = False  # for the end of an iteration


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Turn the signals into `Stopped`; those that are ignored (nohup) stay so.

    In other threads than the main one, which gets all signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _Note.process, _Note.status = os.getpid(), 0
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    before = {number: each for number, each in before.items() if each not in (None, signal.SIG_IGN)}
    try:
        for number in before:
            signal.signal(number, _on_signal)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _Note.process = _Note.status = 0


@contextlib.contextmanager
def iterations() -> Iterator[None]:
    """Let signals wait for `raise_if_stopped`."""
    _Note.waits = True
    try:
        yield
    finally:
        _Note.waits = False


def raise_if_stopped() -> None:
    """Raise `AgreedStop` in all processes if one of them got a signal; all of them call it."""
    status = _Note.status
    if comm.get_world_size() > 1:
        status = max(comm.all_gather(status))
    if status:
        raise AgreedStop(status=status)


class StoppableLoader:
    """A data loader of an evaluation that ends at a signal.

    Args:
        loader: any that has a length.

    Raises:
        AgreedStop: at its end in all processes, if one of them got a signal.
    """

    def __init__(self, loader: Any):
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        is_shown = has_terminal() and comm.is_main_process()
        bar = progress_bar(
            self.loader, unit="batch", shown=is_shown, desc="evaluation", leave=False
        )
        for batch in bar:
            if _Note.status:
                break
            yield batch
        raise_if_stopped()


def _on_signal(number: int, frame: Any) -> None:
    if os.getpid() != _Note.process:
        if number == signal.SIGTERM:  # by which a process pool ends those that it forked
            os._exit(128 + number)
        return
    is_interrupt, now, is_first = number == signal.SIGINT, time.monotonic(), not _Note.status
    if is_first:
        _Note.time = now
        _Note.status = 128 + (signal.SIGINT if is_interrupt else signal.SIGTERM)
    elif now - _Note.time < _SAME_KEY:
        return
    if is_interrupt and not is_first:
        signal.signal(number, signal.SIG_DFL)  # a third one does not even wait for Python
    if not _Note.waits or (is_interrupt and not is_first):
        raise Stopped(status=_Note.status)
