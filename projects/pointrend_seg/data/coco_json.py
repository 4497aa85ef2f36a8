"""Read JSON files of COCO's or LVIS' format, and find what is wrong with them.

A file is read once, by `coco_schema`, and all that need its contents get the same: the checks
before training, the records that are trained on, the ground truth of evaluation, the survey. No
image is opened here.
"""

import contextlib
import gc
import json
import logging
import os
from collections import OrderedDict
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
    coordinates_problem,
    has_points,
    is_degenerate,
    mask_problem,
    points_problem,
    shown,
    stated_size,
    unseen_problem,
)
from .coco_schema import (
    Entries,
    Repairs,
    is_id,
    is_side,
    kind_of,
    other_cases,
    path_problem,
    read_annotations,
    read_entries,
)
from .dataset_files import root_now, some
from .problems import KINDS, Problem

# The evaluator types of data sets that Detectron2 loads from such a file.
JSON_TYPES = ("coco", "lvis", "coco_panoptic_seg")

_KEPT_FILES = 4
_KEPT_BYTES = 2**24  # of a file; larger ones are let go as soon as their records are made
_FEW_CROWDS = 0.1  # share of the annotations; 0.01 in COCO
_KEYS = {"id", "image_id", "category_id", "bbox", "segmentation", "iscrowd", "area"}
_NO_ID = Problem("duplicate-id", "has no 'id'")
_SAME_ID = Problem("duplicate-id", "has the id of another annotation")
_NO_IMAGE = Problem(
    "unknown-image", "belongs to an image that is not in the file's 'images'", stops=False
)
_IGNORED = Problem("ignored-object", "has 'ignore' set, which Detectron2 refuses")
_LVIS_CATEGORY = (
    "Correct the annotation, or register a file with categories of its own as one of COCO's "
    "(register_coco_instances)."
)
_SHORT_POLYGON = Problem(
    "short-polygon",
    "has polygons of fewer than 3 points or an odd number of coordinates",
    stops=False,
)
_NO_POLYGON = Problem(
    "no-polygon",
    "has no polygon of 3 points or more with an even number of coordinates",
    stops=False,
)
_NOT_FOR_LVIS = Problem(
    "bad-mask",
    "has a run-length mask, which Detectron2 does not read from LVIS files",
    "Write it as polygons, or register the file as one of COCO's (register_coco_instances).",
)
_READ_BY_DETECTRON2 = (
    "Detectron2's own loader of this data set would not read it as what it means: correct the file."
)

# What compressed files begin with.
_COMPRESSED = (
    (b"\x1f\x8b", "gzip", "gunzip"),
    (b"PK\x03\x04", "zip", "unzip"),
    (b"BZh", "bzip2", "bunzip2"),
    (b"\xfd7zXZ", "xz", "unxz"),
    (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
)


class _File(NamedTuple):
    """The contents of a JSON file as `coco_schema` reads them.

    Attributes:
        content: the whole dict, with the changed values.
        images, categories: by their ids.
        annotations: None if the file has none.
        repairs: what was changed, by the place of the annotation.
        problems: of the file, its images and its categories.
        size: in bytes.
    """

    content: dict
    images: Entries
    categories: Entries
    annotations: list[Annotation] | None
    repairs: Repairs
    problems: list[Problem]
    size: int


class CocoJson(NamedTuple):
    """The contents of a JSON file.

    Attributes:
        file: its path.
        lvis: whether it is one of LVIS, which Detectron2 reads by another loader.
        records: by image id, dicts like Detectron2's with `file_name`, `image_id`, `height` and
            `width`, without annotations.
        categories: names by id, in the order of the ids.
        annotations: None if the file has none, as those of test sets.
        repairs: what was changed in annotations, by their place.
        problems: of the file, its images and its categories; not of annotations.
        raw: the whole dict, with the changed values.
    """

    file: str
    lvis: bool
    records: dict[Any, Record]
    categories: dict[Any, Any]
    annotations: list[Annotation] | None
    repairs: Repairs
    problems: list[Problem]
    raw: dict

    def check(self, *, log: bool = True) -> None:
        """Check the format of the file, and log what is read as what it means.

        Args:
            log: False if it was logged before.

        Raises:
            InputError: the file is not of COCO's format.
        """
        logged: dict[tuple[str, str], list[Problem]] = {}
        for problem in self.problems:
            if problem.stops:
                raise not_coco(self.file, problem)
            logged.setdefault((problem.kind, problem.fix), []).append(problem)
        for problem, *more in logged.values() if log else ():
            count = f" ({1 + len(more)} are like it.)" if more else ""
            logging.getLogger(__name__).warning(f"{self.file}: {problem}{count}")

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

    def other_classes(self, name: str, metadata: Any) -> InputError:
        """Return the error for a data set that is registered with other classes than its file."""
        found = list(self.categories.values())
        known = metadata.get("thing_classes") or []
        return InputError(
            f"{self.file} has {len(found)} categories ({some(found)}), but the data set {name} "
            f"is registered with {len(known)} classes ({some(known)}), or with other category "
            "ids. Register the file under a name of its own: register_coco_instances(name, {}, "
            "json_file, image_folder) of detectron2.data.datasets."
        )

    def checked_annotations(
        self,
        class_numbers: dict[Any, int],
        *,
        masks: bool,
        points: bool = False,
        repaired: bool = True,
    ) -> Iterator[CheckedAnnotation]:
        """Yield every annotation with its problems.

        Args:
            class_numbers: its keys are the category ids that Detectron2 knows.
            masks: whether every object needs a valid mask.
            points: whether every object, crowds excepted, needs labelled points.
            repaired: whether the data set is read from these contents. Detectron2's other loaders
                read the file themselves, so that a value of another type is an error.
        """
        unique_ids = self.lvis or "minival" not in self.file  # Detectron2 excuses COCO's by name
        seen: set[Any] = set()
        for number, annotation in enumerate(self.annotations or ()):
            problems = list(_wrong_values(annotation))
            if number in self.repairs:
                problems += (
                    self.repairs[number] if repaired else map(_refused, self.repairs[number])
                )
            if "id" not in annotation:
                problems.append(_NO_ID)
            image_id, category = annotation.get("image_id"), annotation.get("category_id")
            record = self.records.get(image_id) if is_id(image_id) else None
            if record is None:
                record = {"image_id": shown(image_id), "file_name": "(unknown)"}
                yield CheckedAnnotation(annotation, number, record, [*problems, _NO_IMAGE])
                continue
            if unique_ids and "id" in annotation and is_id(annotation["id"]):
                if annotation["id"] in seen:
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
            problems += self._shape_problems(annotation, record, masks)
            if points and annotation.get("iscrowd", 0) != 1:
                wrong_points = points_problem(annotation, stated_size(record))
                if wrong_points:
                    problems.append(wrong_points)
            yield CheckedAnnotation(annotation, number, record, problems)

    def _shape_problems(
        self, annotation: Annotation, record: Record, masks: bool
    ) -> Iterator[Problem]:
        size, segmentation = stated_size(record), annotation.get("segmentation")
        wrong_box, wrong_mask = box_problem(annotation), None
        if wrong_box:
            yield wrong_box
        if masks:
            wrong_mask = file_mask_problem(segmentation, size, lvis=self.lvis)
            if wrong_mask:
                yield wrong_mask
        if not wrong_box:
            sound = segmentation if masks and not wrong_mask else None
            unseen = unseen_problem(annotation["bbox"], sound, size)
            if unseen:
                yield unseen

    def with_sizes(self) -> Iterator[tuple[Annotation, Size | None]]:
        """Yield the annotations whose image is in the file, each with the size of its image."""
        for annotation in self.annotations or ():
            image_id = annotation.get("image_id")
            if is_id(image_id) and image_id in self.records:
                yield annotation, stated_size(self.records[image_id])

    def warnings(self) -> Iterator[Problem]:
        """Yield what may be meant otherwise in the file as a whole."""
        crowds = sum(each.get("iscrowd", 0) == 1 for each in self.annotations or ())
        count = len(self.annotations or ())
        if crowds > _FEW_CROWDS * count:
            found = f"{crowds} of its {count} annotations are crowds (iscrowd 1)"
            yield Problem("crowds", found, stops=False)
        if count and not any(each.get("segmentation") for each in self.annotations or ()):
            points = any(map(has_points, self.annotations or ()))
            found = f"none of its annotations has a mask{', but points' if points else ''}"
            yield Problem("points" if points else "no-masks", found, stops=False)

    def ground_truth(self) -> dict:
        """Return what is evaluated with, in COCO's format.

        Objects that training leaves out are left out, too: of an image that the file lacks, outside
        of their image, with an empty box, or without a polygon of 3 points.

        Raises:
            InputError: the file is not of COCO's format.
        """
        for problem in self.problems:
            if problem.stops and problem.kind != "missing-image":
                raise not_coco(self.file, problem)
        truth = dict(self.raw)
        if self.annotations is not None:
            truth["annotations"] = list(self._evaluated())
        return truth

    def _evaluated(self) -> Iterator[Annotation]:
        for annotation in self.annotations or ():
            image_id, segmentation = annotation.get("image_id"), annotation.get("segmentation")
            record = self.records.get(image_id) if is_id(image_id) else None
            if record is None:
                continue
            size = stated_size(record)
            problem = file_mask_problem(segmentation, size) if segmentation else None
            if problem is _NO_POLYGON:
                continue
            if problem is _SHORT_POLYGON and isinstance(segmentation, list):
                segmentation = [each for each in segmentation if not is_degenerate(each)]
                annotation = annotation | {"segmentation": segmentation}
            sound = None if problem is not None and problem.stops else segmentation
            if box_problem(annotation) or not unseen_problem(annotation["bbox"], sound, size):
                yield annotation


def _refused(repair: Problem) -> Problem:
    if repair.kind != "repaired-value":
        return repair
    return repair._replace(stops=True, kind="bad-value", fix=_READ_BY_DETECTRON2)


def file_mask_problem(
    segmentation: Any, size: Size | None, *, lvis: bool = False
) -> Problem | None:
    """Find what is wrong with a `segmentation` of a JSON file.

    Args:
        segmentation, size: as `mask_problem` takes them.
        lvis: whether Detectron2's LVIS loader reads it, which stops at more than COCO's.
    """
    if lvis and isinstance(segmentation, dict):
        return _NOT_FOR_LVIS
    problem = mask_problem(segmentation, size)
    if problem is None or lvis or not segmentation or not isinstance(segmentation, list):
        return problem
    kept = [each for each in segmentation if not (is_degenerate(each) and all_finite(each))]
    problem = mask_problem(kept, size) if kept else None
    return problem or (_SHORT_POLYGON if kept else _NO_POLYGON)


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


def read_coco_json(name: str, metadata: Any) -> CocoJson:
    """Read the JSON file of a data set, with the problems of its entries.

    Args:
        name: of the data set.
        metadata: its metadata in Detectron2's catalog, with `json_file` and `image_root`. If the
            `evaluator_type` is "lvis", images have a `coco_url` instead of a `file_name`.

    Raises:
        InputError: missing, no JSON, or not a dict.
    """
    file, root = os.fspath(metadata.json_file), os.fspath(metadata.get("image_root") or "")
    read, lvis = read_file(name, file), metadata.get("evaluator_type") == "lvis"
    problems = list(read.problems)
    path_key = "coco_url" if lvis else "file_name"
    records = {}
    for image_id, image in read.images.items():
        record = {"file_name": "(unknown)", "image_id": image_id, "height": None, "width": None}
        if problem := path_problem(image_id, image, path_key):
            problems.append(problem)
        elif lvis:  # where Detectron2 looks
            record["file_name"] = root + "/".join(image[path_key].split("/")[-2:])
        else:
            record["file_name"] = os.path.join(root, image[path_key])
        if is_side(image.get("height")) and is_side(image.get("width")):
            record |= {"height": image["height"], "width": image["width"]}
        records[image_id] = record
    given = {k: read.categories[k].get("name") for k in sorted(read.categories)}
    names = {k: each if isinstance(each, str) else shown(each) for k, each in given.items()}
    return CocoJson(
        file, lvis, records, names, read.annotations, read.repairs, problems, read.content
    )


def read_categories(name: str, file: str) -> list[dict]:
    """Read the categories of the JSON file of the data set `name`, in the order of their ids.

    Raises:
        InputError: missing, no JSON, or without categories.
    """
    read = read_file(name, file)
    for problem in read.problems:
        if problem.stops and ("categor" in problem.found or not read.categories):
            raise not_coco(file, problem)
    return [read.categories[number] for number in sorted(read.categories)]


_files: OrderedDict[str, tuple[tuple, _File]] = OrderedDict()  # by path, with what tells a change


def let_go(file: str) -> None:
    """Forget the contents of a file if they are large, as its records were made."""
    path = os.path.abspath(file)
    if path in _files and _files[path][1].size > _KEPT_BYTES:
        del _files[path]


@_without_garbage_collection()
def read_file(name: str, file: str) -> _File:
    """Read a file, or return what was read before if it did not change."""
    path, state = os.path.abspath(file), file_state(file)
    if state is not None and path in _files and _files[path][0] == state:
        _files.move_to_end(path)
        return _files[path][1]
    data = _read_bytes(name, file)
    content, size = _parse(name, file, data), len(data)
    del data
    problems: list[Problem] = []
    images = read_entries(content, "images", problems, images=True)
    categories = read_entries(content, "categories", problems)
    annotations, repairs = read_annotations(content, images, categories, problems)
    objects = (
        (each.get("bbox"), each.get("segmentation"), _size(images[image_id]))
        for each in annotations or ()
        if is_id(image_id := each.get("image_id")) and image_id in images
    )
    wrong = coordinates_problem(objects)
    read = _File(
        content,
        images,
        categories,
        annotations,
        repairs,
        [*problems, wrong] if wrong else problems,
        size,
    )
    if state is not None:
        _files[path] = state, read
        while len(_files) > _KEPT_FILES:
            _files.popitem(last=False)
    return read


def _size(image: dict) -> Size | None:
    height, width = image.get("height"), image.get("width")
    return (height, width) if is_side(height) and is_side(width) else None


def file_state(file: str) -> tuple | None:
    """Return what changes when a file is written; None for an address."""
    if is_remote(file):
        return None
    try:
        found = os.stat(file)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _read_bytes(name: str, file: str) -> bytes:
    if is_remote(file):
        check_address(file)
    check_regular(file, f"annotation file of the data set {name},")
    try:
        with PathManager.open(file, "rb") as opened:
            return opened.read()
    except FileNotFoundError:
        raise InputError(
            f"The data set {name} is not there: the file {os.path.abspath(file)} does not exist. "
            f"{root_now()}"
        ) from None
    except (OSError, ValueError) as error:
        raise _unreadable(name, file, error) from error


def _parse(name: str, file: str, data: bytes) -> dict:
    """Parse JSON in UTF-8, UTF-16 or UTF-32, with or without a byte order mark."""
    for magic, what, tool in _COMPRESSED:
        if data.startswith(magic):
            raise InputError(
                f"The annotation file {file} of the data set {name} is compressed ({what}). "
                f"Unpack it ({tool}), and give the unpacked file."
            )
    try:
        content = json.loads(data)
    except RecursionError:
        raise not_coco(file, Problem("unreadable-annotations", "it is nested too deeply")) from None
    except ValueError as error:
        raise _unreadable(name, file, error) from error
    if not isinstance(content, dict):
        found = f"its contents are {kind_of(content)}, not a dict"
        raise not_coco(file, Problem("unreadable-annotations", found))
    return content


def _unreadable(name: str, file: str, error: Exception) -> InputError:
    return InputError(
        f"The annotation file {file} of the data set {name} cannot be read: {error}. Copy it "
        "or export it again."
    )


def _wrong_values(annotation: Annotation) -> Iterator[Problem]:
    """Yield a problem for each value of a type that no reader of these files expects."""
    if "id" in annotation and not is_id(annotation["id"]):
        found = f"has the id {shown(annotation['id'])}, not a whole number or a string"
        yield Problem("duplicate-id", found)
    if not is_id(annotation.get("image_id")):  # pycocotools stops at it
        found = f"has the image_id {shown(annotation.get('image_id'))}"
        yield Problem("bad-value", f"{found}, not a whole number or a string")
    crowd = annotation.get("iscrowd", 0)
    if type(crowd) is not int or crowd not in (0, 1):
        yield Problem("bad-value", f"has the iscrowd {shown(crowd)}; it must be 0 or 1")
    area = annotation.get("area", 0)
    if type(area) not in (int, float):
        yield Problem("bad-value", f"has the area {shown(area)}; it must be a number of pixels")
    if not annotation.keys() >= _KEYS:
        for key, other in other_cases(annotation, _KEYS):
            yield Problem("bad-value", f"has the key {shown(other)} instead of {key!r}")
    keypoints = annotation.get("keypoints")
    if keypoints is not None and not (
        isinstance(keypoints, list) and len(keypoints) % 3 == 0 and all_finite(keypoints)
    ):
        found = f"has the keypoints {shown(keypoints)}; they must be a list x, y, visibility, ..."
        yield Problem("bad-value", found)


def not_coco(file: str, problem: Problem) -> InputError:
    """Return the error for a file that is not of COCO's format."""
    advice = problem.fix or (
        KINDS[problem.kind].fix
        if problem.kind == "image-size"
        else "Correct the file, or the json_file that the data set was registered with."
    )
    return InputError(
        f"{file} is not an annotation file in COCO's format: {problem.found}. {advice}"
    )
