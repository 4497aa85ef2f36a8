"""Read config files as data: no code runs, nothing is fetched unasked, and bombs are refused."""

import os
import re
from ast import literal_eval
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from detectron2.config import CfgNode, downgrade_config, upgrade_config
from detectron2.config.compat import guess_version
from detectron2.utils.file_io import PathManager

from ..errors import InputError, first_line, printable
from .checks import check_nodes
from .errors import check_tree

_BASE = "_BASE_"
_MAX_BYTES = 2**20
_MAX_VALUES = 50_000  # of a file, with aliases written out
_MAX_DEPTH = 50
_MAX_DIGITS = 1000
_MAX_FILES = 100
_LITERAL = 200  # characters; shorter ones cannot nest too deeply for `literal_eval`
_TAG = "tag:yaml.org,2002:"
# Expressions in configs of Detectron2's model zoo, without spaces: Base-RetinaNet.yaml.
_EXPRESSIONS = {
    "[[x,x*2**(1.0/3),x*2**(2.0/3)]forxin[32,64,128,256,512]]": [
        [x, x * 2 ** (1.0 / 3), x * 2 ** (2.0 / 3)] for x in (32, 64, 128, 256, 512)
    ],
}


def merge_config_file(cfg: CfgNode, path: str, *, allow_remote: bool = False) -> None:
    """Merge a YAML file and its ``_BASE_`` files into a config, as `CfgNode.merge_from_file` does.

    Configs of older versions of Detectron2 are upgraded.

    Args:
        cfg: a config with all known keys, which is changed in place.
        path: path of a YAML file.
        allow_remote: also fetch what `PathManager` fetches, such as ``https://``.

    Raises:
        InputError: the file is not read, see `read_config_file`, or is of an unknown version.
        KeyError, ValueError, AssertionError: a key or a value that the config does not take, as
            `CfgNode.merge_from_other_cfg` raises them.
    """
    tree = read_config_file(path, allow_remote=allow_remote)
    check_tree(tree, printable(path))
    loaded = CfgNode(tree)
    check_nodes(loaded)
    version = loaded.get("VERSION") or guess_version(loaded, path)
    if not isinstance(version, int) or not 1 <= version <= cfg.VERSION:
        raise InputError(
            f"VERSION is {version!r} in {printable(path)}. This Detectron2 knows the versions 1 "
            f"to {cfg.VERSION}."
        )
    if version == cfg.VERSION:
        cfg.merge_from_other_cfg(loaded)
        return
    old = downgrade_config(cfg, to_version=version)
    old.merge_from_other_cfg(loaded)
    upgraded = upgrade_config(old)
    cfg.clear()
    cfg.update(upgraded)


def read_config_file(path: str, *, allow_remote: bool = False) -> dict:
    """Read a YAML file of plain values, with what it inherits from its ``_BASE_`` files.

    ``_BASE_`` is a path or a list of them, relative to the file, absolute, or beginning with ``~``.
    Besides plain YAML it may have tuples, ``!!python/tuple [1, 2]``.

    Args:
        path: path of a YAML file.
        allow_remote: also fetch what `PathManager` fetches, such as ``https://``.

    Returns:
        the values by key, nested.

    Raises:
        InputError: a file does not exist, is remote, no YAML, no mapping, includes itself, is too
            large or nested too deeply, or needs more than plain values.
    """
    return _Reader(allow_remote).read(path, ())


def check_literals(opts: Sequence) -> None:
    """Raise `InputError` where a value is too long or too deep for `CfgNode.merge_from_list`.

    Args:
        opts: KEY VALUE KEY VALUE …
    """
    for key, value in zip(opts[::2], opts[1::2], strict=False):
        _check_literal(value, f"The value of {printable(key)}")


def is_remote(path: str) -> bool:
    """Tell whether a path is an address, such as ``https://…`` or ``s3://…``."""
    return "://" in path


def check_address(address: str) -> None:
    """Raise `InputError` for an address whose copy would lie outside of the cache: it has ``..``.

    `PathManager` keeps a file under the path of its address.
    """
    if ".." in re.split(r"[/?#;]", address):
        raise InputError(
            f"{printable(address)} is not fetched, because its path has '..'. Write the address "
            "without it."
        )


class _Reader:
    """Read a config file and its bases; count the files."""

    def __init__(self, allow_remote: bool):
        self.allow_remote = allow_remote
        self.files = 0

    def read(self, path: str, included_by: tuple[str, ...]) -> dict:
        local = self._local_file(path, included_by)
        if local in included_by:
            raise InputError(f"The config file {printable(path)} includes itself with {_BASE}.")
        self.files += 1
        if self.files > _MAX_FILES:
            raise InputError(f"A config has more than {_MAX_FILES} {_BASE} files: {path!r}, ….")
        with open(local, "rb") as file:
            content = parse_config(file.read(_MAX_BYTES + 1), printable(path))
        if isinstance(content, dict) and {"dataloader", "model"} <= content.keys():
            raise InputError(
                f"{printable(path)} was written from a LazyConfig, for reading. Give "
                "tools/lazyconfig_train_net.py the Python config of that training."
            )
        if _BASE not in content:
            return content
        bases = content.pop(_BASE)
        bases = bases if isinstance(bases, list) else [bases]
        merged: dict = {}
        for base in bases:
            if not isinstance(base, str) or not base:
                raise InputError(
                    f"{_BASE} in {printable(path)} has {base!r}. Write the path of a YAML file, or "
                    "a list of paths."
                )
            base = os.path.expanduser(base) if base.startswith("~") else base
            if not is_remote(base):
                base = os.path.join(os.path.dirname(path), base)  # an absolute one stays
            merged = _merged(merged, self.read(base, (*included_by, local)), path)
        return _merged(merged, content, path)

    def _local_file(self, path: str, included_by: tuple[str, ...]) -> str:
        """Return the real path of a config file, which is fetched if that is allowed."""
        shown = printable(path)
        if path.endswith(".py"):
            raise InputError(
                f"{shown} is Python code (a LazyConfig), which is not run here. Give a YAML "
                "config; tools/lazyconfig_train_net.py trains and evaluates Python ones."
            )
        local = path
        if is_remote(path):
            if not self.allow_remote:
                raise InputError(
                    f"The config file {shown} is not fetched. Download it and give its path, or "
                    "allow it with --allow-remote-config (allow_remote=True in Python)."
                )
            check_address(path)
            try:
                local = PathManager.get_local_path(path)
            except Exception as error:
                raise InputError(
                    f"The config file {shown} cannot be fetched ({first_line(error)})."
                ) from error
        if not os.path.isfile(local):
            where = f", which {printable(included_by[-1])} names in {_BASE}," if included_by else ""
            raise InputError(f"The config file {shown}{where} does not exist.")
        return os.path.realpath(local)


def _merged(base: dict, changes: dict, path: str) -> dict:
    """Return ``base`` with changes; mappings are merged key by key."""
    merged = dict(base)
    for key, value in changes.items():
        if isinstance(value, dict) and key in merged:
            if not isinstance(merged[key], dict):
                raise InputError(
                    f"{printable(path)}: {printable(key)} has keys of its own, but it is "
                    f"{merged[key]!r} in a file of its {_BASE}."
                )
            value = _merged(merged[key], value, path)
        merged[key] = value
    return merged


def parse_config(data: bytes, shown: str) -> dict:
    """Parse the YAML of a config, without its ``_BASE_`` files.

    Args:
        shown: what messages call it.

    Raises:
        InputError: as `read_config_file`.
    """
    if len(data) > _MAX_BYTES:
        raise InputError(f"{shown} is larger than {_MAX_BYTES >> 20} MB, which no config is.")
    try:
        loader = _Loader(data)
        root = loader.get_single_node()
        if root is None:
            raise InputError(f"The config file {shown} is empty.")
        values, depth = _measure(root, {})
        _check_size(values, depth)
        content = loader.construct_document(root)
        _check_literals_within(content, shown)
    except _Refused as refused:
        raise InputError(f"The config file {shown} is not read: {refused}.") from None
    except RecursionError:
        raise InputError(f"The config file {shown} is not read: it is nested too deeply.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = printable(getattr(error, "problem", None) or first_line(error))
        raise InputError(f"The config file {shown} is no YAML: {problem}{where}.") from error
    except InputError:
        raise
    except Exception as error:  # a tag with a value that it does not take
        raise InputError(f"The config file {shown} is not read: {first_line(error)}.") from error
    if not isinstance(content, dict):
        raise InputError(
            f"The config file {shown} holds {type(content).__name__} {str(content)[:40]!r}. A "
            "config is a mapping: KEY: VALUE."
        )
    return content


def _check_size(values: int, depth: int) -> None:
    if values > _MAX_VALUES:
        raise _Refused(f"it has more than {_MAX_VALUES:,} values, with its aliases written out")
    if depth > _MAX_DEPTH:
        raise _Refused("it is nested too deeply")


def _measure(node: yaml.Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Return the number of values and the depth of a YAML node, with aliases written out."""
    if isinstance(node, yaml.ScalarNode):
        if len(node.value) > _MAX_DIGITS and node.tag in (f"{_TAG}int", f"{_TAG}float"):
            raise _Refused(f"a number has {len(node.value)} digits")
        return 1, 1
    if id(node) in known:
        measured = known[id(node)]
        if measured is None:
            raise _Refused("a value contains itself")
        return measured
    known[id(node)] = None
    values, depth = 1, 0
    for item in node.value:
        for child in item if isinstance(item, tuple) else (item,):
            child_values, child_depth = _measure(child, known)
            values, depth = values + child_values, max(depth, child_depth)
    known[id(node)] = values, depth + 1
    return values, depth + 1


def _check_literals_within(content: Any, where: str) -> None:
    if isinstance(content, Mapping):
        for key, value in content.items():
            if not isinstance(key, str):
                raise _Refused(f"its key {key!r} is no text")
            _check_literals_within(value, where)
            if isinstance(value, str):
                _check_literal(value, f"The value of {printable(key)} in {where}")


def _check_literal(value: Any, where: str) -> None:
    """Raise `InputError` for a string whose `literal_eval`, which yacs calls, exhausts a stack."""
    if not isinstance(value, str) or len(value) < _LITERAL:
        return
    try:
        literal_eval(value)
    except (MemoryError, RecursionError):
        raise InputError(f"{where} is too long or nested too deeply: {value[:20]!r} ….") from None
    except Exception:  # a plain string
        return


class _Refused(Exception):
    """A config file is not read; the message completes "it is not read: …"."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with tuples; it ends early in a large or deep file."""

    def __init__(self, data: bytes):
        super().__init__(data)
        self.values = self.depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.values += 1
        self.depth += 1
        _check_size(self.values, self.depth)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def tuple(self, node: yaml.Node) -> tuple:
        return tuple(self.construct_sequence(node, deep=True))

    def expression(self, node: yaml.Node) -> list:
        if isinstance(node, yaml.SequenceNode):
            arguments = self.construct_sequence(node, deep=True)
            if len(arguments) == 1 and isinstance(arguments[0], str):
                value = _EXPRESSIONS.get("".join(arguments[0].split()))
                if value is not None:
                    return [list(row) for row in value]
        return self.refuse(node)

    def refuse(self, node: yaml.Node) -> Any:
        tag = printable(node.tag).replace(_TAG, "!!")
        raise _Refused(
            f"it has {tag} in line {node.start_mark.line + 1}, which could run code. Write the "
            "value itself"
        )


_Loader.add_constructor(f"{_TAG}python/tuple", _Loader.tuple)
_Loader.add_constructor(f"{_TAG}python/object/apply:eval", _Loader.expression)
_Loader.add_constructor(None, _Loader.refuse)
