"""Read JSON files of COCO's or LVIS' format, and find what is wrong with them.

Detectron2's loaders read the same file. They stop at some problems, ignore others, and leave the
rest to crash in the middle of training or at the end of evaluation. No image is opened here.
"""

import contextlib
import gc
import json
import logging
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from detectron2.utils.file_io import PathManager

from ..errors import InputError
from .annotations import (
    Annotation,
    CheckedAnnotation,
    Size,
    annotation_name,
    box_problem,
    is_degenerate,
    mask_problem,
    stated_size,
)
from .dataset_files import root_now
from .problems import Problem, ProblemLog

# The evaluator types of data sets that Detectron2 loads from such a file.
JSON_TYPES = ("coco", "lvis", "coco_panoptic_seg")

# What an entry must have, and the kind of problem if it lacks it.
_CATEGORY_KEYS = {"id": "duplicate-id", "name": "unnamed-class"}
_IMAGE_KEYS = {"id": "duplicate-id", "height": "image-size", "width": "image-size"}

_NO_ID = Problem(
    "duplicate-id", "has no 'id'", "Give each annotation of the file a number of its own."
)
_SAME_ID = Problem("duplicate-id", "has the id of another annotation", _NO_ID.fix)
_NO_IMAGE = Problem(
    "unknown-image",
    "is of an image that is not among the 'images' of the file",
    "It is left out.",
    stops=False,
)
_CATEGORY = "Add the category to the file, or correct the annotation."
_LVIS_CATEGORY = (
    "Correct the annotation, or register a file with categories of its own as one of COCO's "
    "(register_coco_instances)."
)
_IGNORED = Problem(
    "ignored-object", "has 'ignore' set, which Detectron2 refuses", "Remove the annotation."
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
    "has a run-length mask, and Detectron2 reads none from LVIS' files",
    "Write it as polygons, or register the file as one of COCO's (register_coco_instances).",
)


class CocoJson(NamedTuple):
    """The contents of a JSON file.

    Attributes:
        file: its path.
        lvis: whether it is one of LVIS, which Detectron2 reads by another loader.
        images: entries by id.
        categories: names by id, in the order of the ids.
        annotations: None if the file has none, as those of test sets.
        problems: of the file, its images and its categories; not of annotations.
    """

    file: str
    lvis: bool
    images: dict[Any, dict[str, Any]]
    categories: dict[Any, Any]
    annotations: list[Annotation] | None
    problems: list[Problem]

    def check(self) -> None:
        """Log that images share an id.

        Raises:
            InputError: the file is not of COCO's format.
        """
        for problem in self.problems:
            if problem.stops:
                raise _not_coco(self.file, problem.found)
        twice = sum(problem.kind == "duplicate-id" for problem in self.problems)
        if twice:
            logging.getLogger(__name__).warning(
                f"{twice} of {len(self.images) + twice} images of {self.file} have the id of "
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

    def has_path(self, image: dict) -> bool:
        """Return whether an entry of an image says where the image is."""
        return isinstance(image.get("coco_url" if self.lvis else "file_name"), str)

    def image_path(self, image: dict, root: str) -> str:
        """Return where Detectron2 looks for an image.

        Args:
            image: its entry.
            root: the folder that the data set is registered with.
        """
        if self.lvis:
            folder, name = image["coco_url"].split("/")[-2:]
            return os.path.join(f"{root}{folder}", name)
        return os.path.join(root, image["file_name"])

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
            problems = []
            image = self.images.get(annotation.get("image_id"))
            category = annotation.get("category_id")
            if "id" not in annotation:
                problems.append(_NO_ID)
            elif image is not None:
                if unique_ids and annotation["id"] in seen:
                    problems.append(_SAME_ID)
                seen.add(annotation["id"])
            if image is None:
                yield CheckedAnnotation(annotation, number, [*problems, _NO_IMAGE])
                continue
            if category not in self.categories:
                what = f"has category_id {category}, which its 'categories' lack"
                problems.append(Problem("unknown-class", what, _CATEGORY))
            elif category not in class_numbers:
                what = f"has category_id {category}, which LVIS has not"
                problems.append(Problem("unknown-class", what, _LVIS_CATEGORY))
            if not self.lvis and annotation.get("ignore", 0) != 0:
                problems.append(_IGNORED)
            problem = box_problem(annotation)
            if problem:
                problems.append(problem)
            if masks and not (is_train and annotation.get("iscrowd", 0)):
                segmentation, size = annotation.get("segmentation"), stated_size(image)
                problem = file_mask_problem(segmentation, size, lvis=self.lvis, is_train=is_train)
                if problem:
                    problems.append(problem)
            yield CheckedAnnotation(annotation, number, problems)

    def annotation_name(self, checked: CheckedAnnotation) -> str:
        """Return what messages call an annotation of the file."""
        image_id = checked.annotation.get("image_id")
        image = self.images.get(image_id)
        path = image["coco_url" if self.lvis else "file_name"] if image else "(unknown)"
        record = {"image_id": image_id, "file_name": path}
        return f"{annotation_name(checked.annotation, checked.number, record)}, in {self.file},"


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
    if lvis or not segmentation or not isinstance(segmentation, list):
        return mask_problem(segmentation, size)
    kept = [polygon for polygon in segmentation if not is_degenerate(polygon)]
    problem = mask_problem(kept, size) if kept else None
    if problem or len(kept) == len(segmentation):
        return problem
    # pycocotools takes the first polygon's length for all, and 4 numbers for a box
    if not is_train and is_degenerate(segmentation[0]) and len(segmentation[0]) <= 4:
        return _STOPS_EVALUATION
    return _SOME_DEGENERATE if kept else _ALL_DEGENERATE


def check_annotations(
    content: CocoJson, class_numbers: dict[Any, int], *, masks: bool, is_train: bool
) -> None:
    """Check all annotations of a file. Those that Detectron2 leaves out are logged.

    Args:
        class_numbers, masks: as in `CocoJson.checked_annotations`.
        is_train: whether crowds are left out, and there must be other objects.

    Raises:
        InputError: training or evaluation would stop at an annotation, or there is no object.
    """
    log, usable = ProblemLog(content.file), 0
    for checked in content.checked_annotations(class_numbers, masks=masks, is_train=is_train):
        for problem in checked.problems:
            log.add(content.annotation_name(checked), problem)
        usable += not checked.problems and not (is_train and checked.annotation.get("iscrowd", 0))
    log.report()
    if is_train and not usable:
        raise InputError(
            f"There is nothing to train on in {content.file}: no annotation of an object that is "
            "no crowd. Choose another data set, or correct the file."
        )


def read_coco_json(name: str, file: str, *, lvis: bool = False) -> CocoJson:
    """Read the JSON file of the data set `name`, with the problems of its entries.

    Args:
        lvis: whether it is one of LVIS, whose images have a `coco_url` instead of a `file_name`.

    Raises:
        InputError: missing, no JSON, or not a dict.
    """
    return parse_coco_json(_read_dict(name, file), file, lvis=lvis)


def parse_coco_json(content: dict, file: str, *, lvis: bool = False) -> CocoJson:
    """Find the entries and the problems in the contents of a JSON file.

    Args:
        content: what the file holds.
        file: its path, for messages.
        lvis: as in `read_coco_json`.
    """
    problems: list[Problem] = []
    image_keys = _IMAGE_KEYS | {"coco_url" if lvis else "file_name": "missing-image"}
    images = _entries(content, "images", image_keys, problems)
    categories = _entries(content, "categories", _CATEGORY_KEYS, problems)
    for number, category in categories.items():
        if "name" in category and not category["name"]:
            problems.append(_problem("unnamed-class", f"category {number} has no name", False))
    annotations = content.get("annotations")
    if annotations is not None and not isinstance(annotations, list):
        problems.append(_problem("unreadable-annotations", "its 'annotations' are no list"))
        annotations = []
    if not all(isinstance(annotation, dict) for annotation in annotations or ()):
        problems.append(_problem("unreadable-annotations", "one of its 'annotations' is no dict"))
        annotations = [each for each in annotations or () if isinstance(each, dict)]
    names = {k: categories[k].get("name") or f"category {k}" for k in sorted(categories)}
    return CocoJson(file, lvis, images, names, annotations, problems)


def read_categories(name: str, file: str) -> list[dict]:
    """Read the categories of the JSON file of the data set `name`, in the order of their ids.

    Raises:
        InputError: missing, no JSON, or without categories.
    """
    problems: list[Problem] = []
    categories = _entries(_read_dict(name, file), "categories", _CATEGORY_KEYS, problems)
    for problem in problems:
        raise _not_coco(file, problem.found)
    return [categories[number] for number in sorted(categories)]


def _read_dict(name: str, file: str) -> dict:
    try:
        with PathManager.open(file, "r") as opened, _without_garbage_collection():
            content = json.load(opened)
    except FileNotFoundError:
        raise InputError(
            f"The data set {name} is not there: the file {os.path.abspath(file)} does not exist. "
            f"{root_now()}"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"The annotation file {file} of the data set {name} cannot be read: {error}. Copy it "
            "or export it again."
        ) from error
    if not isinstance(content, dict):
        raise _not_coco(file, f"its contents are a {type(content).__name__}, not a dict")
    return content


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """It would go over the growing contents again and again: half the time for a file of COCO."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _entries(content: dict, what: str, keys: dict[str, str], problems: list[Problem]) -> dict:
    """Return the entries of a list by their ids, the last of each id.

    Args:
        keys: what an entry must have, and the kind of problem if it lacks it.
        problems: what is found is added.
    """
    entries = content.get(what)
    if not isinstance(entries, list) or not entries:
        problem = f"it has no list of {what!r}, or an empty one"
        problems.append(_problem("unreadable-annotations", problem))
        return {}
    found = {}
    for number, entry in enumerate(entries):
        present = entry.keys() if isinstance(entry, dict) else set()
        if not keys.keys() <= present:
            key = next(key for key in keys if key not in present)
            problem = f"number {number} (from 0) of its {what!r} has no {key!r}"
            problems.append(_problem(keys[key], problem))
            if key == "id":
                continue
        if entry["id"] in found:
            problem = f"two of its {what!r} have the same id ({entry['id']})"
            problems.append(_problem("duplicate-id", problem, stops=what != "images"))
        found[entry["id"]] = entry
    return found


def _problem(kind: str, found: str, stops: bool = True) -> Problem:
    fix = "Correct the file, or the json_file that the data set was registered with."
    return Problem(kind, found, fix, stops)


def _not_coco(file: str, why: str) -> InputError:
    return InputError(f"{file} is not an annotation file in COCO's format: {_problem('', why)}")
