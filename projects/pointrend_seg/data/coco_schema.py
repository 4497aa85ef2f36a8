"""Decide what an annotation file of COCO's or LVIS' format may hold.

What is meant without doubt is read: 96.0 for 96, null for an `iscrowd` of 0, "7" for the image 7,
an `area` that is missing, 0 or not a number for that of the mask. It is changed in place, so that
all who read the file get the same. Anything else stays as it is and becomes a problem that names
the file, the entry, the key, what was found and what is wanted.
"""

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, TypeGuard

from PIL import ImageColor

from ..errors import did_you_mean
from .annotations import shown
from .problems import Problem

_WHOLE_TEXT = re.compile(r"(0|-?[1-9]\d{0,17})(?:\.0*)?", re.ASCII)
_ID_TEXT = re.compile(r"0|-?[1-9]\d{0,17}", re.ASCII)
_LARGEST_SIDE = 10**6  # pixels
_LARGEST_ID = 2**53  # of a category; a larger number is not exact in all readers of JSON
_SIDE = f"a whole number from 1 to {_LARGEST_SIDE}"
_SIZE_KEYS = ("height", "width")
_IMAGE_KEYS = {"id": "duplicate-id", "height": "image-size", "width": "image-size"}
_CATEGORY_KEYS = {"id": "duplicate-id", "name": "unnamed-class"}
_OF_THE_MASK = "It is computed from the mask, or from the box of an object without one."

Entries = dict[Any, dict]  # by id
Repairs = dict[int, list[Problem]]  # by the place of an annotation in the file


def read_entries(
    content: dict, what: str, problems: list[Problem], *, images: bool = False
) -> Entries:
    """Return the images or categories of a file by their ids, the last of each id.

    Args:
        content: of the file; the values of its entries are changed to what they mean.
        what: "images" or "categories".
        problems: what is found is added.
        images: whether ids may be text, and sizes are read.
    """
    listed = content.get(what)
    if not isinstance(listed, list) or not listed:
        problem = f"it has no list of {what!r}, or an empty one"
        if what not in content:
            problem += _other_key(what, content)
        elif listed:
            problem = f"its {what!r} are {kind_of(listed)}, not a list"
        problems.append(Problem("unreadable-annotations", problem))
        return {}
    keys = _IMAGE_KEYS if images else _CATEGORY_KEYS
    entries = []
    for number, entry in enumerate(listed):
        place = f"number {number} (from 0) of its {what!r}"
        if not isinstance(entry, dict):
            problem = f"{place} is {shown(entry)}, not a dict"
            problems.append(Problem("unreadable-annotations", problem))
            continue
        missing = next((key for key in keys if key not in entry), None)
        if missing is not None:
            problem = f"{place} has no {missing!r}{_other_key(missing, entry)}"
            problems.append(Problem(keys[missing], problem))
        if "id" in entry:
            entries.append((place, entry))
    _read_ids(entries, what, problems, texts=images)
    found: Entries = {}
    for _, entry in entries:
        if not is_id(entry["id"]):
            continue
        before = found.setdefault(entry["id"], entry)
        if before is not entry:
            same = images and all(
                before.get(k) == entry.get(k) for k in ("file_name", "coco_url", *_SIZE_KEYS)
            )
            problem = f"two of its {what!r} have the same id ({shown(entry['id'])})"
            problems.append(
                Problem("duplicate-id" if not same else "same-image", problem, stops=not same)
            )
        found[entry["id"]] = entry
    if images:
        _read_sizes(found, problems)
    else:
        for number, entry in found.items():
            _read_name(number, entry, problems)
    return found


def _read_ids(
    entries: list[tuple[str, dict]], what: str, problems: list[Problem], *, texts: bool
) -> None:
    """Make ids whole numbers; those of images may all be text."""
    numbers = any(not isinstance(entry["id"], str) for _, entry in entries)
    repaired: list[str] = []
    for place, entry in entries:
        before = entry["id"]
        entry["id"] = _read_whole(before)
        if isinstance(before, str) and (numbers or not texts) and _ID_TEXT.fullmatch(before):
            entry["id"] = int(before)
        if type(entry["id"]) is not type(before):
            repaired.append(f"{place} has the id {shown(before)}")
        wanted = "a whole number or a string" if texts else "a whole number"
        is_good = is_id(entry["id"]) and (texts or isinstance(entry["id"], int))
        if not is_good or (not texts and abs(entry["id"]) > _LARGEST_ID):
            problem = f"{place} has the id {shown(before)}, not {wanted}"
            problems.append(Problem("duplicate-id", problem))
            entry["id"] = None
    if repaired:
        problems.append(_repair(repaired, "It is read as a whole number."))
    if len({isinstance(e["id"], str) for _, e in entries if e["id"] is not None}) > 1:
        problem = f"the ids of its {what!r} are numbers and strings, which cannot be sorted"
        problems.append(Problem("duplicate-id", problem))


def _read_sizes(images: Entries, problems: list[Problem]) -> None:
    repaired = []
    for image_id, image in images.items():
        for key in _SIZE_KEYS:
            if key not in image or is_side(image[key]):
                continue
            found = f"image {shown(image_id)} has the {key} {shown(image[key])}"
            side = whole_number(image[key])
            if is_side(side):
                image[key] = side
                repaired.append(found)
            else:
                problems.append(Problem("image-size", f"{found}, not {_SIDE}"))
    if repaired:
        problems.append(_repair(repaired, "It is read as a whole number."))


def _read_name(number: int, category: dict, problems: list[Problem]) -> None:
    if "name" not in category:
        return
    name, place = category["name"], f"category {number}"
    if name in ("", None):
        category["name"] = place
        found = f"{place} has no name"
        problems.append(Problem("repaired-value", found, f"It is called “{place}”.", stops=False))
    elif isinstance(name, int) and not isinstance(name, bool):
        category["name"] = str(name)
        problems.append(_repair([f"{place} has the name {name}"], "It is read as text."))
    elif not isinstance(name, str):
        found = f"{place} has the name {shown(name)}, not a string"
        problems.append(Problem("unnamed-class", found))
    elif not _is_text(name):
        found = f"{place} has the name {shown(name)}, which is no valid Unicode text"
        problems.append(Problem("unnamed-class", found))


def path_problem(image_id: Any, image: dict, key: str) -> Problem | None:
    """Find what is wrong with the path or address of an image."""
    if key not in image:
        found = f"image {shown(image_id)} has no {key!r}{_other_key(key, image)}"
        return Problem("missing-image", found)
    path = image[key]
    try:
        is_path = isinstance(path, str) and bool(path) and b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        is_path = False
    if is_path:
        return None
    found = f"has the {key} {shown(path)}, which is no path"
    return Problem("missing-image", f"image {shown(image_id)} {found}")


def read_annotations(
    content: dict, images: Entries, categories: Entries, problems: list[Problem]
) -> tuple[list[dict] | None, Repairs]:
    """Change the values of annotations to what they mean.

    Args:
        content: of the file.
        images, categories: by the ids that annotations refer to.
        problems: what is wrong with the list is added.

    Returns:
        the annotations, None if the file has none; and what was changed, each as a problem that
        does not stop.
    """
    listed = content.get("annotations")
    if listed is None:
        if "annotations" in content or _other_key("annotations", content):
            found = "its 'annotations' are null, not a list"
            if "annotations" not in content:
                found = f"it has no 'annotations'{_other_key('annotations', content)}"
            problems.append(Problem("unreadable-annotations", found))
        return None, {}
    if not isinstance(listed, list):
        found = f"its 'annotations' are {kind_of(listed)}, not a list"
        problems.append(Problem("unreadable-annotations", found))
        return [], {}
    annotations = [each for each in listed if isinstance(each, dict)]
    if len(annotations) < len(listed):
        number, odd = next((n, e) for n, e in enumerate(listed) if not isinstance(e, dict))
        found = f"number {number} (from 0) of its 'annotations' is {shown(odd)}, not a dict"
        problems.append(Problem("unreadable-annotations", found))
    repairs: Repairs = {}
    for number, annotation in enumerate(annotations):
        if _is_plain(annotation, images, categories):
            continue
        changed = _read_annotation(annotation, images, categories)
        if changed:
            repairs[number] = changed
    return annotations, repairs


def _is_plain(annotation: dict, images: Entries, categories: Entries) -> bool:
    """Return whether nothing is to be changed, as in nearly all annotations of nearly all files."""
    image_id, category = annotation.get("image_id"), annotation.get("category_id")
    crowd, area = annotation.get("iscrowd", 0), annotation.get("area", 1)
    return (
        type(image_id) in (int, str)
        and image_id in images
        and type(category) is int
        and category in categories
        and type(crowd) is int
        and "ignore" not in annotation
        and type(annotation.get("id")) in (int, str)
        and type(area) in (int, float)
        and 0 < area < math.inf
        and type(annotation.get("segmentation")) is not dict
    )


def _read_annotation(annotation: dict, images: Entries, categories: Entries) -> list[Problem]:
    """Change the values of an annotation to what they mean; return what was changed."""
    repairs = []
    for key, read in (
        ("id", _read_whole),
        ("image_id", lambda value: _read_reference(value, images)),
        ("category_id", lambda value: _read_reference(value, categories)),
        ("iscrowd", _read_flag),
        ("ignore", _read_flag),
        ("area", _read_area),
    ):
        if key not in annotation:
            continue
        before = annotation[key]
        value = read(before)
        computed = key == "area" and value is None
        if type(value) is type(before) and value == before and not computed:
            continue
        found = f"has the {key} {shown(before)}"
        if computed:
            del annotation[key]
            repairs.append(Problem("area", found, _OF_THE_MASK, stops=False))
        else:
            annotation[key] = value
            fix = (
                f"It is read as {shown(value)}."
                if key in ("iscrowd", "ignore")
                else (
                    "It is read as a number."
                    if not isinstance(value, str)
                    else "It is read as text."
                )
            )
            repairs.append(Problem("repaired-value", found, fix, stops=False))
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict) and isinstance(segmentation.get("size"), list):
        size = segmentation["size"]
        read_size = [whole_number(side) for side in size]
        if None not in read_size and list(map(type, size)) != list(map(type, read_size)):
            annotation["segmentation"] = segmentation | {"size": read_size}
            found = f"has a run-length mask of the size {shown(size)}"
            fix = "It is read as whole numbers."
            repairs.append(Problem("repaired-value", found, fix, stops=False))
    return repairs


def _read_whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _read_reference(value: Any, entries: Entries) -> Any:
    """Return the id among those of `entries` that is meant, or the value itself."""
    value = _read_whole(value)
    if isinstance(value, str) and value not in entries and _ID_TEXT.fullmatch(value):
        return int(value) if int(value) in entries else value
    if isinstance(value, int) and not isinstance(value, bool) and value not in entries:
        return str(value) if str(value) in entries else value
    return value


def _read_flag(value: Any) -> Any:
    """Return 0 or 1 for null, false, true, 0.0, 1.0, "0" and "1"."""
    if value is None:
        return 0
    if isinstance(value, bool) or (isinstance(value, float) and value in (0, 1)):
        return int(value)
    return int(value) if isinstance(value, str) and value in ("0", "1") else value


def _read_area(value: Any) -> Any:
    """Return an area above 0; None for what is to be computed; another type as it is."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value if 0 < value < 1e300 else None
    return value


def whole_number(value: Any) -> int | None:
    """Return the whole number that is meant, as by 96.0 or "96"; None if it is none.

    Example:
        >>> [whole_number(value) for value in (96, 96.0, "96", 96.5, True, None)]
        [96, 96, 96, None, None, None]
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    match = _WHOLE_TEXT.fullmatch(value.strip()) if isinstance(value, str) else None
    return int(match[1]) if match else None


def is_id(value: Any) -> bool:
    """Return whether a value can be an id: a whole number, or a string."""
    return isinstance(value, int | str) and not isinstance(value, bool)


def is_side(value: Any) -> TypeGuard[int]:
    """Return whether a value can be a height or width in pixels."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return is_number and 1 <= value <= _LARGEST_SIDE


def category_colors(categories: list[dict]) -> list[tuple[int, int, int] | None]:
    """Return the colours of categories, RGB from 0 to 255; None where none is given or readable.

    Colours are "#rrggbb", a name of CSS, [R, G, B] or [R, G, B, A]; where no channel of any is
    above 1 and some are fractions, they are all fractions of 255.

    Example:
        >>> category_colors([{"color": [200, 30, 30, 255]}, {"color": "#00ff00"}, {}])
        [(200, 30, 30), (0, 255, 0), None]
    """
    lists = [c["color"] for c in categories if isinstance(c.get("color"), list)]
    channels = [channel for each in lists for channel in each[:3]]
    fractions = any(isinstance(c, float) and 0 < c < 1 for c in channels)
    scale = 255 if fractions and all(_is_number(c) and c <= 1 for c in channels) else 1
    return [_color(category.get("color"), scale) for category in categories]


def _color(color: Any, scale: int) -> tuple[int, int, int] | None:
    if isinstance(color, str):
        try:
            color, scale = list(ImageColor.getrgb(color)), 1
        except ValueError:
            return None
    if not isinstance(color, list) or len(color) not in (3, 4):
        return None
    if not all(_is_number(c) and 0 <= c * scale <= 255 for c in color[:3]):
        return None
    red, green, blue = (round(channel * scale) for channel in color[:3])
    return red, green, blue


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and (isinstance(value, int) or math.isfinite(value))


def unique_names(names: dict[int, str]) -> list[str]:
    """Return the names of categories by id, those that occur twice with their id.

    Example:
        >>> unique_names({1: "cat", 4: "dog", 9: "cat"})
        ['cat (id 1)', 'dog', 'cat (id 9)']
    """
    counts = Counter(names.values())
    return [name if counts[name] == 1 else f"{name} (id {k})" for k, name in names.items()]


def _other_key(key: str, entry: dict) -> str:
    """Return a hint at a key that differs from the missing one in case or a letter."""
    known = (*_IMAGE_KEYS, *_CATEGORY_KEYS, "images", "annotations")
    others = [each for each in entry if isinstance(each, str) and each not in known]
    hint = did_you_mean(key, others)
    return f" (it has {hint.removeprefix(' Did you mean ').removesuffix('?')})" if hint else ""


def other_cases(entry: dict, keys: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the keys that an entry lacks but has in another case, such as "BBox"."""
    lower = {each.lower(): each for each in entry if isinstance(each, str)}
    for key in sorted(keys):
        if key not in entry and key in lower:
            yield key, lower[key]


def kind_of(value: Any) -> str:
    """Return what a value is, such as "a list" or "the value 7"."""
    names: dict[type, str] = {dict: "a dict", list: "a list", str: "a string", bool: "a boolean"}
    return names.get(type(value), f"the value {shown(value)}")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _repair(found: list[str], fix: str) -> Problem:
    count = f" ({len(found)} are like it)" if len(found) > 1 else ""
    return Problem("repaired-value", found[0] + count, fix, stops=False)
