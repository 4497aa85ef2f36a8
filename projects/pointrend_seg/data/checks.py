"""Is a semantic data set there, whole, and the one that the config was written for?

Training finds a missing file when it comes to it, which may be hours later. These checks list
folders, never open an image (but for a handful of binary masks), and look at the sizes of at most
`_MOST_SIZES` files, so that they take seconds on large sets.
"""

import difflib
import logging
import os
from collections.abc import Iterable, Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..errors import InputError
from .labels import read_labels

_MOST_SIZES = 5000
_BINARY_SAMPLES = 8
_IMAGE_SUFFIX = "leftImg8bit.png"
_LABEL_SUFFIXES = ("labelTrainIds.png", "labelIds.png", "instanceIds.png", "polygons.json")
_IMAGE_EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}


def check_sem_seg_dataset(name: str, num_classes: int, ignore_value: int) -> None:
    """Run before training on, or evaluating on, a semantic data set.

    A data set in the Cityscapes layout, or of one image folder and one label folder, is checked
    by listing its folders; any other is loaded once and the files of its dicts are looked for.

    Args:
        name: as in `DATASETS.TRAIN` or `DATASETS.TEST`.
        num_classes: `MODEL.SEM_SEG_HEAD.NUM_CLASSES`; must be the number of the data set's
            `stuff_classes`, where it has them. A binary model (1) fits a data set that names
            the foreground alone as well as one that names background and foreground.
        ignore_value: `MODEL.SEM_SEG_HEAD.IGNORE_VALUE`; must be the data set's `ignore_label`,
            where it has one.

    Raises:
        InputError: says what is missing or does not fit, and what to do.
    """
    if name not in DatasetCatalog:
        raise InputError(_unknown_name(name))
    metadata = MetadataCatalog.get(name)
    _check_metadata(name, metadata, num_classes, ignore_value)
    if metadata.get("evaluator_type") == "cityscapes_sem_seg":
        labels = _check_cityscapes(name, metadata.image_dir, metadata.gt_dir)
    elif metadata.get("image_root") and metadata.get("sem_seg_root"):
        labels = _check_folder_pair(name, metadata.image_root, metadata.sem_seg_root)
    else:
        labels = _check_loaded(name)
    if num_classes <= 2 and ignore_value == 255:
        _warn_of_255_masks(name, labels)


def _unknown_name(name: str) -> str:
    near = difflib.get_close_matches(name, DatasetCatalog.list(), n=3)
    return (
        f"There is no data set {name!r}"
        + (f"; similar names: {', '.join(near)}" if near else "")
        + ". Check DATASETS.TRAIN and DATASETS.TEST; a data set of your own must be registered "
        "with DatasetCatalog.register(name, function) and MetadataCatalog.get(name).set("
        f"stuff_classes=[...], ignore_label=255) before this point. {_root_now()}"
    )


def _root_now() -> str:
    value = os.environ.get("DETECTRON2_DATASETS")
    root = os.path.abspath(os.path.expanduser(value or "datasets"))
    state = f"is {root}" if value else f"is not set, so that their root is {root}"
    return (
        "DETECTRON2_DATASETS, the folder that holds Detectron2's own data sets "
        f"(cityscapes/, coco/, ...), {state}. The variable is read when Detectron2 is "
        "imported."
    )


def _check_metadata(name: str, metadata, num_classes: int, ignore_value: int) -> None:
    classes = metadata.get("stuff_classes")
    fitting = {num_classes, 2} if num_classes == 1 else {num_classes}
    if classes is not None and len(classes) not in fitting:
        raise InputError(
            f"MODEL.SEM_SEG_HEAD.NUM_CLASSES is {num_classes}, but the data set {name} has "
            f"{len(classes)} classes ({', '.join(classes[:3])}{', ...' if classes[3:] else ''}). "
            f"Set MODEL.SEM_SEG_HEAD.NUM_CLASSES {len(classes)}, or choose another data set."
        )
    ignore_label = metadata.get("ignore_label")
    if ignore_label is not None and ignore_label != ignore_value:
        raise InputError(
            f"MODEL.SEM_SEG_HEAD.IGNORE_VALUE is {ignore_value}, but the data set {name} marks "
            f"ignored pixels with {ignore_label}. Set MODEL.SEM_SEG_HEAD.IGNORE_VALUE "
            f"{ignore_label}."
        )


def _check_cityscapes(name: str, image_dir: str, gt_dir: str) -> list[str]:
    """Returns the label files."""
    images, labels = [], {suffix: [] for suffix in _LABEL_SUFFIXES}
    expected_images = set()
    folders = _Folders()
    for city in _list_cities(name, image_dir):
        for image in sorted(folders.names(os.path.join(image_dir, city))):
            path = os.path.join(image_dir, city, image)
            if not image.endswith(_IMAGE_SUFFIX):
                raise InputError(
                    f"{path} is not an image of Cityscapes (..._{_IMAGE_SUFFIX}), and "
                    "Detectron2 stops at such a file. Remove it."
                )
            images.append(path)
            stem = os.path.join(gt_dir, city, image.removesuffix(_IMAGE_SUFFIX) + "gtFine_")
            for suffix in _LABEL_SUFFIXES:
                labels[suffix].append(stem + suffix)
    if not images:
        raise InputError(f"The data set {name} is not there: no images in {image_dir}.")
    for city in sorted(_list_folder(name, gt_dir)):
        for label in folders.names(os.path.join(gt_dir, city)):
            if label.endswith("gtFine_labelIds.png"):
                image = label.removesuffix("gtFine_labelIds.png") + _IMAGE_SUFFIX
                expected_images.add(os.path.join(image_dir, city, image))
    _check_there(name, "images", sorted(expected_images | set(images)), folders)
    for suffix in reversed(_LABEL_SUFFIXES):  # those that others are made of come first
        root = os.path.dirname(os.path.dirname(os.path.abspath(gt_dir)))
        advice = f"Write them with: CITYSCAPES_DATASET={root} csCreateTrainIdLabelImgs"
        advice += ' (it comes with pip install "pointrend-seg[cityscapes]").'
        made = suffix == "labelTrainIds.png"
        _check_there(name, f"{suffix} files", labels[suffix], folders, advice if made else None)
    _check_not_empty(name, [*images, *labels["labelTrainIds.png"], *labels["polygons.json"]])
    return labels["labelTrainIds.png"]


def _list_cities(name: str, image_dir: str) -> list[str]:
    cities = sorted(_list_folder(name, image_dir))
    for city in cities:
        if not os.path.isdir(os.path.join(image_dir, city)):
            raise InputError(
                f"{os.path.join(image_dir, city)} is a file where only folders, one for each "
                "city, may be, and Detectron2 stops at it. Remove it."
            )
    return cities


def _check_folder_pair(name: str, image_root: str, label_root: str) -> list[str]:
    """Returns the label files."""
    images = _by_stem(image_root, _list_folder(name, image_root))
    labels = _by_stem(label_root, _list_folder(name, label_root))
    if not images.keys() & labels.keys():  # sub-folders or other names: only the loader knows
        return _check_loaded(name)
    without_image = sorted(labels.keys() - images.keys())
    if without_image:
        raise InputError(
            f"The data set {name} is not complete: {len(without_image)} of {len(labels)} labels "
            f"in {label_root} have no image in {image_root}: {_some(without_image)}. Complete "
            "the copy of the images."
        )
    without_label = sorted(images.keys() - labels.keys())
    if without_label:
        logging.getLogger(__name__).warning(
            f"{len(without_label)} of {len(images)} images in {image_root} have no label in "
            f"{label_root} and are left out of {name}: {_some(without_label)}."
        )
    used = sorted(labels)
    label_files = [labels[stem] for stem in used]
    _check_not_empty(name, [*(images[stem] for stem in used), *label_files])
    return label_files


def _check_loaded(name: str) -> list[str]:
    """Returns the label files."""
    try:
        dicts = DatasetCatalog.get(name)
    except InputError:
        raise
    except (AssertionError, ImportError, LookupError, OSError, ValueError) as error:
        raise InputError(
            f"The data set {name} cannot be loaded: {type(error).__name__}: {error}. Complete "
            f"its files, or correct its registration. {_root_now()}"
        ) from error
    if len(dicts) == 0:
        raise InputError(f"The data set {name} has no images. {_root_now()}")
    images = _local(d["file_name"] for d in dicts)
    labels = _local(d["sem_seg_file_name"] for d in dicts if "sem_seg_file_name" in d)
    if not any("sem_seg_file_name" in d for d in dicts):
        raise InputError(
            f"The data set {name} has no semantic labels: none of its dicts has "
            "'sem_seg_file_name'. Choose a semantic data set."
        )
    folders = _Folders()
    _check_there(name, "images", images, folders)
    _check_there(name, "label files", labels, folders)
    _check_not_empty(name, [*images, *labels])
    return labels


def _local(paths: Iterable[str]) -> list[str]:
    return [path for path in paths if "://" not in path]


class _Folders:
    """The names in folders, each folder listed once; a folder that is not there holds none."""

    def __init__(self):
        self._names: dict[str, set[str]] = {}

    def names(self, folder: str) -> set[str]:
        if folder not in self._names:
            self._names[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        return self._names[folder]

    def hold(self, path: str) -> bool:
        return os.path.basename(path) in self.names(os.path.dirname(path) or ".")


def _list_folder(name: str, folder: str) -> list[str]:
    if not os.path.isdir(folder):
        raise InputError(
            f"The data set {name} is not there: the folder {os.path.abspath(folder)} does not "
            f"exist. {_root_now()}"
        )
    names = os.listdir(folder)
    if not names:
        raise InputError(
            f"The data set {name} is not there: the folder {os.path.abspath(folder)} is empty."
        )
    return names


def _by_stem(folder: str, names: Iterable[str]) -> dict[str, str]:
    split = ((os.path.splitext(file), file) for file in names)
    return {
        stem: os.path.join(folder, file)
        for (stem, extension), file in split
        if extension.lower() in _IMAGE_EXTENSIONS
    }


def _check_there(
    name: str, what: str, paths: Sequence[str], folders: _Folders, advice: str | None = None
) -> None:
    missing = [path for path in paths if not folders.hold(path)]
    if missing:
        raise InputError(
            f"The data set {name} is not complete: {len(missing)} of {len(paths)} {what} are "
            f"missing: {_some(missing)}. {advice or 'Complete the copy.'}"
        )


def _check_not_empty(name: str, paths: Sequence[str]) -> None:
    empty = [path for path in _evenly(paths, _MOST_SIZES) if os.path.getsize(path) == 0]
    if empty:
        raise InputError(
            f"The data set {name} is not complete: files of zero bytes, {len(empty)} or more: "
            f"{_some(empty)}. Copy them anew."
        )


def _warn_of_255_masks(name: str, label_files: Sequence[str]) -> None:
    """Masks of 0 and 255 train a binary model on nothing at all, since 255 is ignored."""
    sample = _evenly(label_files, _BINARY_SAMPLES)
    maps = [read_labels(path) for path in sample]
    if any(((m != 0) & (m != 255)).any() for m in maps) or not any((m == 255).any() for m in maps):
        return
    logging.getLogger(__name__).warning(
        f"The first labels looked at in {name} (such as {sample[0]}) have the values 0 and 255 "
        "alone, and 255 is ignored: nothing is foreground. If 255 is the foreground, write it as 1."
    )


def _evenly(paths: Sequence[str], count: int) -> list[str]:
    step = max(1, -(-len(paths) // count))
    return list(paths[::step])


def _some(paths: Sequence[str]) -> str:
    return ", ".join(paths[:3]) + (", ..." if len(paths) > 3 else "")
