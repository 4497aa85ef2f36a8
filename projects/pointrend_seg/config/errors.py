"""Say what is wrong with a key or a value of a config."""

import re
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode

from ..errors import InputError, did_you_mean
from .tree import all_keys, value_of

_MOST_DEPTH = 50
_PLAIN = (str, int, float, bool, type(None))
_SHOWN = 80  # characters of a value in a message


def check_pairs(opts: list[str]) -> None:
    """Raise `InputError` unless these words can be KEY VALUE KEY VALUE …"""
    for word in opts[::2]:
        if str(word).startswith("-"):
            raise InputError(
                f"{word} stands among the pairs of KEY VALUE. Options go before them, right after "
                "--config-file FILE, and each KEY has one VALUE (a list needs quotes)."
            )
        if "=" in str(word):
            key, _, value = str(word).partition("=")
            raise InputError(f"Write {key} {value} instead of {word}: KEY VALUE with a space.")
    if len(opts) % 2:
        raise InputError(
            f"{opts[-1]} has no value: pairs of KEY VALUE follow the options. A list needs "
            "quotes, as in DATASETS.TRAIN \"('coco_2017_train',)\"."
        )


def check_tree(tree: Any, where: str) -> None:
    """Raise `InputError` unless a parsed YAML file is a tree of config nodes.

    Args:
        tree: what the parser returned.
        where: the file's name, for the message.
    """
    if not isinstance(tree, dict):
        found = "nothing" if tree is None else f"{_shown(tree)}, of type {type(tree).__name__}"
        raise InputError(f"{where} is no config: expected lines of KEY: VALUE, but found {found}.")
    _check_node(tree, (), where)


def _check_node(node: dict, parents: tuple[str, ...], where: str) -> None:
    for key, value in node.items():
        if not isinstance(key, str) or not key:
            inside = f" in {'.'.join(parents)}" if parents else ""
            raise InputError(
                f"{where} has the key {_shown(key)}{inside}, of type {type(key).__name__}. Keys "
                "are names, such as MODEL."
            )
        name = ".".join((*parents, key))
        if len(parents) > _MOST_DEPTH:
            raise InputError(f"{where} is nested too deeply, at {name[:_SHOWN]} …. Correct it.")
        if isinstance(value, dict):
            _check_node(value, (*parents, key), where)
        else:
            _check_value(value, name, where)


def _check_value(value: Any, name: str, where: str, depth: int = 0) -> None:
    if depth > _MOST_DEPTH:
        raise InputError(f"{name} in {where} is nested too deeply. Correct it.")
    if isinstance(value, list | tuple):
        for each in value:
            _check_value(each, name, where, depth + 1)
    elif isinstance(value, dict):
        for each in value.values():
            _check_value(each, name, where, depth + 1)
    elif not isinstance(value, _PLAIN):
        raise InputError(
            f"{name} in {where} is {_shown(value)}, of type {type(value).__name__}. Values are "
            "numbers, strings, True, False and lists of them; put a string into quotes."
        )


def check_keys(opts: Sequence, cfg: CfgNode) -> None:
    """Raise `InputError` for a key that goes on below a value, such as ``SEED.X``.

    Args:
        opts: KEY VALUE KEY VALUE …
        cfg: a config with all known keys.
    """
    for key in map(str, opts[::2]):
        node: Any = cfg
        names = key.split(".")
        for depth, name in enumerate(names):
            if not isinstance(node, CfgNode):
                raise InputError(
                    f"There is no config key {_shown_key(key)}: {'.'.join(names[:depth])} is a "
                    "value, without keys below it."
                )
            if name not in node:
                raise _unknown(key, cfg, "the pairs of KEY VALUE")
            node = node[name]


def config_error(error: Exception, cfg: CfgNode, config_file: str) -> InputError:
    """Turn what `merge_from_file` or `merge_from_list` raised into an error that users understand.

    Args:
        error: what was raised.
        cfg: a config with all known keys.
        config_file: the file that was being read, or "" for pairs of KEY VALUE.
    """
    text = str(error).strip("'\"")
    where = config_file or "the pairs of KEY VALUE"
    missing = re.search(r"Non-existent (?:config )?key: (\S+)", text)
    if missing:
        return _unknown(missing.group(1), cfg, where)
    mismatch = re.search(r"with values \((.*?) vs\. (.*)\) for config key: (\S+)", text, re.DOTALL)
    if mismatch:
        key = mismatch.group(3)
        had = value_of(cfg, key)
        found = _cut(mismatch.group(2))
        if isinstance(had, CfgNode):
            return InputError(
                f"{key} has keys of its own, such as {key}.{next(iter(had))}, but in {where} it is "
                f"{found}. Give these keys their values."
            )
        kind = type(had).__name__
        if "CfgNode" in text.partition(" with values ")[0]:
            found = f"a node with keys of its own ({found})"
        return InputError(
            f"{key} must be of type {kind}, as its default {_shown(had)} is, but in {where} it is "
            f"{found}. Correct the value (in YAML, 1e-4 is a string: write 0.0001)."
        )
    return InputError(f"The config does not load: {_cut(text, 300)} (in {where}). Correct it.")


def _unknown(key: str, cfg: CfgNode, where: str) -> InputError:
    near = did_you_mean(key, all_keys(cfg))
    return InputError(
        f"There is no config key {_shown_key(key)} (in {where}).{near} docs/configuration.md lists "
        "the keys of this package; keys of another package must be added first, by its function."
    )


def _shown(value: Any) -> str:
    return _cut(repr(value))


def _shown_key(key: str) -> str:
    return _cut(key if key.isprintable() and key else repr(key))


def _cut(text: str, most: int = _SHOWN) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[:most]} …"
