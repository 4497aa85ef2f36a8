"""Check that a semantic data set is complete and fits the config.

Training finds a missing file when it reads it, which may be hours later. These checks list folders
and open no image except a handful of binary masks.
"""

import logging
import os
from collections.abc import Iterable, Sequence
from typing import Any

from detectron2.data import MetadataCatalog

from ...errors import InputError
from ..custom.datasets import IMAGE_EXTENSIONS
from ..dataset_files import (
    Folders,
    check_cityscapes_folders,
    check_not_empty,
    check_registered,
    check_there,
    evenly,
    list_folder,
    load_dicts,
    local,
    some,
)
from ..label_files import read_label_file
from ..problems import Problem

_BINARY_SAMPLES = 8
_HOW_TO_REGISTER = (
    "DatasetCatalog.register(name, function) and MetadataCatalog.get(name).set("
    "stuff_classes=[...], ignore_label=255)"
)


def check_sem_seg_dataset(name: str, num_classes: int, ignore_value: int) -> None:
    """Check a semantic data set before training or evaluation.

    Data sets in the Cityscapes layout, or with one image folder and one label folder, are checked
    by listing the folders; any other is loaded once, and the files of its dicts must exist.

    Args:
        name: as in `DATASETS.TRAIN` or `DATASETS.TEST`.
        num_classes: `MODEL.SEM_SEG_HEAD.NUM_CLASSES`; must be the number of the data set's
            `stuff_classes`, if it has them. A binary model (1) fits data sets with one name (of
            the foreground) or two (of background and foreground).
        ignore_value: `MODEL.SEM_SEG_HEAD.IGNORE_VALUE`; must be the data set's `ignore_label`,
            if it has one.

    Raises:
        InputError: says what is missing or does not fit, and what to do.
    """
    check_registered(name, _HOW_TO_REGISTER)
    metadata = MetadataCatalog.get(name)
    _check_metadata(name, metadata, num_classes, ignore_value)
    if metadata.get("evaluator_type") == "cityscapes_sem_seg":
        labels = _check_cityscapes(name, metadata.image_dir, metadata.gt_dir)
    elif metadata.get("image_root") and metadata.get("sem_seg_root"):
        labels = _check_folder_pair(name, metadata.image_root, metadata.sem_seg_root)
    else:
        labels = _check_loaded(name)
    coding = metadata.get("label_coding")
    ignores_255 = ignore_value == 255 and (coding is None or coding.ignore_value == 255)
    if num_classes <= 2 and ignores_255:
        _warn_of_255_masks(name, labels)


def _check_metadata(name: str, metadata: Any, num_classes: int, ignore_value: int) -> None:
    classes = metadata.get("stuff_classes")
    fitting = {num_classes, 2} if num_classes == 1 else {num_classes}
    if classes is not None and len(classes) not in fitting:
        raise InputError(
            f"MODEL.SEM_SEG_HEAD.NUM_CLASSES is {num_classes}, but the data set {name} has "
            f"{len(classes)} classes ({some(classes)}). "
            f"Set MODEL.SEM_SEG_HEAD.NUM_CLASSES {len(classes)} (--classes-from-data does it), or "
            "choose another data set."
        )
    ignore_label = metadata.get("ignore_label")
    if ignore_label is not None and ignore_label != ignore_value:
        raise InputError(
            f"MODEL.SEM_SEG_HEAD.IGNORE_VALUE is {ignore_value}, but the data set {name} marks "
            f"ignored pixels with {ignore_label}. Set MODEL.SEM_SEG_HEAD.IGNORE_VALUE "
            f"{ignore_label}."
        )


def _check_cityscapes(name: str, image_dir: str, gt_dir: str) -> list[str]:
    """Check a data set in the Cityscapes layout and return its label files."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(gt_dir)))
    advice = f"Write them with: CITYSCAPES_DATASET={root} csCreateTrainIdLabelImgs"
    advice += ' (it comes with pip install "pointrend-seg[cityscapes]").'
    suffixes = ("polygons.json", "instanceIds.png", "labelIds.png")  # what others are made of
    labels = check_cityscapes_folders(
        name, image_dir, gt_dir, dict.fromkeys(suffixes) | {"labelTrainIds.png": advice}
    )
    check_not_empty(name, [*labels["labelTrainIds.png"], *labels["polygons.json"]])
    return labels["labelTrainIds.png"]


def _check_folder_pair(name: str, image_root: str, label_root: str) -> list[str]:
    """Check a folder of images and a folder of labels and return the label files."""
    images = _by_stem(image_root, list_folder(name, image_root))
    labels = _by_stem(label_root, list_folder(name, label_root))
    if not images.keys() & labels.keys():  # sub-folders or other names: only the loader knows
        return _check_loaded(name)
    without_image = sorted(labels.keys() - images.keys())
    if without_image:
        raise InputError(
            f"The data set {name} is not complete: {len(without_image)} of {len(labels)} labels "
            f"in {label_root} have no image in {image_root}: {some(without_image)}. Complete "
            "the copy of the images."
        )
    without_label = sorted(images.keys() - labels.keys())
    if without_label:
        logging.getLogger(__name__).warning(
            f"{len(without_label)} of {len(images)} images in {image_root} have no label in "
            f"{label_root} and are left out of {name}: {some(without_label)}."
        )
    used = sorted(labels)
    label_files = [labels[stem] for stem in used]
    check_not_empty(name, [*(images[stem] for stem in used), *label_files])
    return label_files


def _check_loaded(name: str) -> list[str]:
    """Load a data set, check its files and return the label files."""
    dicts = load_dicts(name)
    images = local(d["file_name"] for d in dicts)
    labels = local(d["sem_seg_file_name"] for d in dicts if "sem_seg_file_name" in d)
    if not any("sem_seg_file_name" in d for d in dicts):
        raise InputError(
            f"The data set {name} has no semantic labels: none of its dicts has "
            "'sem_seg_file_name'. Choose a semantic data set."
        )
    folders = Folders()
    check_there(name, "images", images, folders)
    check_there(name, "label files", labels, folders)
    check_not_empty(name, [*images, *labels])
    return labels


def _by_stem(folder: str, names: Iterable[str]) -> dict[str, str]:
    split = ((os.path.splitext(file), file) for file in names)
    return {
        stem: os.path.join(folder, file)
        for (stem, extension), file in split
        if extension.lower() in IMAGE_EXTENSIONS
    }


def _warn_of_255_masks(name: str, label_files: Sequence[str]) -> None:
    """Warn if labels have only 0 and 255, since 255 is ignored and nothing would be learned."""
    sample = evenly(label_files, _BINARY_SAMPLES)
    files = [read_label_file(path) for path in sample]  # problems are found where they are read
    maps = [each.values for each in files if not isinstance(each, Problem)]
    if any(((m != 0) & (m != 255)).any() for m in maps) or not any((m == 255).any() for m in maps):
        return
    logging.getLogger(__name__).warning(
        f"The first labels looked at in {name} (such as {sample[0]}) have the values 0 and 255 "
        "alone, and 255 is ignored: nothing is foreground. If 255 is the foreground, write it as "
        "1, or for a data set of DATASETS.CUSTOM give it the id 255 in the class file."
    )
