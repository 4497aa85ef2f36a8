"""Start the processes of a run on this machine, hand signals on to them, and wait for them."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing import connection, resource_tracker
from typing import Any

from torch.multiprocessing import ProcessRaisedException

from ..errors import EndedByPeer, InputError, is_peer_error
from .places import Place
from .rendezvous import Processes, connect_to_store, first_failure

_GRACE = 5.0  # seconds in which processes end by themselves after another failed
_POLL = 0.1  # seconds between looks at the processes
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@dataclass
class _Child:
    process: Any
    receiver: connection.Connection
    answers: Any  # its ``value`` is 1 when the process answers to signals
    failed_at: float = float("inf")
    error: BaseException | None = None
    exit_code: int | None = None  # None for one that is still running, or was killed as such

    def look(self) -> None:
        """Take the exit code of the process, and the error that it sent, if they are there."""
        self.exit_code = self.process.exitcode
        if self.error is not None or not self.receiver.poll():
            return
        with contextlib.suppress(EOFError):
            self.failed_at, text, pickled = self.receiver.recv()
            rank = int(self.process.name)
            self.error = (
                pickle.loads(pickled)
                if pickled
                else ProcessRaisedException(
                    f"\n\nRank {rank} failed:\n{text}", rank, self.process.pid
                )
            )
            self.error.__cause__ = RuntimeError(f"in rank {rank}:\n{text}")

    @property
    def failed(self) -> bool:
        """Whether the process raised an error or ended in another way than by returning."""
        return self.error is not None or bool(self.exit_code)


def start_processes(
    main: Callable[..., object], args: tuple, first: Place, start_timeout: float
) -> None:
    """Run the function in processes of their own, and raise the error of the first that fails."""
    context = multiprocessing.get_context("spawn")
    children: list[_Child] = []
    received: list[int] = []

    def hand_on(signum: int, frame: Any) -> None:
        received.append(signum)
        for child in children:
            if not child.answers.value:  # it still imports, and has done nothing
                child.process.kill()
            elif child.process.is_alive():
                os.kill(child.process.pid, signum)

    resource_tracker.ensure_running()  # which unblocks the signals when it starts
    # Signals wait until all children are there; a child unblocks them when it can answer.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    handlers = {}
    try:
        if threading.current_thread() is threading.main_thread():
            heard = [n for n in _SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
            handlers = {signum: signal.signal(signum, hand_on) for signum in heard}
        for local_rank in range(first.local_size):
            place = replace(first, rank=first.rank + local_rank, local_rank=local_rank)
            receiver, sender = context.Pipe(duplex=False)
            answers = context.RawValue("b")
            method = multiprocessing.get_start_method()
            process = context.Process(
                target=_child,
                args=(sender, answers, main, args, place, start_timeout, method),
                name=str(place.rank),
            )
            process.start()
            sender.close()
            children.append(_Child(process, receiver, answers))
        for signum in set(received):
            hand_on(signum, None)  # to those that were not there yet
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        _wait(children, received)
    finally:
        for child in children:
            child.process.kill()
            child.process.join()
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    error = _first_error(children, received)
    if error is not None:
        raise error


def _wait(children: list[_Child], received: list[int]) -> None:
    """Wait until all processes have ended, or for a moment after one failed by itself."""
    deadline = float("inf")
    while time.monotonic() < deadline:
        for child in children:
            child.look()
        if all(child.exit_code is not None for child in children):
            break
        if any(child.failed for child in children) and not received:
            deadline = min(deadline, time.monotonic() + _GRACE)
        time.sleep(_POLL)  # a sentinel would wait for the data loader's processes of a killed child


def _first_error(children: list[_Child], received: list[int]) -> BaseException | None:
    """Choose the error to show: the first that is no consequence of another's.

    Args:
        received: signals that were handed on to the processes.
    """
    failed = sorted((child for child in children if child.failed), key=lambda c: c.failed_at)
    errors = [child.error for child in failed if child.error is not None]
    for error in errors:
        if not (isinstance(error, EndedByPeer) or is_peer_error(error)):
            return error
    for child in failed:
        code = child.exit_code or 0
        if child.error is None and received:
            number = received[-1]
            return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
        if child.error is None:
            how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            return InputError(
                f"The process of rank {child.process.name} ended with {how} and no message. If "
                "nobody ended it, the machine may have run out of memory: lower "
                "SOLVER.IMS_PER_BATCH, DATALOADER.NUM_WORKERS or --num-gpus."
            )
    if errors and isinstance(errors[0], EndedByPeer):  # one on another machine
        return InputError(str(errors[0]))
    return errors[0] if errors else None


def _child(
    sender: connection.Connection,
    answers: Any,
    main: Callable[..., object],
    args: tuple,
    place: Place,
    start_timeout: float,
    start_method: str,
) -> None:
    """Run the function in a process of `start_processes`, and send the error that it raises."""
    # Data loaders start their processes as they do in a run of one process, not by "spawn" again.
    multiprocessing.set_start_method(start_method, force=True)
    os.setpgid(0, 0)  # Ctrl-C reaches this process through the parent alone
    threading.Thread(target=_end_with_parent, daemon=True).start()
    store = None
    try:
        answers.value = 1
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        store = connect_to_store(place, start_timeout)
        Processes(place, store, start_timeout).run(main, args)
    except BaseException as error:
        if store is not None and isinstance(error, Exception):
            is_first, message = first_failure(store, place.rank, error)
            error = error if is_first or not is_peer_error(error) else EndedByPeer(message)
        sender.send((time.monotonic(), traceback.format_exc(), _pickled(error)))
        raise SystemExit(1) from None


def _end_with_parent() -> None:
    """End this process when its parent ends, also when that is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _pickled(error: BaseException) -> bytes | None:
    """Pickle an error; None for one that cannot be read back."""
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)
    except Exception:
        return None
    return pickled
