"""Refuse what is no file before it is opened: reading a pipe would wait forever."""

import os

from ..errors import InputError


def check_regular(path: str | os.PathLike, what: str) -> None:
    """Raise `InputError` where something that is not a regular file has a file's name.

    Args:
        path: what does not exist is left to the one who opens it.
        what: "image", "config file" or the like, for the message.

    Example:
        >>> check_regular(".", "config file")
        Traceback (most recent call last):
        pointrend_seg.errors.InputError: The config file . is a folder, not a file. ...
    """
    kind = odd_kind(path)
    if kind:
        raise InputError(f"The {what} {path} is {kind}, not a file. Give the path of a file.")


def odd_kind(path: str | os.PathLike) -> str:
    """Return what a path that exists is, such as "a folder"; "" for a file, or for nothing."""
    if os.path.isdir(path):
        return "a folder"
    if os.path.lexists(path) and not os.path.exists(path):
        return "a link that leads nowhere"
    return "a pipe or device" if os.path.exists(path) and not os.path.isfile(path) else ""
