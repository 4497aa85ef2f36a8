"""Explain errors of the machine: memory, disks, files, GPUs, processes."""

import errno
import os
import re

import cv2
import torch
from torch.multiprocessing import ProcessRaisedException

_GPU_MEMORY = (
    "The GPU ran out of memory. For training, lower SOLVER.IMS_PER_BATCH (and SOLVER.BASE_LR with "
    "it) or INPUT.MIN_SIZE_TRAIN and INPUT.MAX_SIZE_TRAIN; for inference, lower "
    "INPUT.MIN_SIZE_TEST and INPUT.MAX_SIZE_TEST. Check that nothing else uses the GPU "
    "(nvidia-smi)."
)
_MEMORY = (
    "The memory ran out. Lower SOLVER.IMS_PER_BATCH, DATALOADER.NUM_WORKERS, the sizes in INPUT, "
    "or --batch-size and --workers; and check that no width of a layer in the config has a digit "
    "too many."
)
_WORKER_KILLED = (
    "A data loader process was killed, probably because memory ran out. Lower "
    "DATALOADER.NUM_WORKERS (0 loads data in the main process), or give a container more shared "
    "memory (docker run --shm-size 8g)."
)
_NO_SPACE = "There is no space left on the device. Free some space or choose another OUTPUT_DIR."
_NOT_WRITTEN = (
    "A file could not be written whole: most likely there is no space left on the device. Free "
    "some space or choose another OUTPUT_DIR."
)
_OPEN_FILES = (
    "Too many files are open. Allow more (ulimit -n 65536), or lower DATALOADER.NUM_WORKERS."
)
_PROCESSES = (
    "No further process or thread can be started. Allow more (ulimit -u), or lower "
    "DATALOADER.NUM_WORKERS, --workers or --threads."
)
_NO_GPU = (
    "PyTorch cannot use the GPU of this machine. Install the PyTorch that fits its driver, or set "
    "MODEL.DEVICE cpu. PyTorch says: "
)
_NOT_COMPILED = (
    "The config needs the compiled part of Detectron2 (deformable convolution, rotated boxes), "
    "which is not installed. Compile Detectron2, or change the config. Detectron2 says: "
)
# What the text of an error tells, whichever type it has; True adds its first line.
_TEXTS: tuple[tuple[str, str, bool], ...] = (
    (r"DataLoader worker \(pid.*\) (is killed|exited unexpectedly)", _WORKER_KILLED, False),
    (r"unable to (open|write|resize|mmap).*(/torch_|shared memory)", _WORKER_KILLED, False),
    (
        r"(CUDA|HIP|MPS backend) (error: )?out of memory|CU[A-Z]+_STATUS_ALLOC_FAILED",
        _GPU_MEMORY,
        False,
    ),
    (
        r"DefaultCPUAllocator|can't allocate memory|Storage size calculation overflowed|"
        r"integer multiplication overflow|std::bad_alloc|Insufficient memory|Failed to allocate",
        _MEMORY,
        False,
    ),
    (r"can't start new thread", _PROCESSES, False),
    (r"received \d+ items of ancdata", _OPEN_FILES, False),
    (r"PytorchStreamWriter failed writing|unexpected pos \d+|failed to write", _NOT_WRITTEN, False),
    (
        r"no kernel image is available|CUDA driver version is insufficient|"
        r"Found no NVIDIA driver|CUDA driver initialization failed|not compiled with CUDA",
        _NO_GPU,
        True,
    ),
    (r"Cannot import 'detectron2\._C'|detectron2 is not compiled", _NOT_COMPILED, True),
)
# What to do, by the number of an error of the operating system.
_ANOTHER = "Choose another path (OUTPUT_DIR, --output, …)."
_NUMBERS = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EFBIG: _NO_SPACE,
    errno.EMFILE: _OPEN_FILES,
    errno.ENFILE: _OPEN_FILES,
    errno.EAGAIN: _PROCESSES,
    errno.ENOMEM: _MEMORY,
    errno.EROFS: f"The file system is read-only. {_ANOTHER}",
    errno.EACCES: f"A file or folder may not be read or written. {_ANOTHER}",
    errno.EPERM: f"A file or folder may not be changed. {_ANOTHER}",
    errno.ENAMETOOLONG: f"The name of a file or folder is too long. {_ANOTHER}",
    errno.ENOTDIR: f"A part of a path is a file, not a folder. {_ANOTHER}",
    errno.EISDIR: f"A folder is where a file should be. {_ANOTHER}",
    errno.ELOOP: f"A link leads to itself. {_ANOTHER}",
}


def explain_failure(error: BaseException) -> str | None:
    """Return a message for an error of the machine, None for any other.

    An error of another process is known by the traceback in its text.
    """
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return _GPU_MEMORY
    if isinstance(error, MemoryError):
        return _MEMORY
    if isinstance(error, OSError) and error.strerror:
        if isinstance(error.filename, str | bytes) and error.filename:
            path, advice = os.fsdecode(error.filename), _NUMBERS.get(error.errno or 0, _ANOTHER)
            advice = _ANOTHER if advice.endswith(_ANOTHER) else advice
            return f"{path if path.isprintable() else repr(path)}: {error.strerror}. {advice}"
        return _NUMBERS.get(error.errno or 0)
    text = str(error)
    if is_from_process(error):
        name, text = _last_error(text)
        if name == "OutOfMemoryError":
            return _GPU_MEMORY
        if name.endswith("MemoryError"):
            return _MEMORY
        number = re.match(r"\[Errno (\d+)\] ([^:]*): '(.*)'|\[Errno (\d+)\] ", text)
        if number and number[4]:
            return _NUMBERS.get(int(number[4]))
        if number:
            return explain_failure(OSError(int(number[1]), number[2], number[3]))
    if not isinstance(error, RuntimeError | ImportError | OSError | cv2.error):
        return None
    for pattern, message, is_shown in _TEXTS:
        if re.search(pattern, text):
            return f"{message}{(text.strip().splitlines() or [''])[0]}" if is_shown else message
    return None


def is_from_process(error: BaseException) -> bool:
    """Tell whether an error was raised in another process, and its text has the traceback there."""
    return isinstance(error, ProcessRaisedException) or bool(
        re.match(r"Caught \w+ in (DataLoader worker|replica|pin memory)", str(error).strip("'\""))
    )


def _last_error(text: str) -> tuple[str, str]:
    """Return the type and the message at the end of a traceback."""
    lines = text.strip().splitlines()
    last = max((n for n, line in enumerate(lines) if line.startswith('  File "')), default=-1)
    end = "\n".join(line for line in lines[last + 1 :] if not line.startswith("    "))
    name, _, message = end.partition(":")
    return name.rpartition(".")[2].strip(), message.strip()
