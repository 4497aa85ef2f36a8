"""Read class files: names, values and colours of classes."""

import json
import os
import re
from dataclasses import dataclass
from typing import Any

from ...errors import InputError
from ...files.regular import check_regular

CLASS_FILES = ("classes.json", "classes.txt", "labelmap.txt")


@dataclass(frozen=True)
class ClassTable:
    """The classes in a class file or a config.

    Attributes:
        names: C names, in the order of the class indices.
        ids: C values in label images (or category ids); None for 0, 1, 2, ….
        colors: C RGB colours, None unless every class has one.
        ignore_value: value of unlabelled pixels in label images, None if not given.
        ignore_color: RGB colour of unlabelled pixels in label images, None if not given.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...] | None = None
    colors: tuple[tuple[int, int, int], ...] | None = None
    ignore_value: int | None = None
    ignore_color: tuple[int, int, int] | None = None


def find_class_file(folder: str) -> str | None:
    """Return the path of `classes.json`, `classes.txt` or `labelmap.txt`, None if there is none.

    The folder and the two folders above it are searched.
    """
    folder = os.path.abspath(folder)
    for _ in range(3):
        for name in CLASS_FILES:
            if os.path.isfile(os.path.join(folder, name)):
                return os.path.join(folder, name)
        folder = os.path.dirname(folder)
    return None


def read_class_file(path: str) -> ClassTable:
    """Read the names of classes, and their values and colours if the file has them.

    A `.json` file contains a list of names, or of dicts with "name" and optionally "id" and "color"
    ([R, G, B] or "#rrggbb"), or a dict with such a list under "classes" or "categories" and
    optionally "ignore_value" and "ignore_color". Any other file is text with one class per line: a
    name, optionally with a value before and a colour after it ("7 road #804080"), or in the format
    of CVAT ("road:128,64,128::"). Lines that begin with # are comments.

    Raises:
        InputError: the file cannot be read, has an invalid entry, or has a name or value twice.

    Example:
        >>> with open("classes.txt", "w") as file:
        ...     _ = file.write("7 road #804080")
        >>> read_class_file("classes.txt")
        ClassTable(names=('road',), ids=(7,), colors=((128, 64, 128),), ...)
    """
    check_regular(path, "class file")
    try:
        with open(path, encoding="utf-8-sig") as file:
            content = json.load(file) if path.endswith(".json") else file.read().splitlines()
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"The class file {path} cannot be read: {error}. Expected a JSON list of names, or a "
            "text file with one name per line."
        ) from error
    if not path.endswith(".json"):
        lines = (line.strip() for line in content)
        content = [_parse_line(line) for line in lines if line and not line.startswith("#")]
    table = content if isinstance(content, dict) else {"classes": content}
    return parse_class_table(table.get("classes", table.get("categories")), table, path)


def parse_class_table(entries: Any, table: dict, source: str) -> ClassTable:
    """Check a list of classes and convert it to a table.

    Args:
        entries: names, or dicts with "name" and optionally "id" and "color".
        table: a dict with optional "ignore_value" and "ignore_color".
        source: where the classes come from, for error messages.

    Raises:
        InputError: an entry or colour is invalid, or a name or id occurs twice.
    """
    if not isinstance(entries, list | tuple) or not entries:
        raise InputError(f"{source} has no list of classes. Add a list of class names.")
    dicts: list[dict[str, Any]] = [
        entry if isinstance(entry, dict) else {"name": entry} for entry in entries
    ]
    for number, entry in enumerate(dicts):
        named = isinstance(entry.get("name"), str | int | float) and str(entry["name"])
        if not named or not _is_whole(entry.get("id", 0)):
            raise InputError(
                f"{source}: class {number} (counted from 0) is {entry}. Expected a name, or a dict "
                'with "name" and optionally "id" (an integer) and "color".'
            )
    if all("id" in entry for entry in dicts):
        dicts.sort(key=lambda entry: entry["id"])
    elif any("id" in entry for entry in dicts):
        raise InputError(
            f"{source}: some classes have an id, others do not. Give ids to all or none."
        )
    names = tuple(str(entry["name"]) for entry in dicts)
    ids = tuple(entry["id"] for entry in dicts) if "id" in dicts[0] else None
    colors = None
    if all(entry.get("color") is not None for entry in dicts):
        colors = tuple(parse_color(entry["color"], source) for entry in dicts)
    for what, values in (("name", names), ("id", ids or ())):
        duplicates = {value for value in values if values.count(value) > 1}
        if duplicates:
            raise InputError(f"{source}: two classes have the {what} {min(duplicates)!r}.")
    ignore_color = table.get("ignore_color")
    return ClassTable(
        names,
        ids,
        colors,
        check_ignore_value(table.get("ignore_value"), source),
        parse_color(ignore_color, source) if ignore_color is not None else None,
    )


def check_ignore_value(value: Any, source: str) -> int | None:
    """Return the value of unlabelled pixels; raise `InputError` unless it is an integer or None."""
    if value is not None and not _is_whole(value):
        raise InputError(f"{source}: ignore_value is {value!r}; it is a whole number.")
    return value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31


def parse_color(color: Any, source: str) -> tuple[int, int, int]:
    """Convert "#rrggbb" or a list of three integers to RGB, 0 to 255.

    Args:
        color: the colour in a file or config.
        source: where it comes from, for error messages.

    Raises:
        InputError: it is not a colour.
    """
    channels = color
    if isinstance(color, str) and re.fullmatch("#[0-9a-fA-F]{6}", color):
        channels = list(bytes.fromhex(color[1:]))
    is_list = isinstance(channels, list | tuple) and len(channels) == 3
    if not is_list or not all(_is_whole(c) and 0 <= c <= 255 for c in channels):
        raise InputError(f'{source}: {color!r} is not a colour. Use "#rrggbb" or [R, G, B].')
    red, green, blue = channels
    return red, green, blue


def _parse_line(line: str) -> dict[str, Any]:
    """Parse a line of a text file: "VALUE NAME #rrggbb", or "NAME:R,G,B:parts:actions" of CVAT."""
    entry: dict[str, Any] = {}
    fields = line.split(":")
    if len(fields) > 1:
        channels = fields[1].split(",")
        if len(channels) == 3 and all(channel.strip().isdigit() for channel in channels):
            entry["color"] = [int(channel) for channel in channels]
        return entry | {"name": fields[0].strip()}
    words = line.split()
    if len(words) > 1 and words[0].isdigit():
        entry["id"] = int(words.pop(0))
    if len(words) > 1 and words[-1].startswith("#"):
        entry["color"] = words.pop()
    return entry | {"name": " ".join(words)}
