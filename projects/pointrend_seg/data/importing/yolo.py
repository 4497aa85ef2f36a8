"""Read labels of YOLO for segmentation: data.yaml, and a text file per image.

Each line of a text file is a class number and a polygon x1 y1 x2 y2 …, from 0 to 1 of the image's
width and height. An image without a text file has no objects, as for Ultralytics.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from ...errors import InputError
from ...files.regular import check_regular
from ..custom.class_files import read_class_file
from ..custom.datasets import IMAGE_EXTENSIONS
from ..dataset_files import some
from .objects import ImportedObject, LabelledImage, Source
from .writing import SPLITS

_ROUNDING = 0.01  # by which coordinates may be outside of [0, 1]; they are clipped


def find(labels: str, images: str | None = None, classes: str | None = None) -> Source:
    """Find images and labels.

    Args:
        labels: a ``data.yaml``, or a folder of text files.
        images: the folder of the images, if ``labels`` is a folder.
        classes: if ``labels`` is a folder, a ``data.yaml`` or a class file with the names.

    Raises:
        InputError: something is missing, or the file is not of this format.
    """
    if os.path.isdir(labels):
        if images is None or classes is None:
            raise InputError(
                f"{labels} is a folder: also give --images FOLDER, and --classes FILE with the "
                "names of the classes; or give the data.yaml as --labels."
            )
        names = _names(_read_yaml(classes), classes) if _is_yaml(classes) else None
        names = names or list(read_class_file(classes).names)
        splits = {"": [(path, path) for path in _images(images)]}
        return _source(splits, names, lambda path: _beside(path, images, labels), images)
    content = _read_yaml(labels)
    names, root = _names(content, labels), os.path.dirname(os.path.abspath(labels))
    splits = {}
    for split in SPLITS:
        places = content.get(split) or []
        for place in places if isinstance(places, list) else [places]:
            found = _split_images(place, content.get("path"), root, f"{labels}: {split!r}")
            splits.setdefault(split, []).extend(found)
    notes = []
    if not splits.get("train"):
        raise InputError(f"{labels} has no 'train', the folder of training images.")
    paths = {split: {path for path, _ in found} for split, found in splits.items()}
    if paths.get("val", set()) & paths["train"]:
        notes.append("'train' and 'val' share images, so --val chooses those for validation.")
        splits = {"": splits["train"]}
    elif "val" not in splits:
        splits = {"": splits["train"]}
    if content.get("test"):
        notes.append("the images of 'test' are left out.")
    return _source(splits, names, _label_path, None, notes)


def _source(
    splits: dict[str, list[tuple[str, str]]],
    names: list[str],
    label_path: Callable[[str], str],
    root: str | None,
    notes: Sequence[str] = (),
) -> Source:
    found, without = [], []
    for split, images in splits.items():
        for path, place in images:
            label = label_path(path)
            if not os.path.isfile(label):
                without.append(path)
            base = root or (place if os.path.isdir(place) else os.path.dirname(path))
            name = os.path.relpath(path, base)
            name = os.path.join(split, name) if split else name
            found.append(LabelledImage(path, name, label, partial(_objects, label, names), split))
    if not found:
        raise InputError("There is no image in the folders that the labels name.")
    if len(without) == len(found):
        raise InputError(
            f"No image has a label file; {without[0]} would have {label_path(without[0])}."
        )
    if len({image.name for image in found}) < len(found):
        raise InputError("Two images have the same name. Convert their folders one by one.")
    notes = list(notes)
    if without:
        notes.append(f"{len(without)} images have no label file, so no objects: {some(without)}.")
    return Source(found, names, notes)


def _is_yaml(path: str) -> bool:
    return path.lower().endswith((".yaml", ".yml"))


def _read_yaml(path: str) -> dict:
    check_regular(path, "file")
    try:
        with open(path, encoding="utf-8-sig") as file:
            content = yaml.safe_load(file)
    except FileNotFoundError:
        raise InputError(f"--labels {path} does not exist. Give a data.yaml or a folder.") from None
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}".split("\n")[0] + ".") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a data.yaml of YOLO: it has no 'names'.")
    return content


def _names(content: dict, file: str) -> list[str]:
    names = content.get("names")
    if isinstance(names, dict):
        numbers = {int(k): v for k, v in names.items() if str(k).isdigit() and k is not True}
        if len(numbers) != len(names) or sorted(numbers) != list(range(len(numbers))):
            raise InputError(f"{file}: the keys of 'names' are not 0, 1, 2, ….")
        names = [numbers[k] for k in range(len(numbers))]
    valid = isinstance(names, list) and all(isinstance(each, str | int | float) for each in names)
    if not valid or not names:
        raise InputError(f"{file} has no 'names', a list of the names of the classes.")
    names = [str(name) for name in names]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{file}: two classes have the name {twice!r}. Rename one.")
    return names


def _split_images(place: Any, base: Any, root: str, where: str) -> list[tuple[str, str]]:
    """Return (image, place) pairs of a folder of images or a text file with their paths."""
    if not isinstance(place, str) or "\0" in place or not isinstance(base, str | None):
        raise InputError(f"{where} is {place!r}; it must be a folder of images or a text file.")
    bases = [root] if base is None else [os.path.join(root, base), root]
    tried = [os.path.join(each, place) for each in bases]
    # Roboflow writes ../train/images for the folder beside the file.
    tried += [os.path.join(root, place[3:])] if place.startswith("../") else []
    path = next((each for each in tried if os.path.exists(each)), None)
    if path is None:
        raise InputError(f"{where} is {place}, which is not at {os.path.normpath(tried[0])}.")
    path = os.path.normpath(path)
    if os.path.isdir(path):
        return [(image, path) for image in _images(path)]
    check_regular(path, "list of images")
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    folder = os.path.dirname(path)
    images = [
        os.path.normpath(os.path.join(folder, line.strip())) for line in lines if line.strip()
    ]
    for image in images:
        if "\0" in image or not os.path.isfile(image):
            raise InputError(f"{path} names the image {image!r}, which is not there.")
    return [(image, folder) for image in images]


def _images(folder: str) -> list[str]:
    if not os.path.isdir(folder):
        raise InputError(f"The folder {os.path.abspath(folder)} does not exist.")
    return sorted(
        str(path)
        for path in Path(folder).rglob("*")
        if path.suffix.lower() in IMAGE_EXTENSIONS and not path.name.startswith(".")
    )


def _label_path(image: str) -> str:
    """Return the label file of an image: ``/labels/`` takes the place of the last ``/images/``."""
    before, found, after = image.rpartition(f"{os.sep}images{os.sep}")
    path = f"{before}{os.sep}labels{os.sep}{after}" if found else image
    return os.path.splitext(path)[0] + ".txt"


def _beside(image: str, images: str, labels: str) -> str:
    return os.path.join(labels, os.path.splitext(os.path.relpath(image, images))[0] + ".txt")


def _objects(file: str, names: list[str], height: int, width: int) -> list[ImportedObject]:
    if not os.path.exists(file):
        return []
    check_regular(file, "label file")
    try:
        lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"The label file {file} cannot be read: {error}.") from error
    objects = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            objects.append(_object(line.split(), f"{file}, line {number}", names, height, width))
    return objects


def _object(
    words: list[str], place: str, names: list[str], height: int, width: int
) -> ImportedObject:
    try:
        first, *values = (float(word) for word in words)
    except ValueError:
        raise InputError(f"{place}: expected numbers, found {' '.join(words)[:60]!r}.") from None
    if len(values) in (4, 5):
        raise InputError(
            f"{place} is a box, not a polygon: the labels are for detection. Export them for "
            "segmentation."
        )
    if len(values) < 6 or len(values) % 2:
        raise InputError(
            f"{place} has {len(values)} coordinates; a polygon has an even number, 6 or more."
        )
    if not (first.is_integer() and 0 <= first < len(names)):
        raise InputError(f"{place} has the class {words[0]}, but there are {len(names)} classes, "
                         f"0 to {len(names) - 1}.")  # fmt: skip
    for value in values:
        if not -_ROUNDING <= value <= 1 + _ROUNDING:
            raise InputError(
                f"{place} has the coordinate {value:g}; it must be from 0 to 1 of the image's "
                "width or height."
            )
    scale = [width, height] * (len(values) // 2)
    clipped = [min(max(value, 0.0), 1.0) for value in values]
    polygon = [round(value * side, 3) for value, side in zip(clipped, scale, strict=True)]
    return ImportedObject(names[int(first)], [polygon])
