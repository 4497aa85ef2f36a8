"""Every kind of problem that a data set can have, and the problems that are found.

Data sets are read in one place for each format (`coco_json`, `annotations`, `labels`), which yields
problems. The checks before training, the survey (`tools/check_data.py`), the mappers and the
evaluators differ only in what they do about them.
"""

import logging
from typing import NamedTuple

from ..errors import InputError

ERROR, WARNING, NOTE = "error", "warning", "note"


class Kind(NamedTuple):
    """A kind of problem.

    Attributes:
        severity: an error stops training or evaluation, or spoils what is learned or scored; a
            note says how something is read.
        what: what is counted.
        fix: what to do.
    """

    severity: str
    what: str
    fix: str


# What is counted, and what to do; of annotations they also complete messages about a single one.
_ERRORS = {
    "no-images": ("data sets without any image", "Correct the paths."),
    "unreadable-annotations": (
        "annotation files that cannot be read",
        "Export them again in COCO's format.",
    ),
    "missing-image": ("images that do not exist", "Complete the copy."),
    "unreadable-image": (
        "images that cannot be decoded",
        "The file could not be decoded; export it again as PNG or JPEG.",
    ),
    "unsupported-image": (
        "images that are not read as they are",
        "Save them in another form, such as 8-bit RGB.",
    ),
    "several-frames": (
        "images of several frames or pages",
        "Save each as a file of its own.",
    ),
    "image-size": (
        "images whose stated size is missing or wrong",
        "Correct the image, or the height and width in the data set.",
    ),
    "turned-image": (
        "images that their EXIF orientation rotates, but not their labels",
        "Save the image upright without the EXIF orientation, or rotate the labels.",
    ),
    "labels-without-image": (
        "label images without an image",
        "Add the images, or remove the labels.",
    ),
    "unreadable-labels": (
        "label images that cannot be decoded",
        "The file could not be decoded; export it again as PNG.",
    ),
    "lossy-labels": (
        "label images in a lossy format, whose values are not exact",
        "Save them as PNG, from the source.",
    ),
    "no-labels": (
        "data sets in which no label image belongs to an image",
        "Correct the paths, or give label images the names of their images.",
    ),
    "one-class": (
        "training sets whose pixels are all of one class, or ignored",
        "There is nothing to learn: label more pixels, or correct the values in the class file.",
    ),
    "label-size": ("label images of another size than their image", "Replace the wrong one."),
    "label-value": (
        "label images with values or colours that are not classes",
        "Correct the labels, add the value to the class file, or give the ignored one "
        "(--ignore-value).",
    ),
    "unlisted-segment": (
        "panoptic PNGs with segments that their JSON file does not list",
        "List them in segments_info, or give their pixels the id 0 (unlabelled).",
    ),
    "no-isthing": (
        "categories that do not say whether they are things or stuff",
        "Give each category of a panoptic file isthing 1 (things) or 0 (stuff), and both kinds.",
    ),
    "unnamed-class": ("categories without a name", "Name them."),
    "other-classes": (
        "data sets with other classes than the first, or in another order",
        "Give all data sets the same categories, or one class file.",
    ),
    "duplicate-id": (
        "ids that are missing or used twice",
        "Give each entry of the file a number of its own.",
    ),
    "unknown-class": (
        "objects of a category that does not exist",
        "Add the category to the file, or correct the annotation.",
    ),
    "ignored-object": (
        "objects with 'ignore' set, which Detectron2 refuses",
        "Remove the annotation.",
    ),
    "bad-value": (
        "values of the wrong type: image_id, iscrowd, area or keypoints",
        "Correct the annotation.",
    ),
    "bad-box": (
        "invalid boxes",
        "A box is 4 finite numbers: x, y, width, height in COCO's JSON. Correct the annotation.",
    ),
    "no-mask": (
        "objects without a mask",
        "Annotate its mask, or set MODEL.MASK_ON False to train boxes alone.",
    ),
    "bad-mask": (
        "invalid masks: coordinates that are no numbers, run lengths of another size, …",
        "Correct or remove the object.",
    ),
    "no-points": (
        "objects without labelled points",
        "Add point_coords and point_labels (tools/make_point_labels.py makes them from masks), or "
        "train with masks: INPUT.POINT_SUP False.",
    ),
    "bad-points": (
        "invalid points: other labels than 0 and 1, outside of the image, no numbers, …",
        "point_coords are a list of [x, y], the pixels of the image counted from 0, and "
        "point_labels a list of as many 0 (background) and 1 (object).",
    ),
    "one-label": (
        "data sets whose points all have the same label",
        "There is nothing to learn: points on the object have the label 1, others 0.",
    ),
    "not-pixels": (
        "annotation files whose coordinates are not those of COCO",
        "Boxes are x, y, width, height, and polygons x1, y1, x2, y2, …, all in pixels.",
    ),
    "no-usable-object": (
        "data sets whose objects are all crowds or left out, and training sets without any",
        "Annotate objects; set iscrowd to 0 where a mask is that of one object.",
    ),
}
_WARNINGS = {
    "empty-segment": (
        "segments that a panoptic JSON file lists and whose PNG has no pixel of them",
        "They are left out: remove them, or correct the PNG.",
    ),
    "segment-area": (
        "segments whose stated area is not the number of their pixels",
        "The pixels count: correct the area.",
    ),
    "image-in-two-sets": (
        "images that are in two data sets",
        "Remove them from one of the data sets.",
    ),
    "class-not-in-training": (
        "classes that are evaluated but not in training",
        "Move images with them into the training set.",
    ),
    "unsure-orientation": (
        "images that their EXIF orientation turns, whose size fits turned and unturned labels",
        "Look whether labels lie on their objects (tools/visualize_data.py).",
    ),
    "odd-image": ("images of an unusual mode", "Save as 8-bit RGB and check how it looks."),
    "same-image": ("images that are in a data set twice", "Remove one of them."),
    "image-without-labels": (
        "images without a label image",
        "They are left out: label or remove them.",
    ),
    "nothing-labelled": ("label images in which every pixel is ignored", "Label or remove them."),
    "same-name": ("categories with the name of another", "Rename one, or merge them."),
    "class-never-occurs": (
        "classes that never occur in a data set",
        "Add examples, or remove the class.",
    ),
    "unknown-image": ("objects of an image that is not in the file", "It is left out."),
    "no-objects": ("images without an object", "Training leaves them out; label or remove them."),
    "repaired-value": (
        "values of another type or form than COCO's, which are read as what they mean",
        "Other tools may read them differently: correct the file.",
    ),
    "area": (
        "areas that are 0, null or no number",
        "They are computed from the masks.",
    ),
    "short-polygon": (
        "polygons of fewer than 3 points or an odd number of coordinates",
        "They are left out; correct or remove them.",
    ),
    "no-polygon": (
        "objects without a polygon of 3 points or more",
        "The object is left out and becomes background; correct it.",
    ),
    "crowds": (
        "regions of many objects (iscrowd 1), which are not trained on",
        "Set iscrowd to 0 if they are single objects, such as masks that were drawn with a brush.",
    ),
    "no-masks": (
        "data sets with boxes alone",
        "Training boxes alone needs MODEL.MASK_ON False.",
    ),
    "empty-box": ("boxes without an area", "The object is left out: correct the box."),
    "outside-image": (
        "objects that lie outside of their image",
        "The object is left out: correct it, or the size of the image.",
    ),
    "box-outside": ("boxes that reach beyond the image", "Clip them to the image."),
    "unused-points": (
        "invalid points of data sets that have masks",
        "Training with masks ignores them, and training with points (INPUT.POINT_SUP True) refuses "
        "them.",
    ),
    "point-outside-box": (
        "objects with points outside of their box",
        "Training ignores such points in most boxes: correct them, or the box.",
    ),
    "empty-mask": ("masks that cover no pixel", "The object is left out: correct or remove it."),
    "box-and-mask": (
        "boxes that disagree with their mask (IoU below 0.8, off by 2 pixels or more)",
        "Compute the box from the mask.",
    ),
}
LEFT_OUT = {"unknown-image", "no-polygon", "empty-box", "outside-image"}
_NOTES = {
    "points": (
        "data sets with labelled points instead of masks",
        "Train with INPUT.POINT_SUP True; mask AP needs masks.",
    ),
    "no-point-on-object": (
        "objects without a point of the label 1",
        "Their masks are trained with background alone.",
    ),
    "scaled-image": (
        "images of more than 8 bits, which are scaled to 8",
        "INPUT.PIXEL_RANGE says how.",
    ),
}
KINDS = {
    name: Kind(severity, *texts)
    for severity, kinds in ((ERROR, _ERRORS), (WARNING, _WARNINGS), (NOTE, _NOTES))
    for name, texts in kinds.items()
}


class Problem(NamedTuple):
    """What is wrong with one file, entry, annotation or label image.

    Attributes:
        kind: its key in `KINDS`.
        found: what was found. It completes a sentence that begins with the name of the place, such
            as "Annotation 7 of image 3".
        fix: what to do, in one or two sentences; empty for what `KINDS` says.
        stops: whether training or evaluation stops at it. Otherwise it is left out or ignored.
    """

    kind: str
    found: str
    fix: str = ""
    stops: bool = True

    def __str__(self) -> str:
        return f"{self.found}. {self.fix or KINDS[self.kind].fix}"

    @property
    def leaves_out(self) -> bool:
        """Return whether the object can be used neither for training nor for evaluation."""
        return self.stops or self.kind in LEFT_OUT


class ProblemLog:
    """Problems of the annotations of a data set, grouped by their kind and what to do."""

    def __init__(self, source: str):
        """
        Args:
            source: the data set or its file, for the messages.
        """
        self._source = source
        self._groups: dict[tuple[bool, str, str], list[str]] = {}

    def add(self, name: str, problem: Problem) -> None:
        """Remember a problem of the annotation that messages call ``name``."""
        group = problem.stops, problem.kind, problem.fix
        self._groups.setdefault(group, []).append(f"{name} {problem}")

    def report(self) -> None:
        """Log the first problem of each group, with the size of the group.

        Raises:
            InputError: a problem stops training or evaluation.
        """
        for (stops, *_), messages in sorted(self._groups.items(), key=lambda item: item[0][0]):
            count = f" ({len(messages)} annotations of {self._source} are like it.)"
            message = messages[0] + (count if len(messages) > 1 else "")
            if stops:
                raise InputError(message)
            logging.getLogger(__name__).warning(message)
