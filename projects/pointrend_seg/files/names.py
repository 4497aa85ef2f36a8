"""Paths of output files from names that come out of files: they stay inside of a folder."""

import os
from pathlib import Path

from ..errors import InputError, printable
from .atomic import refuse_link


def path_inside(folder: str | os.PathLike, name: str) -> Path:
    """Return the path of an output file or folder; refuse one that would lie elsewhere.

    Args:
        folder: the output folder, which may be a link itself, or lie below one.
        name: a path relative to it, such as ``inference/DATASET``.

    Raises:
        InputError: the name is empty, absolute or has ``..``, or something on the way from the
            folder to it is a link.

    Example:
        >>> path_inside("output", "inference/streets").as_posix()
        'output/inference/streets'
    """
    parts = Path(name).parts
    if os.path.isabs(name) or ".." in parts or "\0" in name or not parts:
        raise InputError(
            f"'{printable(name)}' cannot be the name of an output in {printable(folder)}: it is "
            "empty or leads elsewhere. Rename the data set or the image."
        )
    path = Path(folder)
    for part in parts:
        path = path / part
        refuse_link(path)
    return path
