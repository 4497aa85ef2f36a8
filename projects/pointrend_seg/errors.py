"""The exception for mistakes that users can correct, and parts of its messages."""

import difflib
import platform
import re
import sys
from collections.abc import Iterable
from importlib import metadata

import torch

# Said with the name of what was asked for; without Detectron2 only `pointrend_seg.points` works.
NEEDS_DETECTRON2 = (
    "{} needs Detectron2, which is not installed: install it as docs/installation.md says."
)
_PEER_ERROR = re.compile(r"/gloo/|NCCL error|Connection (closed|reset) by peer")
_PACKAGES = ("pointrend-seg", "detectron2", "torch", "torchvision", "numpy", "fvcore")


class InputError(ValueError):
    """A mistake in the user's config, files, data set or checkpoint.

    The message says what was expected, what came and what to do. The command-line tools print it
    without a traceback and exit with status 2.
    """


class EndedByPeer(Exception):
    """Another process of a run of several failed first, and shows its error itself."""


def is_peer_error(error: BaseException) -> bool:
    """Tell whether an error comes from the connection to another process of a run."""
    from_backend = isinstance(error, RuntimeError) and _PEER_ERROR.search(str(error))
    # Gloo raises plain `RuntimeError`, and so did NCCL before PyTorch 2.1.
    return isinstance(error, getattr(torch.distributed, "DistError", ())) or bool(from_backend)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean A or B?" with up to three similar known names, "" if none is similar.

    Names that differ only in case, or that share the part after the last dot, count as similar.
    """
    known = list(known)
    near = [other for other in known if other.lower() == name.lower()]
    near += difflib.get_close_matches(name, known, n=3, cutoff=0.75)
    if not near:
        leaf = name.rpartition(".")[2].lower()
        same_leaf = [other for other in known if other.rpartition(".")[2].lower() == leaf]
        near = difflib.get_close_matches(name, same_leaf, n=3, cutoff=0.0)
    near = list(dict.fromkeys(near))[:3]
    return f" Did you mean {' or '.join(near)}?" if near else ""


def printable(text: object, keep: str = "") -> str:
    r"""Return text from a file with its control characters as escapes.

    So it can neither break a line nor hide or turn around what a terminal shows.

    Args:
        keep: control characters that stay, such as a line break in text of several lines.

    Example:
        >>> print(printable("a\nb\x1b[31m"))
        a\nb\x1b[31m
    """
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode()
        for char in str(text)
    )


def first_line(error: BaseException) -> str:
    """Return an error's type and the first line of its message, if it has one."""
    lines = str(error).strip().splitlines()
    return ": ".join([type(error).__name__, *lines[:1]])


def versions() -> str:
    """Return the versions of Python, PyTorch and related packages in one line, for bug reports."""
    found = [f"Python {platform.python_version()}"]
    for name in _PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:  # a source tree that is not installed
            version = getattr(sys.modules.get(name), "__version__", None)
            found += [f"{name} {version}"] if version else []
    found.append(f"CUDA {torch.version.cuda or 'none'}")
    return ", ".join([*found, platform.platform()])
