"""The problems that a survey found, by their kind."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from ..problems import ERROR, KINDS, NOTE, WARNING

_EXAMPLES = 5
_SIZE_LIMITS = (32**2, 96**2)  # pixels: small, medium and large objects


@dataclass
class Found:
    """How often a kind of problem was found, and the first places."""

    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class ObjectFigures:
    """How many objects a data set has, and of which size; crowds do not count.

    Attributes:
        ids: the data set's own number of each class, by the number of the class from 0.
        sizes: small, medium and large objects of each class, in COCO's limits: less than 32 x 32
            pixels, less than 96 x 96, more.
        images: number of images that have an object of each class.
        by_image: number of images by the number of their objects.
        points: number of objects with labelled points by the number of their points.
        ones: number of points of the label 1.
    """

    ids: dict[int, Any]
    sizes: dict[int, list[int]] = field(default_factory=dict)
    images: Counter[int] = field(default_factory=Counter)
    by_image: Counter[int] = field(default_factory=Counter)
    points: Counter[int] = field(default_factory=Counter)
    ones: int = 0

    def add(
        self, areas: Sequence[tuple[int, float]], points: Sequence[tuple[int, int]] = ()
    ) -> None:
        """Count the objects of an image.

        Args:
            areas: the number of the class and the area of each object.
            points: of each object with points, their number, and that of the label 1.
        """
        self.points.update(count for count, _ in points)
        self.ones += sum(ones for _, ones in points)
        self.by_image[len(areas)] += 1
        self.images.update({number for number, _ in areas})
        for number, area in areas:
            sizes = self.sizes.setdefault(number, [0, 0, 0])
            sizes[sum(area >= limit for limit in _SIZE_LIMITS)] += 1

    @property
    def total(self) -> int:
        """Return the number of objects."""
        return sum(map(sum, self.sizes.values()))

    @property
    def median(self) -> float:
        """Return the median number of objects in an image."""
        return median(self.by_image.elements()) if self.by_image else 0

    @property
    def most(self) -> int:
        """Return the largest number of objects in an image."""
        return max(self.by_image, default=0)

    def as_json(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Return the figures as dicts and lists, classes in the order of their ids."""
        classes = []
        for number, category in sorted(self.ids.items(), key=_numeric):
            small, medium, large = self.sizes.get(number, (0, 0, 0))
            classes.append(
                {
                    "id": category,
                    "name": class_names[number],
                    "images": self.images[number],
                    "objects": small + medium + large,
                    "small": small,
                    "medium": medium,
                    "large": large,
                }
            )
        totals: dict[str, Any] = {
            "objects": self.total,
            "median": self.median,
            "most": self.most,
        }
        if self.points:
            totals["points"] = {
                "objects": self.points.total(),
                "median": median(self.points.elements()),
                "share_of_ones": self.ones / sum(self.points.elements()),
            }
        return {**totals, "classes": classes}


def _numeric(item: tuple[int, Any]) -> tuple[bool, Any]:
    is_text = isinstance(item[1], str)
    return is_text, item[1]


@dataclass
class Survey:
    """What was found in several data sets.

    Attributes:
        found: by kind, in the order in which they were found.
        images: number of images by data set.
        classes: by data set, for each class its name, the number of images that have it, and of
            its objects or pixels.
        objects: by data set with labelled objects, their figures.
    """

    found: dict[str, Found] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    classes: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    objects: dict[str, ObjectFigures] = field(default_factory=dict)

    def add(self, kind: str, where: str) -> None:
        """Count a problem.

        Args:
            kind: a key of `KINDS`.
            where: the place, and what was found there.
        """
        found = self.found.setdefault(kind, Found())
        found.count += 1
        if len(found.examples) < _EXAMPLES:
            found.examples.append(where)

    def with_severity(self, severity: str) -> dict[str, Found]:
        """Return what was found of a severity, in the order of `KINDS`."""
        return {
            kind: self.found[kind]
            for kind, (each, _, _) in KINDS.items()
            if each == severity and kind in self.found
        }

    def as_json(self) -> dict[str, Any]:
        """Return the same as dicts and lists, for a JSON file."""
        findings = [
            {
                "code": kind,
                **KINDS[kind]._asdict(),
                "count": found.count,
                "examples": found.examples,
            }
            for severity in (ERROR, WARNING, NOTE)
            for kind, found in self.with_severity(severity).items()
        ]
        objects = {
            name: figures.as_json(list(self.classes[name]))
            for name, figures in self.objects.items()
        }
        return {
            "images": self.images,
            "findings": findings,
            "classes": self.classes,
            "objects": objects,
        }
