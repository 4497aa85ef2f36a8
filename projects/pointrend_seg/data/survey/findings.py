"""Every kind of fault that a survey knows, and those that it found."""

from dataclasses import dataclass, field
from typing import NamedTuple

ERROR, WARNING = "error", "warning"
_EXAMPLES = 5


class Kind(NamedTuple):
    """A kind of fault.

    Attributes:
        severity: an error stops training or evaluation, or spoils what is learned or scored.
        what: what is counted.
        fix: what to do.
    """

    severity: str
    what: str
    fix: str


KINDS = {
    # files
    "no-images": Kind(ERROR, "sets without any image", "Correct the paths."),
    "unreadable-annotations": Kind(ERROR, "annotation files that cannot be read", "Write it anew."),
    "missing-image": Kind(ERROR, "images that are not there", "Complete the copy."),
    "unreadable-image": Kind(ERROR, "images that cannot be decoded", "Copy them anew."),
    "image-size": Kind(
        ERROR, "images of another size than stated", "Correct the image or what states its size."
    ),
    "turned-image": Kind(
        ERROR,
        "images that their EXIF orientation turns, but not their labels",
        "Save the image upright, without the orientation, or turn the labels.",
    ),
    "odd-image": Kind(
        WARNING, "images of an unusual mode", "Save as 8-bit RGB; look whether it looks right."
    ),
    "same-image": Kind(WARNING, "images that are twice in a set", "Remove one of them."),
    "image-in-two-sets": Kind(
        ERROR, "images of one set that are also in another", "Remove them from one of the sets."
    ),
    # label images
    "image-without-labels": Kind(
        WARNING, "images without a label image", "They are left out: label or remove them."
    ),
    "labels-without-image": Kind(
        ERROR, "label images without an image", "Complete the images, or remove the labels."
    ),
    "unreadable-labels": Kind(ERROR, "label images that cannot be decoded", "Write them anew."),
    "label-size": Kind(
        ERROR, "label images of another size than their image", "Replace the wrong one."
    ),
    "label-value": Kind(
        ERROR,
        "label images with values or colours that are no class",
        "Correct the labels, add the value to the class file, or give the ignored one "
        "(--ignore-value).",
    ),
    "nothing-labelled": Kind(
        WARNING, "label images in which every pixel is ignored", "Label or remove them."
    ),
    # classes
    "unnamed-class": Kind(ERROR, "categories without a name", "Name them."),
    "same-name": Kind(WARNING, "categories with the name of another", "Rename one, or join them."),
    "other-classes": Kind(
        ERROR,
        "sets with other classes than the first, or in another order",
        "Give all sets the same categories, or one class file.",
    ),
    "class-never-occurs": Kind(
        WARNING, "classes that never occur in a set", "Add examples, or drop the class."
    ),
    "class-not-in-training": Kind(
        ERROR,
        "classes that are evaluated but not in training",
        "Move images with them into the training set.",
    ),
    # objects
    "duplicate-id": Kind(ERROR, "ids that are used twice", "Number them anew."),
    "unknown-image": Kind(
        WARNING, "objects of an image that is not in the file", "They are left out: remove them."
    ),
    "unknown-class": Kind(
        ERROR, "objects of a category that is not in the file", "Add the category, or correct it."
    ),
    "no-objects": Kind(
        WARNING, "images without an object", "Training leaves them out; label or remove them."
    ),
    "bad-box": Kind(ERROR, "objects whose box is none", "A box is x, y, width, height."),
    "empty-box": Kind(WARNING, "boxes without an area", "The object is left out: mend the box."),
    "box-outside": Kind(WARNING, "boxes that reach out of the image", "Cut them at its edge."),
    "no-mask": Kind(ERROR, "objects without a mask", "Annotate it, or set MODEL.MASK_ON False."),
    "bad-mask": Kind(
        ERROR,
        "masks that are none: polygons of fewer than 3 points, run lengths of another size, …",
        "Correct or remove the object.",
    ),
    "empty-mask": Kind(
        WARNING, "masks that cover no pixel", "The object is left out: correct or remove it."
    ),
    "box-and-mask": Kind(
        WARNING,
        "boxes that disagree with their mask (IoU below 0.8, off by 2 pixels or more)",
        "Make the box anew from the mask.",
    ),
}  # fmt: skip


@dataclass
class Found:
    """How often a kind of fault was found, and the first places."""

    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class Survey:
    """What was found in several sets.

    Attributes:
        found: by kind, in the order of `KINDS`.
        images: number of images by set.
        classes: by set, for each class its name and in how many images it is, and of how many
            objects or pixels.
    """

    found: dict[str, Found] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    classes: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)

    def add(self, kind: str, where: str) -> None:
        found = self.found.setdefault(kind, Found())
        found.count += 1
        if len(found.examples) < _EXAMPLES:
            found.examples.append(where)

    def of(self, severity: str) -> dict[str, Found]:
        """What was found of a severity, in the order of `KINDS`."""
        return {
            kind: self.found[kind]
            for kind, (each, _, _) in KINDS.items()
            if each == severity and kind in self.found
        }

    def as_json(self) -> dict:
        """For machines: the same as plain dicts and lists."""
        findings = [
            {
                "code": kind,
                **KINDS[kind]._asdict(),
                "count": found.count,
                "examples": found.examples,
            }
            for severity in (ERROR, WARNING)
            for kind, found in self.of(severity).items()
        ]
        return {"images": self.images, "findings": findings, "classes": self.classes}
