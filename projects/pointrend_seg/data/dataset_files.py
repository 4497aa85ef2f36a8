"""Check that the files of registered data sets exist.

Each folder is listed once, no image is opened, and the sizes of at most `MOST_SIZES` files are
checked, so that it takes seconds on large data sets.
"""

import os
from collections.abc import Iterable, Sequence
from typing import TypeVar

from detectron2.data import DatasetCatalog

from ..config.reading import is_remote
from ..errors import InputError, did_you_mean

T = TypeVar("T")

MOST_SIZES = 5000
_IMAGE_SUFFIX = "leftImg8bit.png"


def check_registered(name: str, how_to_register: str) -> None:
    """Check that a data set is registered.

    Args:
        name: as in `DATASETS.TRAIN` or `DATASETS.TEST`.
        how_to_register: the calls that register one, for the message.

    Raises:
        InputError: it is not. The message suggests similar names.
    """
    if name in DatasetCatalog:
        return
    raise InputError(
        f"There is no data set {name!r}.{did_you_mean(name, DatasetCatalog.list())} Check "
        "DATASETS.TRAIN and DATASETS.TEST; a data set of your own is given by --train-data and "
        f"--val-data, by DATASETS.CUSTOM, or registered with {how_to_register} before this point. "
        f"{root_now()}"
    )


def root_now() -> str:
    """Return a sentence that says where Detectron2 looks for its own data sets."""
    value = os.environ.get("DETECTRON2_DATASETS")
    root = os.path.abspath(os.path.expanduser(value or "datasets"))
    state = f"is {root}" if value else f"is not set, so that their root is {root}"
    return (
        "DETECTRON2_DATASETS, the folder that holds Detectron2's own data sets "
        f"(cityscapes/, coco/, ...), {state}. The variable is read when Detectron2 is "
        "imported."
    )


def load_dicts(name: str) -> Sequence[dict]:
    """Load a registered data set and return its dicts, one or more.

    Raises:
        InputError: it cannot be loaded, or there are none.
    """
    try:
        dicts = DatasetCatalog.get(name)
    except InputError:
        raise
    except (AssertionError, ImportError, LookupError, OSError, ValueError) as error:
        raise InputError(
            f"The data set {name} cannot be loaded: {type(error).__name__}: {error}. Complete "
            f"its files, or correct its registration. {root_now()}"
        ) from error
    if len(dicts) == 0:
        raise InputError(f"The data set {name} has no images. {root_now()}")
    return dicts


class Folders:
    """The names in folders, each of which is listed once. Missing folders are empty."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}

    def names(self, folder: str) -> set[str]:
        """Return the names in a folder."""
        if folder not in self._names:
            self._names[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        return self._names[folder]

    def hold(self, path: str) -> bool:
        """Return whether a file or folder exists."""
        return os.path.basename(path) in self.names(os.path.dirname(path) or ".")


def list_folder(name: str, folder: str) -> list[str]:
    """Return the names in a folder of the data set `name`.

    Raises:
        InputError: the folder does not exist, or it is empty.
    """
    if not os.path.isdir(folder):
        raise InputError(
            f"The data set {name} is not there: the folder {os.path.abspath(folder)} does not "
            f"exist. {root_now()}"
        )
    names = os.listdir(folder)
    if not names:
        raise InputError(
            f"The data set {name} is not there: the folder {os.path.abspath(folder)} is empty."
        )
    return names


def check_there(
    name: str, what: str, paths: Sequence[str], folders: Folders, advice: str | None = None
) -> None:
    """Check that files of a data set exist.

    Args:
        name: of the data set.
        what: "images" or another plural, for the message.
        paths: the files.
        folders: that were listed already.
        advice: what to do if files are missing.

    Raises:
        InputError: files are missing. The message counts them and names three.
    """
    missing = [path for path in paths if not folders.hold(path)]
    if missing:
        raise InputError(
            f"The data set {name} is not complete: {len(missing)} of {len(paths)} {what} are "
            f"missing: {some(missing)}. {advice or 'Complete the copy.'}"
        )


def check_not_empty(name: str, paths: Sequence[str]) -> None:
    """Check that no file has zero bytes, of at most `MOST_SIZES` files.

    Raises:
        InputError: names three such files.
    """
    empty = [path for path in evenly(paths, MOST_SIZES) if os.path.getsize(path) == 0]
    if empty:
        raise InputError(
            f"The data set {name} is not complete: files of zero bytes, {len(empty)} or more: "
            f"{some(empty)}. Copy them again."
        )


def check_cityscapes_folders(
    name: str, image_dir: str, gt_dir: str, label_suffixes: dict[str, str | None]
) -> dict[str, list[str]]:
    """Check a split in the Cityscapes layout by listing its folders.

    Args:
        image_dir: such as `cityscapes/leftImg8bit/train`.
        gt_dir: such as `cityscapes/gtFine/train`.
        label_suffixes: the label files that each image needs, by what follows `..._gtFine_`, with
            what to do if they are missing (None: complete the copy). They are checked in this
            order.

    Returns:
        the label files by suffix.

    Raises:
        InputError: a folder or file is missing, or there is a file that does not belong there.
    """
    images: list[str] = []
    labels: dict[str, list[str]] = {suffix: [] for suffix in label_suffixes}
    expected_images = set()
    folders = Folders()
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
            for suffix in label_suffixes:
                labels[suffix].append(stem + suffix)
    if not images:
        raise InputError(f"The data set {name} is not there: no images in {image_dir}.")
    for city in sorted(list_folder(name, gt_dir)):
        for label in folders.names(os.path.join(gt_dir, city)):
            if label.endswith("gtFine_labelIds.png"):
                image = label.removesuffix("gtFine_labelIds.png") + _IMAGE_SUFFIX
                expected_images.add(os.path.join(image_dir, city, image))
    check_there(name, "images", sorted(expected_images | set(images)), folders)
    for suffix, advice in label_suffixes.items():
        check_there(name, f"{suffix} files", labels[suffix], folders, advice)
    check_not_empty(name, images)
    return labels


def _list_cities(name: str, image_dir: str) -> list[str]:
    cities = sorted(list_folder(name, image_dir))
    for city in cities:
        if not os.path.isdir(os.path.join(image_dir, city)):
            raise InputError(
                f"{os.path.join(image_dir, city)} is a file where only folders, one for each "
                "city, may be, and Detectron2 stops at it. Remove it."
            )
    return cities


def local(paths: Iterable[str]) -> list[str]:
    """Return the paths that are not URLs."""
    return [path for path in paths if not is_remote(path)]


def evenly(items: Sequence[T], count: int) -> list[T]:
    """Return at most ``count`` items, evenly spread over the sequence."""
    step = max(1, -(-len(items) // count))
    return list(items[::step])


def some(names: Sequence[str]) -> str:
    """Return the first three names for a message."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
