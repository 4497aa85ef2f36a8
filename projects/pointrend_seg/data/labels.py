"""Reading images and labels, and finding what is wrong with them while the file's name is known."""

import numpy as np
from detectron2.data import detection_utils

from ..errors import InputError

_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError)  # what Pillow raises for broken files


def read_file(file_name: str, what: str, image_format: str | None) -> np.ndarray:
    """Reads an image file.

    Args:
        what: "image" or "label file", for the message.
        image_format: as `detectron2.data.detection_utils.read_image` takes it.

    Raises:
        InputError: missing or unreadable.
    """
    try:
        return detection_utils.read_image(file_name, format=image_format)
    except FileNotFoundError:
        raise InputError(
            f"The {what} {file_name} does not exist. Complete the data set's copy (is "
            "DETECTRON2_DATASETS right?)."
        ) from None
    except _UNREADABLE as error:
        raise InputError(
            f"The {what} {file_name} cannot be read: {error}. Copy it anew."
        ) from error


def check_image_size(image: np.ndarray, record: dict) -> None:
    """Raises unless an image has the size that its data set dict states; fills it in else.

    Args:
        image: H x W or H x W x channels.
        record: with `file_name`; `height` and `width` are set where they are missing.

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


def read_record_labels(record: dict) -> np.ndarray:
    """Reads the labels of a data set dict as class numbers, whatever the file holds.

    Args:
        record: with `sem_seg_file_name`, and with `label_coding` (`LabelCoding`) where the file's
            values or colours are not the class numbers.

    Returns:
        H x W, integer.

    Raises:
        InputError: missing, unreadable, or with a value or colour that is no class.
    """
    label_file, coding = record["sem_seg_file_name"], record.get("label_coding")
    if coding is None:
        return read_labels(label_file)
    return coding.decode(read_file(label_file, "label file", None), label_file)


def read_labels(label_file: str) -> np.ndarray:
    """Reads a label map without changing its values: of a palette image, the indices.

    Returns:
        H x W, in the file's own integer type; uint8 for a file of bits.

    Raises:
        InputError: missing, unreadable, or of several channels.
    """
    labels = read_file(label_file, "label file", None)
    if labels.ndim != 2:
        raise InputError(
            f"Labels must be one channel of class numbers, but {label_file} has "
            f"{labels.shape[2]} channels: it looks colour-coded. Use the class-number files "
            "(for Cityscapes the _gtFine_labelTrainIds.png files)."
        )
    return labels.astype(np.uint8) if labels.dtype == bool else labels


def check_label_values(
    labels: np.ndarray, label_file: str, num_classes: int, ignore_value: int
) -> None:
    """Raises unless every label is a class or ignored.

    Args:
        labels: H x W, integer or bool.
        label_file: named in the message.
        num_classes: classes are 0..num_classes-1; 1 means background 0 and foreground 1.
        ignore_value: allowed besides the classes.

    Raises:
        InputError: names the file, the values and, where the cause is known, what to do.
    """
    last_class = max(num_classes, 2) - 1
    good = (labels <= last_class) | (labels == ignore_value)
    if np.issubdtype(labels.dtype, np.signedinteger):
        good &= (labels >= 0) | (labels == ignore_value)
    if good.all():
        return
    values = np.unique(labels[~good])
    shown = ", ".join(map(str, values[:8].tolist())) + (", ..." if len(values) > 8 else "")
    raise InputError(
        f"{label_file} has {'value' if len(values) == 1 else 'values'} {shown}, but labels must "
        f"be 0 to {last_class} (MODEL.SEM_SEG_HEAD.NUM_CLASSES is {num_classes}) or "
        f"{ignore_value} (MODEL.SEM_SEG_HEAD.IGNORE_VALUE). "
        + _hint(label_file, values, last_class)
    )


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
