"""Read labelme's JSON files, one per image.

Polygons stay as they are; rectangles and circles become polygons, masks stay exact. Shapes of one
label and one ``group_id`` are one object. Lines and points have no area and are left out.
"""

import base64
import binascii
import io
import json
import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from PIL import Image

from ...errors import InputError
from ...files.regular import check_regular
from ...structures.regions import Region
from ..annotations import all_finite
from ..custom.datasets import IMAGE_EXTENSIONS
from ..dataset_files import some
from ..images.decoding import UNREADABLE
from .objects import ImportedObject, LabelledImage, Polygons, Source, united

_WITHOUT_AREA = ("line", "linestrip", "point", "points")
_CIRCLE_ERROR = 0.05  # pixels between a circle and its polygon
_LARGEST_SIDE = 2**16


def find(labels: str, images: str | None = None) -> Source:
    """Find labelme's files, and their images.

    Args:
        labels: a folder of JSON files, searched recursively, or one file.
        images: the folder of the images; None for the ``imagePath`` in the files, which is
            relative to each file.

    Raises:
        InputError: a file is not labelme's, or its image is not there.
    """
    root = labels if os.path.isdir(labels) else os.path.dirname(labels)
    files = sorted(Path(labels).rglob("*.json")) if os.path.isdir(labels) else [Path(labels)]
    files = [file for file in files if not file.name.startswith(".")]
    if not files:
        raise InputError(f"There is no JSON file in {os.path.abspath(labels)}.")
    found: list[LabelledImage] = []
    names: dict[str, Path] = {}
    left_out = 0
    for file in files:
        content = _read(str(file))
        path = _image_path(str(file), content.get("imagePath"), images)
        name = os.path.splitext(os.path.relpath(file, root))[0] + os.path.splitext(path)[1]
        if path in names:
            raise InputError(f"{names[path]} and {file} are both of the image {path}. Remove one.")
        names[path] = file
        left_out += sum(shape.get("shape_type") in _WITHOUT_AREA for shape in content["shapes"])
        size = content.get("imageHeight"), content.get("imageWidth")
        read = partial(_objects, content["shapes"], str(file), size)
        found.append(LabelledImage(path, name, str(file), read))
    notes = [f"{left_out} points and lines have no area and are left out."] if left_out else []
    without = _images_without(found, images or root)
    if without:
        notes.append(
            f"{len(without)} images have no JSON file and are left out: {some(sorted(without))}."
        )
    return Source(found, notes=notes)


def _images_without(found: list[LabelledImage], folder: str) -> list[str]:
    known = {os.path.abspath(image.path) for image in found}
    return [
        str(path)
        for path in Path(folder).rglob("*")
        if path.suffix.lower() in IMAGE_EXTENSIONS and os.path.abspath(path) not in known
    ]


def _read(file: str) -> dict:
    check_regular(file, "labelme file")
    try:
        with open(file, encoding="utf-8-sig") as opened:
            content = json.load(opened)
    except FileNotFoundError:
        raise InputError(f"The labelme file {file} does not exist.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"The labelme file {file} cannot be read: {error}. Save it again.") from (
            error
        )
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise InputError(
            f"{file} is not a file of labelme: it has no list of 'shapes'. Remove it from the "
            "folder, or choose its --format."
        )
    return {key: value for key, value in content.items() if key != "imageData"}


def _image_path(file: str, path: Any, images: str | None) -> str:
    if not isinstance(path, str) or not path or "\0" in path:
        raise InputError(f"{file}: 'imagePath' is {path!r}; it must be the path of the image.")
    windows = PureWindowsPath(path)  # splits at both separators
    places = [os.path.join(os.path.dirname(file), *windows.parts)]
    if images is not None:
        places = [os.path.join(images, *windows.parts), os.path.join(images, windows.name)]
    for place in places:
        if os.path.isfile(place):
            return os.path.normpath(place)
    raise InputError(
        f"{file}: its image {path} is not at {places[-1]}. Copy it there, or give the folder of "
        "the images with --images."
    )


def _objects(
    shapes: list[dict], file: str, stated: tuple[Any, Any], height: int, width: int
) -> list[ImportedObject]:
    if None not in stated and stated != (height, width):
        turned = stated == (width, height)
        raise InputError(
            f"{file} is for an image of {stated[1]} x {stated[0]} (width x height), but its image "
            f"is {width} x {height}"
            + (
                " after its EXIF orientation was applied. Save the image upright, and label it "
                "again."
                if turned
                else ". Replace the image."
            )
        )
    groups: dict[Any, list[Polygons | Region]] = {}
    for number, shape in enumerate(shapes):
        place = f"{file}: shape {number} (from 0)"
        kind, label, group = (shape.get(key) for key in ("shape_type", "label", "group_id"))
        if kind in _WITHOUT_AREA:
            continue
        if not isinstance(label, str) or not label.strip():
            raise InputError(f"{place} has the label {label!r}; it must be the name of a class.")
        if not isinstance(group, int | str | None):
            raise InputError(f"{place} has the group_id {group!r}; it must be a number or null.")
        kind = "polygon" if kind is None else kind
        if not isinstance(kind, str) or kind not in _KINDS:
            raise InputError(
                f"{place} is a {kind!r}, which is not known. Known are "
                f"{', '.join([*_KINDS, *_WITHOUT_AREA])}."
            )
        key = (label, group) if group is not None else (label, None, number)
        points = _points(shape.get("points"), place)
        groups.setdefault(key, []).append(_KINDS[kind](points, shape, place))
    return [ImportedObject(key[0], united(masks, height, width)) for key, masks in groups.items()]


def _points(points: Any, place: str) -> list[tuple[float, float]]:
    is_list = isinstance(points, list) and points
    if not is_list or not all(
        isinstance(each, list) and len(each) == 2 and all_finite(each) for each in points
    ):
        raise InputError(f"{place} has 'points' that are not a list of [x, y].")
    if max(abs(value) for each in points for value in each) > 10**6:
        raise InputError(f"{place} has a point that is 1000000 pixels away and more.")
    return [(float(x), float(y)) for x, y in points]


def _polygon(points: list[tuple[float, float]], shape: dict, place: str) -> Polygons:
    if len(points) < 3:
        raise InputError(f"{place} is a polygon of {len(points)} points; it needs 3 or more.")
    return [[value for point in points for value in point]]


def _rectangle(points: list[tuple[float, float]], shape: dict, place: str) -> Polygons:
    if len(points) == 4:  # what some versions write
        return _polygon(points, shape, place)
    (x0, y0), (x1, y1) = _pair(points, "rectangle", place)
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def _circle(points: list[tuple[float, float]], shape: dict, place: str) -> Polygons:
    (x, y), edge = _pair(points, "circle", place)
    radius = math.dist((x, y), edge)
    if radius <= _CIRCLE_ERROR:
        raise InputError(f"{place} is a circle of the radius {radius:g}. Remove it.")
    count = max(12, math.ceil(math.pi / math.acos(1 - _CIRCLE_ERROR / radius)))
    angles = np.arange(count) * (2 * math.pi / count)
    outline = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1)
    return [outline.ravel().tolist()]


def _mask(points: list[tuple[float, float]], shape: dict, place: str) -> Region:
    (x0, y0), _ = _pair(points, "mask", place)
    text = shape.get("mask")
    try:
        content = base64.b64decode(text if isinstance(text, str) else "", validate=True)
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.asarray(image.convert("L") if image.mode != "1" else image)
    except (binascii.Error, *UNREADABLE) as error:
        raise InputError(
            f"{place} has a mask that cannot be decoded: {error}. Label it again."
        ) from error
    left, top = round(x0), round(y0)
    columns = (pixels != 0).T.astype(np.uint8)
    return Region(columns[max(-left, 0) :, max(-top, 0) :], max(left, 0), max(top, 0))


def _pair(points: list[tuple[float, float]], kind: str, place: str) -> list[tuple[float, float]]:
    if len(points) != 2:
        raise InputError(f"{place} is a {kind} of {len(points)} points; it needs 2.")
    return points


_KINDS: dict[str, Callable[[list[tuple[float, float]], dict, str], Polygons | Region]] = {
    "polygon": _polygon,
    "rectangle": _rectangle,
    "oriented_rectangle": _polygon,
    "circle": _circle,
    "mask": _mask,
}
