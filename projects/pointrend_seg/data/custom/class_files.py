"""Class files."""

import json
import os
from dataclasses import dataclass

from ...errors import InputError

CLASS_FILES = ("classes.json", "classes.txt", "labelmap.txt")


@dataclass(frozen=True)
class ClassTable:
    """Classes as a file or a config gives them.

    Attributes:
        names: in the order in which models number them.
        ids: values in label images, or None: 0, 1, 2, …
        colors: RGB, or None where not every class has one.
        ignore_value, ignore_color: of the pixels in label images that have no class, where given.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...] | None = None
    colors: tuple[tuple[int, int, int], ...] | None = None
    ignore_value: int | None = None
    ignore_color: tuple[int, int, int] | None = None


def find_class_file(folder: str) -> str | None:
    """`classes.json`, `classes.txt` or `labelmap.txt` in a folder, the one above, or above that."""
    folder = os.path.abspath(folder)
    for _ in range(3):
        for name in CLASS_FILES:
            if os.path.isfile(os.path.join(folder, name)):
                return os.path.join(folder, name)
        folder = os.path.dirname(folder)
    return None


def read_class_file(path: str) -> ClassTable:
    """Reads the names of classes, and their values and colours where they are in the file.

    A `.json` holds a list of names, or of dicts with "name" and, as wanted, "id" and "color"
    ([R, G, B] or "#rrggbb"), or a dict with such a list as "classes" or "categories", and with
    "ignore_value" and "ignore_color" as wanted. Any other file is text, a class in each line: a
    name, with the value before it and the colour behind it as wanted ("7 road #804080"), or as
    CVAT writes it ("road:128,64,128::"). Lines that begin with # are comments.

    Raises:
        InputError: missing, not understood, or a name, value or colour twice.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            content = json.load(file) if path.endswith(".json") else file.read().splitlines()
    except (OSError, ValueError) as error:
        raise InputError(
            f"The class file {path} cannot be read: {error}. Expected a list of names in JSON, or "
            "text with one name in each line."
        ) from error
    table = content if isinstance(content, dict) else {"classes": content}
    if not path.endswith(".json"):
        table = {"classes": [_line(line) for line in content if _counts(line)]}
    return class_table(table.get("classes", table.get("categories")), table, path)


def class_table(entries, table: dict, source: str) -> ClassTable:
    """Checks a list of names or dicts, see `read_class_file`.

    Args:
        table: may have "ignore_value" and "ignore_color".
        source: what a message calls it.
    """
    if not isinstance(entries, list | tuple) or not entries:
        raise InputError(f"{source} has no list of classes. Write a list of their names.")
    dicts = [entry if isinstance(entry, dict) else {"name": str(entry)} for entry in entries]
    for number, entry in enumerate(dicts):
        if not entry.get("name") or not isinstance(entry.get("id", 0), int):
            raise InputError(
                f"{source}: class number {number} (from 0) is {entry}. Expected a name, or a dict "
                'with "name" and, as wanted, "id" (a number) and "color".'
            )
    if all("id" in entry for entry in dicts):
        dicts.sort(key=lambda entry: entry["id"])
    elif any("id" in entry for entry in dicts):
        raise InputError(f"{source}: some classes have an id and some have none. Give all or none.")
    names = tuple(str(entry["name"]) for entry in dicts)
    ids = tuple(entry["id"] for entry in dicts) if "id" in dicts[0] else None
    colors = None
    if all(entry.get("color") is not None for entry in dicts):
        colors = tuple(parse_color(entry["color"], source) for entry in dicts)
    for what, values in (("name", names), ("id", ids or ())):
        twice = {value for value in values if values.count(value) > 1}
        if twice:
            raise InputError(f"{source}: two classes have the {what} {min(twice)!r}.")
    ignore_color = table.get("ignore_color")
    return ClassTable(
        names,
        ids,
        colors,
        table.get("ignore_value"),
        parse_color(ignore_color, source) if ignore_color is not None else None,
    )


def parse_color(color, source: str) -> tuple[int, int, int]:
    """ "#rrggbb" or three numbers from 0 to 255."""
    if isinstance(color, str) and color.startswith("#") and len(color) == 7:
        try:
            return tuple(bytes.fromhex(color[1:]))
        except ValueError:
            pass
    is_list = isinstance(color, list | tuple) and len(color) == 3
    if is_list and all(isinstance(part, int) and 0 <= part <= 255 for part in color):
        return tuple(color)
    raise InputError(f'{source}: {color!r} is no colour. Write "#rrggbb" or [R, G, B], 0 to 255.')


def _counts(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _line(line: str) -> dict:
    entry, words = {}, line.strip().split(":")
    if len(words) > 1:  # name:R,G,B:parts:actions
        parts = words[1].split(",")
        if len(parts) == 3 and all(part.strip().isdigit() for part in parts):
            entry["color"] = [int(part) for part in parts]
        return entry | {"name": words[0].strip()}
    words = line.split()
    if len(words) > 1 and words[0].isdigit():
        entry["id"] = int(words.pop(0))
    if len(words) > 1 and words[-1].startswith("#"):
        entry["color"] = words.pop()
    return entry | {"name": " ".join(words)}
