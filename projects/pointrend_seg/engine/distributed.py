"""Run a function in all processes of a run.

This process starts them, or torchrun or Slurm did.
"""

import atexit
import re
import time
from collections.abc import Callable
from dataclasses import replace

from ..errors import EndedByPeer, InputError
from .places import Place, find_place, shown_by_rank_0
from .rendezvous import (
    START_TIMEOUT,
    Processes,
    first_failure,
    gpu_number,
    open_store,
    serve_store,
)
from .spawning import start_processes

_LINGER = 0.5  # seconds in which processes that fail together hear of each other


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
        gpu_number(replace(first, rank=first.rank + last, local_rank=last), device)
    if dist_url == "auto":  # a store of this process: no other can take its port in between
        first = replace(first, host="127.0.0.1")
    else:
        host, port = _address(dist_url)
        first = replace(first, host=host, port=port)
    store = serve_store(first) if machine_rank == 0 else None  # it lives as long as this function
    if store is not None:
        first = replace(first, port=store.port)
    start_processes(main, args, first, start_timeout)


def _run_started(
    main: Callable[..., object], args: tuple, place: Place, start_timeout: float
) -> None:
    """Run the function in this process, one of several that torchrun or Slurm started."""
    store = open_store(place, start_timeout)
    try:
        Processes(place, store, start_timeout).run(main, args)
    except EndedByPeer:
        atexit.register(time.sleep, 2 * _LINGER)
        raise
    except KeyboardInterrupt as stopped:  # all processes stop; one says so
        if place.rank > 0:
            raise SystemExit(getattr(stopped, "status", 130)) from None
        raise
    except Exception as error:
        is_first, message = first_failure(store, place.rank, error)
        # The first shows its error, and then keeps the store, if it has it, until the others have
        # looked there. They end after it: torchrun ends all when one does.
        atexit.register(time.sleep, _LINGER if is_first else 2 * _LINGER)
        if not is_first:
            raise EndedByPeer(message) from error
        raise


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
