"""Read segmentations in the layout of Pascal VOC.

    ROOT/JPEGImages/NAME.jpg
    ROOT/SegmentationObject/NAME.png        objects 1, 2, …; 0 is background, 255 is void
    ROOT/SegmentationClass/NAME.png         the class of each pixel, as its colour or its number
    ROOT/ImageSets/Segmentation/train.txt   names, optional; val.txt
    ROOT/labelmap.txt                       names and colours, as CVAT writes it; or VOC's own

or, without SegmentationObject, ``ROOT/Annotations/NAME.xml`` with a polygon for each object.
"""

import os
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ...errors import InputError
from ...files.regular import check_regular
from ...structures.regions import regions_of_values
from ..custom.class_files import ClassTable, read_class_file
from ..custom.datasets import find_images
from ..dataset_files import some
from ..label_files import read_label_file
from ..problems import Problem
from .objects import ImportedObject, LabelledImage, Source
from .writing import SPLITS

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
VOID = 255
_VOID_COLOR = (224, 224, 192)
_LEAST_SHARE = 0.95  # of an object's pixels that have its class


def find(root: str, images: str | None = None, classes: str | None = None) -> Source:
    """Find images and labels.

    Args:
        root: the folder that has ``SegmentationObject`` or ``Annotations``.
        images: the folder of images; None for ``JPEGImages``.
        classes: a class file in place of ``labelmap.txt``.

    Raises:
        InputError: a folder or file is missing, or a file is not of this format.
    """
    folder = images or os.path.join(root, "JPEGImages")
    objects, xml = (os.path.join(root, name) for name in ("SegmentationObject", "Annotations"))
    if os.path.isdir(objects):
        found = find_images(objects)
        table = _class_table(root, classes)
        colors = _colors(table)
        readers = {
            key: partial(
                _objects, path, os.path.join(root, "SegmentationClass", f"{key}.png"), colors, table
            )
            for key, path in found.items()
        }
    elif os.path.isdir(xml):
        found = {
            path.relative_to(xml).with_suffix("").as_posix(): str(path)
            for path in sorted(Path(xml).rglob("*.xml"))
        }
        readers = {key: partial(_polygons, path) for key, path in found.items()}
    else:
        raise InputError(
            f"{os.path.abspath(root)} is not in the layout of Pascal VOC: it has neither "
            "SegmentationObject nor Annotations."
        )
    pictures = find_images(folder)
    missing = [path for key, path in found.items() if key not in pictures]
    if missing or not found:
        raise InputError(
            f"{len(missing)} of {len(found)} label files in {root} have no image in {folder}: "
            f"{some(missing) or 'there are no label files'}. Complete the copy."
        )
    splits = _splits(root, found)
    images_found = [
        LabelledImage(
            pictures[key], os.path.relpath(pictures[key], folder), found[key], readers[key], split
        )
        for key, split in splits.items()
    ]
    notes = []
    if len(splits) < len(found):
        notes.append(
            f"{len(found) - len(splits)} labelled images are in none of the lists in ImageSets and "
            "are left out."
        )
    if os.path.isdir(objects):
        notes.append("pixels of the value 255 (void, at outlines) belong to no object.")
    return Source(images_found, notes=notes)


def voc_color(number: int) -> tuple[int, int, int]:
    """Return the RGB colour of a value in the palette of Pascal VOC.

    Its bits, from the lowest, go to red, green and blue in turn, to the highest bit first.

    Example:
        >>> voc_color(1), voc_color(15)
        ((128, 0, 0), (192, 128, 128))
    """
    channels = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            channels[channel] |= (number >> (3 * place + channel) & 1) << (7 - place)
    return channels[0], channels[1], channels[2]


def _class_table(root: str, classes: str | None) -> ClassTable | None:
    for file in (classes, os.path.join(root, "labelmap.txt")):
        if file and (file == classes or os.path.isfile(file)):
            return read_class_file(file)
    return None


def _colors(table: ClassTable | None) -> dict[tuple[int, int, int], str]:
    """Return the names of classes by colour; "" is background."""
    if table is None:
        names = ("", *VOC_CLASSES)
        return {voc_color(number): name for number, name in enumerate(names)}
    colors = table.colors or tuple(map(voc_color, range(len(table.names))))
    return {
        color: "" if name.lower() in ("background", "_background_") else name
        for color, name in zip(colors, table.names, strict=True)
    }


def _splits(root: str, found: dict[str, str]) -> dict[str, str]:
    """Return the split of each listed image, "" if there are no lists."""
    splits: dict[str, str] = {}
    for split in SPLITS:
        file = os.path.join(root, "ImageSets", "Segmentation", f"{split}.txt")
        if not os.path.isfile(file):
            continue
        names = Path(file).read_text(encoding="utf-8-sig", errors="replace").split()
        for name in names:
            if name not in found:
                raise InputError(f"{file} names {name!r}, which has no label file in {root}.")
            if name in splits:
                raise InputError(f"{name!r} is in both lists of {os.path.dirname(file)}.")
            splits[name] = split
    if "train" in splits.values():
        return splits
    return splits and dict.fromkeys(splits, "") or dict.fromkeys(found, "")


def _objects(
    file: str,
    class_file: str,
    colors: dict[tuple[int, int, int], str],
    table: ClassTable | None,
    height: int,
    width: int,
) -> list[ImportedObject]:
    numbers, number_colors = _read(file)
    class_numbers, class_colors = _read(class_file)
    for path, values in ((file, numbers), (class_file, class_numbers)):
        if values.shape != (height, width):
            raise InputError(
                f"{path} is {values.shape[1]} x {values.shape[0]} (width x height), but its image "
                f"is {width} x {height}. Replace the wrong file."
            )
    void = [value for value, color in number_colors.items() if color == _VOID_COLOR]
    numbers = np.where(np.isin(numbers, [VOID, *void]), 0, numbers)
    names = _class_names(class_numbers, class_colors, colors, class_file)
    objects = []
    for value, region in regions_of_values(numbers):
        h, w = region.columns.shape[1], region.columns.shape[0]
        window = class_numbers[region.y0 : region.y0 + h, region.x0 : region.x0 + w].T
        values, counts = np.unique(window[region.columns > 0], return_counts=True)
        share = counts.max() / counts.sum()
        name = names[int(values[counts.argmax()])]
        if not name or share < _LEAST_SHARE:
            found = "background" if not name else f"several classes ({share:.0%} are {name})"
            raise InputError(
                f"Object {value} of {file} is {found} in {class_file}. Correct one of the two."
            )
        objects.append(ImportedObject(name, region))
    return objects


def _read(file: str) -> tuple[np.ndarray, dict[int, tuple[int, int, int]]]:
    """Return the values of an image of labels, and the colour of each if it has colours."""
    found = read_label_file(file)
    if isinstance(found, Problem):
        raise InputError(str(found))
    numbers = found.values.astype(np.int64)
    if numbers.ndim == 2:
        if found.palette is None:
            return numbers, {}
        palette = np.zeros((256, 3), int)
        palette[: len(found.palette)] = found.palette
        return numbers, {n: tuple(palette[n].tolist()) for n in np.unique(numbers).tolist()}
    numbers = numbers[:, :, 0] << 16 | numbers[:, :, 1] << 8 | numbers[:, :, 2]
    used = np.unique(numbers).tolist()
    return numbers, {n: (n >> 16, n >> 8 & 255, n & 255) for n in used}


def _class_names(
    numbers: np.ndarray,
    own_colors: dict[int, tuple[int, int, int]],
    colors: dict[tuple[int, int, int], str],
    file: str,
) -> dict[int, str]:
    """Return the class of each value: by its colour or, without colours, by its number."""
    by_number = list(colors.values())
    names = {}
    for number in np.unique(numbers).tolist():
        color = own_colors.get(number)
        if color == _VOID_COLOR or (color is None and number == VOID):
            names[number] = ""
        elif color is None and number < len(by_number):
            names[number] = by_number[number]
        elif color in colors:
            names[number] = colors[color]
        else:
            shown = f"the value {number}" if color is None else f"the colour {color}"
            raise InputError(
                f"{file} has {shown}, which is no class of Pascal VOC or of labelmap.txt. Give the "
                "file with the classes and their colours (--classes)."
            )
    return names


def _polygons(file: str, height: int, width: int) -> list[ImportedObject]:
    check_regular(file, "annotation file")
    try:
        content = Path(file).read_bytes()
        if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
            raise InputError(f"{file} defines entities, which are not read. Export it again.")
        root = ElementTree.fromstring(content)
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The annotation file {file} cannot be read: {error}.") from error
    stated = tuple(_number(root.findtext(f"size/{key}"), file) for key in ("height", "width"))
    if stated != (height, width):
        raise InputError(
            f"{file} is for an image of {stated[1]:g} x {stated[0]:g} (width x height), but its "
            f"image is {width} x {height}. Replace the wrong one."
        )
    objects = []
    for number, item in enumerate(root.iter("object")):
        name = (item.findtext("name") or "").strip()
        polygons = [
            [_number(child.text, file) - 1 for child in each] for each in item.findall("polygon")
        ]
        if not name:
            raise InputError(f"{file}: object {number} (from 0) has no name.")
        if not polygons:
            raise InputError(
                f"{file}: object {number} (from 0), {name!r}, has a box but no polygon, and there "
                "is no folder SegmentationObject. Export the masks, too."
            )
        if any(len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
            raise InputError(
                f"{file}: object {number} (from 0), {name!r}, has a polygon of fewer than 3 points."
            )
        objects.append(ImportedObject(name, polygons))
    return objects


def _number(text: str | None, file: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = np.nan
    if not abs(value) < 10**6:
        raise InputError(f"{file}: expected a number, found {str(text)[:40]!r}.")
    return value
