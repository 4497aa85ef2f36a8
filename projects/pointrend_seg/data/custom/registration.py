"""Register the user's own data sets in Detectron2's catalogs, and check them."""

import contextlib
import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog

from ...config.reading import is_remote
from ...errors import InputError
from ..classes import IGNORED, palette
from ..coco_json import file_state
from ..coco_records import load_records
from ..dataset_files import some
from ..label_files import read_label_file, read_palette
from ..panoptic.json_file import is_panoptic_json
from ..panoptic.records import class_metadata, register_panoptic
from ..problems import Problem
from .class_files import ClassTable, read_class_file
from .datasets import CustomDataset, label_records, pair_files
from .label_coding import LabelCoding

# Label images that tell masks of 0 and 1 from masks of 0 and 255, and how many may be empty.
_LABELS, _MOST_LABELS = 16, 500
_BACKGROUND = (0, 0, 0)  # its colour in label images where only the foreground has a name
_WHERE_FILES = "Correct the path; a relative path starts at the current directory."
_WHERE_PNGS = (
    "Put the folder of PNGs beside the JSON file, under the file's name without .json, or name it "
    "by 'segments' in DATASETS.CUSTOM."
)
# By kind of data set: what its labels are called, what a user can give, a config for it.
_KINDS = {
    "semantic": (
        *("a folder of label images", "a folder of label images"),
        "configs/quick/pointrend_deeplabv3_R_18_OS16.yaml",
    ),
    "instance": (
        *("a COCO instance file", "a COCO JSON file"),
        "configs/quick/pointrend_rcnn_R_18_FPN.yaml",
    ),
    "panoptic": (
        *("a COCO panoptic file", "a panoptic JSON file"),
        "configs/quick/pointrend_panoptic_R_18_FPN.yaml",
    ),
}
_PATHS = ("images", "annotations", "classes", "segments")


def register_custom(cfg: CfgNode) -> None:
    """Register the data sets of ``DATASETS.CUSTOM``, and write their classes to the entries.

    With the classes, a saved config can be used without the data. Data sets that are registered
    with the same entry are kept.

    Args:
        cfg: modified, so it must not be frozen, if classes come from files.

    Raises:
        InputError: an entry is invalid, or its name is that of another data set.
    """
    entries = [_registered(entry) for entry in cfg.DATASETS.CUSTOM]
    if entries != cfg.DATASETS.CUSTOM:
        cfg.DATASETS.CUSTOM = entries


def check_same_classes(names: Iterable[str]) -> None:
    """Check that the user's own data sets have the same classes in the same order.

    Args:
        names: data sets that a model is trained or evaluated on; others are ignored.

    Raises:
        InputError: two of them have different classes, or masks whose values may mean different
            things.
    """
    own = [name for name in names if custom_dataset(name) is not None]
    tables = {name: MetadataCatalog.get(name).get("class_table") for name in own}
    known = [(name, table.names) for name, table in tables.items() if table is not None]
    for (name, classes), (other_name, other_classes) in pairwise(known):
        if classes != other_classes:
            raise InputError(
                f"The data sets {name} and {other_name} have different classes, or the same in a "
                f"different order: {some(classes)} and {some(other_classes)}. Use the same for "
                "both: all categories in both JSON files, or one class file (--classes)."
            )
    foregrounds = {name: MetadataCatalog.get(name).get("found_foreground") for name in own}
    with_1, with_255 = (
        next((name for name, found in foregrounds.items() if found == value), "")
        for value in (1, IGNORED)
    )
    if with_1 and with_255:
        raise InputError(
            f"The label images of {with_1} have the value 1, those of {with_255} only 0 and 255, "
            "which may be the foreground or unlabelled pixels. Say which: give the foreground its "
            "value in the class files (255 NAME or 1 NAME), or use --ignore-value 255."
        )


def _registered(entry: dict) -> dict:
    CustomDataset.from_entry(entry)  # which says what is wrong with it
    entry = _with_absolute_paths(entry)
    dataset = CustomDataset.from_entry(entry)
    known = dataset.name in DatasetCatalog
    before = custom_dataset(dataset.name) if known else None
    if known and before is None:
        raise InputError(
            f"DATASETS.CUSTOM: another data set has the name {dataset.name}. Choose another name."
        )
    if before != dataset or _is_changed(dataset):
        if known:
            DatasetCatalog.remove(dataset.name)
        if dataset.name in MetadataCatalog.list():
            MetadataCatalog.remove(dataset.name)
        try:
            register = _register_panoptic if dataset.is_panoptic else _register_json
            if dataset.segments and register is _register_json:
                raise InputError(
                    f"DATASETS.CUSTOM, {dataset.name}: segments is the folder of PNGs of a "
                    f"panoptic JSON file, but {dataset.annotations} is none. Leave it out."
                )
            (_register_labels if dataset.is_semantic else register)(dataset)
        except BaseException:  # leave nothing that looks like another data set of this name
            DatasetCatalog.pop(dataset.name, None)
            raise
        MetadataCatalog.get(dataset.name).custom = dataset
    return _with_classes(entry, MetadataCatalog.get(dataset.name))


def _is_changed(dataset: CustomDataset) -> bool:
    """Return whether a JSON file was written since its data set was registered."""
    state = MetadataCatalog.get(dataset.name).get("json_state")
    return not dataset.is_semantic and file_state(dataset.annotations) != state


def _with_absolute_paths(entry: dict) -> dict:
    """Return an entry of ``DATASETS.CUSTOM`` that means the same in any current directory."""
    paths = {key: entry[key] for key in _PATHS if isinstance(entry.get(key), str) and entry[key]}
    return entry | {
        key: path if is_remote(path) else os.path.abspath(path) for key, path in paths.items()
    }


def _with_classes(entry: dict, metadata: Metadata) -> dict:
    """Return an entry of ``DATASETS.CUSTOM`` with the classes in the metadata."""
    table = metadata.get("class_table")
    if table is None:
        return entry
    classes = [
        {"name": name, "color": "#" + bytes(color).hex()}
        for name, color in zip(table.names, table.colors, strict=True)
    ]
    if table.ids is not None:
        classes = [each | {"id": k} for each, k in zip(classes, table.ids, strict=True)]
    if table.things is not None:
        classes = [each | {"isthing": k} for each, k in zip(classes, table.things, strict=True)]
    if not metadata.custom.is_semantic:
        return entry | {"classes": classes}
    ignore: dict[str, Any] = {"ignore_value": table.ignore_value}
    if metadata.label_coding.colors is None:
        ignore["drawing_colors"] = True
    if table.ignore_color is not None:
        ignore["ignore_color"] = "#" + bytes(table.ignore_color).hex()
    return entry | {"classes": classes} | ignore


def custom_dataset(name: str) -> CustomDataset | None:
    """Return the user's own data set with this name, None for other data sets."""
    if name not in MetadataCatalog.list():
        return None
    return MetadataCatalog.get(name).get("custom")


def check_custom(name: str, *, semantic: bool, panoptic: bool = False) -> None:
    """Check that the user's own data set exists and fits the model; ignore other data sets.

    Args:
        name: a name in ``DATASETS.TRAIN`` or ``DATASETS.TEST``.
        semantic: True for a semantic model, False for an instance model.
        panoptic: True for a panoptic model, whatever `semantic` is.

    Raises:
        InputError: its images or labels do not exist, or are for the other kind of model.
    """
    dataset = custom_dataset(name)
    if dataset is None:
        return
    paths = {"images": dataset.images, "annotations": dataset.annotations}
    kind = "semantic" if dataset.is_semantic else "instance"
    if MetadataCatalog.get(name).get("panoptic_json"):
        kind, paths["panoptic PNGs"] = "panoptic", dataset.segments_folder
    for what, path in paths.items():
        if not os.path.exists(path):
            advice = _WHERE_PNGS if what == "panoptic PNGs" else _WHERE_FILES
            raise InputError(
                f"The {what} of data set {name} were not found: {os.path.abspath(path)} does not "
                f"exist. {advice}"
            )
    wanted = "panoptic" if panoptic else "semantic" if semantic else "instance"
    if kind == "instance" and panoptic:
        is_panoptic_json(name, dataset.annotations)  # which says why it cannot be read
    if kind != wanted:
        found, _, config = _KINDS[kind]
        article = "an" if wanted == "instance" else "a"
        raise InputError(
            f"{dataset.annotations} is {found}, but this is {article} {wanted} config. Use for "
            f"example {config}, or {_KINDS[wanted][1]}."
        )


def _register_json(dataset: CustomDataset) -> None:
    name = dataset.name
    DatasetCatalog.register(name, partial(load_records, name))
    metadata = MetadataCatalog.get(name)
    metadata.set(json_file=dataset.annotations, image_root=dataset.images, evaluator_type="coco")
    metadata.json_state = file_state(dataset.annotations)
    if not (dataset.classes or os.path.isfile(dataset.annotations)):
        return
    if isinstance(dataset.classes, str):
        read_class_file(dataset.classes)  # an error in it is raised now
    with contextlib.suppress(InputError):  # raised again when the data set is checked
        table = _with_colors(dataset.class_table())
        metadata.set(
            class_table=table, thing_classes=list(table.names), thing_colors=_color_lists(table)
        )
        if table.ids is not None:
            metadata.thing_dataset_id_to_contiguous_id = {k: i for i, k in enumerate(table.ids)}


def _register_panoptic(dataset: CustomDataset) -> None:
    if dataset.classes and not (
        isinstance(dataset.classes, ClassTable) and dataset.classes.things is not None
    ):
        raise InputError(
            f"Data set {dataset.name}: the classes of the panoptic file {dataset.annotations} are "
            "its categories, which say what is a thing. Leave out --classes ('classes' in "
            "DATASETS.CUSTOM)."
        )
    classes: dict[str, Any] = {}
    with contextlib.suppress(InputError):  # raised again when the data set is checked
        table = _with_colors(dataset.class_table())
        assert table.ids is not None and table.things is not None
        rows = list(zip(table.ids, table.names, _color_lists(table), table.things, strict=True))
        things, stuff = ([row for row in rows if row[3] == flag] for flag in (True, False))
        classes = class_metadata(
            {k: name for k, name, *_ in things},
            {k: name for k, name, *_ in stuff},
            [color for *_, color, _ in things],
            [color for *_, color, _ in stuff],
        )
        classes["class_table"] = table
    register_panoptic(
        dataset.name,
        image_root=dataset.images,
        panoptic_root=dataset.segments_folder,
        panoptic_json=dataset.annotations,
        **classes,
    )
    MetadataCatalog.get(dataset.name).json_state = file_state(dataset.annotations)


def _register_labels(dataset: CustomDataset) -> None:
    table = dataset.class_table()
    with_colors = table.colors is not None and not dataset.drawing_colors
    is_255_unclear, foreground = False, None
    if table.ids is None and table.ignore_value is None and len(table.names) <= 2:
        foreground = _foreground_value(dataset)
        is_255_unclear = foreground is None
        if foreground == IGNORED:
            table = replace(table, ids=(0, IGNORED)[-len(table.names) :])
    ids = table.ids or tuple(range(len(table.names)))
    if len(table.names) == 1:  # the name of the foreground; the background is 0
        if table.ids == (0,):
            raise InputError(
                f"Data set {dataset.name}: {table.names[0]} is the only class and has the value 0, "
                "but where there is one class, 0 is the background. Give it the value that it has "
                "in the label images, or list the background, too."
            )
        ids = (0, table.ids[0] if table.ids else 1)
        table = replace(table, ids=ids[1:])
    decoded_ignore = IGNORED if len(ids) <= IGNORED else 65535
    ignore = table.ignore_value
    if ignore is None and IGNORED not in ids:
        ignore = IGNORED
    if ignore in ids:
        name = dict(zip(reversed(ids), reversed(table.names), strict=False)).get(
            ignore, "background"
        )
        raise InputError(
            f"Data set {dataset.name}: the ignore_value {ignore} is also the value of class "
            f"{name}. Change ignore_value (--ignore-value) or the class file."
        )
    colors = table.colors if with_colors else None
    if colors and len(table.names) == 1:
        colors = (_BACKGROUND, *colors)
    if table.ignore_color in (colors or ()):
        raise InputError(
            f"Data set {dataset.name}: the ignore_color #{bytes(table.ignore_color or ()).hex()} "
            "is also the colour of a class. Change it, or the class file."
        )
    if min(ids) < 0:
        raise InputError(
            f"Data set {dataset.name}: a class has the value {min(ids)}, but the values of label "
            "images are 0 or more. Correct the class file."
        )
    file_palette = None if with_colors else _read_palette(dataset)
    coding = LabelCoding(
        ids,
        colors,
        ignore,
        table.ignore_color,
        decoded_ignore,
        file_palette,
        is_255_unclear,
    )
    in_palette = file_palette is not None and max(ids) < len(file_palette) and len(ids) > 1
    palette_colors = [file_palette[k] for k in ids] if in_palette and file_palette else None
    table = replace(
        _with_colors(table, palette_colors if len(ids) == len(table.names) else None),
        ids=table.ids or ids,
        ignore_value=ignore,
    )
    DatasetCatalog.register(dataset.name, lambda: label_records(dataset, coding))
    MetadataCatalog.get(dataset.name).set(
        class_table=table,
        stuff_classes=list(table.names),
        stuff_colors=_color_lists(table),
        stuff_dataset_id_to_contiguous_id={value: index for index, value in enumerate(ids)},
        ignore_label=decoded_ignore,
        evaluator_type="sem_seg",
        label_coding=coding,
        found_foreground=foreground,
    )


def _foreground_value(dataset: CustomDataset) -> int | None:
    """Find whether label images of two classes have 0 and 1, or 0 and 255.

    Returns:
        1 if a label image has 1, so that 255 is unlabelled; 255 if one has 255 and none has 1;
        None if those that were looked at have neither.
    """
    files = _label_files(dataset)
    if not files:
        return None
    random.Random(0).shuffle(files)
    found = None
    for number, file in enumerate(files):
        if number >= (_MOST_LABELS if found is None else _LABELS):
            break
        pixels = read_label_file(file)
        if isinstance(pixels, Problem) or pixels.values.ndim == 3:
            continue
        if (pixels.values == 1).any():
            return 1
        if (pixels.values == IGNORED).any():
            found = IGNORED
    return found


def _with_colors(
    table: ClassTable, default_colors: Sequence[Sequence[int]] | None = None
) -> ClassTable:
    """Return the table with its own colours, else ``default_colors``, else distinct colours."""
    colors = table.colors or default_colors or palette(len(table.names)).tolist()
    return replace(table, colors=tuple((red, green, blue) for red, green, blue in colors))


def _color_lists(table: ClassTable) -> list[list[int]]:
    return [list(color) for color in table.colors or ()]


def _read_palette(dataset: CustomDataset) -> tuple[tuple[int, int, int], ...] | None:
    """Return the colours in the first label image's palette, None if it has none."""
    table = next(map(read_palette, _label_files(dataset)[:1]), None)
    return None if table is None else tuple((r, g, b) for r, g, b in table.tolist())


def _label_files(dataset: CustomDataset) -> list[str]:
    """Return the label images of a data set that have an image; none if its folders are wrong."""
    with contextlib.suppress(InputError):  # raised again when the data set is loaded
        return [labels for _, labels in pair_files(dataset).both.values()]
    return []
