"""The one exception type for what a user can put right, and what messages are made of."""

import difflib
import platform
import sys
from collections.abc import Iterable
from importlib import metadata

import torch

_PACKAGES = ("pointrend-seg", "detectron2", "torch", "torchvision", "numpy", "fvcore")


class InputError(ValueError):
    """Report a config, file, data set or checkpoint of the user's that does not fit.

    The message is one or a few sentences: what was expected, what came, and what to do. The
    command-line tools print it without a traceback and exit with status 2.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Ask whether one of the nearest known names was meant.

    Names that differ only in case, or whose last part (behind a dot) is the same, count as near.

    Returns:
        a question that begins with a space, or "" where nothing is near.
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


def versions() -> str:
    """List the versions of Python, PyTorch and what else matters for a fault report, in a line."""
    found = [f"Python {platform.python_version()}"]
    for name in _PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:  # of a source tree, not installed
            version = getattr(sys.modules.get(name), "__version__", None)
            found += [f"{name} {version}"] if version else []
    found.append(f"CUDA {torch.version.cuda or 'none'}")
    return ", ".join([*found, platform.platform()])
