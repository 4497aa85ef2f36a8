"""Find the images and videos to predict on."""

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


def find_sources(inputs: list[str]) -> list[Source]:
    """Return the images and videos of files, folders (searched recursively) and patterns.

    Raises:
        InputError: no image or video is found for one of ``inputs``.
    """
    paths: list[str] = []
    folders: list[str] = []
    for given in inputs:
        found = _paths(given)
        if not found:
            raise InputError(
                f"--input {given}: no image or video there. Expected a file, a folder or a pattern "
                f"of {', '.join(IMAGE_EXTENSIONS + VIDEO_EXTENSIONS)}, in {os.getcwd()}."
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


def _paths(given: str) -> list[str]:
    if os.path.isfile(given):
        return [given]  # with any extension: reading it shows whether it is an image
    pattern = os.path.join(glob.escape(given), "**", "*") if os.path.isdir(given) else given
    extensions = IMAGE_EXTENSIONS + VIDEO_EXTENSIONS
    return [
        path
        for path in glob.glob(pattern, recursive=True)
        if path.lower().endswith(extensions) and os.path.isfile(path)
    ]
