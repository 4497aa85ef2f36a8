"""Data sets of users' own: what an entry of a config says, and what the files hold.

Each is an image folder with a COCO-style JSON, or with a folder of label images.

An entry of ``DATASETS.CUSTOM`` is a dict:

    name: what DATASETS.TRAIN and DATASETS.TEST call it
    images: folder of images
    annotations: a JSON file in COCO's format (objects), or a folder of label images (pixels)
    classes: a list of names, or of dicts with "name" and, as wanted, "id" and "color"; or a file
        of them, see `read_class_file`. By default the categories of the JSON, or the class file
        beside the label images, see `find_class_file`
    ignore_value: of pixels without a class in label images, 255 by default
    ignore_color: the same in label images of colours

Paths are relative to the folder in which the program runs.
"""

import logging
import os
from dataclasses import dataclass, replace

from ...errors import InputError, did_you_mean
from ..coco_json import read_categories
from ..dataset_files import some
from .class_files import ClassTable, class_table, find_class_file, parse_color, read_class_file
from .label_coding import LabelCoding

logger = logging.getLogger(__name__)

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
_KEYS = ("name", "images", "annotations", "classes", "ignore_value", "ignore_color")


@dataclass(frozen=True)
class CustomDataset:
    """One entry of ``DATASETS.CUSTOM``, checked; see the top of the module.

    Attributes:
        classes: what the entry says of them, or the path of a class file, or None.
    """

    name: str
    images: str
    annotations: str
    classes: ClassTable | str | None = None
    ignore_value: int | None = None
    ignore_color: tuple[int, int, int] | None = None

    @classmethod
    def from_entry(cls, entry: dict) -> "CustomDataset":
        """Raises `InputError` where the entry lacks something or has something unknown."""
        source = "DATASETS.CUSTOM"
        if not isinstance(entry, dict):
            raise InputError(f"{source} is a list of dicts with {', '.join(_KEYS)}; got {entry!r}.")
        for key in entry:
            if key not in _KEYS:
                raise InputError(
                    f"{source} has an entry with {key!r}. Known are {', '.join(_KEYS)}."
                    + did_you_mean(str(key), _KEYS)
                )
        for key in _KEYS[:3]:
            if not isinstance(entry.get(key), str) or not entry[key]:
                raise InputError(f"{source}: the entry {entry} needs {key!r}, a text.")
        source = f"{source}, {entry['name']}"
        classes, color = entry.get("classes"), entry.get("ignore_color")
        if classes and not isinstance(classes, str):
            classes = class_table(classes, {}, source)
        color = parse_color(color, source) if color is not None else None
        named = (entry[key] for key in _KEYS[:3])
        return cls(*named, classes or None, entry.get("ignore_value"), color)

    @property
    def is_semantic(self) -> bool:
        """Whether the labels are those of pixels."""
        return not self.annotations.lower().endswith(".json")

    def table(self) -> ClassTable:
        """The classes, from where the entry says or else from the files.

        Raises:
            InputError: there are none, or not what they should be.
        """
        if isinstance(self.classes, ClassTable):
            found = self.classes
        elif self.classes:
            found = read_class_file(self.classes)
        else:
            found = self._own_classes()
        value, color = self.ignore_value, self.ignore_color
        return replace(
            found,
            ignore_value=found.ignore_value if value is None else value,
            ignore_color=found.ignore_color if color is None else color,
        )

    def _own_classes(self) -> ClassTable:
        if not self.is_semantic:
            return _json_classes(self.name, self.annotations)
        if not os.path.isdir(self.annotations):
            raise InputError(
                f"The data set {self.name} is not there: {os.path.abspath(self.annotations)} is "
                "neither a folder of label images nor a .json file."
            )
        file = find_class_file(self.annotations)
        if file is None:
            raise InputError(
                f"The classes of the data set {self.name} are not known: there is no classes.txt "
                f"(a name in each line) in {os.path.abspath(self.annotations)} or the two folders "
                "above. Write one, or give its path (--classes, or 'classes' in DATASETS.CUSTOM)."
            )
        return read_class_file(file)


def _json_classes(name: str, file: str) -> ClassTable:
    categories = read_categories(name, file)
    colors = [entry.get("color") for entry in categories]
    if all(isinstance(color, list) for color in colors):
        colors = tuple(parse_color(color, file) for color in colors)
    else:
        colors = None
    names, ids = (tuple(entry[key] for entry in categories) for key in ("name", "id"))
    return ClassTable(names, ids, colors)


def find_images(folder: str) -> dict[str, str]:
    """The images below a folder, by their path there without the extension, in that order.

    Raises:
        InputError: no such folder; two images that differ in the extension alone.
    """
    if not os.path.isdir(folder):
        raise InputError(f"The folder {os.path.abspath(folder)} does not exist.")
    found = {}
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            stem, extension = os.path.splitext(os.path.join(parent, name))
            if extension.lower() not in IMAGE_EXTENSIONS or name.startswith("."):
                continue
            key = os.path.relpath(stem, folder)
            if key in found:
                raise InputError(
                    f"{found[key]} and {os.path.join(parent, name)} differ in the extension "
                    "alone, so that it is not clear which one the labels belong to. Remove one."
                )
            found[key] = os.path.join(parent, name)
    return dict(sorted(found.items()))


def label_records(dataset: CustomDataset, coding: LabelCoding) -> list[dict]:
    """The data set in Detectron2's form; an image without labels is left out, and it says so."""
    images, labels = find_images(dataset.images), find_images(dataset.annotations)
    both = [key for key in labels if key in images]
    if not both:
        raise InputError(
            f"The data set {dataset.name}: no label image in {dataset.annotations} "
            f"({some(list(labels)) or 'which has none'}) has the name of an image in "
            f"{dataset.images} ({some(list(images)) or 'which has none'}). Labels are found by the "
            "path of the image below its folder, without the extension."
        )
    without = [labels[key] for key in labels if key not in images]
    if without:
        raise InputError(
            f"The data set {dataset.name}: {len(without)} of {len(labels)} label images have no "
            f"image in {dataset.images}: {some(without)}. Complete the images, or remove "
            "the labels."
        )
    without = [images[key] for key in images if key not in labels]
    if without:
        logger.warning(
            f"{len(without)} of {len(images)} images in {dataset.images} have no labels in "
            f"{dataset.annotations} and are left out of {dataset.name}: {some(without)}."
        )
    return [
        {
            "file_name": images[key],
            "sem_seg_file_name": labels[key],
            "image_id": key,
            "label_coding": coding,
        }
        for key in both
    ]
