"""Keep a second training out of an output folder.

The kernel locks the file ``training.lock`` for the process (POSIX locks, which end with it however
it ends, and which other machines see on shared file systems such as NFS). Its text says who holds
it, for the message, and tells a training that ended by itself from one that was killed.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import time
from datetime import datetime
from pathlib import Path

from ..errors import InputError

NAME = "training.lock"
_HELD_BY_ANOTHER = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)

logger = logging.getLogger(__name__)
_own: set[Path] = set()  # POSIX locks do not keep a process from itself


class RunLock:
    """Hold ``training.lock`` in a folder from `take` to `release`.

    Args:
        folder: the output folder; it exists.
    """

    def __init__(self, folder: str | os.PathLike):
        self.path = Path(folder).resolve() / NAME
        self._file = -1

    def take(self) -> None:
        """Take the lock, also from a training that was killed, which the log then says.

        Raises:
            InputError: another training holds it, or it cannot be known whether one does.
        """
        if self.path in _own:
            raise InputError(f"{self._sentence(_who())} It is this process.")
        while True:
            # Another may remove the file before it is locked: then it is tried again.
            file, is_new = self._open()
            try:
                can_lock = self._lock(file)
                if self._is_there(file):
                    if not is_new:
                        self._check(_read(file), can_lock)
                    os.ftruncate(file, 0)
                    os.pwrite(file, json.dumps(_who()).encode(), 0)
                    break
            except BaseException:
                os.close(file)
                raise
            os.close(file)
        self._file = file
        _own.add(self.path)

    def release(self) -> None:
        """Remove the file and give the lock back, if it is held."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                self.path.unlink()
            os.close(self._file)
            self._file = -1
            _own.discard(self.path)

    def _open(self) -> tuple[int, bool]:
        """Open the file; return also whether this made it, which is one process alone."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(self.path, flags | os.O_EXCL, 0o644), True
        except FileExistsError:
            return os.open(self.path, flags, 0o644), False

    def _lock(self, file: int) -> bool:
        """Lock the file; return False where the file system has no locks."""
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD_BY_ANOTHER:
                time.sleep(0.1)  # in which another that has just started says who it is
                raise InputError(self._sentence(_read(file) or {})) from None
            if error.errno in _NO_LOCKS:
                return False
            raise
        return True

    def _is_there(self, file: int) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(file), os.stat(self.path))
        return False

    def _check(self, before: dict | None, can_lock: bool) -> None:
        """Look at who left the text of a file that the kernel does not keep locked for them."""
        if before is None and can_lock:
            return
        own, before = _who(), before or {}
        if can_lock and own["boot"] == before.get("boot"):
            gone = "was killed"
        elif can_lock and own["host"] == before.get("host"):
            gone = f"ended when {own['host']} was started again"
        else:
            raise InputError(
                f"{self._sentence(before)} {own['host']} cannot tell "
                f"whether it still runs: if it does not, remove {self.path}."
            )
        logger.warning(
            "The previous training in %s, %s, %s.", self.path.parent, _text(before), gone
        )

    def _sentence(self, who: dict) -> str:
        return (
            f"Another training writes to {self.path.parent}: {_text(who)}. Stop it, or choose "
            "another OUTPUT_DIR."
        )


def _who() -> dict:
    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().strftime("%Y-%m-%d %H:%M:%S"),
        "boot": _boot(),
    }


def _boot() -> str:
    """Return what changes when the machine starts again: containers of a machine share it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


def _read(file: int) -> dict | None:
    """Return the text of a lock; None where it is empty, as one that was just made."""
    content = os.pread(file, 4096, 0)
    if not content:
        return None
    with contextlib.suppress(ValueError):
        who = json.loads(content)
        if isinstance(who, dict):
            return who
    return {}


def _text(who: dict) -> str:
    known = {"process": "?", "host": "?", "since": "?"} | who
    return f"process {known['process']} on {known['host']} since {known['since']}"
