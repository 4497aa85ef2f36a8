"""Read class files: names, values and colours of classes."""

import codecs
import contextlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from ...errors import InputError
from ...files.regular import check_regular
from .class_lines import parse_lines

CLASS_FILES = (
    *("classes.json", "classes.txt", "labelmap.txt", "_classes.csv", "classes.csv"),
    *("class_dict.csv", "classes.yaml", "classes.yml", "data.yaml"),
)
_LISTS = ("classes", "categories", "names", "labels", "id2label")  # keys of dicts
_NAME_KEYS = ("name", "title", "label", "class")
_ID_KEYS = ("id", "value", "index", "class_id", "label_id", "pixel_value")
_BOMS = {  # UTF-16's is the beginning of UTF-32's
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class ClassTable:
    """The classes in a class file or a config.

    Attributes:
        names: C names, in the order of the class indices.
        ids: C values in label images (or category ids); None for 0, 1, 2, ….
        colors: C RGB colours, None unless every class has one.
        ignore_value: value of unlabelled pixels in label images, None if not given.
        ignore_color: RGB colour of unlabelled pixels in label images, None if not given.
        things: whether each class is a thing, of panoptic files; None for others.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...] | None = None
    colors: tuple[tuple[int, int, int], ...] | None = None
    ignore_value: int | None = None
    ignore_color: tuple[int, int, int] | None = None
    things: tuple[bool, ...] | None = None


def find_class_file(folder: str) -> str | None:
    """Return the path of a file of `CLASS_FILES` for a folder, None if there is none.

    The folder and the two folders above it are searched.

    Raises:
        InputError: a folder has two that list different classes.
    """
    folder = os.path.abspath(folder)
    for _ in range(3):
        found = [os.path.join(folder, name) for name in CLASS_FILES]
        found = [path for path in found if os.path.isfile(path) and _may_list_classes(path)]
        if found:
            tables = [read_class_file(path) for path in found] if found[1:] else []
            for path, table in zip(found[1:], tables[1:], strict=True):
                if not _agree(tables[0], table):
                    raise InputError(
                        f"{found[0]} and {os.path.basename(path)} list different classes. Remove "
                        "one, or choose with --classes FILE ('classes' in DATASETS.CUSTOM)."
                    )
            return found[0]
        folder = os.path.dirname(folder)
    return None


def _may_list_classes(path: str) -> bool:
    """Return False for a `data.yaml` of something else, without names."""
    if os.path.basename(path) != "data.yaml":
        return True
    with contextlib.suppress(OSError, ValueError):
        return re.search(r"^\s*['\"]?names\b", _read_text(path), re.MULTILINE) is not None
    return False


def _agree(first: ClassTable, second: ClassTable) -> bool:
    ids = [table.ids or tuple(range(len(table.names))) for table in (first, second)]
    same_colors = None in (first.colors, second.colors) or first.colors == second.colors
    return first.names == second.names and ids[0] == ids[1] and same_colors


def read_class_file(path: str) -> ClassTable:
    """Read the names of classes, and their values and colours if the file has them.

    A `.json` or `.yaml` file contains a list of names, or of dicts with "name" and optionally "id"
    and "color" ([R, G, B] or "#rrggbb"), or a dict: of names by value, of values by name, or with
    such a list or dict under "classes", "categories", "names" or "labels" and optionally
    "ignore_value" and "ignore_color".

    Any other file is text with one class per line: a name, optionally with a value before and a
    colour after it ("7 road #804080"), a value and a name in either order with a colon, comma or
    tab between them ("road:7", "7,road"), or in the format of CVAT ("road:128,64,128::"). The first
    line may be a header ("id,name,r,g,b"). Lines that begin with # are comments. A name in quotes
    is taken as it is.

    Raises:
        InputError: the file cannot be read, has an entry that is invalid or can be read in two
            ways, or has a name or value twice. The message shows the line.

    Example:
        >>> with open("classes.txt", "w") as file:
        ...     _ = file.write("7 road #804080")
        >>> read_class_file("classes.txt")
        ClassTable(names=('road',), ids=(7,), colors=((128, 64, 128),), ...)
    """
    check_regular(path, "class file")
    extension = os.path.splitext(path)[1].lower()
    try:
        text = _read_text(path)
        if extension in (".yaml", ".yml"):
            content = yaml.load(text, Loader=_TextLoader)  # noqa: S506  # it makes only text
        elif extension == ".json" or (text.strip()[:1] + text.strip()[-1:]) in ("[]", "{}"):
            content = json.loads(text, object_pairs_hook=_unique)
        else:
            entries, places = parse_lines(text, path)
            return parse_class_table(entries, {}, path, places)
    except InputError:
        raise
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(
            f"The class file {path} cannot be read: {_one_line(error)}. Expected a JSON list of "
            "names, or a text file with one name per line."
        ) from error
    table = content if isinstance(content, dict) else {"classes": content}
    lists = [key for key in _LISTS if table.get(key) is not None]
    if len(lists) > 1:
        raise InputError(f"{path} has both {lists[0]!r} and {lists[1]!r}. Keep one of them.")
    ignored = ("ignore_value", "ignore_color")
    classes = table[lists[0]] if lists else {k: v for k, v in table.items() if k not in ignored}
    entries = _entries_of_dict(classes, path) if isinstance(classes, dict) else classes
    count = _whole(table["nc"]) if lists and "nc" in table else None
    if isinstance(entries, list) and count is not None and count != len(entries):
        raise InputError(f"{path} has {len(entries)} names, but nc is {count}. Correct one.")
    return parse_class_table(entries, table, path)


def _read_text(path: str) -> str:
    """Read a text file in UTF-8, or in the encoding that its byte order mark names."""
    with open(path, "rb") as file:
        content = file.read()
    encoding = next((name for mark, name in _BOMS.items() if content.startswith(mark)), "utf-8")
    text = content.decode(encoding)
    if "\0" in text:
        raise ValueError("it contains NUL characters; save it as UTF-8 text")
    return text


class _TextLoader(yaml.BaseLoader):
    """Load YAML whose values are all text: `no` is a name as good as any."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        pairs = [(self.construct_object(key, deep=True), None) for key, _ in node.value]
        _unique([(str(key), value) for key, value in pairs])
        return super().construct_mapping(node, deep=deep)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} occurs twice")
        found[key] = value
    return found


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _entries_of_dict(classes: dict[str, Any], source: str) -> list[dict[str, Any]]:
    """Convert names by value, or values, colours or dicts by name, to a list of dicts."""
    entries = []
    is_value = {key: _whole(key) is not None for key in classes}
    for key, value in classes.items():
        more = value if isinstance(value, dict) else {}
        if all(is_value.values()):
            entry = more or {"name": value}
            given = _whole(more.get("id", key))
            if given != _whole(key):
                raise InputError(f"{source}: class {key!r} has the id {more['id']!r}.")
            entries.append(entry | {"id": key})
        elif any(is_value.values()):
            first, second = (next(k for k in classes if is_value[k] == each) for each in (1, 0))
            raise InputError(
                f"{source}: {first!r} and {second!r} are keys of one dict. Expected names by "
                "value, or values by name."
            )
        elif more or _whole(value) is not None:
            entries.append((more or {"id": value}) | {"name": key})
        else:
            entries.append({"name": key, "color": parse_color(value, f"{source}, {key!r}")})
    return entries


def parse_class_table(
    entries: Any, table: dict, source: str, places: Sequence[str] | None = None
) -> ClassTable:
    """Check a list of classes and convert it to a table.

    Args:
        entries: names, or dicts with "name" and optionally "id" and "color".
        table: a dict with optional "ignore_value" and "ignore_color".
        source: where the classes come from, for error messages.
        places: where each of them is in the source; by default its number.

    Raises:
        InputError: an entry or colour is invalid, or a name or id occurs twice.
    """
    if not isinstance(entries, list | tuple) or not entries:
        raise InputError(f"{source} has no list of classes. Add a list of class names.")
    places = places or [f"class {number} (counted from 0)" for number in range(len(entries))]
    dicts = [
        _parse_entry(entry, place, source) for entry, place in zip(entries, places, strict=True)
    ]
    for key in ("name", "id"):
        seen: dict[Any, str] = {}
        for entry, place in zip(dicts, places, strict=True):
            value = entry.get(key)
            if value in seen:
                raise InputError(
                    f"{source}: two classes have the {key} {value!r}: {seen[value]} and {place}."
                )
            if value is not None:
                seen[value] = place
    if all("id" in entry for entry in dicts):
        dicts.sort(key=lambda entry: entry["id"])
    elif any("id" in entry for entry in dicts):
        raise InputError(
            f"{source}: some classes have an id, others do not. Give ids to all or none."
        )
    names = tuple(entry["name"] for entry in dicts)
    ids = tuple(entry["id"] for entry in dicts) if "id" in dicts[0] else None
    colors = None
    if all("color" in entry for entry in dicts):
        colors = tuple(entry["color"] for entry in dicts)
    ignore_color = table.get("ignore_color")
    return ClassTable(
        names,
        ids,
        colors,
        check_ignore_value(table.get("ignore_value"), source),
        parse_color(ignore_color, source) if ignore_color is not None else None,
    )


def _parse_entry(entry: Any, place: str, source: str) -> dict[str, Any]:
    """Return a dict with "name" and, where given, "id" and "color"."""
    given = entry if isinstance(entry, dict) else {"name": entry}
    name = next((given[key] for key in _NAME_KEYS if key in given), None)
    is_name = isinstance(name, str | int | float) and not isinstance(name, bool)
    values = {key: given[key] for key in _ID_KEYS if given.get(key) is not None}
    numbers = {_whole(value) for value in values.values()}
    if not is_name or not str(name).strip() or None in numbers or len(numbers) > 1:
        raise InputError(
            f'{source}: {place} is {entry}. Expected a name, or a dict with "name" and '
            'optionally "id" (an integer) and "color".'
        )
    parsed: dict[str, Any] = {"name": str(name).strip()}
    if numbers:
        parsed["id"] = numbers.pop()
    if given.get("color") is not None:
        parsed["color"] = parse_color(given["color"], f"{source}, {place}")
    return parsed


def check_ignore_value(value: Any, source: str) -> int | None:
    """Return the value of unlabelled pixels; raise `InputError` unless it is an integer or None."""
    if value is not None and _whole(value) is None:
        raise InputError(f"{source}: ignore_value is {value!r}; it must be a whole number.")
    return None if value is None else _whole(value)


def _whole(value: Any) -> int | None:
    """Return the whole number that a value is without doubt, also 7.0 and "7"; otherwise None."""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,10}", value.strip()):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31
    return value if is_whole else None


def parse_color(color: Any, source: str) -> tuple[int, int, int]:
    """Convert a colour to RGB, 0 to 255.

    Args:
        color: "#rrggbb", "R, G, B", or a list of three numbers: integers from 0 to 255, or
            fractions from 0 to 1. Of four numbers, the last is the opacity, which is left out.
        source: where it comes from, for error messages.

    Raises:
        InputError: it is not a colour.
    """
    channels = color
    if isinstance(color, str) and re.fullmatch("#[0-9a-fA-F]{6}([0-9a-fA-F]{2})?", color.strip()):
        channels = list(bytes.fromhex(color.strip()[1:]))
    elif isinstance(color, str):
        channels = re.split(r"[,\s]+", re.sub(r"^rgba?\(|\)$", "", color.strip()))
    found: Sequence[int | None] = ()
    if isinstance(channels, list | tuple) and len(channels) in (3, 4):
        found = _fractions(channels) or [_whole(channel) for channel in channels[:3]]
    rgb = [channel for channel in found if channel is not None and 0 <= channel <= 255]
    if len(rgb) != 3:
        raise InputError(f'{source}: {color!r} is not a colour. Use "#rrggbb" or [R, G, B].')
    return rgb[0], rgb[1], rgb[2]


def _fractions(channels: Sequence[Any]) -> list[int] | None:
    """Return the channels of a colour of fractions as 0 to 255, None for one of integers."""
    numbers = [c for c in channels[:3] if isinstance(c, float) and 0 <= c <= 1]
    if len(numbers) < 3 or all(number.is_integer() for number in numbers):
        return None
    return [round(255 * number) for number in numbers]
