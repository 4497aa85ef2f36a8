"""Turn data set dicts into the input of semantic models."""

import copy
import logging
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T

from ...errors import InputError
from ..images.reader import ImageReader
from ..input_size import TestResize, add_plan
from ..labels import check_image_size, read_record_labels
from .augmentation import augment, build_sem_seg_train_aug


class SemanticMapper:
    """Read an image and its labels, check them, and augment both alike.

    Labels are single-channel images whose values are 0..num_classes-1 or `ignore_value`; with
    `num_classes` 1 the values are 0 (background) and 1 (foreground). They are checked before
    augmentation, because a wrong value becomes an index error on a GPU far from its cause.
    Palette images are read as their indices. Label maps with values above 255 are resized in
    floating point, which rounds the nearest source pixel down where 8-bit maps take the centre.

    Args:
        is_train: whether labels are read.
        augmentations: applied in this order; on evaluation, the test-time resize.
        image_format: as `detectron2.data.detection_utils.read_image` takes it.
        reader: reads the image.
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
        reader: ImageReader | None = None,
        num_classes: int,
        ignore_value: int,
    ):
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.reader = reader or ImageReader()
        self.num_classes = num_classes
        self.ignore_value = ignore_value
        mode = "training" if is_train else "inference"
        logging.getLogger(__name__).debug(f"Augmentations used in {mode}: {augmentations}")

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        return {
            "is_train": is_train,
            "augmentations": (
                build_sem_seg_train_aug(cfg) if is_train else [TestResize.from_config(cfg)]
            ),
            "image_format": cfg.INPUT.FORMAT,
            "reader": ImageReader.from_config(cfg),
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "ignore_value": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        }

    def __call__(self, dataset_dict: dict) -> dict:
        """Return the input of the model for a data set dict.

        Args:
            dataset_dict: in Detectron2's format, with `file_name` and, for training,
                `sem_seg_file_name`; it is not changed.

        Returns:
            a new dict with `image` (3 x H x W, of the dtype read, 0..255), for training `sem_seg`
            (H x W, int64), `height` and `width` of the file in pixels, and what else the data set
            dict had (`file_name`, `image_id`, ...), without `annotations`. For evaluation, where
            the image is not resized as Detectron2 would, `input_plan` (`InputPlan`).

        Raises:
            InputError: a file is missing, unreadable or of another size than stated; labels have
                several channels or a value that is neither a class nor the ignored one.
        """
        output = copy.deepcopy(dataset_dict)
        output.pop("annotations", None)
        image = self.reader.read(output["file_name"], self.image_format, "image")
        check_image_size(image, output)

        labels = None
        if self.is_train:
            labels = self._read_labels(output)

        for key in ("sem_seg_file_name", "label_coding"):
            output.pop(key, None)
        aug_input = T.AugInput(image, sem_seg=labels)
        height, width = image.shape[:2]
        augment(self.augmentations, aug_input, output["file_name"])
        if not self.is_train:
            add_plan(output, self.augmentations, height, width)
        image = np.ascontiguousarray(aug_input.image.transpose(2, 0, 1))
        output["image"] = torch.as_tensor(image)
        if labels is not None:
            output["sem_seg"] = torch.as_tensor(aug_input.sem_seg.astype(np.int64))
        return output

    def _read_labels(self, output: dict) -> np.ndarray:
        label_file = output.get("sem_seg_file_name")
        if label_file is None:
            raise InputError(
                f"The data set gives no labels for {output['file_name']}: its dict has no "
                "'sem_seg_file_name'. Train on a semantic data set (for Cityscapes "
                "cityscapes_fine_sem_seg_train)."
            )
        labels = read_record_labels(
            output,
            size=(output["height"], output["width"]),
            num_classes=self.num_classes,
            ignore_value=self.ignore_value,
        )
        # Detectron2 resizes 8-bit maps with Pillow and everything else as floating point
        return labels.astype(np.uint8 if labels.max() <= 255 else np.float32)
