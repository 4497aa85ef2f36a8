"""Check that a panoptic data set is complete, valid and fits both branches of the model."""

import itertools
import os
from collections.abc import Iterable
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ...errors import InputError
from ..annotations import Record
from ..coco_json import read_coco_json
from ..custom.registration import check_custom
from ..dataset_files import (
    Folders,
    check_not_empty,
    check_registered,
    check_there,
    load_dicts,
    local,
    root_now,
    some,
)
from ..images.reader import ImageReader
from ..panoptic.classes import PanopticClasses, panoptic_classes
from ..panoptic.json_file import read_panoptic_json
from ..panoptic.records import is_separated, read_truth, use_own_panoptic_reader
from .contents import check_contents
from .instance import check_instance_dataset
from .semantic import check_sem_seg_dataset

_HOW_TO_REGISTER = (
    "register_coco_panoptic(name, metadata, image_folder, png_folder, json_file) of "
    "detectron2.data.datasets"
)


def check_panoptic_dataset(cfg: CfgNode, name: str, *, is_train: bool) -> None:
    """Check a panoptic data set before training or evaluation.

    Of data sets in COCO's panoptic format, the JSON file is read, the images and PNGs must exist,
    and a sample of them is read. Those with separate files for objects and pixels are checked as
    instance and as semantic data sets, and for evaluation also their panoptic files.

    Args:
        cfg: ``MODEL.ROI_HEADS.NUM_CLASSES`` must be the number of things,
            ``MODEL.SEM_SEG_HEAD.NUM_CLASSES`` one more than the kinds of stuff.
        name: as in ``DATASETS.TRAIN`` or ``DATASETS.TEST``.
        is_train: whether it is trained on.

    Raises:
        InputError: says what is missing or does not fit, and what to do.
    """
    check_registered(name, _HOW_TO_REGISTER)
    check_custom(name, semantic=False, panoptic=True)
    metadata, reader = MetadataCatalog.get(name), ImageReader.from_config(cfg)
    use_own_panoptic_reader(name)
    if metadata.get("panoptic_json") and not is_separated(metadata):
        content = read_panoptic_json(name, metadata)
        content.check()
        if not metadata.get("thing_classes") and not metadata.get("stuff_classes"):
            load_dicts(name)  # sets the classes
    classes = panoptic_classes(name)
    _check_counts(cfg, name, classes, metadata)
    if is_train:
        _check_same_numbers(name, classes, cfg.DATASETS.TRAIN)
    is_png = metadata.get("panoptic_json") and not is_separated(metadata)
    records = [] if is_png else load_dicts(name)
    if is_png or any("pan_seg_file_name" in record for record in records):
        _check_png_records(name, load_dicts(name), classes, is_train)
        check_contents(name, reader=reader, panoptic=True, is_train=is_train)
        if not is_train:
            _check_objects_file(name, metadata)
        return
    _check_has_both(name, records)
    head = cfg.MODEL.SEM_SEG_HEAD
    check_instance_dataset(name, classes.num_things, cfg.MODEL.MASK_ON, is_train=is_train)
    check_sem_seg_dataset(name, head.NUM_CLASSES, head.IGNORE_VALUE)
    for semantic in (False, True):
        check_contents(name, reader=reader, semantic=semantic, is_train=is_train)
    if not is_train:
        truth = read_truth(name, classes)
        _check_files(name, truth.records.values())


def _check_counts(cfg: CfgNode, name: str, classes: PanopticClasses, metadata: Any) -> None:
    for key, value, wanted, what in (
        (
            "MODEL.ROI_HEADS.NUM_CLASSES",
            cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            classes.num_things,
            f"{classes.num_things} things ({some(classes.thing_names)})",
        ),
        (
            "MODEL.SEM_SEG_HEAD.NUM_CLASSES",
            cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            classes.num_semantic,
            f"{len(classes.stuff_names)} kinds of stuff ({some(classes.stuff_names)}), which makes "
            f"{classes.num_semantic} classes with one for all things",
        ),
    ):
        if value != wanted:
            raise InputError(
                f"{key} is {value}, but the data set {name} has {what}. Set {key} {wanted} "
                "(--classes-from-data does it), or choose another data set."
            )
    ignored, expected = metadata.get("ignore_label"), cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    if ignored is not None and ignored != expected:
        raise InputError(
            f"MODEL.SEM_SEG_HEAD.IGNORE_VALUE is {expected}, but unlabelled pixels of the data set "
            f"{name} are {ignored}. Set MODEL.SEM_SEG_HEAD.IGNORE_VALUE {ignored}."
        )


def _check_same_numbers(name: str, classes: PanopticClasses, trained_on: Iterable[str]) -> None:
    """Check that all training sets number their classes alike, since one mapper reads them."""
    for other in trained_on:
        if panoptic_classes(other) != classes:
            raise InputError(
                f"The data sets {name} and {other} have different classes, or number them "
                f"differently: {some(classes.names)} and {some(panoptic_classes(other).names)}. "
                "Train on data sets of the same classes and the same kind."
            )


def _check_has_both(name: str, records: Iterable[Record]) -> None:
    for record in records:
        missing = [key for key in ("annotations", "sem_seg_file_name") if key not in record]
        if missing:
            raise InputError(
                f"The data set {name} is not complete: the dict of {record.get('file_name')} has "
                f"no {' and no '.join(map(repr, missing))}. A panoptic model needs "
                "'pan_seg_file_name' and 'segments_info', or 'annotations' and "
                "'sem_seg_file_name'."
            )


def _check_png_records(
    name: str, records: Iterable[Record], classes: PanopticClasses, is_train: bool
) -> None:
    _check_files(name, records)
    segments = itertools.chain.from_iterable(record["segments_info"] for record in records)
    things = [each for each in segments if (classes.number(each) or (False, 0))[0]]
    if not all(segment.get("iscrowd") for segment in things):
        return
    if is_train or things:
        found = "only crowds (iscrowd 1)" if things else "no segment"
        source = MetadataCatalog.get(name).get("panoptic_json") or f"the data set {name}"
        purpose = "train on" if is_train else "evaluate with"
        raise InputError(
            f"There is nothing to {purpose} in {source}: it has {found} among the things. "
            "Choose another data set, or correct its segments."
        )


def _check_files(name: str, records: Iterable[Record]) -> None:
    records, folders = list(records), Folders()
    for what, key in (("images", "file_name"), ("panoptic PNGs", "pan_seg_file_name")):
        files = local(record[key] for record in records)
        check_there(name, what, files, folders, f"Complete the copy. {root_now()}")
        check_not_empty(name, files)


def _check_objects_file(name: str, metadata: Any) -> None:
    """Check the file that AP is computed with, which is read after the training."""
    if metadata.get("json_file") and os.path.exists(metadata.json_file):
        read_coco_json(name, metadata).check()
