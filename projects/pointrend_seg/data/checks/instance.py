"""Check that an instance data set is complete, valid and fits the config.

Training finds an invalid annotation when it reads it, which may be hours later, and evaluation
finds it after the last image. These checks read the annotations once and list folders. No image is
opened.
"""

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from ...errors import InputError
from ..annotations import (
    Annotation,
    CheckedAnnotation,
    Record,
    Size,
    all_points_problem,
    box_problem,
    checked_annotations,
    coordinates_problem,
    has_points,
    stated_size,
)
from ..cityscapes import ensure_cityscapes_importable
from ..coco_json import JSON_TYPES, CocoJson, read_coco_json
from ..coco_records import use_own_reader
from ..dataset_files import (
    Folders,
    check_cityscapes_folders,
    check_not_empty,
    check_registered,
    check_there,
    load_dicts,
    local,
    root_now,
    some,
)
from ..panoptic.records import is_separated
from ..point_sets import register_point_set
from ..problems import ProblemLog

_LVIS_LOADER = "detectron2.data.datasets.lvis"
_CITYSCAPES_LABELS = ("polygons.json", "instanceIds.png", "labelIds.png")
_HOW_TO_REGISTER = (
    "register_coco_instances(name, {}, json_file, image_folder) of detectron2.data.datasets, or "
    "with DatasetCatalog.register(name, function) and "
    "MetadataCatalog.get(name).set(thing_classes=[...]),"
)


def check_instance_dataset(
    name: str, num_classes: int, mask_on: bool, *, points: bool = False, is_train: bool = True
) -> None:
    """Check a data set of boxes or instance masks before training or evaluation.

    COCO's and LVIS' JSON files are read; data sets in the Cityscapes layout are checked by listing
    their folders; any other is loaded once and its dicts are checked. Cityscapes' scripts become
    importable, see `ensure_cityscapes_importable`.

    What is read as what it means, or left out, is logged as a warning, each kind once, with the
    number of cases: an `iscrowd` of null, annotations of images that are not in the JSON, boxes
    without an area, polygons of fewer than 3 points. What would stop training or evaluation, or
    what they would get wrong in silence, is an error.

    Args:
        name: as in `DATASETS.TRAIN` or `DATASETS.TEST`.
        num_classes: `MODEL.ROI_HEADS.NUM_CLASSES`; must be the number of the data set's classes.
        mask_on: `MODEL.MASK_ON`; if not, masks are not checked.
        points: whether masks are trained from labelled points, which every object then needs
            instead of a mask (`INPUT.POINT_SUP`).
        is_train: whether it is trained on: there must be annotations. An evaluation set may have
            none, like COCO's test sets.

    Raises:
        InputError: says what is missing or does not fit, in which file, image and annotation, and
            what to do.
    """
    register_point_set(name)
    check_registered(name, _HOW_TO_REGISTER)
    metadata = MetadataCatalog.get(name)
    kind = metadata.get("evaluator_type")
    labels = _Labels(mask_on and not points, mask_on and points, is_train)
    loader = getattr(DatasetCatalog[name], "__module__", "")
    if labels.points and (kind == "cityscapes_instance" or loader == _LVIS_LOADER):
        raise InputError(
            f"INPUT.POINT_SUP is True, but Detectron2's loader of the data set {name} reads no "
            "points. Register the annotations with points as a file of COCO's format "
            "(--train-data, register_coco_instances), or set INPUT.POINT_SUP False."
        )
    if is_train and metadata.get("panoptic_json") and not is_separated(metadata):
        raise InputError(
            f"The labels of the data set {name} are panoptic PNGs, but a model of objects is "
            "trained from 'annotations'. Use a panoptic config, for example "
            "configs/quick/pointrend_panoptic_R_18_FPN.yaml, or a data set of objects."
        )
    if kind == "cityscapes_instance":
        _check_cityscapes(name, metadata, num_classes)
    elif kind in JSON_TYPES and metadata.get("json_file") and metadata.get("image_root"):
        _check_json(name, metadata, num_classes, labels)
    else:
        _check_dicts(name, load_dicts(name), num_classes, labels)


class _Labels(NamedTuple):
    """What objects need besides a box and a class, and what for.

    Attributes:
        masks, points: whether each needs a mask, or labelled points.
        is_train: whether they are trained on, not evaluated with.
    """

    masks: bool
    points: bool
    is_train: bool

    def missing(self, source: str, objects: Iterable[tuple[Annotation, Size | None]]) -> str:
        """Return a sentence if a data set has none of the labels that it is to have, else "".

        Args:
            source: the data set or its file, for messages.
            objects: annotations, each with the size of its image.
        """
        if not (self.masks or self.points):
            return ""
        objects = [each for each in objects if each[0].get("iscrowd", 0) != 1]
        with_points = any(has_points(each) for each, _ in objects)
        with_masks = any(_has_mask(each) for each, _ in objects)
        if not objects:
            return ""
        if self.points and not with_points:
            return (
                f"INPUT.POINT_SUP is True, but no object of {source} has point_labels. Make points "
                "from its masks with tools/make_point_labels.py, or train with its masks: "
                "INPUT.POINT_SUP False."
            )
        if self.masks and not with_masks and not self.is_train:
            return (
                f"Mask AP needs masks, but no object of {source} has one. Evaluate on a data set "
                "with masks, or score boxes alone: MODEL.MASK_ON False."
            )
        if self.masks and not with_masks and with_points:
            return (
                f"The objects of {source} have points instead of masks. Train with them: "
                "INPUT.POINT_SUP True (docs/point-supervision.md)."
            )
        wrong = all_points_problem(objects) if self.points else None
        if self.points and with_masks and not wrong:
            logging.getLogger(__name__).info(
                f"INPUT.POINT_SUP is True: the points of {source} are trained on, not its masks."
            )
        return f"There is an error in {source}: {wrong}" if wrong else ""

    def options(self, missing: str) -> dict[str, bool]:
        """Return what each annotation is checked for, unless all of it is missing."""
        return {"masks": self.masks and not missing, "points": self.points and not missing}


def _has_mask(annotation: Annotation) -> bool:
    segmentation = annotation.get("segmentation")
    return isinstance(segmentation, np.ndarray) or bool(segmentation)


def _check_class_count(name: str, classes: Sequence[str] | None, num_classes: int) -> None:
    if classes is not None and len(classes) != num_classes:
        raise InputError(
            f"MODEL.ROI_HEADS.NUM_CLASSES is {num_classes}, but the data set {name} has "
            f"{len(classes)} {'class' if len(classes) == 1 else 'classes'} ({some(classes)}). "
            f"Set MODEL.ROI_HEADS.NUM_CLASSES {len(classes)} (--classes-from-data does it), or "
            "choose another data set."
        )


def _check_cityscapes(name: str, metadata: Any, num_classes: int) -> None:
    ensure_cityscapes_importable(instances=True)
    _check_class_count(name, metadata.get("thing_classes"), num_classes)
    suffixes = dict.fromkeys(_CITYSCAPES_LABELS)
    labels = check_cityscapes_folders(name, metadata.image_dir, metadata.gt_dir, suffixes)
    check_not_empty(name, [*labels["polygons.json"], *labels["instanceIds.png"]])


def _check_json(name: str, metadata: Any, num_classes: int, labels: _Labels) -> None:
    content = read_coco_json(name, metadata)
    content.check()
    class_numbers = content.class_numbers(metadata)
    if class_numbers is None:
        dicts = _load_otherwise(name, content, metadata)
        _check_dicts(name, dicts, num_classes, labels)
        return
    classes = metadata.thing_classes if content.lvis else list(content.categories.values())
    _check_class_count(name, classes, num_classes)
    if content.annotations is None and labels.is_train:
        raise InputError(
            f"The data set {name} cannot be trained on: {content.file} has no 'annotations', like "
            "the files of test sets. Choose another data set for DATASETS.TRAIN."
        )
    missing = labels.missing(content.file, content.with_sizes())
    is_own = use_own_reader(name)
    checked = content.checked_annotations(class_numbers, repaired=is_own, **labels.options(missing))
    for problem in content.warnings():
        if problem.kind == "crowds":
            logging.getLogger(__name__).warning(f"{content.file}: {problem}")
    _check_annotations(content.file, checked, labels.is_train, place=f", in {content.file},")
    if missing:
        raise InputError(missing)
    if labels.points and not is_own:  # another loader may leave the points out
        _check_dicts(name, load_dicts(name), num_classes, labels)
    _check_images(name, content.records.values())


def _load_otherwise(name: str, content: CocoJson, metadata: Any) -> Sequence[Record]:
    """Load a data set whose classes are not those of its file, which takes a loader of its own."""
    try:
        return load_dicts(name)
    except InputError as error:
        raise content.other_classes(name, metadata) from error


def _check_dicts(name: str, dicts: Sequence[Record], num_classes: int, labels: _Labels) -> None:
    _check_class_count(name, MetadataCatalog.get(name).get("thing_classes"), num_classes)
    for record in dicts:
        if "file_name" not in record:
            raise InputError(
                f"A dict of the data set {name} has no 'file_name', only {', '.join(record)}. "
                "Give each dict the path of its image."
            )
    source = f"the data set {name}"
    sized = ((each, stated_size(r)) for r in dicts for each in r.get("annotations", ()))
    missing = labels.missing(source, sized)
    options = {**labels.options(missing), "is_train": False}
    checked = itertools.chain.from_iterable(
        checked_annotations(record, num_classes, **options) for record in dicts
    )
    wrong = coordinates_problem(_shapes(dicts))
    if wrong:
        raise InputError(f"The data set {name} cannot be used: {wrong}")
    _check_annotations(source, checked, labels.is_train)
    if missing:
        raise InputError(missing)
    _check_images(name, dicts)


def _shapes(dicts: Sequence[Record]) -> Iterator[tuple]:
    """Yield the box as x, y, width, height, the segmentation and the image's size of objects."""
    for record in dicts:
        for each in record.get("annotations", ()):
            box, mode = each.get("bbox"), each.get("bbox_mode", BoxMode.XYXY_ABS)
            if box_problem(each) or mode not in (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS):
                box = None
            elif mode == BoxMode.XYXY_ABS:
                box = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            yield box, each.get("segmentation"), stated_size(record)


def _check_annotations(
    source: str, annotations: Iterable[CheckedAnnotation], is_train: bool, place: str = ""
) -> None:
    """Report the problems of annotations, each kind once.

    Args:
        source: the data set or its file, for messages.
        place: what messages add to the name of an annotation.

    Raises:
        InputError: a problem stops training or evaluation, or there is nothing to train on or
            to evaluate with. An evaluation set without any annotation may be that of a challenge.
    """
    log, usable, count = ProblemLog(source), 0, 0
    for each in annotations:
        count += 1
        for problem in each.problems:
            log.add(each.name + place, problem)
        usable += each.is_used and not each.is_crowd
    log.report()
    if (is_train or count) and not usable:
        found = "it has only crowds (iscrowd 1) and objects that are left out"
        found = found if count else "it has no annotations"
        raise InputError(
            f"There is nothing to {'train on' if is_train else 'evaluate with'} in {source}: "
            f"{found}. Choose another data set, or correct its annotations."
        )


def _check_images(name: str, records: Iterable[Record]) -> None:
    images = local(record["file_name"] for record in records)
    check_there(name, "images", images, Folders(), f"Complete the copy. {root_now()}")
    check_not_empty(name, images)
