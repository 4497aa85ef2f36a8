"""The place where the processes of a run meet before there is a process group.

It is a store (a small server of keys and values): rank 0 or the process that starts the others
keeps it, torchrun has one of its own. There each process says that it has arrived and which counts
it was started with, and there the first that fails leaves its message, so that it is shown once.
The process group is made when all have arrived: NCCL for GPUs, Gloo for CPUs.
"""

import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from detectron2.utils import comm

from ..errors import EndedByPeer, InputError, first_line, is_peer_error
from .places import Place

START_TIMEOUT = 600.0  # seconds until all processes have to be there
# A process waits so long for another: for one that scores a large data set, for example.
COLLECTIVE_TIMEOUT = timedelta(minutes=30)
_POLL = 0.1  # seconds between looks at the store
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
            torch.cuda.set_device(gpu_number(self.place, device))
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

    def run(self, main: Callable[..., object], args: tuple) -> None:
        """Call ``main(*args, self)``, then take the process group down."""
        main(*args, self)
        if dist.is_initialized():  # not after an error, when others may wait for something else
            comm.synchronize()
            dist.destroy_process_group()

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


def serve_store(place: Place) -> dist.TCPStore:
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


def connect_to_store(place: Place, timeout: float) -> dist.TCPStore:
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


def open_store(place: Place, timeout: float) -> dist.Store:
    """Open the store of processes that torchrun or Slurm started."""
    keeps_it = place.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True)
    store = serve_store(place) if keeps_it else connect_to_store(place, timeout)
    # Another run, or an earlier attempt of this one, may use the same server.
    names = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "SLURM_JOB_ID", "SLURM_STEP_ID")
    run = ".".join(os.environ.get(name, "") for name in names)
    return dist.PrefixStore(f"pointrend_seg/{run}", store)


def first_failure(store: dist.Store, rank: int, error: BaseException) -> tuple[bool, str]:
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


def gpu_number(place: Place, device: str) -> int:
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
