"""Register panoptic data sets of COCO's format, and make Detectron2's data set dicts of them."""

import logging
from functools import partial
from typing import Any, NamedTuple

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...errors import InputError
from ..annotations import Record
from ..classes import IGNORED
from ..coco_json import let_go, not_coco
from ..dataset_files import load_dicts, some
from ..problems import Problem
from .classes import THINGS, THINGS_COLOR, PanopticClasses
from .json_file import PanopticJson, read_panoptic_json
from .segments import known_class

EVALUATOR_TYPE = "coco_panoptic_seg"
_DETECTRON2_LOADER = "detectron2.data.datasets.coco_panoptic"

logger = logging.getLogger(__name__)


def register_panoptic(
    name: str,
    *,
    image_root: str,
    panoptic_root: str,
    panoptic_json: str,
    json_file: str | None = None,
    **metadata: Any,
) -> None:
    """Register a data set of COCO's panoptic format.

    Args:
        name: as in ``DATASETS.TRAIN`` or ``DATASETS.TEST``.
        image_root: the folder of images.
        panoptic_root: the folder of PNGs.
        panoptic_json: the JSON file that lists their segments.
        json_file: objects of the same images in COCO's format, to score boxes and masks with;
            None: they are made of the PNGs.
        metadata: what `class_metadata` returns, if the classes are known.
    """
    DatasetCatalog.register(name, partial(load_panoptic_records, name))
    paths = {"image_root": image_root, "panoptic_root": panoptic_root}
    if json_file is not None:
        paths["json_file"] = json_file
    MetadataCatalog.get(name).set(
        **paths,
        panoptic_json=panoptic_json,
        evaluator_type=EVALUATOR_TYPE,
        ignore_label=IGNORED,
        label_divisor=1000,
        **metadata,
    )


def class_metadata(
    things: dict[int, str],
    stuff: dict[int, str],
    thing_colors: list[list[int]] | None = None,
    stuff_colors: list[list[int]] | None = None,
) -> dict[str, Any]:
    """Return the metadata of classes, numbered as Detectron2's PanopticFPN expects them.

    Args:
        things, stuff: names by category id, in the order of the classes.
        thing_colors, stuff_colors: RGB, in the same order.

    Example:
        >>> class_metadata({7: "cat"}, {9: "sky"})["stuff_classes"]
        ['things', 'sky']
    """
    found: dict[str, Any] = {
        "thing_classes": list(things.values()),
        "thing_dataset_id_to_contiguous_id": {k: number for number, k in enumerate(things)},
        "stuff_classes": [THINGS, *stuff.values()],
        "stuff_dataset_id_to_contiguous_id": {0: 0} | {k: n for n, k in enumerate(stuff, start=1)},
    }
    if thing_colors is not None and stuff_colors is not None:
        found["thing_colors"] = thing_colors
        found["stuff_colors"] = [list(THINGS_COLOR), *stuff_colors]
    return found


def is_separated(metadata: Any) -> bool:
    """Return whether a panoptic data set has objects and label images in separate files."""
    return bool(metadata.get("sem_seg_root"))


def use_own_panoptic_reader(name: str) -> bool:
    """Let a data set of Detectron2's `register_coco_panoptic` be read by `load_panoptic_records`.

    Args:
        name: of a data set; one with a loader of its own, or with separate files, stays as it is.

    Returns:
        whether `load_panoptic_records` reads it.
    """
    if name not in DatasetCatalog:
        return False
    load, metadata = DatasetCatalog[name], MetadataCatalog.get(name)
    if isinstance(load, partial) and load.func is load_panoptic_records:
        return True
    is_known = getattr(load, "__module__", "") == _DETECTRON2_LOADER
    if not is_known or not metadata.get("panoptic_json") or is_separated(metadata):
        return False
    DatasetCatalog[name] = partial(load_panoptic_records, name)
    return True


def load_panoptic_records(name: str) -> list[Record]:
    """Return the data set dicts of a panoptic data set, in the order of the file's annotations.

    They have `file_name`, `image_id`, `height`, `width`, `pan_seg_file_name` and `segments_info`,
    whose `category_id` is that of Detectron2's metadata for the data set, with `isthing`. Class
    names are set in the metadata if they have none.

    Raises:
        InputError: the file is missing or not of COCO's panoptic format, or has other classes than
            the data set.
    """
    metadata = MetadataCatalog.get(name)
    content = read_panoptic_json(name, metadata)
    content.check(log=False)  # the checks before training and evaluation do
    if not metadata.get("thing_classes") and not metadata.get("stuff_classes"):
        metadata.set(**class_metadata(*_things_and_stuff(content)))
    numbers = category_numbers(name, metadata, content)
    records = []
    for record in content.records.values():
        segments = [
            segment | {"category_id": number, "isthing": is_thing}
            for segment in record["segments_info"]
            for is_thing, number in [numbers[segment["category_id"]]]
        ]
        records.append(record | {"segments_info": segments})
    let_go(content.file)
    if not records:
        found = "none of its images has an annotation"
        raise not_coco(content.file, Problem("unreadable-annotations", found))
    logger.info(f"Loaded {len(records)} images in COCO's panoptic format from {content.file}")
    return records


class Truth(NamedTuple):
    """The segments of a data set with the category ids of its file.

    Attributes:
        categories: `id`, `name` and `isthing` of each, in the order of the ids.
        images: the entries of the file, or `id`, `file_name`, `height` and `width`.
        records: by image id, dicts with `file_name`, `pan_seg_file_name` and `segments_info`.
    """

    categories: list[dict]
    images: list[dict]
    records: dict[Any, Record]


def read_truth(name: str, classes: PanopticClasses) -> Truth:
    """Return what predictions for a panoptic data set are compared with.

    It is read from ``panoptic_json`` of the metadata; without that, from the data set dicts.

    Raises:
        InputError: there are no panoptic labels, or others than those of `classes`.
    """
    metadata = MetadataCatalog.get(name)
    if metadata.get("panoptic_json") and metadata.get("panoptic_root"):
        content = read_panoptic_json(name, metadata)
        content.check(log=False)
        category_numbers(name, metadata, content)
        let_go(content.file)
        categories = sorted(content.raw["categories"], key=lambda category: category["id"])
        return Truth(categories, content.raw["images"], content.records)
    records = {}
    for record in load_dicts(name):
        if "pan_seg_file_name" not in record or "segments_info" not in record:
            raise InputError(
                f"The data set {name} has no panoptic labels to score {record['file_name']} with: "
                "its dict has no 'pan_seg_file_name' and 'segments_info', and its metadata no "
                "panoptic_json and panoptic_root."
            )
        segments = []
        for segment in record["segments_info"]:
            is_thing, number = known_class(segment, classes)
            ids = classes.thing_ids if is_thing else (0, *classes.stuff_ids)
            segments.append(segment | {"category_id": ids[number]})
        records[record["image_id"]] = record | {"segments_info": segments}
    pairs = zip(classes.ids, classes.names, strict=True)
    categories = [
        {"id": k, "name": each, "isthing": int(k in classes.thing_ids)} for k, each in pairs
    ]
    keys = ("file_name", "height", "width")
    images = [{"id": k} | {key: r.get(key) for key in keys} for k, r in records.items()]
    return Truth(categories, images, records)


def _things_and_stuff(content: PanopticJson) -> tuple[dict[int, str], dict[int, str]]:
    names = content.categories
    things = {k: name for k, name in names.items() if k in content.things}
    return things, {k: name for k, name in names.items() if k not in content.things}


def classes_of_file(content: PanopticJson) -> PanopticClasses:
    """Return the classes of a file, whose numbers are its category ids."""
    things, stuff = _things_and_stuff(content)
    return PanopticClasses(
        tuple(things.values()),
        tuple(stuff.values()),
        tuple(things),
        tuple(stuff),
        {k: number for number, k in enumerate(things)},
        {k: number for number, k in enumerate(stuff, start=1)},
    )


def category_numbers(
    name: str, metadata: Any, content: PanopticJson
) -> dict[int, tuple[bool, int]]:
    """Return whether each category of a file is a thing, and its number in the metadata.

    Raises:
        InputError: the data set is registered with other classes than the file has.
    """
    things = metadata.get("thing_dataset_id_to_contiguous_id") or {}
    stuff = metadata.get("stuff_dataset_id_to_contiguous_id") or {}
    found = {}
    for category, own_name in content.categories.items():
        is_thing = category in content.things
        numbers = things if is_thing else stuff
        if category not in numbers:
            kind = "things" if is_thing else "stuff"
            known = metadata.get("thing_classes" if is_thing else "stuff_classes") or ()
            raise InputError(
                f"{content.file} has category {category} ({own_name}), but the data set {name} is "
                f"registered with other {kind} ({some([str(each) for each in known])}). Register "
                "the file under a name of its own, with its own classes."
            )
        found[category] = is_thing, numbers[category]
    return found
