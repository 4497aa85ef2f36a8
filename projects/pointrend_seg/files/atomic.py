"""Write a file whole or not at all, whatever kills the process."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError


@contextlib.contextmanager
def replaces(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path to write to; it takes the place of ``path`` when the block ends.

    The content is on the disk before the name changes, so a reader finds the old file or the
    whole new one. An error within the block leaves ``path`` as it was. The temporary file lies in
    the same folder as ``.NAME.part.SUFFIX``; one that a killed process left is overwritten.

    Args:
        path: the file to write; its folder exists.

    Raises:
        InputError: ``path`` is a link; the file that it points to is not touched.
        OSError: the folder cannot be written to, or the disk is full.

    Example:
        >>> with replaces("metrics.txt") as part:
        ...     size = part.write_text("AP 39.7")
        >>> Path("metrics.txt").read_text()
        'AP 39.7'
    """
    path = Path(path)
    refuse_link(path)
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield part
        sync(part)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync(path.parent)


def refuse_link(path: Path) -> None:
    """Raise `InputError` where a path is a link."""
    if path.is_symlink():
        raise InputError(
            f"{path} is a link to {os.readlink(path)}, and output is not written through links. "
            "Remove it or choose another output folder."
        )


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a UTF-8 text file with `replaces`."""
    with replaces(path) as part:
        part.write_text(text, encoding="utf-8")


def sync(path: str | os.PathLike) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
