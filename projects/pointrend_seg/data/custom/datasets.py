"""Read the entries of ``DATASETS.CUSTOM``, and the files of these data sets.

A data set is an image folder with a COCO JSON file (instance, or panoptic with a folder of PNGs) or
a folder of label images (semantic). An entry of ``DATASETS.CUSTOM`` is a dict:

    name: the name in DATASETS.TRAIN and DATASETS.TEST
    images: the folder of images
    annotations: a COCO JSON file, or a folder of label images
    segments: the folder of PNGs of a panoptic JSON file; by default the one that has the name of
        the file, beside it or one level above
    classes: a list of names, or of dicts with "name" and optionally "id" and "color"; or the path
        of a class file (`read_class_file`). By default the categories of the JSON file, or the
        class file beside the label images (`find_class_file`)
    ignore_value: value of unlabelled pixels in label images, 255 by default
    ignore_color: colour of unlabelled pixels in RGB label images
    drawing_colors: True if the colours of the classes are not those of label images, which have
        class values; written to the config of a run

Paths are relative to the current directory; saved configs have absolute ones.
"""

import contextlib
import logging
import os
import re
from dataclasses import dataclass, replace
from typing import NamedTuple

from ...errors import InputError, did_you_mean
from ..annotations import shown
from ..classes import palette
from ..coco_json import read_categories
from ..coco_schema import category_colors
from ..dataset_files import some
from ..images.decoding import IMAGE_EXTENSIONS
from ..panoptic.json_file import find_png_folder, is_panoptic_json
from .class_files import (
    ClassTable,
    check_ignore_value,
    find_class_file,
    parse_class_table,
    parse_color,
    read_class_file,
)
from .label_coding import LabelCoding

logger = logging.getLogger(__name__)

LABEL_ENDINGS = ("_mask", "_masks", "_label", "_labels", "_seg", "_segmentation", "_gt", "_L")
_KEYS = (
    *("name", "images", "annotations", "classes", "ignore_value", "ignore_color"),
    *("drawing_colors", "segments"),
)
_HEX = "#[0-9a-f]{6}"


@dataclass(frozen=True)
class CustomDataset:
    """A checked entry of ``DATASETS.CUSTOM``, with the keys in this module's docstring.

    Attributes:
        classes: the classes in the entry, the path of a class file, or None.
        segments: the folder of panoptic PNGs, None if it is not given.
    """

    name: str
    images: str
    annotations: str
    classes: ClassTable | str | None = None
    ignore_value: int | None = None
    ignore_color: tuple[int, int, int] | None = None
    drawing_colors: bool = False
    segments: str | None = None

    @classmethod
    def from_entry(cls, entry: dict) -> "CustomDataset":
        """Check an entry of ``DATASETS.CUSTOM``.

        Raises:
            InputError: a required key is missing, or a key is unknown or has an invalid value.
        """
        source = "DATASETS.CUSTOM"
        if not isinstance(entry, dict):
            raise InputError(
                f"{source} must be a list of dicts with {', '.join(_KEYS)}, got {entry!r}."
            )
        for key in entry:
            if key not in _KEYS:
                raise InputError(
                    f"{source} has an entry with the unknown key {key!r}. Keys are "
                    f"{', '.join(_KEYS)}." + did_you_mean(str(key), _KEYS)
                )
        for key in _KEYS[:3]:
            if not isinstance(entry.get(key), str) or not entry[key]:
                raise InputError(f"{source}: the entry {entry} needs {key!r}, a string.")
        source = f"{source}, {entry['name']}"
        classes, color = entry.get("classes"), entry.get("ignore_color")
        segments = entry.get("segments")
        if segments is not None and not (isinstance(segments, str) and segments):
            raise InputError(
                f"{source}: segments is {segments!r}; it must be the path of a folder."
            )
        if classes and not isinstance(classes, str):
            objects = not _names_labels(entry["annotations"])
            classes = (objects and _saved_classes(classes)) or parse_class_table(
                classes, {}, source
            )
        return cls(
            name=entry["name"],
            images=entry["images"],
            annotations=entry["annotations"],
            classes=classes or None,
            ignore_value=check_ignore_value(entry.get("ignore_value"), source),
            ignore_color=parse_color(color, source) if color is not None else None,
            drawing_colors=_check_bool(entry, "drawing_colors", source),
            segments=segments,
        )

    @property
    def is_semantic(self) -> bool:
        """True for label images, False for a COCO JSON file."""
        return _names_labels(self.annotations)

    @property
    def is_panoptic(self) -> bool:
        """True for a JSON file that lists segments; if it does not exist, by the saved classes."""
        if self.is_semantic:
            return False
        if os.path.isfile(self.annotations):
            with contextlib.suppress(InputError):  # raised again when the data set is checked
                return is_panoptic_json(self.name, self.annotations)
            return False
        return isinstance(self.classes, ClassTable) and self.classes.things is not None

    @property
    def segments_folder(self) -> str:
        """Return the folder of panoptic PNGs; if none is found, where one is expected."""
        found = self.segments or find_png_folder(self.annotations)
        return found or os.path.splitext(os.path.abspath(self.annotations))[0]

    def class_table(self) -> ClassTable:
        """Return the classes of the entry, or else of the data set's files.

        Raises:
            InputError: the classes are not found or invalid.
        """
        if isinstance(self.classes, ClassTable):
            table = self.classes
        elif self.classes:
            table = read_class_file(self.classes)
        else:
            table = self._classes_of_files()
        if table.ids is None and not self.is_semantic and os.path.isfile(self.annotations):
            own = _json_classes(self.name, self.annotations)
            same = own.names == table.names
            table = replace(
                table, ids=own.ids if same else None, things=own.things if same else None
            )
        value, color = self.ignore_value, self.ignore_color
        return replace(
            table,
            ignore_value=table.ignore_value if value is None else value,
            ignore_color=table.ignore_color if color is None else color,
        )

    def _classes_of_files(self) -> ClassTable:
        if not self.is_semantic:
            return _json_classes(self.name, self.annotations)
        if not os.path.isdir(self.annotations):
            raise InputError(
                f"The labels of data set {self.name} were not found: "
                f"{os.path.abspath(self.annotations)} is neither a folder of label images nor a "
                ".json file."
            )
        file = find_class_file(self.annotations)
        if file is None:
            raise InputError(
                f"The classes of data set {self.name} are unknown: there is no classes.txt (one "
                f"name per line) or other class file in {os.path.abspath(self.annotations)} or the "
                "two folders above it. Create one, or use --classes FILE ('classes' in "
                "DATASETS.CUSTOM) if the class file is elsewhere."
            )
        return read_class_file(file)


def _check_bool(entry: dict, key: str, source: str) -> bool:
    value = entry.get(key, False)
    if not isinstance(value, bool):
        raise InputError(f"{source}: {key} is {value!r}; it must be True or False.")
    return value


def _names_labels(annotations: str) -> bool:
    return not annotations.lower().endswith(".json")


def _json_classes(name: str, file: str) -> ClassTable:
    categories = read_categories(name, file)
    colors = category_colors(categories)
    for category, color in zip(categories, colors, strict=True):
        if color is None and category.get("color") is not None:
            logger.warning(
                f"{file}: category {category['id']} has the color {shown(category['color'])}, "
                'which is neither "#rrggbb" nor [R, G, B]: it gets another.'
            )
    others = palette(len(colors)).tolist()
    filled = [color or other for color, other in zip(colors, others, strict=True)]
    names, ids = (tuple(category[key] for category in categories) for key in ("name", "id"))
    things = None
    if is_panoptic_json(name, file):
        things = tuple(bool(category.get("isthing")) for category in categories)
    rgb = tuple((r, g, b) for r, g, b in filled) if any(colors) else None
    return ClassTable(names, ids, rgb, things=things)


def _saved_classes(entries: object) -> ClassTable | None:
    """Return the categories of a JSON file as a config saved them; None for what a user wrote.

    Unlike class files, annotation files may have one name twice, and ids of any size.
    """
    if not isinstance(entries, list | tuple) or not all(isinstance(e, dict) for e in entries):
        return None
    keys, is_panoptic = {"name", "id", "color"}, any("isthing" in entry for entry in entries)
    keys |= {"isthing"} if is_panoptic else set()
    for entry in entries:
        is_saved = entry.keys() == keys and isinstance(entry["name"], str)
        is_saved &= isinstance(entry.get("isthing", False), bool)
        is_id = isinstance(entry.get("id"), int) and not isinstance(entry.get("id"), bool)
        if not is_saved or not is_id or not isinstance(entry["color"], str):
            return None
    ids = tuple(entry["id"] for entry in entries)
    if list(ids) != sorted(set(ids)) or not all(re.fullmatch(_HEX, e["color"]) for e in entries):
        return None
    colors = (tuple(bytes.fromhex(entry["color"][1:])) for entry in entries)
    names = tuple(entry["name"] for entry in entries)
    things = tuple(entry["isthing"] for entry in entries) if is_panoptic else None
    rgb = tuple((red, green, blue) for red, green, blue in colors)
    return ClassTable(names, ids, rgb, things=things)


def find_images(folder: str) -> dict[str, str]:
    """Find the images in a folder and its subfolders.

    Returns:
        paths, by path relative to ``folder`` without the extension, sorted by that.

    Raises:
        InputError: the folder does not exist, or two images differ only in the extension.
    """
    if not os.path.isdir(folder):
        raise InputError(f"The folder {os.path.abspath(folder)} does not exist.")
    found: dict[str, str] = {}
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            stem, extension = os.path.splitext(os.path.join(parent, name))
            if extension.lower() not in IMAGE_EXTENSIONS or name.startswith("."):
                continue
            key = os.path.relpath(stem, folder)
            if key in found:
                raise InputError(
                    f"{found[key]} and {os.path.join(parent, name)} differ only in the extension, "
                    "so it is unclear which one belongs to the labels. Remove one."
                )
            found[key] = os.path.join(parent, name)
    return dict(sorted(found.items()))


class Pairs(NamedTuple):
    """The images and label images of a data set.

    Attributes:
        both: paths of image and label image, by the path of the image below its folder, without
            the extension.
        without_labels, without_image: paths of those that have no counterpart.
    """

    both: dict[str, tuple[str, str]]
    without_labels: list[str]
    without_image: list[str]


def pair_files(dataset: CustomDataset) -> Pairs:
    """Pair images and label images of the same name.

    Where no name is the same, those pair of which the label image's has an ending of
    `LABEL_ENDINGS`, such as a.jpg and a_mask.png; these may be in one folder.

    Raises:
        InputError: a folder does not exist, or there is no pair.
    """
    images, labels = find_images(dataset.images), find_images(dataset.annotations)
    one_folder = os.path.realpath(dataset.images) == os.path.realpath(dataset.annotations)
    if one_folder or not images.keys() & labels.keys():
        for ending in LABEL_ENDINGS:
            renamed = {k.removesuffix(ending): v for k, v in labels.items() if k.endswith(ending)}
            others = {k: v for k, v in images.items() if v not in renamed.values()}
            if renamed.keys() & others.keys():
                images = others
                labels = renamed if one_folder else renamed | _other_labels(labels, ending)
                break
        else:
            raise _no_pair(dataset, list(images), list(labels), one_folder)
    return Pairs(
        {key: (images[key], labels[key]) for key in labels if key in images},
        [images[key] for key in images if key not in labels],
        [labels[key] for key in labels if key not in images],
    )


def _other_labels(labels: dict[str, str], ending: str) -> dict[str, str]:
    return {key: path for key, path in labels.items() if not key.endswith(ending)}


def _no_pair(
    dataset: CustomDataset, images: list[str], labels: list[str], one_folder: bool
) -> InputError:
    if one_folder:
        return InputError(
            f"Data set {dataset.name}: images and labels are in one folder, {dataset.images}, and "
            "no name there is that of an image with one of the endings "
            f"{', '.join(LABEL_ENDINGS)}. Name the label images so, or give them a folder."
        )
    names = os.listdir(dataset.annotations)
    other = sorted({os.path.splitext(name)[1] or name for name in names})
    has_none = f"it has none, but {some(other)} files" if other and not labels else "it has none"
    return InputError(
        f"Data set {dataset.name}: no label image in {dataset.annotations} "
        f"({some(labels) or has_none}) has the name of an image in "
        f"{dataset.images} ({some(images) or 'it has none'}). The paths relative to "
        "these folders, without the extension, must be equal."
    )


def label_records(dataset: CustomDataset, coding: LabelCoding) -> list[dict]:
    """Return a semantic data set as Detectron2's records; log images without labels and skip them.

    Raises:
        InputError: a folder does not exist, or a label image has no image.
    """
    pairs = pair_files(dataset)
    if pairs.without_image:
        count = len(pairs.both) + len(pairs.without_image)
        raise InputError(
            f"Data set {dataset.name}: {len(pairs.without_image)} of {count} label images have no "
            f"image in {dataset.images}: {some(pairs.without_image)}. Add the images or remove the "
            "labels."
        )
    if pairs.without_labels:
        count = len(pairs.both) + len(pairs.without_labels)
        logger.warning(
            f"{len(pairs.without_labels)} of {count} images in {dataset.images} have no labels in "
            f"{dataset.annotations} and are skipped in {dataset.name}: "
            f"{some(pairs.without_labels)}."
        )
    return [
        {
            "file_name": image,
            "sem_seg_file_name": labels,
            "image_id": key,
            "label_coding": coding,
        }
        for key, (image, labels) in pairs.both.items()
    ]
