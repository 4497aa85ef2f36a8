"""Append to ``metrics.json``, which has one JSON object in each line."""

import contextlib
import json
import os
from pathlib import Path

from detectron2.utils.events import JSONWriter


class MetricsWriter(JSONWriter):
    """Detectron2's `JSONWriter`, which opens the file at the first line and mends its end before.

    Args:
        json_file: path of the file, which may exist; its folder is made if need be.
    """

    def __init__(self, json_file: str | os.PathLike):
        self._path = Path(json_file)
        self._is_open = False

    def write(self) -> None:
        """Append the scalars of the present storage that are new."""
        if not self._is_open:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            mend_end(self._path)
            super().__init__(str(self._path))
            self._is_open = True
        super().write()

    def close(self) -> None:
        if self._is_open:
            super().close()


def mend_end(path: str | os.PathLike) -> None:
    """Cut the half line at the end of a file that a killed process or a full disk left.

    A whole JSON object gets the end of line that it lacks. A file that does not exist stays away.
    """
    with contextlib.suppress(FileNotFoundError), open(path, "r+b") as file:
        content = file.read()
        last = content.rpartition(b"\n")[2]
        if not last:
            return
        with contextlib.suppress(ValueError):
            json.loads(last)
            file.write(b"\n")
            return
        file.truncate(len(content) - len(last))
