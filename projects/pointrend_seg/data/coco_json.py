"""Read JSON files of COCO's or LVIS' format, and find what is wrong with them.

Detectron2's loaders read the same file. They stop at some problems, ignore others, and leave the
rest to crash in the middle of training or at the end of evaluation. No image is opened here.
"""

import contextlib
import gc
import json
import logging
import math
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from detectron2.utils.file_io import PathManager

from ..config.reading import check_address, is_remote
from ..errors import InputError
from ..files.regular import check_regular
from .annotations import (
    Annotation,
    CheckedAnnotation,
    Record,
    Size,
    all_finite,
    box_problem,
    is_degenerate,
    mask_problem,
    stated_size,
)
from .dataset_files import root_now
from .problems import Problem

# The evaluator types of data sets that Detectron2 loads from such a file.
JSON_TYPES = ("coco", "lvis", "coco_panoptic_seg")

# What an entry must have, and the kind of problem if it lacks it.
_CATEGORY_KEYS = {"id": "duplicate-id", "name": "unnamed-class"}
_SIZE_KEYS = {"height": "image-size", "width": "image-size"}

_SHOWN = 60  # characters of a value
_LARGEST_SIDE = 10**6  # pixels
_WHOLE = f"a whole number from 1 to {_LARGEST_SIDE}"
_NO_ID = Problem("duplicate-id", "has no 'id'")
_SAME_ID = Problem("duplicate-id", "has the id of another annotation")
_NO_IMAGE = Problem(
    "unknown-image", "is of an image that is not among the 'images' of the file", stops=False
)
_IGNORED = Problem("ignored-object", "has 'ignore' set, which Detectron2 refuses")
_LVIS_CATEGORY = (
    "Correct the annotation, or register a file with categories of its own as one of COCO's "
    "(register_coco_instances)."
)
_SOME_DEGENERATE = Problem(
    "bad-mask",
    "has polygons of fewer than 3 points or an odd number of coordinates",
    "They are left out; correct or remove them.",
    stops=False,
)
_ALL_DEGENERATE = Problem(
    "bad-mask",
    "has no polygon of 3 points or more with an even number of coordinates",
    "The object is left out and becomes background; correct it.",
    stops=False,
)
_STOPS_EVALUATION = Problem(
    "bad-mask",
    "begins with a polygon of fewer than 3 points",
    "COCO's evaluation stops at it: correct or remove the polygon.",
)
_NOT_FOR_LVIS = Problem(
    "bad-mask",
    "has a run-length mask, which Detectron2 does not read from LVIS files",
    "Write it as polygons, or register the file as one of COCO's (register_coco_instances).",
)


class CocoJson(NamedTuple):
    """The contents of a JSON file.

    Attributes:
        file: its path.
        lvis: whether it is one of LVIS, which Detectron2 reads by another loader.
        records: by image id, dicts like Detectron2's with `file_name`, `image_id`, `height` and
            `width`, without annotations.
        categories: names by id, in the order of the ids.
        annotations: None if the file has none, as those of test sets.
        problems: of the file, its images and its categories; not of annotations.
    """

    file: str
    lvis: bool
    records: dict[Any, Record]
    categories: dict[Any, Any]
    annotations: list[Annotation] | None
    problems: list[Problem]

    def check(self) -> None:
        """Check the format of the file, and log images that share an id.

        Raises:
            InputError: the file is not of COCO's format.
        """
        for problem in self.problems:
            if problem.stops:
                raise _not_coco(self.file, problem.found)
        twice = sum(problem.kind == "duplicate-id" for problem in self.problems)
        if twice:
            logging.getLogger(__name__).warning(
                f"{twice} of {len(self.records) + twice} images of {self.file} have the id of "
                "another, and only the last of each id is used."
            )

    def class_numbers(self, metadata: Any) -> dict[Any, int] | None:
        """Return the number of the class of each category id that Detectron2's loader knows.

        Args:
            metadata: of the data set in Detectron2's catalog.

        Returns:
            None if the data set is registered with other classes than the file has, so that
            Detectron2's loader would refuse it.
        """
        classes = metadata.get("thing_classes")
        numbers = metadata.get("thing_dataset_id_to_contiguous_id")
        if self.lvis:
            return (numbers or {k + 1: k for k in range(len(classes))}) if classes else None
        own_numbers = {category: number for number, category in enumerate(self.categories)}
        if classes is not None and list(classes) != list(self.categories.values()):
            return None
        return own_numbers if numbers is None or numbers == own_numbers else None

    def checked_annotations(
        self, class_numbers: dict[Any, int], *, masks: bool, is_train: bool
    ) -> Iterator[CheckedAnnotation]:
        """Yield every annotation with its problems.

        Args:
            class_numbers: its keys are the category ids that Detectron2 knows.
            masks: whether every object needs a valid mask.
            is_train: whether only what matters to training counts: masks of crowds do not.
        """
        unique_ids = self.lvis or "minival" not in self.file  # Detectron2 excuses COCO's by name
        seen: set[Any] = set()
        for number, annotation in enumerate(self.annotations or ()):
            problems = list(_wrong_values(annotation))
            if "id" not in annotation:
                problems.append(_NO_ID)
            image_id, category = annotation.get("image_id"), annotation.get("category_id")
            record = self.records.get(image_id) if is_id(image_id) else None
            if record is None:
                record = {"image_id": shown(image_id), "file_name": "(unknown)"}
                yield CheckedAnnotation(annotation, number, record, [*problems, _NO_IMAGE])
                continue
            if not problems:
                if unique_ids and annotation["id"] in seen:
                    problems.append(_SAME_ID)
                seen.add(annotation["id"])
            if not is_id(category) or category not in self.categories:
                what = f"has category_id {shown(category)}, which its 'categories' lack"
                problems.append(Problem("unknown-class", what))
            elif category not in class_numbers:
                what = f"has category_id {shown(category)}, which LVIS does not have"
                problems.append(Problem("unknown-class", what, _LVIS_CATEGORY))
            if not self.lvis and annotation.get("ignore", 0) != 0:
                problems.append(_IGNORED)
            if problem := box_problem(annotation):
                problems.append(problem)
            if masks and not (is_train and annotation.get("iscrowd", 0)):
                segmentation, size = annotation.get("segmentation"), stated_size(record)
                problem = file_mask_problem(segmentation, size, lvis=self.lvis, is_train=is_train)
                if problem:
                    problems.append(problem)
            yield CheckedAnnotation(annotation, number, record, problems)


def file_mask_problem(
    segmentation: Any, size: Size | None, *, lvis: bool = False, is_train: bool
) -> Problem | None:
    """Find what is wrong with a `segmentation` of a JSON file.

    Args:
        segmentation, size: as `mask_problem` takes them.
        lvis: whether Detectron2's LVIS loader reads it, which stops at more than COCO's.
        is_train: whether only Detectron2 reads it. In evaluation pycocotools does, too, which stops
            at masks that Detectron2's loader leaves out.
    """
    if lvis and isinstance(segmentation, dict):
        return _NOT_FOR_LVIS
    problem = mask_problem(segmentation, size)
    if problem is None or lvis or not segmentation or not isinstance(segmentation, list):
        return problem
    kept = [polygon for polygon in segmentation if not is_degenerate(polygon)]
    problem = mask_problem(kept, size) if kept else None
    if problem:
        return problem
    # pycocotools takes the first polygon's length for all, and 4 numbers for a box
    if not is_train and is_degenerate(segmentation[0]) and len(segmentation[0]) <= 4:
        return _STOPS_EVALUATION
    return _SOME_DEGENERATE if kept else _ALL_DEGENERATE


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Stop the garbage collector, which would take as long as parsing a file of COCO's size."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_without_garbage_collection()
def read_coco_json(name: str, metadata: Any) -> CocoJson:
    """Read the JSON file of a data set, with the problems of its entries.

    Args:
        name: of the data set.
        metadata: its metadata in Detectron2's catalog, with `json_file` and `image_root`. If the
            `evaluator_type` is "lvis", images have a `coco_url` instead of a `file_name`.

    Raises:
        InputError: missing, no JSON, or not a dict.
    """
    file, root = os.fspath(metadata.json_file), os.fspath(metadata.image_root)
    content, lvis = _read_dict(name, file), metadata.evaluator_type == "lvis"
    problems: list[Problem] = []
    path_key = "coco_url" if lvis else "file_name"
    image_keys = {"id": "duplicate-id", path_key: "missing-image"} | _SIZE_KEYS
    records = {}
    for image_id, image in _entries(content, "images", image_keys, problems).items():
        if not isinstance(image[path_key], str) or not image[path_key] or "\0" in image[path_key]:
            found = f"has the {path_key} {shown(image[path_key])}, which is no path"
            problems.append(Problem("missing-image", f"image {shown(image_id)} {found}"))
            continue
        size = {key: image.get(key) for key in _SIZE_KEYS}
        for key, value in size.items():
            if key in image and not _is_side(value):
                found = f"image {shown(image_id)} has the {key} {shown(value)}, not {_WHOLE}"
                problems.append(Problem("image-size", found))
        if not all(map(_is_side, size.values())):
            size = dict.fromkeys(_SIZE_KEYS)
        path = os.path.join(root, str(image[path_key]))
        if lvis:  # where Detectron2 looks
            path = root + "/".join(image[path_key].split("/")[-2:])
        record = {"file_name": path, "image_id": image_id}
        records[image_id] = record | size
    categories = _entries(content, "categories", _CATEGORY_KEYS, problems)
    for number, category in categories.items():
        if category.get("name") in ("", None) and "name" in category:
            problems.append(Problem("unnamed-class", f"category {number} has no name", stops=False))
        elif "name" in category and not isinstance(category["name"], str):
            found = f"category {number} has the name {shown(category['name'])}, not a string"
            problems.append(Problem("unnamed-class", found))
    annotations = content.get("annotations")
    if annotations is not None and not isinstance(annotations, list):
        problems.append(Problem("unreadable-annotations", "its 'annotations' are not a list"))
        annotations = []
    if not all(isinstance(annotation, dict) for annotation in annotations or ()):
        number = next(n for n, each in enumerate(annotations or ()) if not isinstance(each, dict))
        found = (
            f"number {number} (from 0) of its 'annotations' is {shown((annotations or ())[number])}"
        )
        problems.append(Problem("unreadable-annotations", f"{found}, not a dict"))
        annotations = [each for each in annotations or () if isinstance(each, dict)]
    names = {k: _name(categories[k], k) for k in sorted(categories, key=_by_type)}
    return CocoJson(file, lvis, records, names, annotations, problems)


def read_categories(name: str, file: str) -> list[dict]:
    """Read the categories of the JSON file of the data set `name`, in the order of their ids.

    Raises:
        InputError: missing, no JSON, or without categories.
    """
    problems: list[Problem] = []
    categories = _entries(_read_dict(name, file), "categories", _CATEGORY_KEYS, problems)
    for problem in problems:
        raise _not_coco(file, problem.found)
    for number, category in categories.items():
        if not isinstance(category["name"], str):
            raise _not_coco(
                file, f"category {number} has the name {shown(category['name'])}, not a string"
            )
    return [categories[number] for number in sorted(categories)]


@_without_garbage_collection()
def _read_dict(name: str, file: str) -> dict:
    if is_remote(file):
        check_address(file)
    check_regular(file, f"annotation file of the data set {name},")
    try:
        with PathManager.open(file, "r") as opened:
            content = json.load(opened)
    except FileNotFoundError:
        raise InputError(
            f"The data set {name} is not there: the file {os.path.abspath(file)} does not exist. "
            f"{root_now()}"
        ) from None
    except RecursionError:
        raise _not_coco(file, "it is nested too deeply") from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"The annotation file {file} of the data set {name} cannot be read: {error}. Copy it "
            "or export it again."
        ) from error
    if not isinstance(content, dict):
        raise _not_coco(file, f"its contents are a {type(content).__name__}, not a dict")
    return content


def _entries(content: dict, what: str, keys: dict[str, str], problems: list[Problem]) -> dict:
    """Return the entries of a list that have an id (and a path) by their ids, the last of each.

    Args:
        keys: what an entry must have, and the kind of problem if it lacks it.
        problems: what is found is added.
    """
    entries = content.get(what)
    if not isinstance(entries, list) or not entries:
        problem = f"it has no list of {what!r}, or an empty one"
        problems.append(Problem("unreadable-annotations", problem))
        return {}
    found = {}
    for number, entry in enumerate(entries):
        place = f"number {number} (from 0) of its {what!r}"
        if not isinstance(entry, dict):
            problem = f"{place} is {shown(entry)}, not a dict"
            problems.append(Problem("unreadable-annotations", problem))
            continue
        missing = next((key for key in keys if key not in entry), None)
        if missing is not None:
            problems.append(Problem(keys[missing], f"{place} has no {missing!r}"))
            if keys[missing] in ("duplicate-id", "missing-image"):
                continue
        if not is_id(entry["id"]):
            problem = f"{place} has the id {shown(entry['id'])}, not a number or a string"
            problems.append(Problem("duplicate-id", problem))
            continue
        if entry["id"] in found:
            problem = f"two of its {what!r} have the same id ({shown(entry['id'])})"
            problems.append(Problem("duplicate-id", problem, stops=what != "images"))
        found[entry["id"]] = entry
    if len({isinstance(each, str) for each in found}) > 1:
        problem = f"the ids of its {what!r} are numbers and strings, which cannot be sorted"
        problems.append(Problem("duplicate-id", problem))
    return found


def is_id(value: Any) -> bool:
    """Return whether a value can be an id: a finite number, or a string."""
    if isinstance(value, int | float):
        return not isinstance(value, bool) and (isinstance(value, int) or math.isfinite(value))
    return isinstance(value, str)


def shown(value: Any) -> str:
    """Return a value of a JSON file as messages show it: cut, without control characters."""
    text = ascii(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."


def _by_type(number: Any) -> tuple:
    return isinstance(number, str), number


def _name(category: dict, number: Any) -> str:
    return str(category.get("name") or f"category {number}")


def _is_side(value: Any) -> bool:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return is_number and 1 <= value <= _LARGEST_SIDE


def _wrong_values(annotation: Annotation) -> Iterator[Problem]:
    """Yield a problem for each value of a type that no reader of these files expects."""
    if "id" in annotation and not is_id(annotation["id"]):
        found = f"has the id {shown(annotation['id'])}, not a number or a string"
        yield Problem("duplicate-id", found)
        annotation["id"] = shown(annotation["id"])
    if not is_id(annotation.get("image_id")):  # pycocotools stops at it
        found = f"has the image_id {shown(annotation.get('image_id'))}, not a number or a string"
        yield Problem("bad-value", found)
    crowd = annotation.get("iscrowd", 0)
    if not isinstance(crowd, int | float) or crowd not in (0, 1):
        yield Problem("bad-value", f"has the iscrowd {shown(crowd)}; it is 0 or 1")
    area = annotation.get("area", 0)
    if not is_id(area) or isinstance(area, str):
        yield Problem("bad-value", f"has the area {shown(area)}; it is a number of pixels")
    keypoints = annotation.get("keypoints")
    if keypoints is not None and not (
        isinstance(keypoints, list) and len(keypoints) % 3 == 0 and all_finite(keypoints)
    ):
        found = f"has the keypoints {shown(keypoints)}; they are a list x, y, visibility, ..."
        yield Problem("bad-value", found)


def _not_coco(file: str, why: str) -> InputError:
    return InputError(
        f"{file} is not an annotation file in COCO's format: {why}. Correct the file, or the "
        "json_file that the data set was registered with."
    )
