"""The output folder of a run: nothing in it changes before everything that a run needs is checked.

Until then log messages wait, and the config is not written. What a refused run leaves is the folder
as it was; where there was none, there is none.
"""

import contextlib
import logging
import os
import sys
from logging.handlers import MemoryHandler
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.utils import comm

from ..files.atomic import write_text
from ..files.run_lock import RunLock

_LOGGERS = ("detectron2", "fvcore", "pointrend_seg")
_FORMAT = logging.Formatter(
    "[%(asctime)s] %(name)s %(levelname)s: %(message)s", datefmt="%m/%d %H:%M:%S"
)
_NEVER = 100  # above all levels

logger = logging.getLogger(__name__)


class RunFolder:
    """Collect the log of a run from `__enter__` on, and write it to the output folder later.

    Example:
        >>> cfg = CfgNode({"OUTPUT_DIR": "output"})
        >>> with RunFolder() as folder:
        ...     folder.lock(cfg)
        ...     # build everything, load weights
        ...     folder.begin(cfg, "config.yaml")
        ...     # train
        >>> sorted(path.name for path in Path("output").iterdir())
        ['config.yaml', 'log.txt']
    """

    def __init__(self) -> None:
        self._lock: RunLock | None = None
        self._made: list[Path] = []
        self._log = MemoryHandler(sys.maxsize, flushLevel=_NEVER, flushOnClose=False)

    def __enter__(self) -> "RunFolder":
        for name in _LOGGERS:
            logging.getLogger(name).addHandler(self._log)
        return self

    def lock(self, cfg: CfgNode) -> None:
        """Keep other trainings out of ``OUTPUT_DIR``, which is made if need be.

        Raises:
            InputError: another training writes to it.
        """
        if comm.is_main_process():
            folder = path = Path(cfg.OUTPUT_DIR)
            while not folder.exists():
                self._made.append(folder)
                folder = folder.parent
            path.mkdir(parents=True, exist_ok=True)
            self._lock = RunLock(path)
            self._lock.take()

    def begin(self, cfg: CfgNode, config_name: str) -> None:
        """Write the config and the log so far to ``OUTPUT_DIR``: all processes checked everything.

        Args:
            config_name: file that the config is written to, with absolute paths.
        """
        comm.synchronize()
        folder, rank = Path(cfg.OUTPUT_DIR), comm.get_rank()
        folder.mkdir(parents=True, exist_ok=True)
        if self._lock is not None:  # parts of checkpoints are those of killed trainings
            for part in folder.glob(".model_*.part.pth"):
                part.unlink()
        file = _LogFile(folder / ("log.txt" if rank == 0 else f"log.txt.rank{rank}"))
        file.setFormatter(_FORMAT)
        self._log.setTarget(file)
        self._log.flush()
        self._log.capacity = 0
        if rank == 0:
            write_text(folder / config_name, _with_absolute_paths(cfg).dump())
            logger.info("Config saved to %s", folder / config_name)

    def __exit__(self, *error: object) -> None:
        """Close the log and give the lock back; remove folders of a run that did not begin."""
        for name in _LOGGERS:
            logging.getLogger(name).removeHandler(self._log)
        with contextlib.suppress(OSError):  # a full disk, which was said
            if self._log.target is not None:
                self._log.target.close()
        self._log.close()
        if self._lock is not None:
            self._lock.release()
        for folder in self._made:
            with contextlib.suppress(OSError):  # it has files: of this run, or of another
                folder.rmdir()


def _with_absolute_paths(cfg: CfgNode) -> CfgNode:
    """Return a config that means the same in any current directory; names and addresses stay."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = os.path.abspath(cfg.OUTPUT_DIR)
    weights = cfg.get("MODEL", {}).get("WEIGHTS", "")
    if weights and os.path.exists(weights):
        cfg.MODEL.WEIGHTS = os.path.abspath(weights)
    return cfg


class _LogFile(logging.FileHandler):
    """Append to a log; where the disk is full, the first failure is shown and the rest is not."""

    _failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not self._failed and isinstance(error, OSError):
            self._failed = True
            print(f"warning: {self.baseFilename}: {error.strerror}", file=sys.stderr)
        elif not isinstance(error, OSError):
            super().handleError(record)
