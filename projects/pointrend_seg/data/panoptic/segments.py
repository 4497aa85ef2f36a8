"""Read the segments of an image from a panoptic PNG, and find what is wrong with them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from detectron2.structures import BoxMode

from ...errors import InputError
from ...structures.panoptic_png import LARGEST_ID, decode_ids
from ..annotations import Annotation, Record, Size, shown
from ..label_files import read_label_file
from ..problems import Problem
from .classes import PanopticClasses

_KIND_OF_PNG = "COCO's panoptic PNGs are 8-bit RGB, and the id of a segment is R + 256 G + 65536 B"


class SegmentMap(NamedTuple):
    """The segments of an image.

    Attributes:
        numbers: (H, W) int32: 0 where no segment is, k for segment k, from 1.
        segments: those of `segments_info`, in their order.
        areas: (1 + number of segments) pixels of each number.
    """

    numbers: np.ndarray
    segments: list[dict]
    areas: np.ndarray

    def semantic_labels(self, classes: PanopticClasses, ignore_value: int) -> np.ndarray:
        """Return the labels of the semantic branch.

        Returns:
            (H, W), uint8 if all values fit, else int32: 0 for things (crowds too), 1 to S for
            stuff, ``ignore_value`` where no segment is.
        """
        table = np.full(len(self.segments) + 1, ignore_value, np.int32)
        for k, segment in enumerate(self.segments, start=1):
            is_thing, number = known_class(segment, classes)
            table[k] = 0 if is_thing else number
        if table.max() <= 255 and table.min() >= 0:
            table = table.astype(np.uint8)
        return table[self.numbers]

    def thing_annotations(self, classes: PanopticClasses) -> list[Annotation]:
        """Return the objects as annotations of a data set dict, with masks as arrays of bits.

        Segments without a pixel are left out.
        """
        found = []
        for k, segment in enumerate(self.segments, start=1):
            is_thing, number = known_class(segment, classes)
            if not is_thing or not self.areas[k]:
                continue
            mask = self.numbers == k
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            found.append(
                {
                    "id": segment["id"],
                    "category_id": number,
                    "bbox": [float(side) for side in box],
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "iscrowd": int(bool(segment.get("iscrowd", 0))),
                    "segmentation": mask.astype(np.uint8),
                }
            )
        return found


def known_class(segment: dict, classes: PanopticClasses) -> tuple[bool, int]:
    """Return whether a segment is a thing, and its class.

    Raises:
        InputError: the class is not known.
    """
    found = classes.number(segment)
    if found is None:
        raise InputError(f"Segment {shown(segment.get('id'))} {_unknown_class(segment, classes)}")
    return found


def read_segments(
    record: Record, classes: PanopticClasses | None = None, *, size: Size | None = None
) -> tuple[SegmentMap | None, list[Problem]]:
    """Read the panoptic PNG of a data set dict.

    Args:
        record: with `pan_seg_file_name` and `segments_info`.
        classes: of the data set, to find segments of unknown classes; None allows any.
        size: height and width of the image, to be compared; None compares nothing.

    Returns:
        the segments, None if they cannot be read; and the problems.
    """
    file, segments = record["pan_seg_file_name"], list(record["segments_info"])
    problems = list(_wrong_segments(file, segments, classes))
    if any(problem.stops for problem in problems):
        return None, problems
    pixels = read_label_file(file)
    if isinstance(pixels, Problem):
        return None, [*problems, pixels]
    if pixels.values.ndim != 3:
        palette = "with a palette" if pixels.palette is not None else "of one channel"
        found = f"{file} is an image {palette}, but {_KIND_OF_PNG}"
        return None, [*problems, Problem("label-value", found, "Convert it to RGB at its source.")]
    ids = decode_ids(pixels.values)
    if size is not None and ids.shape != size:
        found = (
            f"Image and segments differ in size: {record['file_name']} is {size[1]} x {size[0]} "
            f"(width x height), {file} is {ids.shape[1]} x {ids.shape[0]}"
        )
        problems.append(Problem("label-size", found, "Replace the wrong file."))
    index, unlisted = place_ids(ids, [segment["id"] for segment in segments])
    if unlisted:
        names = ", ".join(map(str, unlisted[:3])) + (", ..." if len(unlisted) > 3 else "")
        found = f"{file} has pixels of segment {names}, which its segments_info does not list"
        problems.append(Problem("unlisted-segment", found))
    areas = np.bincount(index.ravel(), minlength=len(segments) + 1)
    problems += _area_problems(file, segments, areas)
    return SegmentMap(index, segments, areas), problems


def read_record_segments(
    record: Record, classes: PanopticClasses | None = None, *, size: Size | None = None
) -> SegmentMap:
    """Read the panoptic PNG of a data set dict; arguments as in `read_segments`.

    Raises:
        InputError: the first problem that stops training or evaluation.
    """
    segments, problems = read_segments(record, classes, size=size)
    for problem in problems:
        if problem.stops:
            raise InputError(str(problem))
    assert segments is not None
    return segments


def _wrong_segments(
    file: str, segments: list[dict], classes: PanopticClasses | None
) -> list[Problem]:
    problems, seen = [], set()
    for segment in segments:
        number = segment.get("id")
        if type(number) is not int or not 0 < number <= LARGEST_ID:
            found = f"{file}: a segment has the id {shown(number)}, not one from 1 to {LARGEST_ID}"
            problems.append(Problem("duplicate-id", found))
        elif number in seen:
            found = f"{file}: two of its segments have the id {number}"
            problems.append(Problem("duplicate-id", found))
        seen.add(number if type(number) is int else None)
        if classes is not None and classes.number(segment) is None:
            found = f"{file}: segment {shown(number)} {_unknown_class(segment, classes)}"
            problems.append(Problem("unknown-class", found))
    return problems


def _unknown_class(segment: dict, classes: PanopticClasses) -> str:
    what = {True: "thing", False: "stuff", None: "class"}[segment.get("isthing")]
    counts = f"{classes.num_things} things and {len(classes.stuff_names)} kinds of stuff"
    return f"has category_id {shown(segment.get('category_id'))}, which is no {what} of {counts}"


def place_ids(ids: np.ndarray, listed: Sequence[int]) -> tuple[np.ndarray, list[int]]:
    """Number the segments of an image in the order in which they are listed.

    Args:
        ids: (H, W), integers; 0 is no segment.
        listed: the ids of K segments, all different and above 0.

    Returns:
        numbers: (H, W) int32, 0 to K: 0 for no segment and for ids that are not listed.
        unlisted: the ids in the image that are neither listed nor 0.
    """
    order = np.argsort(listed, kind="stable")
    known = np.concatenate([[0], np.asarray(listed, np.int64)[order]])
    places = np.concatenate([[0], order + 1]).astype(np.int32)
    found = np.searchsorted(known, ids)
    found[found == len(known)] = 0
    is_known = known[found] == ids
    index = places[found]
    if is_known.all():
        return index, []
    index[~is_known] = 0
    return index, np.unique(ids[~is_known]).tolist()


def _area_problems(file: str, segments: list[dict], areas: np.ndarray) -> list[Problem]:
    problems = []
    for segment, area in zip(segments, areas[1:].tolist(), strict=True):
        stated = segment.get("area")
        if not area:
            found = f"{file}: segment {segment['id']} has no pixel"
            problems.append(Problem("empty-segment", found, stops=False))
        elif type(stated) in (int, float) and stated != area:
            found = f"{file}: segment {segment['id']} has {area} pixels, stated area {stated:g}"
            problems.append(Problem("segment-area", found, stops=False))
    return problems
