"""Try one mutated input after the other, and count what became of it.

An input is accepted, refused with a sentence, called a bug, or it hangs. A trial is a name and a
function that runs a tool's own code in this process, so that hundreds take minutes.
"""

import contextlib
import io
import signal
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from pointrend_seg.command_line.running import FoundProblems, explain

Trial = tuple[str, Callable[[], object]]
LONGEST_SENTENCE = 1500


@dataclass
class Figures:
    """What became of the inputs of a kind.

    Attributes:
        bugs: the names of inputs that were called a bug, with the end of the traceback.
        hangs: the names of inputs that took too long.
        unclear: refusals that are no plain sentence.
        sentences: what the refusals said.
    """

    kind: str
    tried: int = 0
    accepted: int = 0
    refused: int = 0
    bugs: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.kind}: {self.tried} tried, {self.accepted} accepted, {self.refused} refused "
            f"with a sentence, {len(self.bugs)} called a bug, {len(self.hangs)} hung"
        )

    @property
    def is_clean(self) -> bool:
        return not (self.bugs or self.hangs or self.unclear)

    def failures(self) -> str:
        return "\n".join([str(self), *self.bugs, *self.hangs, *self.unclear])


class TooLong(BaseException):
    """A trial did not end in time; no `except Exception` swallows it."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def judge(kind: str, trials: Iterable[Trial], *, seconds: float = 60) -> Figures:
    """Run trials and count what became of them.

    Args:
        seconds: after which a trial counts as hung.
    """
    figures = Figures(kind)
    for name, run in trials:
        figures.tried += 1
        try:
            with time_limit(seconds), _silence():
                run()
        except TooLong:
            figures.hangs.append(f"hung: {name}")
        except FoundProblems:
            figures.accepted += 1
        except SystemExit as stopped:  # of argparse, which said why
            if stopped.code in (0, 1, None):
                figures.accepted += 1
            elif stopped.code == 2:
                figures.refused += 1
            else:
                figures.bugs.append(f"status {stopped.code}: {name}")
        except Exception as error:
            _count(figures, name, error)
        else:
            figures.accepted += 1
    return figures


def _count(figures: Figures, name: str, error: Exception) -> None:
    message = explain(error)
    if message is None:
        last = "".join(traceback.format_exception(error)[-4:])
        figures.bugs.append(f"called a bug: {name}\n{last}")
        return
    figures.refused += 1
    figures.sentences.append(message)
    is_plain = message.strip() and "Traceback" not in message and len(message) < LONGEST_SENTENCE
    if not is_plain:
        figures.unclear.append(f"no plain sentence: {name}: {message[:300]!r}")


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Drop what a tool prints; warnings and progress bars, too."""
    shown = io.StringIO()
    with (
        contextlib.redirect_stdout(shown),
        contextlib.redirect_stderr(shown),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield
