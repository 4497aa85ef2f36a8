"""Find the images and videos to predict on."""

import collections
import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from ..data.custom.datasets import IMAGE_EXTENSIONS
from ..errors import InputError
from .outputs import WRITTEN

T = TypeVar("T")

VIDEO_EXTENSIONS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")


@dataclass(frozen=True)
class Source:
    """A file to predict on.

    Attributes:
        path: absolute path of the image or video.
        name: name of the results: ``file_name`` without the extension, or with it if two files
            differ only in the extension.
        file_name: the path relative to the inputs' common parent folder.
    """

    path: str
    name: str
    file_name: str

    @property
    def is_video(self) -> bool:
        return self.path.lower().endswith(VIDEO_EXTENSIONS)


def find_sources(inputs: list[str], *, output: str = "") -> list[Source]:
    """Return the images and videos of files, folders (searched recursively) and patterns.

    Args:
        output: the folder that predictions are written to; what lies in it from an earlier run is
            not taken for input, unless its folder or file is given itself.

    Raises:
        InputError: no image or video is found for one of ``inputs``.
    """
    paths: list[str] = []
    folders: list[str] = []
    for given in inputs:
        found = [path for path in _paths(given) if not (output and _is_own(path, given, output))]
        if not found:
            others = left_out([given], output=output)
            raise InputError(
                f"{given}: no image or video there{others and f' ({others})'}. Expected a "
                f"file, a folder or a pattern of {', '.join(IMAGE_EXTENSIONS + VIDEO_EXTENSIONS)}, "
                f"in {os.getcwd()}."
            )
        paths += found
        folders += [given] if os.path.isdir(given) else map(os.path.dirname, found)
    paths = sorted({os.path.abspath(path) for path in paths})
    root = os.path.commonpath([os.path.abspath(folder) for folder in folders])
    names = [os.path.relpath(path, root) for path in paths]
    stems = [os.path.splitext(name)[0] for name in names]
    counts = collections.Counter(stems)
    return [
        Source(path, stem if counts[stem] == 1 else name, name)
        for path, name, stem in zip(paths, names, stems, strict=True)
    ]


def left_out(inputs: list[str], *, output: str = "") -> str:
    """Return a sentence about files that `find_sources` leaves out because of their type.

    Args:
        inputs, output: as of `find_sources`.

    Returns:
        such as "3 files of other types were left out: .txt 2, .csv 1"; "" if there are none.
    """
    counts: collections.Counter[str] = collections.Counter()
    for given in inputs:
        if os.path.isfile(given):
            continue
        for path in _files(given):
            in_output = bool(output) and _is_below(path, output) and not _is_below(given, output)
            if os.path.isfile(path) and not in_output and not _is_read(path):
                counts[os.path.splitext(path)[1].lower() or "without an extension"] += 1
    if not counts:
        return ""
    total = sum(counts.values())
    kinds = ", ".join(f"{kind} {count}" for kind, count in counts.most_common())
    files = "file of another type was" if total == 1 else "files of other types were"
    return f"{total} {files} left out: {kinds}"


def _is_below(path: str, folder: str) -> bool:
    inner, outer = os.path.realpath(path) + os.sep, os.path.realpath(folder) + os.sep
    return inner.startswith(outer)


def _is_read(path: str) -> bool:
    return path.lower().endswith(IMAGE_EXTENSIONS + VIDEO_EXTENSIONS)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of ``size`` items; the last may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _paths(given: str) -> list[str]:
    """Return what is named like an image or a video, whatever it is: reading it shows that."""
    if os.path.isfile(given):
        return [given]  # with any extension
    return [path for path in _files(given) if _is_read(path)]


def _files(given: str) -> Iterable[str]:
    return _walk(given) if os.path.isdir(given) else glob.glob(given, recursive=True)


def _walk(folder: str) -> Iterator[str]:
    """Yield what lies in a folder and below, without hidden names; linked folders once each."""
    seen = set()
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        place = os.path.realpath(parent)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        yield from (
            os.path.join(parent, name) for name in [*folders, *names] if not name.startswith(".")
        )


def _raise(error: OSError) -> None:
    raise error


def _is_own(path: str, given: str, output: str) -> bool:
    """Tell whether a search found what an earlier run wrote to the output folder."""
    written = [os.path.realpath(os.path.join(output, name)) + os.sep for name in WRITTEN]
    place, searched = os.path.realpath(path), os.path.realpath(given) + os.sep
    return any(place.startswith(each) and not searched.startswith(each) for each in written)
