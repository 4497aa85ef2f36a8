"""Read JSON files of COCO's panoptic format, and find what is wrong with them.

The file is read by `coco_json`, as those of objects are. Of each image, it lists the segments that
the pixels of a PNG belong to. No image is opened here.
"""

import logging
import os
from typing import Any, NamedTuple

from ...structures.panoptic_png import LARGEST_ID
from ..annotations import Record, shown
from ..coco_json import not_coco, read_file
from ..coco_schema import is_id, kind_of, path_problem, whole_number
from ..problems import KINDS, Problem

_FLAGS = {0: 0, 1: 1, None: 0}  # booleans are equal to 0 and 1


class PanopticJson(NamedTuple):
    """The contents of a JSON file.

    Attributes:
        file: its path.
        records: by image id, dicts with `file_name`, `image_id`, `height`, `width`,
            `pan_seg_file_name` and `segments_info` (`id`, `category_id` of the file, `iscrowd`, …).
        categories: names by id, in the order of the ids.
        things: the ids of those that are things.
        without_segments: paths of the images that have no annotation.
        problems: of the file, its images, categories, annotations and segments.
        raw: the whole dict, with the changed values.
    """

    file: str
    records: dict[Any, Record]
    categories: dict[int, str]
    things: set[int]
    without_segments: list[str]
    problems: list[Problem]
    raw: dict

    def check(self, *, log: bool = True) -> None:
        """Check the format of the file, and log what is read as what it means or left out.

        Args:
            log: False if it was logged before.

        Raises:
            InputError: the file is not of COCO's panoptic format.
        """
        logged: dict[tuple[str, str], list[Problem]] = {}
        for problem in self.problems:
            if problem.stops:
                fix = problem.fix or KINDS[problem.kind].fix
                raise not_coco(self.file, problem._replace(fix=fix))
            logged.setdefault((problem.kind, problem.fix), []).append(problem)
        for problem, *more in logged.values() if log else ():
            count = f" ({1 + len(more)} are like it.)" if more else ""
            logging.getLogger(__name__).warning(f"{self.file}: {problem}{count}")


def is_panoptic_json(name: str, file: str) -> bool:
    """Return whether a JSON file lists segments of panoptic PNGs, not objects.

    Raises:
        InputError: missing, or no JSON.
    """
    annotations = read_file(name, file).annotations or ()
    return any("segments_info" in each for each in annotations)


def find_png_folder(file: str) -> str | None:
    """Find the folder of the PNGs of a JSON file: of the same name, beside it or one level above.

    COCO has annotations/panoptic_val2017.json with panoptic_val2017 in either place.
    """
    folder, name = os.path.split(os.path.abspath(file))
    stem = os.path.splitext(name)[0]
    for parent in (folder, os.path.dirname(folder)):
        if os.path.isdir(os.path.join(parent, stem)):
            return os.path.join(parent, stem)
    return None


def read_panoptic_json(name: str, metadata: Any) -> PanopticJson:
    """Read the panoptic JSON file of a data set, with the problems of its entries.

    Args:
        name: of the data set.
        metadata: its metadata in Detectron2's catalog, with `panoptic_json`, `panoptic_root` (the
            folder of PNGs) and `image_root`.

    Raises:
        InputError: missing, no JSON, or not a dict.
    """
    file, root = os.fspath(metadata.panoptic_json), os.fspath(metadata.panoptic_root)
    read = read_file(name, file)
    problems = list(read.problems)
    categories = {k: str(read.categories[k].get("name")) for k in sorted(read.categories)}
    things = _read_things(read.categories, problems)
    if read.annotations is None:
        problems.append(Problem("unreadable-annotations", "it has no 'annotations'"))
    annotations = _by_image(read.annotations or [], set(read.images), problems)
    records, without = {}, []
    for image_id, image in read.images.items():
        path = path_problem(image_id, image, "file_name")
        if path:
            problems.append(path)
            continue
        file_name = os.path.join(os.fspath(metadata.get("image_root") or ""), image["file_name"])
        if image_id not in annotations:
            without.append(file_name)
            continue
        annotation = annotations[image_id]
        place = f"image {shown(image_id)}"
        wrong = _png_problem(image_id, annotation)
        if wrong:
            problems.append(wrong)
            continue
        records[image_id] = {
            "file_name": file_name,
            "image_id": image_id,
            "height": image.get("height"),
            "width": image.get("width"),
            "pan_seg_file_name": os.path.join(root, annotation["file_name"]),
            "segments_info": _read_segments(place, annotation, read.categories, problems),
        }
    if without:
        found = f"{len(without)} of its images, such as {without[0]}, have no annotation"
        problems.append(Problem("image-without-labels", found, stops=False))
    return PanopticJson(file, records, categories, things, without, problems, read.content)


def _read_things(categories: dict[Any, dict], problems: list[Problem]) -> set[int]:
    flags = {}
    for number, category in categories.items():
        flag = category.get("isthing", "missing")
        if type(flag) in (int, bool) and flag in (0, 1):
            flags[number] = bool(flag)
        else:
            found = f"category {number} has " + (
                "no 'isthing'" if flag == "missing" else f"the isthing {shown(flag)}, not 0 or 1"
            )
            problems.append(Problem("no-isthing", found))
    if flags and len(flags) == len(categories) and len(set(flags.values())) == 1:
        which = "things (isthing 1)" if True in flags.values() else "stuff (isthing 0)"
        problems.append(Problem("no-isthing", f"all of its categories are {which}"))
    return {number for number, is_thing in flags.items() if is_thing}


def _by_image(
    annotations: list[dict], image_ids: set[Any], problems: list[Problem]
) -> dict[Any, dict]:
    found: dict[Any, dict] = {}
    strangers = 0
    for number, annotation in enumerate(annotations):
        image_id = annotation.get("image_id")
        if not is_id(image_id):
            what = f"annotation {number} (from 0) has the image_id {shown(image_id)}"
            problems.append(Problem("bad-value", f"{what}, not a whole number or a string"))
        elif image_id not in image_ids:
            strangers += 1
        elif image_id in found:
            what = f"two of its annotations belong to image {shown(image_id)}"
            problems.append(Problem("duplicate-id", what, "Keep one annotation for each image."))
        else:
            found[image_id] = annotation
    if strangers:
        what = f"{strangers} of its annotations belong to images that are not in its 'images'"
        problems.append(Problem("unknown-image", what, "They are left out.", stops=False))
    return found


def _png_problem(image_id: Any, annotation: dict) -> Problem | None:
    place = f"the annotation of image {shown(image_id)}"
    path = path_problem(image_id, annotation, "file_name")
    if path:
        return Problem(
            "unreadable-labels",
            f"the annotation of {path.found}",
            "Give each annotation the file_name of its PNG.",
        )
    listed = annotation.get("segments_info")
    if not isinstance(listed, list):
        found = "no 'segments_info'"
        if "segments_info" in annotation:
            found = f"'segments_info' that are {kind_of(listed)}, not a list"
        return Problem("unreadable-annotations", f"{place} has {found}")
    return None


def _read_segments(
    place: str, annotation: dict, categories: dict[Any, dict], problems: list[Problem]
) -> list[dict]:
    segments, seen = [], set()
    for number, listed in enumerate(annotation["segments_info"]):
        if not isinstance(listed, dict):
            found = f"segment number {number} (from 0) of {place} is {kind_of(listed)}, not a dict"
            problems.append(Problem("unreadable-annotations", found))
            continue
        segment = dict(listed)
        segment_id, category = whole_number(segment.get("id")), segment.get("category_id")
        name = f"segment {shown(segment.get('id'))} of {place}"
        if segment_id is None or not 0 < segment_id <= LARGEST_ID:
            found = f"has no whole number from 1 to {LARGEST_ID} as its id"
            problems.append(Problem("duplicate-id", f"{name} {found}"))
        elif segment_id in seen:
            problems.append(Problem("duplicate-id", f"two segments of {place} are {segment_id}"))
        seen.add(segment_id)
        known = whole_number(category)
        if known is None or known not in categories:
            found = f"has category_id {shown(category)}, which its 'categories' lack"
            problems.append(Problem("unknown-class", f"{name} {found}"))
        crowd = segment.get("iscrowd", 0)
        if type(crowd) not in (int, bool, type(None)) or crowd not in _FLAGS:
            found = f"has the iscrowd {shown(crowd)}; it must be 0 or 1"
            problems.append(Problem("bad-value", f"{name} {found}"))
            crowd = 0
        read = {"id": segment_id, "category_id": known, "iscrowd": _FLAGS[crowd]}
        segments.append(segment | read)
    return segments
