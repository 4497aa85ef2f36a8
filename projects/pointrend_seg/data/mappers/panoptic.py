"""Turn data set dicts into the input of panoptic models: objects and labels of all pixels."""

from typing import Any

import numpy as np
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T

from ...errors import InputError
from ..annotations import Record
from ..labels import read_record_labels
from ..panoptic.classes import PanopticClasses, panoptic_classes
from ..panoptic.segments import read_record_segments
from .augmentation import ColorAugSSD
from .instance import InstanceMapper


class PanopticMapper(InstanceMapper):
    """Read an image, its objects and the labels of its pixels, and augment all alike.

    Objects and labels are made of the segments of a panoptic PNG (`pan_seg_file_name` and
    `segments_info` of the data set dict), or read from separate files (`annotations` and
    `sem_seg_file_name`). In the labels, 0 is all things, also crowds, and stuff follows from 1.
    Objects are augmented as `InstanceMapper` does; the random numbers are those of Detectron2's
    `DatasetMapper` with the same seed.

    Args:
        classes: of the data sets; None for dicts whose `category_id` are 0 to T - 1 for things
            and from 1 for stuff.
        num_semantic: number of classes of the semantic branch, "things" included.
        ignore_value: the label of pixels in no segment, which training leaves out.
        instance: the other arguments, of `InstanceMapper`.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        classes: PanopticClasses | None = None,
        num_semantic: int,
        ignore_value: int,
        **instance: Any,
    ):
        super().__init__(is_train, **instance)
        self.classes = classes
        self.num_semantic = num_semantic
        self.ignore_value = ignore_value

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        arguments = super().from_config(cfg, is_train)
        head = cfg.MODEL.SEM_SEG_HEAD
        if is_train:
            arguments["augmentations"] = _for_labels(cfg, arguments["augmentations"])
        names = cfg.DATASETS.TRAIN if is_train else ()
        return arguments | {
            "classes": panoptic_classes(names[0]) if names else None,
            "num_semantic": head.NUM_CLASSES,
            "ignore_value": head.IGNORE_VALUE,
        }

    def _read_labels(self, output: Record) -> np.ndarray | None:
        """Return the labels of the semantic branch, and set `annotations` to the objects.

        Arguments and return value are those of `InstanceMapper`; None for evaluation.
        """
        if not self.is_train:
            output.pop("sem_seg_file_name", None)
            return None
        size = output["height"], output["width"]
        if "pan_seg_file_name" in output:
            classes = self.classes or _consecutive(self.num_classes, self.num_semantic)
            segments = read_record_segments(output, classes, size=size)
            labels = segments.semantic_labels(classes, self.ignore_value)
            output["annotations"] = segments.thing_annotations(classes)
        elif "annotations" in output and "sem_seg_file_name" in output:
            checks = {"num_classes": self.num_semantic, "ignore_value": self.ignore_value}
            labels = read_record_labels(output, size=size, **checks)
        else:
            raise InputError(
                f"The data set gives no panoptic labels for {output['file_name']}: its dict has "
                f"{', '.join(output)}. It needs 'pan_seg_file_name' and 'segments_info', or "
                "'annotations' and 'sem_seg_file_name'. Train on a panoptic data set."
            )
        for key in ("pan_seg_file_name", "segments_info", "sem_seg_file_name", "label_coding"):
            output.pop(key, None)
        # Detectron2 resizes 8-bit maps with Pillow and everything else as floating point
        return labels.astype(np.uint8 if labels.max() <= 255 else np.float32)


def _consecutive(num_things: int, num_semantic: int) -> PanopticClasses:
    """Return classes whose numbers in data set dicts are those of the model."""
    things, stuff = range(num_things), range(1, num_semantic)
    return PanopticClasses(
        tuple(f"thing {k}" for k in things),
        tuple(f"stuff {k}" for k in stuff),
        *(tuple(things), tuple(stuff)),
        *({k: k for k in numbers} for numbers in (things, stuff)),
    )


def _for_labels(cfg: CfgNode, augmentations: list[T.Augmentation]) -> list[T.Augmentation]:
    """Return Detectron2's augmentations with what semantic training adds.

    A crop is drawn so that no class but the ignored one fills more than
    ``INPUT.CROP.SINGLE_CATEGORY_MAX_AREA``. With ``INPUT.COLOR_AUG_SSD``, colours are changed
    before the flip.
    """
    crop, found = cfg.INPUT.CROP, []
    for each in augmentations:
        if isinstance(each, T.RandomCrop):
            ignored = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
            each = T.RandomCrop_CategoryAreaConstraint(
                crop.TYPE, crop.SIZE, crop.SINGLE_CATEGORY_MAX_AREA, ignored
            )
        elif isinstance(each, T.RandomFlip) and cfg.INPUT.COLOR_AUG_SSD:
            found.append(ColorAugSSD(cfg.INPUT.FORMAT))
        found.append(each)
    if cfg.INPUT.COLOR_AUG_SSD and cfg.INPUT.RANDOM_FLIP == "none":
        found.append(ColorAugSSD(cfg.INPUT.FORMAT))
    return found
