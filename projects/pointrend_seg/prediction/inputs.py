"""What a prediction is to be made on: files, folders and patterns, in order, each with its name."""

import collections
import glob
import os
from dataclasses import dataclass

from ..data.custom.datasets import IMAGE_EXTENSIONS
from ..errors import InputError

VIDEO_EXTENSIONS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")


@dataclass(frozen=True)
class Source:
    """A file to predict on.

    Attributes:
        path: of the image or video.
        name: what its results are called: its path below the folder that all of the input is in,
            without the extension, where no other file has the same.
        file_name: that path.
    """

    path: str
    name: str
    file_name: str

    @property
    def is_video(self) -> bool:
        return self.path.lower().endswith(VIDEO_EXTENSIONS)


def find_sources(inputs: list[str]) -> list[Source]:
    """The images and videos that files, folders (with what is below them) and patterns name.

    Raises:
        InputError: one of them names nothing.
    """
    paths, folders = [], []
    for given in inputs:
        found = _paths(given)
        if not found:
            raise InputError(
                f"--input {given}: no image or video there. Expected a file, a folder or a pattern "
                f"of {', '.join(IMAGE_EXTENSIONS + VIDEO_EXTENSIONS)}, in {os.getcwd()}."
            )
        paths += found
        folders += [given] if os.path.isdir(given) else map(os.path.dirname, found)
    paths = sorted(dict.fromkeys(map(os.path.abspath, paths)))
    root = os.path.commonpath([os.path.abspath(folder) for folder in folders])
    names = [os.path.relpath(path, root) for path in paths]
    stems = [os.path.splitext(name)[0] for name in names]
    counts = collections.Counter(stems)
    return [
        Source(path, stem if counts[stem] == 1 else name, name)
        for path, name, stem in zip(paths, names, stems, strict=True)
    ]


def _paths(given: str) -> list[str]:
    if os.path.isdir(given):
        found = glob.glob(os.path.join(glob.escape(given), "**", "*"), recursive=True)
    else:
        found = [given] if os.path.isfile(given) else glob.glob(given, recursive=True)
        if os.path.isfile(given):
            return found  # whatever its name: reading tells
    extensions = IMAGE_EXTENSIONS + VIDEO_EXTENSIONS
    return [path for path in found if path.lower().endswith(extensions) and os.path.isfile(path)]
