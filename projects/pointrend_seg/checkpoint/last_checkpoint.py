"""Find the checkpoint that a training continues from, past damaged ones."""

import logging
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from detectron2.utils import comm

from ..errors import InputError, first_line
from .saving import FINAL, LAST

_NAME = re.compile(rf"model_\d+\.pth|{FINAL}\.pth")

logger = logging.getLogger(__name__)


def find_last_checkpoint(folder: str, read: Callable[[str], Any]) -> str:
    """Find the newest checkpoint in a folder that can be read, the same on all processes.

    It is the one that ``last_checkpoint`` names. Where that one is missing or damaged it is the
    newest other one of a training (``model_0001999.pth`` or ``model_final.pth``, by the time when
    they were written), and a warning names both.

    Args:
        folder: the output folder; it does not have to exist.
        read: loads a file as `torch.load` does, and raises what it raises.

    Returns:
        the path, "" if there are no checkpoints.

    Raises:
        InputError: there are checkpoints, but none can be read.
    """
    found, error = "", ""
    if comm.is_main_process():
        try:
            found = _find(Path(folder), read)
        except InputError as raised:
            error = str(raised)
    if comm.get_world_size() > 1:
        found, error = comm.all_gather((found, error))[0]
    if error:
        raise InputError(error)
    return found


def _find(folder: Path, read: Callable[[str], Any]) -> str:
    others = sorted(
        (path for path in folder.glob("model_*.pth") if _NAME.fullmatch(path.name)),
        key=lambda path: (path.stat().st_mtime_ns, path.name),
        reverse=True,
    )
    name = _read_name(folder / LAST)
    if name is None and not others:
        return ""
    problems = []
    if name is None:
        problems.append(f"{folder / LAST} does not exist")
    elif not re.fullmatch(r"[\w.+-]+\.pth", name):
        problems.append(f"{folder / LAST} holds {name[:80]!r}, not the name of a file beside it")
    else:
        others = [folder / name, *(path for path in others if path.name != name)]
    for path in others:
        problem = _problem(path, read)
        if problem is None:
            if problems:
                logger.warning("%s. Continuing from %s instead.", "; ".join(problems), path)
            return str(path)
        problems.append(problem)
    raise InputError(
        f"There is no checkpoint to continue from: {'; '.join(problems)}. Copy one to {folder}, or "
        "start again without --resume."
    )


def _read_name(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return None


def _problem(path: Path, read: Callable[[str], Any]) -> str | None:
    """Say what is wrong with a checkpoint; None if it is whole."""
    if not path.is_file():
        return f"{path} does not exist"
    try:
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()  # compares checksums, which `torch.load` does not
        if part is None:
            content = read(str(path))
    except InputError as error:
        return str(error).rstrip(".")
    except Exception as error:
        return f"{path} is damaged ({first_line(error)}; {path.stat().st_size} bytes)"
    if part is not None:
        return f"{path} is damaged (the checksum of {part} is wrong)"
    if not isinstance(content, Mapping) or "model" not in content:
        return f"{path} is not a checkpoint"
    return None
