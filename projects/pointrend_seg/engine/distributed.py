"""Start the processes of a run, or join those that torchrun or Slurm started.

Processes meet at a store (a small server of keys and values): rank 0 or the process that starts the
others keeps it, torchrun has one of its own. There each one says that it has arrived and
which counts it was started with, and there the first that fails leaves its message, so that it is
shown once. The process group is made when all have arrived: NCCL for GPUs, Gloo for CPUs.
"""

import atexit
import contextlib
import logging
import multiprocessing
import os
import pickle
import re
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing import connection, resource_tracker
from typing import Any

import torch
import torch.distributed as dist
from detectron2.utils import comm
from torch.multiprocessing import ProcessRaisedException

from ..errors import EndedByPeer, InputError, first_line, is_peer_error
from .places import Place, find_place, shown_by_rank_0

START_TIMEOUT = 600.0  # seconds until all processes have to be there
# A process waits so long for another: for one that scores a large data set, for example.
COLLECTIVE_TIMEOUT = timedelta(minutes=30)
_GRACE = 5.0  # seconds in which processes end by themselves after another failed
_LINGER = 0.5  # seconds in which processes that fail together hear of each other
_POLL = 0.1  # seconds between looks at the store, or at child processes
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_ERROR = "error"  # the store's key of the first failure

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees them.

    Attributes:
        place: of this process.
        store: where the processes meet; None for a run of one process.
        start_timeout: seconds until all have to be there.
    """

    place: Place = Place()
    store: dist.Store | None = None
    start_timeout: float = START_TIMEOUT

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return self.place.rank

    @property
    def count(self) -> int:
        """Number of processes."""
        return self.place.world_size

    def join(self, device: str) -> None:
        """Wait for the other processes and make the process group, as Detectron2's `launch` does.

        Args:
            device: ``cfg.MODEL.DEVICE``. "cuda" takes the GPU of the process's local rank and NCCL,
                "cpu" takes Gloo.

        Raises:
            InputError: a process does not come in time or was started with other counts; there are
                fewer GPUs than processes.
            EndedByPeer: another process failed before it arrived.
        """
        if self.store is None:
            return
        on_gpu = device.startswith("cuda")
        if on_gpu:
            torch.cuda.set_device(_gpu(self.place, device))
        elif "OMP_NUM_THREADS" not in os.environ:  # the processes of a machine share its cores
            torch.set_num_threads(max(1, torch.get_num_threads() // self.place.local_size))
        if not on_gpu:
            threads = torch.get_num_threads()
            logger.info("%d processes on the CPU, %d thread(s) each.", self.count, threads)
        self._arrive()
        dist.init_process_group(
            "nccl" if on_gpu else "gloo",
            store=dist.PrefixStore("group", self.store),
            rank=self.rank,
            world_size=self.count,
            timeout=COLLECTIVE_TIMEOUT,
        )
        comm.create_local_process_group(self.place.local_size)
        comm.synchronize()

    def _arrive(self) -> None:
        """Wait until all processes have arrived with the same counts."""
        assert self.store is not None
        counts = f"{self.place.world_size} {self.place.local_size}"
        if self.store.add(f"arrivals/{self.rank}", 1) > 1:
            raise InputError(
                f"Two processes have rank {self.rank} of {self.count}. Give each machine a "
                "--machine-rank of its own, and each run a port of its own."
            )
        self.store.set(f"counts/{self.rank}", counts)
        deadline = time.monotonic() + self.start_timeout
        missing = set(range(self.count))
        while missing:
            for rank in sorted(missing):
                if not self.store.check([f"counts/{rank}"]):
                    continue
                missing.discard(rank)
                other = self.store.get(f"counts/{rank}").decode()
                if other != counts:
                    raise InputError(
                        f"Rank {self.rank} was started as one of {_in_words(counts)}, but rank "
                        f"{rank} as one of {_in_words(other)}. Start all machines with the same "
                        "counts."
                    )
            if self.store.check([_ERROR]):
                raise EndedByPeer(self.store.get(_ERROR).decode())
            if missing and time.monotonic() > deadline:
                raise InputError(
                    f"{_ranks(missing)} of {self.count} did not start within "
                    f"{self.start_timeout:g} seconds (--start-timeout). Look at the output of the "
                    f"machine(s) {', '.join(map(str, self._machines(missing)))}, and whether they "
                    f"reach {self.place.host}:{self.place.port}."
                )
            if missing:
                time.sleep(_POLL)

    def _machines(self, ranks: set[int]) -> list[int]:
        return sorted({rank // self.place.local_size for rank in ranks})


def launch(
    main: Callable[..., object],
    args: tuple = (),
    *,
    num_processes: int = 1,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    start_timeout: float = START_TIMEOUT,
    check: Callable[[int], str] | None = None,
) -> None:
    """Run a function in all processes of a run: ``main(*args, processes)``.

    Under ``torchrun``, or ``srun`` with several tasks, the processes are there already. Else this
    one starts them, hands SIGINT, SIGTERM and SIGUSR1 on to them, and raises the error of the first
    that fails when all have ended. One process alone runs the function itself.

    Args:
        main: importable, and so are ``args``. Its last argument is a `Processes`, whose ``join`` it
            calls.
        num_processes: on each machine.
        num_machines, machine_rank: of the run and of this machine. Other machines are started by
            the user.
        dist_url: ``tcp://HOST:PORT`` of machine 0; "auto" for a run on one machine.
        start_timeout: seconds until all processes have to be there.
        check: called with the number of processes before any is started; it returns
            ``cfg.MODEL.DEVICE``, and raises for what all of them would raise for.

    Raises:
        InputError: counts that contradict each other or the environment.
        EndedByPeer: under torchrun or Slurm, another process failed first.
    """
    own_start = num_processes > 1 or num_machines > 1 or machine_rank or dist_url != "auto"
    place = find_place()
    if place is not None and place.starter == "Slurm" and num_machines > 1:
        place = None  # srun starts one process on each machine, and each of these starts its own
    if place is not None:
        if own_start:
            with shown_by_rank_0(place):
                raise InputError(
                    f"{place.starter} started {place.world_size} processes: leave out --num-gpus, "
                    "--num-machines, --machine-rank and --dist-url, or start without "
                    f"{place.starter}."
                )
        _run_started(main, args, place, start_timeout)
        return
    count = check_counts(num_processes, num_machines, machine_rank, dist_url, start_timeout)
    if count == 1:
        main(*args, Processes())
        return
    first = Place(machine_rank * num_processes, count, local_size=num_processes)
    device = "cpu" if check is None else check(count)
    if device.startswith("cuda"):
        last = num_processes - 1
        _gpu(replace(first, rank=first.rank + last, local_rank=last), device)
    if dist_url == "auto":  # a store of this process: no other can take its port in between
        first = replace(first, host="127.0.0.1")
    else:
        host, port = _address(dist_url)
        first = replace(first, host=host, port=port)
    store = _serve(first) if machine_rank == 0 else None  # it lives as long as this function
    if store is not None:
        first = replace(first, port=store.port)
    _start(main, args, first, start_timeout)


def check_counts(
    num_processes: int,
    num_machines: int,
    machine_rank: int,
    dist_url: str,
    start_timeout: float = START_TIMEOUT,
) -> int:
    """Check the options of `launch`, whose names these are, and count the processes of the run.

    Raises:
        InputError: counts or ranks that cannot be, or an address that is none.
    """
    for option, value in (("--num-gpus", num_processes), ("--num-machines", num_machines)):
        if value < 1:
            raise InputError(f"{option} is {value}, but must be 1 or more.")
    if not 0 <= machine_rank < num_machines:
        raise InputError(
            f"--machine-rank is {machine_rank}, but the machines of --num-machines {num_machines} "
            f"are 0 to {num_machines - 1}."
        )
    if num_machines > 1 and dist_url == "auto":
        raise InputError(
            f"--num-machines {num_machines} needs --dist-url tcp://HOST:PORT with the name or "
            "address of machine 0 and a free port of it, the same on all machines."
        )
    if dist_url != "auto":
        _address(dist_url)
    if not start_timeout > 0:
        raise InputError(f"--start-timeout is {start_timeout:g}, but must be more than 0 seconds.")
    return num_processes * num_machines


def _address(dist_url: str) -> tuple[str, int]:
    match = re.fullmatch(r"tcp://(.+):(\d{1,5})/?", dist_url)
    if match is None or not 0 < int(match[2]) < 2**16:
        raise InputError(f"--dist-url is '{dist_url}', but must be auto or tcp://HOST:PORT.")
    return match[1].strip("[]"), int(match[2])


# --- the store ------------------------------------------------------------------------------


def _serve(place: Place) -> dist.TCPStore:
    """Open the store on this machine, at a free port if ``place.port`` is 0."""
    try:
        return dist.TCPStore("127.0.0.1", place.port, is_master=True, wait_for_workers=False)
    except RuntimeError as error:
        if "address already in use" not in str(error).lower():
            raise
        raise InputError(
            f"Port {place.port} of this machine is in use, perhaps by another training. Choose "
            "another (--dist-url or MASTER_PORT)."
        ) from error


def _connect(place: Place, timeout: float) -> dist.TCPStore:
    """Connect to the store of another process, which may not be there yet."""
    deadline = time.monotonic() + timeout
    while True:  # PyTorch would wait, too, but prints the C++ stack at each attempt
        try:
            socket.create_connection((place.host, place.port), timeout=timeout).close()
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise InputError(
                    f"Rank {place.rank} of {place.world_size} found nobody at "
                    f"{place.host}:{place.port} for {timeout:g} seconds (--start-timeout): "
                    f"{first_line(error)}. Look whether rank 0 started there."
                ) from error
            time.sleep(_POLL)
    return dist.TCPStore(place.host, place.port, is_master=False, wait_for_workers=False)


def _open_store(place: Place, timeout: float) -> dist.Store:
    """Open the store of processes that torchrun or Slurm started."""
    keeps_it = place.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True)
    store = _serve(place) if keeps_it else _connect(place, timeout)
    # Another run, or an earlier attempt of this one, may use the same server.
    names = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "SLURM_JOB_ID", "SLURM_STEP_ID")
    run = ".".join(os.environ.get(name, "") for name in names)
    return dist.PrefixStore(f"pointrend_seg/{run}", store)


def _first_failure(store: dist.Store, rank: int, error: BaseException) -> tuple[bool, str]:
    """Leave the message of a failure in the store, unless there is one.

    Returns:
        whether this failure is the first, and the message of the first.
    """
    message = f"Rank {rank} on {socket.gethostname()} failed: {first_line(error)}"
    try:
        first = store.compare_set(_ERROR, "", message).decode()
    except RuntimeError:  # its keeper, rank 0, is gone: rank 1 speaks for all
        return not is_peer_error(error) or rank == 1, message
    return first == message, first


# --- processes that are started from outside ------------------------------------------------


def _run_started(
    main: Callable[..., object], args: tuple, place: Place, start_timeout: float
) -> None:
    """Run the function in this process, one of several that torchrun or Slurm started."""
    store = _open_store(place, start_timeout)
    try:
        _run(main, args, Processes(place, store, start_timeout))
    except EndedByPeer:
        atexit.register(time.sleep, 2 * _LINGER)
        raise
    except KeyboardInterrupt as stopped:  # all processes stop; one says so
        if place.rank > 0:
            raise SystemExit(getattr(stopped, "status", 130)) from None
        raise
    except Exception as error:
        is_first, message = _first_failure(store, place.rank, error)
        # The first shows its error, and then keeps the store, if it has it, until the others have
        # looked there. They end after it: torchrun ends all when one does.
        atexit.register(time.sleep, _LINGER if is_first else 2 * _LINGER)
        if not is_first:
            raise EndedByPeer(message) from error
        raise


def _run(main: Callable[..., object], args: tuple, processes: Processes) -> None:
    main(*args, processes)
    if dist.is_initialized():  # not after an error, when others may wait for something else
        comm.synchronize()
        dist.destroy_process_group()


# --- processes that this one starts ---------------------------------------------------------


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


def _start(main: Callable[..., object], args: tuple, first: Place, start_timeout: float) -> None:
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
    """Run the function in a process that `_start` made, and send the error that it raises."""
    # Data loaders start their processes as they do in a run of one process, not by "spawn" again.
    multiprocessing.set_start_method(start_method, force=True)
    os.setpgid(0, 0)  # Ctrl-C reaches this process through the parent alone
    threading.Thread(target=_end_with_parent, daemon=True).start()
    store = None
    try:
        answers.value = 1
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        store = _connect(place, start_timeout)
        _run(main, args, Processes(place, store, start_timeout))
    except BaseException as error:
        if store is not None and isinstance(error, Exception):
            is_first, message = _first_failure(store, place.rank, error)
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


# --- small parts ----------------------------------------------------------------------------


def _gpu(place: Place, device: str) -> int:
    """Return the number of the GPU of a process."""
    count = torch.cuda.device_count()
    if device != "cuda":
        raise InputError(
            f"MODEL.DEVICE is {device}, but {place.world_size} processes take one GPU each: set it "
            "to cuda."
        )
    if place.starter == "Slurm" and count == 1:
        return 0  # the one that Slurm shows to this task (srun --gpus-per-task 1)
    if place.local_rank >= count:
        own_start = place.starter == "--num-gpus"
        started = f"is {place.local_size}" if own_start else f"starts {place.local_size} processes"
        raise InputError(
            f"{place.starter} {started}, but PyTorch finds {count} CUDA device(s) on this machine. "
            f"Set it to {count}, or MODEL.DEVICE to cpu."
        )
    return place.local_rank


def _in_words(counts: str) -> str:
    world_size, local_size = counts.split()
    return f"{world_size} processes, {local_size} on each machine"


def _ranks(ranks: set[int]) -> str:
    names = [str(rank) for rank in sorted(ranks)]
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f"Rank(s) {shown}"
