"""Read instance masks: images in which each object is a value, or a colour, and 0 is background.

PNG, TIFF and BMP of 1 to 32 bits, of floats that are whole numbers, palettes (their
indices), RGB, and NumPy's ``.npy``. All pixels of a value are one object, also where they do not
touch; objects that touch stay apart.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...errors import InputError, printable
from ...files.regular import check_regular
from ...structures.regions import regions_of_values
from ..annotations import Size
from ..custom.datasets import IMAGE_EXTENSIONS
from ..dataset_files import some
from ..images.decoding import UNREADABLE
from ..label_files import read_label_file
from ..problems import Problem
from .objects import ImportedObject, LabelledImage, Source

# JPEG is found, so that it is refused by its name.
MASK_EXTENSIONS = (".png", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".npy", ".jpg", ".jpeg")
DEFAULT_CLASS = "object"
_MOST_VALUE = 2**53  # floats count up to here
# A picture that is no mask has about as many values as pixels.
_LEAST_PIXELS, _MANY_OBJECTS = 3, 200


def find(
    images: str, labels: str, *, category: str | None = None, label_suffix: str = ""
) -> Source:
    """Find images and their instance masks.

    Args:
        images: a folder of images, searched recursively, or one image.
        labels: a folder of masks, or one mask if ``images`` is one image. A mask has the path of
            its image, without the extension and with ``label_suffix`` added.
        category: the class of all objects. None takes the names of the sub-folders of ``labels``
            where they are not those of ``images``: ``labels/cell/day1/a.png`` has the objects of
            class "cell" in ``images/day1/a.jpg``. Without such folders it is "object".
        label_suffix: such as ``_cp_masks``, as Cellpose writes it.

    Raises:
        InputError: something is missing, or images and masks do not fit each other.
    """
    if os.path.isfile(images) and os.path.isfile(labels):
        read = _reader([(category or DEFAULT_CLASS, labels)])
        return Source([LabelledImage(images, os.path.basename(images), labels, read)])
    found, masks = _files(images, IMAGE_EXTENSIONS, "--images"), _files(labels, MASK_EXTENSIONS)
    if os.path.abspath(images) == os.path.abspath(labels):
        if not label_suffix:
            raise InputError(
                f"Images and masks are both in {images}: say what the names of masks end in, for "
                "example --label-suffix _masks."
            )
        found = {key: path for key, path in found.items() if not key.endswith(label_suffix)}
    if label_suffix:
        masks = {key: path for key, path in masks.items() if key.endswith(label_suffix)}
    masks = {key.removesuffix(label_suffix): path for key, path in masks.items()}
    by_image = _masks_by_class(masks, found, category)
    if not by_image.keys() & found.keys():
        raise InputError(
            f"No mask in {labels} ({some(list(masks)) or 'it has none'}) has the name of an image "
            f"in {images} ({some(list(found)) or 'it has none'}). The paths relative to these "
            "folders, without the extension, must be equal; if the names of masks have something "
            "added, give it, for example --label-suffix _masks."
        )
    for what, missing, advice in (
        ("masks have no image", by_image.keys() - found.keys(), "Add the images or remove them."),
        (
            "images have no mask",
            found.keys() - by_image.keys(),
            "Add masks (all 0 where there is no object), or remove the images.",
        ),
    ):
        if missing:
            raise InputError(
                f"{len(missing)} {what}: {some(sorted(map(printable, missing)))}. {advice}"
            )
    return Source(
        [
            LabelledImage(path, os.path.relpath(path, images), files[0][1], _reader(files))
            for key, path in found.items()
            for files in [by_image[key]]
        ]
    )


def read_values(path: str, size: Size) -> np.ndarray:
    """Read an instance mask.

    Args:
        size: height and width of the upright image.

    Returns:
        H x W, integers of 0 or more; colours as their 24 bits.

    Raises:
        InputError: unreadable, of another size, several pages, values that are no whole numbers of
            0 or more, or a picture that is no mask.
    """
    check_regular(path, "instance mask")
    pixels = _pixels(path)
    if pixels.shape[:2] != size and pixels.ndim > 1:
        shown = "{1} x {0}".format(*pixels.shape)
        turned = pixels.shape[:2] == size[::-1]
        raise _invalid(
            path,
            f"is {shown} (width x height), but its image is {size[1]} x {size[0]}"
            + " after its EXIF orientation was applied" * turned,
            "Save the image upright, or rotate the mask." if turned else "Replace the wrong file.",
        )
    values = _whole_numbers(pixels, path)
    _check_mask(values, path)
    return values


def _files(folder: str, extensions: tuple[str, ...], option: str = "--labels") -> dict[str, str]:
    """Return files by their path relative to the folder, without the extension."""
    if not os.path.isdir(folder):
        kind = "is a file, but the other is a folder" if os.path.exists(folder) else "is not there"
        raise InputError(
            f"{option}: {os.path.abspath(folder)} {kind}. Give two folders, or two files."
        )
    found: dict[str, str] = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.suffix.lower() not in extensions or path.name.startswith("."):
            continue
        key = path.relative_to(folder).with_suffix("").as_posix()
        if key in found:
            raise InputError(
                f"{found[key]} and {path} differ only in the extension, so it is unclear which one "
                "belongs to the labels. Remove one."
            )
        found[key] = str(path)
    return found


def _masks_by_class(
    masks: dict[str, str], images: dict[str, str], category: str | None
) -> dict[str, list[tuple[str, str]]]:
    """Return (class, path of the mask) pairs by the key of the image."""
    if category or masks.keys() & images.keys():
        return {key: [(category or DEFAULT_CLASS, path)] for key, path in masks.items()}
    found: dict[str, list[tuple[str, str]]] = {}
    for key, path in masks.items():
        name, _, rest = key.partition("/")
        found.setdefault(rest or key, []).append((name if rest else DEFAULT_CLASS, path))
    return found


def _reader(files: list[tuple[str, str]]) -> Callable[[int, int], list[ImportedObject]]:
    def read(height: int, width: int) -> list[ImportedObject]:
        objects = []
        for category, path in files:
            values = read_values(path, (height, width))
            objects += [ImportedObject(category, region) for _, region in regions_of_values(values)]
        return objects

    return read


def _pixels(path: str) -> np.ndarray:
    if not path.lower().endswith(".npy"):
        found = read_label_file(path)
        if isinstance(found, Problem):
            raise InputError(str(found))
        return found.values
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"The instance mask {path} does not exist.") from None
    except UNREADABLE as error:
        raise _invalid(path, f"cannot be read: {error}", "Save it again.") from error


def _whole_numbers(pixels: np.ndarray, path: str) -> np.ndarray:
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8:
        first, second, third = (pixels[:, :, k].astype(np.int64) for k in range(3))
        if (first == second).all() and (second == third).all():
            return first
        return first << 16 | second << 8 | third
    if pixels.ndim != 2 or 0 in pixels.shape:
        raise _invalid(path, f"has the shape {pixels.shape}", "A mask is H x W, or 8-bit RGB.")
    if pixels.dtype == bool:
        return pixels.astype(np.int64)
    if np.issubdtype(pixels.dtype, np.floating):
        if not np.isfinite(pixels).all():
            raise _invalid(path, "has values that are infinite or NaN", "Write 0 there.")
        if (pixels != np.floor(pixels)).any():
            wrong = pixels[pixels != np.floor(pixels)][0]
            raise _invalid(path, f"has the value {wrong:g}", "Each object is a whole number.")
    elif not np.issubdtype(pixels.dtype, np.integer):
        raise _invalid(path, f"has values of type {pixels.dtype}", "Use whole numbers.")
    low, high = pixels.min(), pixels.max()
    if low < 0 or high > _MOST_VALUE:
        raise _invalid(
            path, f"has values from {low:g} to {high:g}", "Background is 0, objects are 1, 2, …."
        )
    return pixels.astype(np.int64)


def _check_mask(values: np.ndarray, path: str) -> None:
    filled = np.count_nonzero(values)
    count = len(np.unique(values)) - 1
    if count > max(_MANY_OBJECTS, filled / _LEAST_PIXELS):
        raise _invalid(
            path,
            f"has {count} different values in {filled} pixels, like a photograph",
            "In an instance mask, each object has one value. Are --images and --labels swapped?",
        )


def _invalid(path: str, found: str, fix: str) -> InputError:
    return InputError(f"The instance mask {path} {found}. {fix}")
