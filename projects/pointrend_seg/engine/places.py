"""The place of a process in a run of several: from torchrun's, Slurm's or our own counts."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..errors import EndedByPeer, InputError

_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_SLURM_PORTS = range(20_000, 32_000)  # below those that Linux gives to outgoing connections


@dataclass(frozen=True)
class Place:
    """The place of a process in a run, and where the processes meet.

    Attributes:
        rank: number of the process in the run, from 0 to ``world_size`` - 1.
        world_size: number of processes in the run.
        local_rank: number of the process on its machine, from 0 to ``local_size`` - 1.
        local_size: number of processes on each machine.
        host, port: of the store through which the processes find each other.
        starter: what started the process, for messages.

    Raises:
        InputError: the numbers contradict each other.

    Example:
        >>> Place(rank=5, world_size=8, local_rank=1, local_size=4).machine
        1
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_size: int = 1
    host: str = ""
    port: int = 0
    starter: str = "--num-gpus"

    def __post_init__(self) -> None:
        where = f"{self.starter} says"
        if not 0 <= self.rank < self.world_size:
            raise InputError(
                f"{where} that this is process {self.rank} of {self.world_size}; the ranks are 0 "
                f"to {self.world_size - 1}."
            )
        if not 0 <= self.local_rank < self.local_size:
            raise InputError(
                f"{where} that this is process {self.local_rank} of {self.local_size} on its "
                f"machine; the local ranks are 0 to {self.local_size - 1}."
            )
        if self.world_size % self.local_size:
            raise InputError(
                f"{where} that {self.local_size} of {self.world_size} processes are on this "
                "machine. Start the same number on each machine."
            )
        if self.rank % self.local_size != self.local_rank:
            raise InputError(
                f"{where} that rank {self.rank} is process {self.local_rank} of {self.local_size} "
                "on its machine. Number the ranks machine by machine (srun --distribution=block)."
            )

    @property
    def machine(self) -> int:
        """Number of the machine, from 0."""
        return self.rank // self.local_size


def find_place(environ: Mapping[str, str] = os.environ) -> Place | None:
    """Find the place that torchrun or Slurm's srun gave this process; None if neither started it.

    A run of one process is none of several. What ``torchrun`` says counts more than what ``srun``
    says, because srun may have started it.

    Raises:
        InputError: variables are missing, no numbers, or contradict each other.

    Example:
        >>> find_place({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}) is None
        True
    """
    if any(name in environ for name in _TORCHRUN[:3]):
        place = _from_torchrun(environ)
    elif "SLURM_PROCID" in environ and environ.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        place = _from_slurm(environ)
    else:
        return None
    return place if place.world_size > 1 else None


@contextlib.contextmanager
def shown_by_rank_0(place: Place) -> Iterator[None]:
    """Turn an `InputError` that every process raises into `EndedByPeer` on all but rank 0."""
    try:
        yield
    except InputError as error:
        if place.rank > 0:
            raise EndedByPeer(str(error)) from error
        raise


def _from_torchrun(environ: Mapping[str, str]) -> Place:
    missing = [name for name in _TORCHRUN if not environ.get(name)]
    if missing:
        present = ", ".join(name for name in _TORCHRUN if name in environ)
        raise InputError(
            f"The environment has {present}, but not {', '.join(missing)}. torchrun sets all of "
            f"them; to start without it, unset {present}."
        )
    return Place(
        rank=_integer(environ, "RANK"),
        world_size=_integer(environ, "WORLD_SIZE"),
        local_rank=_integer(environ, "LOCAL_RANK"),
        local_size=_integer(environ, "LOCAL_WORLD_SIZE"),
        host=environ["MASTER_ADDR"],
        port=_integer(environ, "MASTER_PORT"),
        starter="torchrun",
    )


def _from_slurm(environ: Mapping[str, str]) -> Place:
    # SLURM_STEP_… are of the srun that started this process; sbatch's shell has SLURM_NTASKS, too.
    world_size = _integer(environ, "SLURM_STEP_NUM_TASKS")
    host = environ.get("MASTER_ADDR") or _first_host(environ.get("SLURM_STEP_NODELIST", ""))
    if not host:
        raise InputError("Slurm names no machines (SLURM_STEP_NODELIST): set MASTER_ADDR.")
    if "MASTER_PORT" in environ:
        port = _integer(environ, "MASTER_PORT")
    else:
        job, step = (_integer(environ, name, "0") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
        port = _SLURM_PORTS[(job * 17 + step) % len(_SLURM_PORTS)]
    return Place(
        rank=_integer(environ, "SLURM_PROCID"),
        world_size=world_size,
        local_rank=_integer(environ, "SLURM_LOCALID", "0"),
        local_size=_tasks_per_machine(environ, world_size),
        host=host,
        port=port,
        starter="Slurm",
    )


def _integer(environ: Mapping[str, str], name: str, default: str | None = None) -> int:
    text = environ.get(name, default) or ""
    if not re.fullmatch(r"[0-9]+", text):
        raise InputError(f"The environment variable {name} is '{text}': it must be a number.")
    return int(text)


def _tasks_per_machine(environ: Mapping[str, str], world_size: int) -> int:
    """Return the number of tasks on each machine from "4(x2)" or "4,4".

    Raises:
        InputError: they are not the same on all machines.
    """
    name = "SLURM_STEP_TASKS_PER_NODE"
    if name not in environ:
        return _integer(environ, "SLURM_NTASKS_PER_NODE", str(world_size))
    counts = set(re.sub(r"\(x\d+\)", "", environ[name]).split(","))
    if len(counts) > 1:
        raise InputError(
            f"Slurm starts {environ[name]} tasks on the machines. Start the same number on each "
            "(srun --ntasks-per-node)."
        )
    return _integer({name: counts.pop()}, name)


def _first_host(nodes: str) -> str:
    """Return the first host of Slurm's short form of a list.

    Example:
        >>> _first_host("gpu[07-09,12],cpu1"), _first_host("a-1,a-2"), _first_host("r[1-2]n[3-4]")
        ('gpu07', 'a-1', 'r1n3')
    """
    first = re.match(r"(?:[^\[,]|\[[^\]]*\])*", nodes)
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first.group() if first else "")
