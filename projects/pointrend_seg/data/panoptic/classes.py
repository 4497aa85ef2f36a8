"""The classes of a panoptic data set, as PanopticFPN numbers them.

The T things are the classes 0 to T - 1 of the instance branch. The semantic branch has 1 + S
classes: 0 for all things, then the S kinds of stuff.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from detectron2.data import MetadataCatalog

from ...errors import InputError

THINGS = "things"  # the semantic class 0
THINGS_COLOR = (82, 18, 128)


@dataclass(frozen=True)
class PanopticClasses:
    """The T things and S kinds of stuff of a data set.

    Attributes:
        thing_names, stuff_names: in the order of their classes; stuff without "things".
        thing_ids, stuff_ids: the category ids of the data set's file, in the same order.
        thing_numbers, stuff_numbers: classes by the `category_id` that things and stuff have in
            `segments_info` of data set dicts.
    """

    thing_names: tuple[str, ...]
    stuff_names: tuple[str, ...]
    thing_ids: tuple[int, ...]
    stuff_ids: tuple[int, ...]
    thing_numbers: Mapping[int, int]
    stuff_numbers: Mapping[int, int]

    @property
    def num_things(self) -> int:
        """Return T, the value of ``MODEL.ROI_HEADS.NUM_CLASSES``."""
        return len(self.thing_names)

    @property
    def num_semantic(self) -> int:
        """Return 1 + S, the value of ``MODEL.SEM_SEG_HEAD.NUM_CLASSES``."""
        return 1 + len(self.stuff_names)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all classes, things first."""
        return self.thing_names + self.stuff_names

    @property
    def ids(self) -> tuple[int, ...]:
        """Return the category ids of all classes, things first."""
        return self.thing_ids + self.stuff_ids

    def number(self, segment: Mapping[str, Any]) -> tuple[bool, int] | None:
        """Return whether a segment is a thing, and its class in the branch for that.

        Args:
            segment: `category_id`, and `isthing` if that leaves it open.

        Returns:
            None if the class is not known.
        """
        category: Any = segment.get("category_id")
        is_thing = segment.get("isthing")
        if is_thing is None:
            both = category in self.thing_numbers and category in self.stuff_numbers
            is_thing = None if both else category in self.thing_numbers
        numbers = self.thing_numbers if is_thing else self.stuff_numbers
        if is_thing is None or category not in numbers:
            return None
        return bool(is_thing), numbers[category]


def panoptic_classes(name: str) -> PanopticClasses:
    """Return the classes of a registered data set.

    Its metadata are those that Detectron2's `register_coco_panoptic` or
    `register_coco_panoptic_separated` set: in the second, stuff 0 is "things".

    Raises:
        InputError: the metadata lack the names of things or of stuff.
    """
    # `get` would make an entry for a name that is not known
    metadata = MetadataCatalog.get(name) if name in MetadataCatalog.list() else None
    things, stuff = (
        metadata.get(f"{kind}_classes") if metadata is not None else None
        for kind in ("thing", "stuff")
    )
    if metadata is None or not things or not stuff:
        missing = "thing_classes" if not things else "stuff_classes"
        raise InputError(
            f"The data set {name} is not one for panoptic segmentation: its metadata have no "
            f"{missing}. Choose a panoptic data set, or register this one with "
            "register_coco_panoptic_separated of detectron2.data.datasets."
        )
    thing_ids = _ids_by_number(metadata, "thing", things)
    stuff_ids = _ids_by_number(metadata, "stuff", stuff)
    if 0 in thing_ids:
        stuff_ids.pop(0, None)  # "things"
    return PanopticClasses(
        tuple(things[number] for number in thing_ids),
        tuple(stuff[number] for number in stuff_ids),
        tuple(thing_ids.values()),
        tuple(stuff_ids.values()),
        {number: k for k, number in enumerate(thing_ids)},
        {number: k for k, number in enumerate(stuff_ids, start=1)},
    )


def _ids_by_number(metadata: Any, kind: str, names: list[str]) -> dict[int, int]:
    known = metadata.get(f"{kind}_dataset_id_to_contiguous_id")
    if known is None:
        return {number: number for number in range(len(names))}
    pairs = sorted((number, category_id) for category_id, number in known.items())
    return {number: category_id for number, category_id in pairs if number < len(names)}
