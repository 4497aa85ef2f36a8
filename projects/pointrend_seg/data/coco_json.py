"""What can be wrong with a JSON file of COCO's or LVIS' format, whose images are not opened.

Detectron2's loaders read the same file. They stop at some faults, get over others, and leave the
rest to crash in the middle of training or at the end of evaluation.
"""

import contextlib
import gc
import json
import logging
import os
from typing import NamedTuple

from detectron2.utils.file_io import PathManager

from ..errors import InputError
from .annotations import (
    Findings,
    Problem,
    annotation_name,
    box_problem,
    is_degenerate,
    mask_problem,
)
from .dataset_files import root_now

_NO_ID = Problem("has no 'id'", "Give each annotation of the file a number of its own.")
_CATEGORY = "Add the category to the file, or correct the annotation."
_LVIS_CATEGORY = (
    "Correct the annotation, or register a file with categories of its own as one of COCO's "
    "(register_coco_instances)."
)
_SAME_ID = Problem("has the id of another annotation", _NO_ID.fix)
_IGNORED = Problem("has 'ignore' set, which Detectron2 refuses", "Remove the annotation.")
_NO_IMAGE = Problem("is of an image that is not among the 'images' of the file", "It is left out.")
_SOME_DEGENERATE = Problem(
    "has polygons of fewer than 3 points or an odd number of coordinates",
    "They are left out; correct or remove them.",
)
_ALL_DEGENERATE = Problem(
    "has no polygon of 3 points or more with an even number of coordinates",
    "The object is left out and becomes background; correct it.",
)
_STOPS_EVALUATION = Problem(
    "begins with a polygon of fewer than 3 points",
    "COCO's evaluation stops at it: correct or remove the polygon.",
)
_NOT_FOR_LVIS = Problem(
    "has a run-length mask, and Detectron2 reads none from LVIS' files",
    "Write it as polygons, or register the file as one of COCO's (register_coco_instances).",
)


class CocoJson(NamedTuple):
    """The contents of a JSON file.

    Attributes:
        file: its path.
        images: by id.
        annotations: None where the file has none, as those of test sets.
        categories: names by id, in the order of the ids.
        lvis: whether it is one of LVIS, which Detectron2 reads by another loader.
    """

    file: str
    images: dict
    annotations: list[dict] | None
    categories: dict
    lvis: bool


def read_coco_json(name: str, file: str, *, lvis: bool) -> CocoJson:
    """Reads the JSON file of the data set `name`.

    Args:
        lvis: whether it is one of LVIS, whose images have a `coco_url` instead of a `file_name`.

    Raises:
        InputError: missing, no JSON, or not of COCO's format.
    """
    content = _read_dict(name, file)
    for key in ("images", "categories"):
        if not isinstance(content.get(key), list) or not content[key]:
            raise _not_coco(file, f"it has no list of {key!r}, or an empty one")
    if not isinstance(content.get("annotations", []), list):
        raise _not_coco(file, "its 'annotations' are no list")
    if not all(isinstance(annotation, dict) for annotation in content.get("annotations", [])):
        raise _not_coco(file, "one of its 'annotations' is no dict")
    path_key = "coco_url" if lvis else "file_name"
    images = _by_id(file, "images", content["images"], ("id", path_key, "height", "width"))
    categories = _by_id(file, "categories", content["categories"], ("id", "name"))
    if len(images) < len(content["images"]):
        logging.getLogger(__name__).warning(
            f"{len(content['images']) - len(images)} of {len(content['images'])} images of {file} "
            "have the id of another, and only the last of each id is used."
        )
    if len(categories) < len(content["categories"]):
        raise _not_coco(file, "two of its 'categories' have the same id")
    names = {key: categories[key]["name"] for key in sorted(categories)}
    return CocoJson(file, images, content.get("annotations"), names, lvis)


def read_categories(name: str, file: str) -> list[dict]:
    """The categories of the JSON file of the data set `name`, by their ids.

    Raises:
        InputError: missing, no JSON, or without categories.
    """
    categories = _read_dict(name, file).get("categories")
    if not isinstance(categories, list) or not categories:
        raise _not_coco(file, "it has no list of 'categories', or an empty one")
    _by_id(file, "categories", categories, ("id", "name"))
    return sorted(categories, key=lambda entry: entry["id"])


def _read_dict(name: str, file: str) -> dict:
    content = _read_json(name, file)
    if not isinstance(content, dict):
        raise _not_coco(file, f"its contents are a {type(content).__name__}, not a dict")
    return content


def _read_json(name: str, file: str):
    try:
        with PathManager.open(file, "r") as opened, _without_garbage_collection():
            return json.load(opened)
    except FileNotFoundError:
        raise InputError(
            f"The data set {name} is not there: the file {os.path.abspath(file)} does not exist. "
            f"{root_now()}"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"The annotation file {file} of the data set {name} cannot be read: {error}. Copy or "
            "write it anew."
        ) from error


@contextlib.contextmanager
def _without_garbage_collection():
    """It would go over the growing contents again and again: half the time for a file of COCO."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _by_id(file: str, what: str, entries: list, keys: tuple[str, ...]) -> dict:
    for number, entry in enumerate(entries):
        missing = [key for key in keys if not isinstance(entry, dict) or key not in entry]
        if missing:
            raise _not_coco(file, f"number {number} (from 0) of its {what!r} has no {missing[0]!r}")
    return {entry["id"]: entry for entry in entries}


def _not_coco(file: str, why: str) -> InputError:
    return InputError(
        f"{file} is not an annotation file in COCO's format: {why}. Correct the file, or the "
        "json_file that the data set was registered with."
    )


def image_paths(content: CocoJson, image_root: str) -> list[str]:
    """Where Detectron2 looks for the images."""
    if content.lvis:
        folders_and_names = (image["coco_url"].split("/")[-2:] for image in content.images.values())
        return [os.path.join(f"{image_root}{folder}", name) for folder, name in folders_and_names]
    return [os.path.join(image_root, image["file_name"]) for image in content.images.values()]


def check_annotations(content: CocoJson, class_ids: set, *, mask_on: bool, is_train: bool) -> None:
    """Looks at each annotation; what Detectron2 gets over is logged.

    Args:
        class_ids: the category ids that Detectron2 knows.
        mask_on: whether masks are looked at.
        is_train: whether crowds are left out, and there must be other objects.

    Raises:
        InputError: what training or evaluation would stop at.
    """
    findings = Findings(content.file)
    seen, usable = set(), 0
    for number, annotation in enumerate(content.annotations or ()):
        image = content.images.get(annotation.get("image_id"))
        crowd = is_train and annotation.get("iscrowd", 0)
        problem = _problem(annotation, image, content, class_ids, seen)
        fatal = problem is not _NO_IMAGE
        if problem is None and mask_on and not crowd:
            problem, fatal = _mask_problem(annotation.get("segmentation"), image, content, is_train)
        if problem:
            report = findings.error if fatal else findings.warn
            report(_name(annotation, number, image, content), problem)
        usable += not problem and not crowd
    findings.report()
    if is_train and not usable:
        raise InputError(
            f"There is nothing to train on in {content.file}: no annotation of an object that is "
            "no crowd. Choose another data set, or correct the file."
        )


def _problem(
    annotation: dict, image: dict | None, content: CocoJson, class_ids: set, seen: set
) -> Problem | None:
    """What is wrong but for the mask; adds the annotation to those seen."""
    if "id" not in annotation:
        return _NO_ID
    if image is None:
        return _NO_IMAGE
    if annotation["id"] in seen and not _may_repeat_ids(content):
        return _SAME_ID
    seen.add(annotation["id"])
    category = annotation.get("category_id")
    if category not in content.categories:
        return Problem(f"has category_id {category}, which its 'categories' lack", _CATEGORY)
    if category not in class_ids:
        return Problem(f"has category_id {category}, which LVIS has not", _LVIS_CATEGORY)
    if annotation.get("ignore", 0) != 0 and not content.lvis:
        return _IGNORED
    return box_problem(annotation)


def _may_repeat_ids(content: CocoJson) -> bool:
    """Two published files of COCO 2014 do, and Detectron2 excuses them by this name."""
    return not content.lvis and "minival" in content.file


def _mask_problem(
    segmentation, image: dict, content: CocoJson, is_train: bool
) -> tuple[Problem | None, bool]:
    """What is wrong with a mask, and whether training or evaluation would stop at it."""
    size = image["height"], image["width"]
    if content.lvis and isinstance(segmentation, dict):
        return _NOT_FOR_LVIS, True
    if content.lvis or not segmentation or not isinstance(segmentation, list):
        return mask_problem(segmentation, size), True
    kept = [polygon for polygon in segmentation if not is_degenerate(polygon)]
    problem = mask_problem(kept, size) if kept else None
    if problem or len(kept) == len(segmentation):
        return problem, True
    # pycocotools takes the first polygon's length for all, and 4 numbers for a box
    if not is_train and is_degenerate(segmentation[0]) and len(segmentation[0]) <= 4:
        return _STOPS_EVALUATION, True
    return _SOME_DEGENERATE if kept else _ALL_DEGENERATE, False


def _name(annotation: dict, number: int, image: dict | None, content: CocoJson) -> str:
    record = {"image_id": annotation.get("image_id"), "file_name": "(unknown)"}
    if image is not None:
        record["file_name"] = image["coco_url" if content.lvis else "file_name"]
    return f"{annotation_name(annotation, number, record)}, in {content.file},"
