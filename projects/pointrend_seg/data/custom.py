"""Data sets of users' own, registered by a config.

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

import contextlib
import logging
import os
from dataclasses import dataclass, replace

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from PIL import Image

from ..errors import InputError
from ..suggestions import did_you_mean
from .classes import (
    IGNORED,
    ClassTable,
    class_table,
    find_class_file,
    palette,
    parse_color,
    read_class_file,
)
from .coco_json import read_categories
from .dataset_files import some
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


def register_custom(cfg: CfgNode) -> None:
    """Register the data sets of ``DATASETS.CUSTOM``, and write their classes into the entries.

    So a config that is saved knows the classes where the data is not. A data set that is
    registered with the same entry stays.

    Args:
        cfg: not frozen where there are entries whose classes come from files.

    Raises:
        InputError: an entry is wrong, or its name is another data set's.
    """
    entries = [_registered(entry) for entry in cfg.DATASETS.CUSTOM]
    if entries != cfg.DATASETS.CUSTOM:
        cfg.DATASETS.CUSTOM = entries


def _registered(entry: dict) -> dict:
    dataset = CustomDataset.from_entry(entry)
    known = dataset.name in DatasetCatalog
    before = custom_dataset(dataset.name) if known else None
    if known and before is None:
        raise InputError(
            f"DATASETS.CUSTOM: the name {dataset.name} is that of another data set. Choose another "
            "one."
        )
    if before != dataset:
        if known:
            DatasetCatalog.remove(dataset.name)
        if dataset.name in MetadataCatalog.list():
            MetadataCatalog.remove(dataset.name)
        (_register_labels if dataset.is_semantic else _register_json)(dataset)
        MetadataCatalog.get(dataset.name).custom = dataset
    return _with_classes(entry, MetadataCatalog.get(dataset.name))


def _with_classes(entry: dict, metadata) -> dict:
    table = metadata.get("class_table")
    if table is None:
        return entry
    classes = [
        {"name": name, "color": "#" + bytes(color).hex()}
        for name, color in zip(table.names, table.colors, strict=True)
    ]
    if table.ids is not None:
        classes = [each | {"id": k} for each, k in zip(classes, table.ids, strict=True)]
    if not metadata.custom.is_semantic:
        return entry | {"classes": classes}
    ignore = {"ignore_value": table.ignore_value}
    if table.ignore_color is not None:
        ignore["ignore_color"] = "#" + bytes(table.ignore_color).hex()
    return entry | {"classes": classes} | ignore


def custom_dataset(name: str) -> CustomDataset | None:
    """What a name in ``DATASETS`` stands for, where it is one of the user's own."""
    if name not in MetadataCatalog.list():
        return None
    return MetadataCatalog.get(name).get("custom")


def check_custom(name: str, *, semantic: bool) -> None:
    """Raises `InputError` where a data set of the user's own is not there, or of the other kind.

    Other data sets pass.

    Args:
        semantic: whether the model labels pixels.
    """
    dataset = custom_dataset(name)
    if dataset is None:
        return
    for what, path in (("images", dataset.images), ("annotations", dataset.annotations)):
        if not os.path.exists(path):
            raise InputError(
                f"The data set {name} is not there: {os.path.abspath(path)} does not exist. "
                f"Correct the path of its {what}; it is relative to the folder of the running "
                "program."
            )
    if dataset.is_semantic != semantic:
        kinds = ("pixels", "objects") if dataset.is_semantic else ("objects", "pixels")
        raise InputError(
            f"{dataset.annotations} labels {kinds[0]}, but the model is one of {kinds[1]}. Choose "
            "a config of semantic segmentation for label images, of instance segmentation for a "
            "JSON, or give the other labels."
        )


def _register_json(dataset: CustomDataset) -> None:
    name = dataset.name
    DatasetCatalog.register(name, lambda: load_coco_json(dataset.annotations, dataset.images, name))
    metadata = MetadataCatalog.get(name)
    metadata.set(json_file=dataset.annotations, image_root=dataset.images, evaluator_type="coco")
    if not (dataset.classes or os.path.isfile(dataset.annotations)):
        return
    with contextlib.suppress(InputError):  # what is wrong is said when the data set is looked at
        table = _colored(dataset.table())
        metadata.set(
            class_table=table, thing_classes=list(table.names), thing_colors=_lists(table.colors)
        )
        if table.ids is not None:
            metadata.thing_dataset_id_to_contiguous_id = {k: n for n, k in enumerate(table.ids)}


def _register_labels(dataset: CustomDataset) -> None:
    table = dataset.table()
    ids = table.ids or tuple(range(len(table.names)))
    decoded_ignore = IGNORED if len(ids) <= IGNORED else 65535
    ignore = table.ignore_value
    if ignore is None and IGNORED not in ids:
        ignore = IGNORED
    if ignore in ids:
        raise InputError(
            f"The data set {dataset.name} ignores the value {ignore}, which is that of its class "
            f"{table.names[ids.index(ignore)]}. Change ignore_value (--ignore-value) or the class "
            "file."
        )
    coding = LabelCoding(ids, table.colors, ignore, table.ignore_color, decoded_ignore)
    shown = _colored(table, None if table.colors else _palette_of_files(dataset, ids))
    DatasetCatalog.register(dataset.name, lambda: _label_records(dataset, coding))
    MetadataCatalog.get(dataset.name).set(
        class_table=replace(shown, ids=ids, ignore_value=ignore),
        stuff_classes=list(table.names),
        stuff_colors=_lists(shown.colors),
        stuff_dataset_id_to_contiguous_id={value: number for number, value in enumerate(ids)},
        ignore_label=decoded_ignore,
        evaluator_type="sem_seg",
        label_coding=coding,
    )


def _colored(table: ClassTable, found=None) -> ClassTable:
    """With the colours given, else those found, else some."""
    colors = table.colors or found or palette(len(table.names))
    return replace(table, colors=tuple(tuple(int(part) for part in color) for color in colors))


def _lists(colors) -> list[list[int]]:
    return [list(color) for color in colors]


def _palette_of_files(dataset: CustomDataset, ids: tuple[int, ...]):
    """The colours that the first label image has in its palette, if it has one."""
    if not os.path.isdir(dataset.annotations):
        return None
    first = next(iter(find_images(dataset.annotations).values()), None)
    if first is None:
        return None
    try:
        with Image.open(first) as image:
            table = image.getpalette() if image.mode == "P" else None
    except OSError:
        return None
    if table is None or len(table) < 3 * (max(ids) + 1):
        return None
    return [table[3 * value : 3 * value + 3] for value in ids]


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


def _label_records(dataset: CustomDataset, coding: LabelCoding) -> list[dict]:
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
