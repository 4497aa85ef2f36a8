"""Parse class files in text: a class on each line, or a table with a header.

The layout of a line is found from its numbers: a value, a colour (three numbers, or #rrggbb) and a
name. What could be read in two ways is refused, with the line.
"""

import csv
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from ...errors import InputError

_SEPARATORS = re.compile(r"(\s*[:,;=|\t]\s*|\s+)")
_NUMBER, _COLOR = re.compile(r"[+-]?\d+"), re.compile(r"#[0-9a-fA-F]{6}")
_CVAT = re.compile(r"([^:]+):(\s*\d+\s*,\s*\d+\s*,\s*\d+\s*)?:[^:]*:[^:]*")
_QUOTED = re.compile(r"""(?:(?<=[\s:,;=|])|^)(["'])(.*?)\1(?=[\s:,;=|]|$)""")
_NAME_WORDS = {"class", "classname", "name", "label", "labelname", "category", "title"}
_NAME_WORDS |= {"classes", "names", "labels", "categories"}
_VALUE_WORDS = {"id", "idx", "index", "value", "pixelvalue", "classid", "labelid", "trainid"}
_VALUE_WORDS |= {"classindex", "classvalue", "labelvalue"}
_RGB_WORDS = {"r": 0, "red": 0, "g": 1, "green": 1, "b": 2, "blue": 2}
_COLOR_WORDS = {"color", "colour", "hex", "rgb", "colorrgb"}
_EXAMPLES = "NAME, VALUE NAME or VALUE NAME #rrggbb"


class Line(NamedTuple):
    """A line of a class file that is not empty and no comment.

    Attributes:
        number: from 1.
        text: without spaces at its ends.
    """

    number: int
    text: str

    def __str__(self) -> str:
        return f"line {self.number} ({_shown(self.text)})"


def parse_lines(text: str, source: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Parse the lines of a class file.

    Args:
        text: of the file. Lines that are empty or begin with # are left out.
        source: path of the file, for error messages.

    Returns:
        dicts with "name" and, if the line has them, "id" and "color"; and where each of them is.

    Raises:
        InputError: shows the line that is invalid or can be read in two ways.
    """
    lines = [
        Line(number, stripped)
        for number, line in enumerate(re.split(r"\r\n|\n|\r", text), start=1)
        if (stripped := _without_comment(line, number, source))
    ]
    columns = _header(lines[0].text) if lines else None
    if columns is not None:
        entries = _parse_table(lines, columns, source)
        lines = lines[1:]
    else:
        if lines and source.lower().endswith(".csv") and _word(lines[0].text) in _NAME_WORDS:
            lines = lines[1:]
        listed = len(lines) > 0 and all(line.text.startswith("- ") for line in lines)
        entries = [
            _parse_line(line._replace(text=line.text[2:].strip()) if listed else line, source)
            for line in lines
        ]
        _check_layout(entries, lines, source)
    for entry in entries:
        entry.pop("number_behind", None)
        entry.pop("quoted", None)
    return entries, [str(line) for line in lines]


def _without_comment(line: str, number: int, source: str) -> str:
    line = line.strip()
    if line.startswith("#"):
        if re.match(_COLOR.pattern + r"(?!\w)", line):
            raise _error(
                Line(number, line), source, "begins with a colour. Write the colour behind the name"
            )
        return ""
    return re.sub(r"\s+#(\s.*)?$", "", line)


def _parse_line(line: Line, source: str) -> dict[str, Any]:
    """Parse one line.

    Returns:
        "name" and, if the line has them, "id" and "color"; also "quoted" for a name in quotes, and
        "number_behind" for one that ends with a number after a space.
    """
    cvat = _CVAT.fullmatch(line.text)
    if cvat:
        color = [int(each) for each in cvat[2].split(",")] if cvat[2] else None
        return {"name": cvat[1].strip()} | ({"color": color} if color else {})
    quoted: list[str] = []
    text = _QUOTED.sub(lambda match: _hide(match[2], quoted), line.text)
    text = re.sub(r"[\s,;]+$", "", text)
    parts = _SEPARATORS.split(text)
    fields, separators = parts[::2], parts[1::2]
    if fields == [""] or not any(fields):
        raise _error(line, source, "has no name")
    first, last = 0, len(fields)
    while first < last and _NUMBER.fullmatch(fields[first]):
        first += 1
    while last > first and (_NUMBER.fullmatch(fields[last - 1]) or _is_color(fields[last - 1])):
        last -= 1
    if first == last:
        if len(fields) == 1 and _NUMBER.fullmatch(text):
            return {"name": text}
        raise _error(line, source, f"has no name. Write {_EXAMPLES}")
    entry: dict[str, Any] = {}
    before, behind = fields[:first], fields[last:]
    is_apart = last < len(fields) and bool(separators[last - 1].strip(" "))
    if behind and _is_color(behind[-1]):
        entry["color"] = behind.pop()
    elif len(behind) == 3:
        entry["color"] = [int(each) for each in behind]
        behind = []
    if len(before) == 3 and "color" not in entry:
        entry["color"] = [int(each) for each in before]
        before = []
    if len(behind) == 1 and not is_apart:  # "road 1"
        entry["number_behind"] = True
        behind, last = [], last + 1
    if len(before) + len(behind) > 1:
        raise _error(line, source, f"has numbers of unknown meaning. Write {_EXAMPLES}")
    if before or behind:
        entry["id"] = int((before or behind)[0])
        if entry["id"] < 0:
            raise _error(line, source, f"has the value {entry['id']}, but values are 0 or more")
    name = "".join(parts[2 * first : 2 * last - 1])
    if re.search(r"[:;=|\t]", name) or (source.lower().endswith(".csv") and "," in name):
        raise _error(
            line,
            source,
            "has several fields and no value. Write one name on each line, in quotes if this "
            "is a name",
        )
    if not name or name[0] in "[{":
        raise _error(line, source, f"is not a class. Write {_EXAMPLES}")
    if re.fullmatch("\0\\d+\0", name):
        entry["quoted"] = True
    return entry | {"name": re.sub("\0(\\d+)\0", lambda match: quoted[int(match[1])], name)}


def _hide(text: str, quoted: list[str]) -> str:
    """Return a placeholder for a quoted name; numbers and colours only lose their quotes."""
    text = text.strip()
    if not text or _NUMBER.fullmatch(text) or _is_color(text):
        return text
    quoted.append(text)
    return f"\0{len(quoted) - 1}\0"


def _is_color(field: str) -> bool:
    return field.startswith("#") and len(field) > 1


def _check_layout(entries: list[dict[str, Any]], lines: Sequence[Line], source: str) -> None:
    """Refuse what only the lines together show: headers, lists with numbers, values at the end."""
    if not entries:
        return
    if all(_NUMBER.fullmatch(entry["name"]) for entry in entries):
        if [entry["name"] for entry in entries] != [str(k) for k in range(len(entries))]:
            raise _error(lines[0], source, f"is a number without a name. Write {_EXAMPLES}")
        return
    for entry, line in zip(entries, lines, strict=True):
        if _NUMBER.fullmatch(entry["name"]):
            raise _error(line, source, f"is a number without a name. Write {_EXAMPLES}")
    with_id = sum("id" in entry for entry in entries)
    if 0 < with_id < len(entries):
        line = next(line for each, line in zip(entries, lines, strict=True) if "id" not in each)
        raise _error(
            line, source, "has no value, but others have one. Some classes have an id, others do "
            "not: give ids to all or none"
        )  # fmt: skip
    if with_id or any("quoted" in entry for entry in entries):
        return
    if _word(lines[0].text) in _NAME_WORDS and len(lines) > 1:
        raise _error(lines[0], source, "looks like a header. Remove it, or put it in quotes")
    if all(re.match(r"\W?\d+\W", entry["name"]) for entry in entries):
        raise _error(
            lines[0], source, "begins with a number: is it the value of the class? Write VALUE "
            "NAME, or put the name in quotes"
        )  # fmt: skip
    stems = {entry["name"].rpartition(" ")[0] for entry in entries}
    if all("number_behind" in entry for entry in entries) and len(stems) == len(entries):
        raise _error(
            lines[0], source, "ends with a number: is it the value of the class? Write VALUE "
            "NAME, or put the name in quotes"
        )  # fmt: skip
    if len(lines) == 1 and "," in entries[0]["name"] and "," in _QUOTED.sub("", lines[0].text):
        raise _error(lines[0], source, "has several names. Write one name on each line")


def _word(field: str) -> str:
    return re.sub(r"[\W_]", "", field).lower()


def _role(field: str) -> str:
    word = _word(field)
    if word in _NAME_WORDS:
        return "name"
    if word in _VALUE_WORDS:
        return "value"
    return "color" if word in _COLOR_WORDS or word in _RGB_WORDS else ""


def _header(text: str) -> list[str] | None:
    """Return the columns of a header, None if the line is none.

    A header names a column of classes and one of values or colours.
    """
    delimiter = _delimiter(text)
    columns = text.split(delimiter) if delimiter else text.split()
    columns = [column.strip().strip("\"'") for column in columns]
    roles = [_role(column) for column in columns]
    if "name" in roles and len(columns) > 1 and (all(roles) or {"value", "color"} & {*roles}):
        return columns
    return None


def _delimiter(text: str) -> str:
    return next((each for each in ",;\t|:" if each in text), "")


def _parse_table(
    lines: Sequence[Line], columns: Sequence[str], source: str
) -> list[dict[str, Any]]:
    delimiter = _delimiter(lines[0].text)
    rows = []
    for line in lines[1:]:
        if delimiter:
            reader = csv.reader([line.text], delimiter=delimiter, skipinitialspace=True)
            row = [cell.strip() for cell in next(reader)]
        else:
            row = line.text.split()
        while len(row) > len(columns) and not row[-1]:
            row.pop()
        if len(row) != len(columns):
            raise _error(
                line, source, f"has {len(row)} fields, but the header has {len(columns)} "
                f"({', '.join(columns)}). Put a name with a comma in quotes"
            )  # fmt: skip
        rows.append(row)
    roles = [_role(column) for column in columns]
    for number, role in enumerate(roles):  # "label, name"
        is_numeric = all(_NUMBER.fullmatch(row[number]) for row in rows)
        if role == "name" and roles.count("name") > 1 and is_numeric:
            roles[number] = "value"
    if roles.count("name") != 1 or roles.count("value") > 1:
        raise _error(
            lines[0], source, "is a header with several columns of names or of values. Keep one "
            "of each, such as id,name"
        )  # fmt: skip
    return [
        _parse_row(row, columns, roles, line, source)
        for row, line in zip(rows, lines[1:], strict=True)
    ]


def _parse_row(
    row: Sequence[str], columns: Sequence[str], roles: Sequence[str], line: Line, source: str
) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    channels: dict[int, str] = {}
    for cell, column, role in zip(row, columns, roles, strict=True):
        if role == "name":
            entry["name"] = cell
        elif role == "value":
            if not _NUMBER.fullmatch(cell) or int(cell) < 0:
                raise _error(line, source, f"has the {column} {cell!r}, not a whole number from 0")
            entry["id"] = int(cell)
        elif role == "color":
            word = _word(column)
            if word in _RGB_WORDS:
                channels[_RGB_WORDS[word]] = cell
            elif cell:
                entry["color"] = cell
    if len(channels) == 3:
        entry["color"] = [channels[k] for k in range(3)]
    if not entry["name"]:
        raise _error(line, source, "has no name")
    return entry


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _error(line: Line, source: str, what: str) -> InputError:
    return InputError(f"{source}: {line} {what}.")
