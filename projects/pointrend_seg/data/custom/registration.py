"""Registering users' own data sets, so that configs name them as any others."""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import replace

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from PIL import Image

from ...errors import InputError
from ..classes import IGNORED, palette
from ..dataset_files import some
from .class_files import ClassTable
from .datasets import CustomDataset, find_images, label_records
from .label_coding import LabelCoding


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


def check_same_classes(names: Iterable[str]) -> None:
    """Raises `InputError` where users' own data sets number classes differently.

    A model numbers them once, so the sets that it is trained and evaluated on must agree.
    """
    known = [name for name in names if custom_dataset(name) is not None]
    tables = {name: MetadataCatalog.get(name).get("class_table") for name in known}
    first = next((name for name in known if tables[name] is not None), None)
    for name in known:
        if tables[name] is not None and tables[name].names != tables[first].names:
            raise InputError(
                f"The data sets {first} and {name} have other classes, or in another order: "
                f"{some(tables[first].names)} and {some(tables[name].names)}. Give both the same: "
                "all categories in both JSON files, or one class file (--classes)."
            )


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
    DatasetCatalog.register(dataset.name, lambda: label_records(dataset, coding))
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
