"""The problems that a survey found, by their kind."""

from dataclasses import dataclass, field
from typing import Any

from ..problems import ERROR, KINDS, NOTE, WARNING

_EXAMPLES = 5


@dataclass
class Found:
    """How often a kind of problem was found, and the first places."""

    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class Survey:
    """What was found in several data sets.

    Attributes:
        found: by kind, in the order in which they were found.
        images: number of images by data set.
        classes: by data set, for each class its name, the number of images that have it, and of
            its objects or pixels.
    """

    found: dict[str, Found] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    classes: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)

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
        return {"images": self.images, "findings": findings, "classes": self.classes}
