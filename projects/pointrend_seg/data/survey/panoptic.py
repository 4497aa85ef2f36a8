"""Survey images with panoptic PNGs: decode both and compare them with the list of segments."""

from typing import NamedTuple

from ..annotations import Record, stated_size
from ..images.reader import ImageReader
from ..panoptic.classes import PanopticClasses
from ..panoptic.segments import read_segments
from .images import ImageSurvey, survey_image

_OF_LIST = ("duplicate-id", "unknown-class")


class PanopticImage(NamedTuple):
    """An image with its segments.

    Attributes:
        record: its data set dict, with `pan_seg_file_name` and `segments_info`.
        is_checked: whether the problems of `segments_info` are known already.
    """

    record: Record
    is_checked: bool = False

    @property
    def image(self) -> str:
        """Return the path of the image."""
        return self.record["file_name"]


def survey_panoptic_image(
    job: PanopticImage, *, classes: PanopticClasses, reader: ImageReader
) -> ImageSurvey:
    """Decode an image and its panoptic PNG, and compare them.

    Args:
        classes: of the data set.
        reader: reads images as training does.

    Returns:
        problems; counts: the segments of each class, things first, without crowds; areas of things.
    """
    areas: list[tuple[int, float]] = []
    found = ImageSurvey(areas=areas)
    stated = stated_size(job.record)
    size = survey_image(job.image, stated, found, reader)
    segments, problems = read_segments(job.record, classes, size=stated or size)
    known_kinds = _OF_LIST if job.is_checked else ()
    found.problems += [(p.kind, p.found) for p in problems if p.kind not in known_kinds]
    if segments is None:
        return found
    for segment, area in zip(segments.segments, segments.areas[1:].tolist(), strict=True):
        known = classes.number(segment)
        if known is None or not area or segment.get("iscrowd"):
            continue
        is_thing, number = known
        number = number if is_thing else classes.num_things + number - 1
        found.counts[number] = found.counts.get(number, 0) + 1
        if is_thing:
            areas.append((number, area))
    if not any(segments.areas[1:]) and not problems:
        found.problems.append(("nothing-labelled", job.record["pan_seg_file_name"]))
    return found
