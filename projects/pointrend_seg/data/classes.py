"""Names, colours and ids of the classes of a data set."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog
from detectron2.utils.colormap import colormap

from ..errors import InputError
from .panoptic.classes import panoptic_classes

IGNORED = 255


@dataclass(frozen=True, eq=False)
class Classes:
    """The C classes of a data set, in the order of the numbers 0 to C - 1 that models predict.

    Attributes:
        names: one for each class.
        colors: (C, 3), RGB, uint8.
        ids: the data set's own numbers: category ids of a JSON file, values of label images.
        ignore_value: the label of unlabelled pixels, as labels are trained on.
        num_things: of a panoptic data set the number of its things, which are its first classes;
            the others are its kinds of stuff. None of another data set.
    """

    names: tuple[str, ...]
    colors: np.ndarray
    ids: tuple[int, ...]
    ignore_value: int = IGNORED
    num_things: int | None = None

    def __len__(self) -> int:
        return len(self.names)

    def number_of(self, segment: Mapping[str, Any]) -> int:
        """Return the number of the class of a panoptic segment, 0 to C - 1.

        Args:
            segment: ``category_id`` and ``isthing`` as PanopticFPN gives them: stuff from 1.

        Example:
            >>> classes = Classes(("car", "sky"), palette(2), (3, 7), num_things=1)
            >>> classes.names[classes.number_of({"category_id": 1, "isthing": False})]
            'sky'
        """
        before = 0 if segment["isthing"] else (self.num_things or 0) - 1
        return before + segment["category_id"]


def palette(count: int) -> np.ndarray:
    """Return colours for ``count`` classes, (count, 3), RGB, uint8; always the same."""
    table = colormap(rgb=True, maximum=255)
    return table[np.arange(count) % len(table)].astype(np.uint8)


def known_classes(
    cfg: CfgNode, dataset_name: str | None = None, *, semantic: bool, num_classes: int
) -> Classes:
    """Return the classes of a registered data set; if it has none, "class 0", "class 1", …

    Args:
        cfg: of a model.
        dataset_name: by default the first of ``DATASETS.TEST``, else of ``DATASETS.TRAIN``; its
            classes are returned only if their number is that of the model.
        semantic: whether classes of pixels are meant, not of objects.
        num_classes: of the model.
    """
    kind = "stuff" if semantic else "thing"
    name = dataset_name or next(iter([*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN]), "")
    # `get` would make an entry for a name that is not known
    metadata = MetadataCatalog.get(name) if name in MetadataCatalog.list() else None
    names, colors, numbers = (
        metadata.get(key) if metadata is not None else None
        for key in (f"{kind}_classes", f"{kind}_colors", f"{kind}_dataset_id_to_contiguous_id")
    )
    if not names or (dataset_name is None and not _fit(names, num_classes)):
        names, colors, numbers = _numbered(num_classes), None, None
    if semantic and len(names) == 1:  # a binary model: the foreground alone has a name
        coding = metadata.get("label_coding") if metadata is not None else None
        names, colors = ["background", *names], coding.colors if coding is not None else None
        numbers = numbers if numbers and len(numbers) == 2 else None
    if colors is None or len(colors) != len(names):
        colors = palette(len(names))
    ids = tuple(range(len(names)))
    if numbers and set(numbers.values()) >= set(ids):
        ids = tuple(sorted(numbers, key=numbers.get))
    ignore = metadata.get("ignore_label") if metadata is not None else None
    if ignore is None:
        ignore = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    return Classes(tuple(names), np.asarray(colors, np.uint8).reshape(-1, 3), ids, ignore)


def known_panoptic_classes(
    cfg: CfgNode, dataset_name: str | None = None, *, num_things: int, num_semantic: int
) -> Classes:
    """Return things and stuff of a registered data set, or numbered ones, as `known_classes`.

    Args:
        num_things: of the model's instance branch.
        num_semantic: of its semantic branch, whose class 0 is all things.
    """
    name = dataset_name or next(iter([*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN]), "")
    counts = num_things, num_semantic
    with suppress(InputError):
        found = panoptic_classes(name)
        if dataset_name is not None or (found.num_things, found.num_semantic) == counts:
            metadata = MetadataCatalog.get(name)
            colors = [
                *_colors_of(metadata, "thing", found.thing_numbers),
                *_colors_of(metadata, "stuff", found.stuff_numbers),
            ]
            full = len(colors) == len(found.names)
            rgb = np.array(colors, np.uint8) if full else palette(len(found.names))
            return Classes(found.names, rgb, found.ids, num_things=found.num_things)
    things = [f"thing {number}" for number in range(num_things)]
    names = (*things, *(f"stuff {number}" for number in range(1, num_semantic)))
    return Classes(names, palette(len(names)), tuple(range(len(names))), num_things=num_things)


def _colors_of(metadata: Metadata, kind: str, numbers: Iterable[int]) -> list[Sequence[int]]:
    """Return the colours that the metadata have for things or stuff of some numbers."""
    colors = metadata.get(f"{kind}_colors") or ()
    return [colors[number] for number in numbers if number < len(colors)]


def _fit(names: Sequence[str], count: int) -> bool:
    return len(names) == count or (count == 1 and len(names) == 2)


def _numbered(count: int) -> list[str]:
    return [f"class {number}" for number in range(count)]
