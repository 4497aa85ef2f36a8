"""Is an instance data set there, whole, and the one that the config was written for?

Training finds a bad annotation when it comes to it, which may be hours later, and evaluation finds
it after the last image. These checks read the annotations once and list folders; no image is
opened.
"""

import os
from collections.abc import Sequence

from detectron2.data import MetadataCatalog

from ...errors import InputError
from ..annotations import Findings, annotation_name, annotation_problem
from ..cityscapes import ensure_cityscapes_importable
from ..coco_json import CocoJson, check_annotations, image_paths, read_coco_json
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

_CITYSCAPES_LABELS = ("polygons.json", "instanceIds.png", "labelIds.png")
_HOW_TO_REGISTER = (
    "register_coco_instances(name, {}, json_file, image_folder) of detectron2.data.datasets, or "
    "with DatasetCatalog.register(name, function) and "
    "MetadataCatalog.get(name).set(thing_classes=[...]),"
)
_JSON_KINDS = ("coco", "lvis", "coco_panoptic_seg")


def check_instance_dataset(
    name: str, num_classes: int, mask_on: bool, *, is_train: bool = True
) -> None:
    """Run before training on, or evaluating on, a data set of boxes or instance masks.

    Of a data set in COCO's or LVIS' JSON, the JSON is looked at; of one in the Cityscapes layout,
    the folders; any other is loaded once and its dicts are looked at. Cityscapes' scripts become
    importable, as `ensure_cityscapes_importable` has it.

    What Detectron2 gets over is a warning with its number and the first example: annotations of
    images that the JSON does not have, images that are twice in it, polygons of fewer than 3
    points (Detectron2 leaves them out, and objects that have no others). What training or
    evaluation would stop at, or get wrong in silence, is an error.

    Args:
        name: as in `DATASETS.TRAIN` or `DATASETS.TEST`.
        num_classes: `MODEL.ROI_HEADS.NUM_CLASSES`; must be the number of the data set's classes.
        mask_on: `MODEL.MASK_ON`; if not, masks are not looked at.
        is_train: whether it is trained on: there must be annotations, and the masks of crowds,
            which are left out, do not matter. An evaluation set may be without annotations, as
            those of COCO's tests are.

    Raises:
        InputError: says what is missing or does not fit, of which file, image and annotation, and
            what to do.
    """
    check_registered(name, _HOW_TO_REGISTER)
    metadata = MetadataCatalog.get(name)
    kind = metadata.get("evaluator_type")
    if kind == "cityscapes_instance":
        _check_cityscapes(name, metadata, num_classes)
    elif kind in _JSON_KINDS and metadata.get("json_file") and metadata.get("image_root"):
        _check_json(name, metadata, num_classes, mask_on, is_train)
    else:
        _check_dicts(name, load_dicts(name), num_classes, mask_on, is_train)


def _check_class_count(name: str, classes: Sequence[str] | None, num_classes: int) -> None:
    if classes is not None and len(classes) != num_classes:
        raise InputError(
            f"MODEL.ROI_HEADS.NUM_CLASSES is {num_classes}, but the data set {name} has "
            f"{len(classes)} {'class' if len(classes) == 1 else 'classes'} ({some(classes)}). "
            f"Set MODEL.ROI_HEADS.NUM_CLASSES {len(classes)} (--classes-from-data does it), or "
            "choose another data set."
        )


def _check_cityscapes(name: str, metadata, num_classes: int) -> None:
    ensure_cityscapes_importable(instances=True)
    _check_class_count(name, metadata.get("thing_classes"), num_classes)
    suffixes = dict.fromkeys(_CITYSCAPES_LABELS)
    labels = check_cityscapes_folders(name, metadata.image_dir, metadata.gt_dir, suffixes)
    check_not_empty(name, [*labels["polygons.json"], *labels["instanceIds.png"]])


def _check_json(name: str, metadata, num_classes: int, mask_on: bool, is_train: bool) -> None:
    content = read_coco_json(
        name, os.fspath(metadata.json_file), lvis=metadata.evaluator_type == "lvis"
    )
    class_ids = _class_ids(content, metadata)
    if class_ids is None:
        dicts = _load_otherwise(name, content, metadata)
        _check_dicts(name, dicts, num_classes, mask_on, is_train)
        return
    classes = metadata.thing_classes if content.lvis else list(content.categories.values())
    _check_class_count(name, classes, num_classes)
    if content.annotations is None and is_train:
        raise InputError(
            f"The data set {name} cannot be trained on: {content.file} has no 'annotations', as "
            "the files of test sets. Choose another data set for DATASETS.TRAIN."
        )
    check_annotations(content, class_ids, mask_on=mask_on, is_train=is_train)
    _check_images(name, image_paths(content, os.fspath(metadata.image_root)))


def _class_ids(content: CocoJson, metadata) -> set | None:
    """The category ids that Detectron2's loader knows; None where it is another's file."""
    classes = metadata.get("thing_classes")
    numbers = metadata.get("thing_dataset_id_to_contiguous_id")
    if content.lvis:
        return set(numbers or range(1, len(classes) + 1)) if classes else None
    if classes is not None and list(classes) != list(content.categories.values()):
        return None
    if numbers is not None and numbers != {key: k for k, key in enumerate(content.categories)}:
        return None
    return set(content.categories)


def _load_otherwise(name: str, content: CocoJson, metadata) -> Sequence[dict]:
    """Dicts of a data set whose classes are not those of its file, if its loader has a way."""
    try:
        return load_dicts(name)
    except InputError as error:
        found = list(content.categories.values())
        known = metadata.get("thing_classes") or []
        raise InputError(
            f"{content.file} has {len(found)} categories ({some(found)}), but the data set {name} "
            f"is registered with {len(known)} classes ({some(known)}), or with other category "
            "ids. Register the file under a name of its own: register_coco_instances(name, {}, "
            "json_file, image_folder) of detectron2.data.datasets."
        ) from error


def _check_dicts(
    name: str, dicts: Sequence[dict], num_classes: int, mask_on: bool, is_train: bool
) -> None:
    _check_class_count(name, MetadataCatalog.get(name).get("thing_classes"), num_classes)
    findings, usable = Findings(name), 0
    for record in dicts:
        if "file_name" not in record:
            raise InputError(
                f"A dict of the data set {name} has no 'file_name', only {', '.join(record)}. "
                "Give each dict the path of its image."
            )
        size = (record["height"], record["width"]) if {"height", "width"} <= record.keys() else None
        for number, annotation in enumerate(record.get("annotations", ())):
            if is_train and annotation.get("iscrowd", 0):
                continue
            usable += 1
            problem = annotation_problem(annotation, size, num_classes, mask_on)
            if problem:
                findings.error(annotation_name(annotation, number, record), problem)
    findings.report()
    if is_train and not usable:
        raise InputError(
            f"There is nothing to train on in the data set {name}: none of its dicts has an object "
            "that is no crowd among its 'annotations'. Choose a data set of instances."
        )
    _check_images(name, [record["file_name"] for record in dicts])


def _check_images(name: str, paths: Sequence[str]) -> None:
    images = local(paths)
    check_there(name, "images", images, Folders(), f"Complete the copy. {root_now()}")
    check_not_empty(name, images)
