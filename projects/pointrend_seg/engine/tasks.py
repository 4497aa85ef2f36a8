"""What a model is for (semantic, instance, panoptic segmentation) as an object that says more.

`find_task` is the one place that looks at ``MODEL.META_ARCHITECTURE``.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper, MetadataCatalog
from detectron2.modeling import (
    ROI_HEADS_REGISTRY,
    ROI_MASK_HEAD_REGISTRY,
    SEM_SEG_HEADS_REGISTRY,
)
from torch import Tensor, nn

from ..config.tree import value_of
from ..data.checks.contents import check_contents, warn_of_shared_images
from ..data.checks.instance import check_instance_dataset
from ..data.checks.panoptic import check_panoptic_dataset
from ..data.checks.semantic import check_sem_seg_dataset
from ..data.class_counts import dataset_classes, take_classes_from_data
from ..data.classes import Classes, known_classes, known_panoptic_classes
from ..data.custom.registration import check_custom, check_same_classes
from ..data.dataset_files import check_registered
from ..data.images.reader import ImageReader
from ..data.mappers.instance import InstanceMapper
from ..data.mappers.panoptic import PanopticMapper
from ..data.mappers.semantic import SemanticMapper
from ..data.panoptic.classes import panoptic_classes
from ..errors import InputError
from ..evaluation.build import check_machines, results_folder
from ..modeling.recording import InstanceTrace, SemanticTrace, trace_instances, trace_semantic
from ..modeling.registry import look_up

logger = logging.getLogger(__name__)


class Task(ABC):
    """What follows from what a model is for.

    Attributes:
        is_semantic: whether it is semantic segmentation: a class for each pixel and nothing else.
        is_panoptic: whether it is panoptic segmentation: segments of things and of stuff.
        count_keys: config keys that hold the number of classes; the first is the model's.
        ignore_key: config key of the ignored label, "" where there is none.
    """

    is_semantic: bool
    is_panoptic = False
    count_keys: tuple[str, ...]
    ignore_key = ""

    @abstractmethod
    def check_names(self, cfg: CfgNode) -> None:
        """Raise `InputError` where a head's name is not registered."""

    def check_dataset(self, cfg: CfgNode, name: str, *, is_train: bool = False) -> None:
        """Raise `InputError` where a registered data set is missing, broken or does not fit."""
        if not is_train:
            results_folder(cfg, name)
        self._check_kind(name)
        check_same_classes([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST])
        self._check_labels(cfg, name, is_train)
        if not is_train:
            check_machines(name)
            warn_of_shared_images(name, cfg.DATASETS.TRAIN)

    def _check_kind(self, name: str) -> None:
        """Check that a data set of the user's own is for this task."""
        check_custom(name, semantic=self.is_semantic)

    @abstractmethod
    def _check_labels(self, cfg: CfgNode, name: str, is_train: bool) -> None:
        """Check the files and labels of a data set."""

    @abstractmethod
    def build_mapper(self, cfg: CfgNode, *, is_train: bool) -> Any:
        """Build what turns data set dicts into inputs of the model."""

    def take_classes_from_data(self, cfg: CfgNode) -> None:
        """Set class counts and ignored label of a config to those of its data set."""
        take_classes_from_data(
            cfg,
            self._class_counts,
            ignore_key=self.ignore_key,
            has_objects=not self.is_semantic,
        )

    def _class_counts(self, dataset_name: str) -> dict[str, int]:
        """Return the values of the config keys that hold the number of classes."""
        classes = dataset_classes(dataset_name, semantic=self.is_semantic)
        return dict.fromkeys(self.count_keys, len(classes))

    def classes(self, cfg: CfgNode, dataset_name: str | None = None) -> Classes:
        """Return the classes of a data set; by default of the one that the config evaluates on."""
        num_classes = value_of(cfg, self.count_keys[0])
        return known_classes(cfg, dataset_name, semantic=self.is_semantic, num_classes=num_classes)

    def count_classes(self, dataset_name: str) -> int | None:
        """Count the classes of a registered data set; None where it has none."""
        kind = "stuff_classes" if self.is_semantic else "thing_classes"
        return len(MetadataCatalog.get(dataset_name).get(kind) or ()) or None

    @abstractmethod
    def head_names(self, cfg: CfgNode) -> list[str]:
        """Return the names of the heads that segment."""

    @abstractmethod
    def count_objects(self, records: Sequence[dict]) -> int | None:
        """Count the labelled objects of data set dicts; None where pixels are labelled."""

    @abstractmethod
    def trace(self, model: nn.Module, image: Tensor) -> SemanticTrace | InstanceTrace:
        """Run a model on one image (3, H, W) and record its steps."""


class SemanticTask(Task):
    """Semantic segmentation: a class for each pixel."""

    is_semantic = True
    count_keys = ("MODEL.SEM_SEG_HEAD.NUM_CLASSES",)
    ignore_key = "MODEL.SEM_SEG_HEAD.IGNORE_VALUE"

    def check_names(self, cfg: CfgNode) -> None:
        look_up(SEM_SEG_HEADS_REGISTRY, cfg.MODEL.SEM_SEG_HEAD.NAME, "MODEL.SEM_SEG_HEAD.NAME")

    def _check_labels(self, cfg: CfgNode, name: str, is_train: bool) -> None:
        head = cfg.MODEL.SEM_SEG_HEAD
        check_sem_seg_dataset(name, head.NUM_CLASSES, head.IGNORE_VALUE)
        reader = ImageReader.from_config(cfg)
        check_contents(name, reader=reader, semantic=True, is_train=is_train)

    def build_mapper(self, cfg: CfgNode, *, is_train: bool) -> Any:
        return SemanticMapper(cfg, is_train=is_train)

    def head_names(self, cfg: CfgNode) -> list[str]:
        return [cfg.MODEL.SEM_SEG_HEAD.NAME]

    def count_objects(self, records: Sequence[dict]) -> None:
        return None

    def trace(self, model: nn.Module, image: Tensor) -> SemanticTrace:
        return trace_semantic(model, image)


class InstanceTask(Task):
    """Instance segmentation (or detection): boxes and masks of objects."""

    is_semantic = False
    count_keys = (
        "MODEL.ROI_HEADS.NUM_CLASSES",
        "MODEL.POINT_HEAD.NUM_CLASSES",
        "MODEL.RETINANET.NUM_CLASSES",
    )

    def check_names(self, cfg: CfgNode) -> None:
        look_up(ROI_HEADS_REGISTRY, cfg.MODEL.ROI_HEADS.NAME, "MODEL.ROI_HEADS.NAME")
        if cfg.MODEL.MASK_ON:
            name = cfg.MODEL.ROI_MASK_HEAD.NAME
            look_up(ROI_MASK_HEAD_REGISTRY, name, "MODEL.ROI_MASK_HEAD.NAME")

    def _check_labels(self, cfg: CfgNode, name: str, is_train: bool) -> None:
        if (
            is_train
            and cfg.MODEL.KEYPOINT_ON
            and not MetadataCatalog.get(name).get("keypoint_names")
        ):
            raise InputError(
                f"MODEL.KEYPOINT_ON is True, but the data set {name} has no keypoint_names in its "
                "metadata. Set it to False, or register the data set with its keypoints."
            )
        classes, masks = cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.MASK_ON
        points = masks and is_train and cfg.INPUT.POINT_SUP
        check_instance_dataset(name, classes, masks, points=points, is_train=is_train)
        reader = ImageReader.from_config(cfg)
        check_contents(
            name, reader=reader, semantic=False, is_train=is_train, masks=masks, points=points
        )

    def build_mapper(self, cfg: CfgNode, *, is_train: bool) -> Any:
        return InstanceMapper(cfg, is_train=is_train)

    def head_names(self, cfg: CfgNode) -> list[str]:
        return [cfg.MODEL.ROI_MASK_HEAD.NAME] if cfg.MODEL.MASK_ON else []

    def count_objects(self, records: Sequence[dict]) -> int:
        return sum(len(record.get("annotations", ())) for record in records)

    def trace(self, model: nn.Module, image: Tensor) -> InstanceTrace:
        return trace_instances(model, image)


class PanopticTask(InstanceTask):
    """Panoptic segmentation by PanopticFPN: objects of things, and stuff as classes of pixels.

    The semantic branch has a class for each kind of stuff, and class 0 for all things together.
    """

    is_panoptic = True
    ignore_key = SemanticTask.ignore_key
    stuff_count_key = SemanticTask.count_keys[0]

    def check_names(self, cfg: CfgNode) -> None:
        super().check_names(cfg)
        SemanticTask().check_names(cfg)
        weight = cfg.MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT
        for wrong, message in (
            (
                not cfg.MODEL.MASK_ON,
                "MODEL.MASK_ON is False, but a panoptic model needs masks. Set it to True.",
            ),
            (
                value_of(cfg, self.stuff_count_key) < 2,
                f"{self.stuff_count_key} is {value_of(cfg, self.stuff_count_key)}, but a panoptic "
                "model has a class for all things together, and one or more of stuff. Set it to "
                "one more than there are kinds of stuff.",
            ),
            (
                weight != 1 and cfg.MODEL.ROI_HEADS.NAME == "CascadeROIHeads",
                f"MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT is {weight}, which Detectron2 cannot set "
                "on the box predictors of CascadeROIHeads. Set it to 1.0.",
            ),
            (
                cfg.TEST.TILES.SIZE,
                f"TEST.TILES.SIZE (--tile) is {cfg.TEST.TILES.SIZE}, but panoptic models see "
                "images whole. Set it to 0.",
            ),
        ):
            if wrong:
                raise InputError(message)

    def _check_kind(self, name: str) -> None:
        """Leave it to the check of the labels, which are of both kinds."""

    def _check_labels(self, cfg: CfgNode, name: str, is_train: bool) -> None:
        check_panoptic_dataset(cfg, name, is_train=is_train)

    def build_mapper(self, cfg: CfgNode, *, is_train: bool) -> Any:
        return PanopticMapper(cfg, is_train=is_train)

    def head_names(self, cfg: CfgNode) -> list[str]:
        return [cfg.MODEL.SEM_SEG_HEAD.NAME, *super().head_names(cfg)]

    def _class_counts(self, dataset_name: str) -> dict[str, int]:
        check_registered(dataset_name, "DatasetCatalog.register(name, function)")
        found = panoptic_classes(dataset_name)
        counts = dict.fromkeys(self.count_keys, found.num_things)
        return {**counts, self.stuff_count_key: found.num_semantic}

    def classes(self, cfg: CfgNode, dataset_name: str | None = None) -> Classes:
        """Return the things, then the kinds of stuff of a data set."""
        return known_panoptic_classes(
            cfg,
            dataset_name,
            num_things=value_of(cfg, self.count_keys[0]),
            num_semantic=value_of(cfg, self.stuff_count_key),
        )

    def count_classes(self, dataset_name: str) -> int:
        return len(panoptic_classes(dataset_name).names)

    def count_objects(self, records: Sequence[dict]) -> int:
        if any("annotations" in record for record in records):
            return super().count_objects(records)
        return sum(
            bool(segment["isthing"])
            for record in records
            for segment in record.get("segments_info", ())
        )

    def trace(self, model: nn.Module, image: Tensor) -> InstanceTrace:
        raise InputError(
            "Steps and points are drawn of semantic and of instance models, but this model is "
            "panoptic. Leave out --points, --steps and --compare."
        )


class OtherTask(InstanceTask):
    """A model of another kind, which goes Detectron2's own way; the log says what is left out."""

    def check_names(self, cfg: CfgNode) -> None:
        """Leave names to the registries, which raise for those that they do not know."""

    def _check_labels(self, cfg: CfgNode, name: str, is_train: bool) -> None:
        logger.warning(
            "MODEL.META_ARCHITECTURE is %s: the data set %s is not checked before training, and "
            "Detectron2's own mapper reads it. Checked are data sets of %s.",
            cfg.MODEL.META_ARCHITECTURE,
            name,
            " and ".join(_TASKS),
        )

    def build_mapper(self, cfg: CfgNode, *, is_train: bool) -> Any:
        return DatasetMapper(cfg, is_train=is_train)


_TASKS: dict[str, Task] = {
    "SemanticSegmentor": SemanticTask(),
    "GeneralizedRCNN": InstanceTask(),
    "PanopticFPN": PanopticTask(),
}


def find_task(cfg: CfgNode) -> Task:
    """Find what the model of a config is for.

    Example:
        >>> from detectron2.config import get_cfg
        >>> find_task(get_cfg()).is_semantic
        False
    """
    return _TASKS.get(cfg.MODEL.META_ARCHITECTURE, OtherTask())
