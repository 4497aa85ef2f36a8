"""From a data set dict to what a semantic model reads."""

import copy
import logging

import numpy as np
import torch
from detectron2.config import configurable
from detectron2.data import detection_utils
from detectron2.data import transforms as T

from ..errors import InputError
from .augmentation import build_sem_seg_train_aug

_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError)  # what Pillow raises for broken files


class SemanticMapper:
    """Reads image and labels, checks them, augments both alike.

    Labels are single-channel images whose values are 0..num_classes-1 or `ignore_value`; with
    `num_classes` 1 the values are 0 (background) and 1 (foreground). They are checked before
    augmentation, because a wrong value becomes an index error on a GPU far from its cause.
    Palette images are read as their indices. Label maps with values above 255 are resized in
    floating point, which rounds the nearest source pixel down where 8-bit maps take the centre.

    Args:
        is_train: whether labels are read.
        augmentations: applied in this order; on evaluation, the test-time resize.
        image_format: as `detectron2.data.detection_utils.read_image` takes it.
        num_classes: number of classes, from 1.
        ignore_value: the label that training leaves out.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: list[T.Augmentation | T.Transform],
        image_format: str,
        num_classes: int,
        ignore_value: int,
    ):
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.num_classes = num_classes
        self.ignore_value = ignore_value
        mode = "training" if is_train else "inference"
        logging.getLogger(__name__).info(f"Augmentations used in {mode}: {augmentations}")

    @classmethod
    def from_config(cls, cfg, is_train: bool = True):
        return {
            "is_train": is_train,
            "augmentations": (
                build_sem_seg_train_aug(cfg)
                if is_train
                else detection_utils.build_augmentation(cfg, is_train=False)
            ),
            "image_format": cfg.INPUT.FORMAT,
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "ignore_value": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        }

    def __call__(self, dataset_dict: dict) -> dict:
        """
        Args:
            dataset_dict: in Detectron2's format, with `file_name` and, for training,
                `sem_seg_file_name`; it is not changed.

        Returns:
            A new dict with `image` (3 x H x W, of the dtype read, 0..255), for training `sem_seg`
            (H x W, int64), `height` and `width` of the file in pixels, and what else the data set
            dict had (`file_name`, `image_id`, ...), without `annotations`.

        Raises:
            InputError: a file is missing, unreadable or of another size than stated; labels have
                several channels or a value that is neither a class nor the ignored one.
        """
        output = copy.deepcopy(dataset_dict)
        output.pop("annotations", None)
        label_file = output.pop("sem_seg_file_name", None)
        image = _read(output["file_name"], "image", self.image_format)
        _check_size(image, output)

        labels = None
        if self.is_train:
            labels = self._read_labels(label_file, output)

        aug_input = T.AugInput(image, sem_seg=labels)
        self.augmentations(aug_input)
        image = np.ascontiguousarray(aug_input.image.transpose(2, 0, 1))
        output["image"] = torch.as_tensor(image)
        if labels is not None:
            output["sem_seg"] = torch.as_tensor(aug_input.sem_seg.astype(np.int64))
        return output

    def _read_labels(self, label_file: str | None, output: dict) -> np.ndarray:
        if label_file is None:
            raise InputError(
                f"The data set gives no labels for {output['file_name']}: its dict has no "
                "'sem_seg_file_name'. Train on a semantic data set (for Cityscapes "
                "cityscapes_fine_sem_seg_train)."
            )
        labels = read_labels(label_file)
        if labels.shape != (output["height"], output["width"]):
            raise InputError(
                f"Image and labels differ in size: {output['file_name']} is {output['width']} x "
                f"{output['height']} (width x height), {label_file} is {labels.shape[1]} x "
                f"{labels.shape[0]}. Replace the wrong file."
            )
        check_label_values(labels, label_file, self.num_classes, self.ignore_value)
        # Detectron2 resizes 8-bit maps with Pillow and everything else as floating point
        return labels.astype(np.uint8 if labels.max() <= 255 else np.float32)


def read_labels(label_file: str) -> np.ndarray:
    """Reads a label map without changing its values: of a palette image, the indices.

    Returns:
        H x W, integer or bool.

    Raises:
        InputError: missing, unreadable, or of several channels.
    """
    labels = _read(label_file, "label file", None)
    if labels.ndim != 2:
        raise InputError(
            f"Labels must be one channel of class numbers, but {label_file} has "
            f"{labels.shape[2]} channels: it looks colour-coded. Use the class-number files "
            "(for Cityscapes the _gtFine_labelTrainIds.png files)."
        )
    return labels


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


def _read(file_name: str, what: str, image_format: str | None) -> np.ndarray:
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


def _check_size(image: np.ndarray, output: dict) -> None:
    height, width = image.shape[:2]
    expected = output.setdefault("height", height), output.setdefault("width", width)
    if expected != (height, width):
        raise InputError(
            f"{output['file_name']} is {width} x {height} (width x height), but the data set says "
            f"{expected[1]} x {expected[0]}. Replace the image, or correct the data set."
        )
