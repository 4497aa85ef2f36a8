"""Processes of data loaders: what ends them, and how many of them shared memory is enough for."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from multiprocessing.queues import Queue

from detectron2.config import CfgNode
from detectron2.utils import comm

from ..errors import first_line

SHARED_MEMORY = "/dev/shm"  # where PyTorch puts the tensors that processes hand over on Linux
_MEGA = 2**20

logger = logging.getLogger(__name__)


def set_up_worker(worker: int = 0) -> None:
    """Let a data loader's process be ended by the process that made it, and by no other's signal.

    Slurm and terminals send the signals that end a training to all of its processes. Those of the
    loader go on, so that the training gets the batches of its last iteration. One that cannot hand
    over an image ends, because the training would wait for it for ever.

    Args:
        worker: its number, which a loader gives to its ``worker_init_fn``.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_parent_says_so, daemon=True).start()
    Queue._on_queue_feeder_error = staticmethod(_end_with_error)  # type: ignore[attr-defined]


def _end_when_parent_says_so() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def _end_with_error(error: Exception, item: object) -> None:
    print(f"A data loader process cannot hand over an image: {first_line(error)}", file=sys.stderr)
    os._exit(1)


def affordable_workers(wanted: int, *, image_bytes: int, ahead: int, held: int) -> int:
    """Return how many processes of a data loader can load images; a warning says if it is fewer.

    Args:
        wanted: ``DATALOADER.NUM_WORKERS``.
        image_bytes: tensors of one image.
        ahead: images that each process loads before they are asked for.
        held: images that the process which asks for them still has.
    """
    if not wanted or sys.platform != "linux":
        return wanted
    free = _free_shared_memory() // comm.get_local_size()
    affordable = max(0, min(wanted, (free // image_bytes - held) // ahead))
    if affordable < wanted:
        logger.warning(
            "%s has %d MB free, and %d data loader processes can need %d MB of it: %s. Give the "
            "container more (docker run --shm-size 8g), or set DATALOADER.NUM_WORKERS %d.",
            SHARED_MEMORY,
            free // _MEGA,
            wanted,
            (wanted * ahead + held) * image_bytes // _MEGA,
            f"{affordable} of them load the images" if affordable else "this process loads images",
            affordable,
        )
    return affordable


def _free_shared_memory() -> int:
    try:
        system = os.statvfs(SHARED_MEMORY)
    except OSError:
        return 0
    return system.f_bavail * system.f_frsize


def largest_input(cfg: CfgNode, records: Sequence[dict], *, is_train: bool) -> int:
    """Return the bytes of the tensors of an image at the largest size that the config allows.

    That are 3 for each pixel of the image, in training 8 for each label, and 1 for each object, of
    which there may be twice as many as an image has on average.

    Args:
        records: data set dicts.
    """
    sizes = cfg.INPUT.MIN_SIZE_TRAIN if is_train else [cfg.INPUT.MIN_SIZE_TEST]
    longest = cfg.INPUT.MAX_SIZE_TRAIN if is_train else cfg.INPUT.MAX_SIZE_TEST
    pixels = max(sizes) * longest
    if not pixels:  # images keep their sizes
        pixels = max((r.get("height", 0) * r.get("width", 0) for r in records), default=0)
    if is_train and cfg.INPUT.CROP.ENABLED and cfg.INPUT.CROP.TYPE == "absolute":
        height, width = cfg.INPUT.CROP.SIZE
        pixels = min(pixels, height * width) or height * width
    depth = 3.0
    if is_train:
        depth += 8 * any("sem_seg_file_name" in record for record in records)
        objects = sum(len(record.get("annotations", ())) for record in records)
        depth += 2 * objects / max(1, len(records)) * cfg.MODEL.MASK_ON
    return max(1, int(pixels * depth))
