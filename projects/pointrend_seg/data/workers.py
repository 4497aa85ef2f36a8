"""Processes of data loaders: which signals end them, and how many shared memory is enough for."""

import os
import signal
import threading


def outlive_signals(worker: int = 0) -> None:
    """Let a data loader's process be ended by the process that made it, and by no other's signal.

    Slurm and terminals send the signals that end a training to all of its processes. Those of the
    loader go on, so that the training gets the batches of its last iteration.

    Args:
        worker: its number, which a loader gives to its ``worker_init_fn``.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_parent_says_so, daemon=True).start()


def _end_when_parent_says_so() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
