"""Read label images, and find what is wrong with them while the file's name is known."""

from typing import Any

import numpy as np

from ..errors import InputError
from .annotations import Record, Size
from .label_files import read_label_file
from .problems import Problem


def check_image_size(image: np.ndarray, record: Record) -> None:
    """Check that an image has the size that its data set dict states; add the size if it has none.

    Args:
        image: H x W or H x W x channels.
        record: with `file_name`; `height` and `width` are set if they are missing.

    Raises:
        InputError: names both sizes.
    """
    height, width = image.shape[:2]
    expected = record.setdefault("height", height), record.setdefault("width", width)
    if expected != (height, width):
        number = f" (image id {record['image_id']})" if "image_id" in record else ""
        raise InputError(
            f"{record['file_name']} is {width} x {height} (width x height), but the data set says "
            f"{expected[1]} x {expected[0]}{number}. Replace the image, or correct the data set."
        )


def read_label_image(
    record: Record,
    *,
    size: Size | None = None,
    num_classes: int | None = None,
    ignore_value: int | None = None,
) -> tuple[np.ndarray | None, list[Problem]]:
    """Read the labels of a data set dict as class numbers, and find what is wrong with them.

    Args:
        record: with `sem_seg_file_name`, and with `label_coding` (`LabelCoding`) if the values or
            colours of the file are not the class numbers.
        size: height and width of the image, to be compared; None compares nothing.
        num_classes: classes are 0..num_classes-1; 1 means background 0 and foreground 1. None
            allows any value, unless a `label_coding` says which are classes.
        ignore_value: allowed besides the classes.

    Returns:
        the labels, H x W, in the file's integer type (uint8 for a file of bits) or as
        `LabelCoding.decode` gives them, None if they cannot be read; and the problems.
    """
    label_file, coding = record["sem_seg_file_name"], record.get("label_coding")
    pixels = read_label_file(label_file)
    if isinstance(pixels, Problem):
        return None, [pixels]
    labels, problems = pixels.values, []
    if size is not None and labels.shape[:2] != size:
        found = (
            f"Image and labels differ in size: {record['file_name']} is {size[1]} x {size[0]} "
            f"(width x height), {label_file} is {labels.shape[1]} x {labels.shape[0]}"
        )
        problems.append(Problem("label-size", found, "Replace the wrong file."))
    decoded: np.ndarray | None = labels
    problem: Problem | None = None
    if coding is not None:
        decoded, problem = coding.decode(labels, label_file, palette=pixels.palette)
    elif labels.ndim != 2:
        found = (
            f"Labels must be one channel of class numbers, but {label_file} has "
            f"{labels.shape[2]} channels: it looks colour-coded"
        )
        fix = "Use the class-number files (for Cityscapes the _gtFine_labelTrainIds.png files)."
        decoded, problem = None, Problem("label-value", found, fix)
    if problem is None and decoded is not None and num_classes is not None:
        problem = label_value_problem(decoded, label_file, num_classes, ignore_value)
    if problem:
        problems.append(problem)
    return decoded, problems


def read_record_labels(record: Record, **checks: Any) -> np.ndarray:
    """Read the labels of a data set dict as class numbers, whatever the file holds.

    Args:
        record, checks: as `read_label_image` takes them.

    Returns:
        H x W, integer.

    Raises:
        InputError: one of the problems that `read_label_image` finds.
    """
    labels, problems = read_label_image(record, **checks)
    for problem in problems:
        raise InputError(str(problem))
    assert labels is not None
    return labels


def read_labels(label_file: str) -> np.ndarray:
    """Read a label image without changing its values: of a palette image, the indices.

    Returns:
        H x W, in the file's own integer type; uint8 for a file of bits.

    Raises:
        InputError: missing, unreadable, or of several channels.
    """
    return read_record_labels({"sem_seg_file_name": label_file})


def label_value_problem(
    labels: np.ndarray, label_file: str, num_classes: int, ignore_value: int | None
) -> Problem | None:
    """Find values of a label image that are neither a class nor ignored.

    Args:
        labels: H x W, integer or bool.
        label_file: named in the message.
        num_classes: classes are 0..num_classes-1; 1 means background 0 and foreground 1.
        ignore_value: allowed besides the classes; None for none.

    Returns:
        names the file, the values and, if the cause is known, what to do.
    """
    last_class = max(num_classes, 2) - 1
    good = labels <= last_class
    if np.issubdtype(labels.dtype, np.signedinteger):
        good &= labels >= 0
    if ignore_value is not None:
        good |= labels == ignore_value
    if good.all():
        return None
    values = np.unique(labels[~good])
    shown = ", ".join(map(str, values[:8].tolist())) + (", ..." if len(values) > 8 else "")
    found = (
        f"{label_file} has {'value' if len(values) == 1 else 'values'} {shown}, but labels must "
        f"be 0 to {last_class} (MODEL.SEM_SEG_HEAD.NUM_CLASSES is {num_classes}) or "
        f"{ignore_value} (MODEL.SEM_SEG_HEAD.IGNORE_VALUE)"
    )
    return Problem("label-value", found, _hint(label_file, values, last_class))


def _hint(label_file: str, values: np.ndarray, last_class: int) -> str:
    if label_file.endswith(("_labelIds.png", "_instanceIds.png")):
        return (
            "This is not Cityscapes' training label file: use the _labelTrainIds.png files, which "
            "csCreateTrainIdLabelImgs writes."
        )
    if values.tolist() == [255] and last_class == 1:
        return "It looks like a mask of 0 and 255: write the foreground as 1."
    if values.tolist() == [255]:
        return "If 255 marks the ignored pixels, set MODEL.SEM_SEG_HEAD.IGNORE_VALUE to 255."
    if values.tolist() == [last_class + 1]:
        return (
            "Classes count from 0: subtract 1 from the labels if they count from 1, or set "
            f"NUM_CLASSES to {last_class + 2} if there is one more class."
        )
    return "Correct the labels, or set these two keys to what the data set has."
