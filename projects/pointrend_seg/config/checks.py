"""Check every value of a config, once, before anything is built from it."""

from detectron2.config import CfgNode

from ..errors import InputError
from .conflicts import find_conflicts
from .detectron2_keys import detectron2_keys
from .keys import KEYS


def check_config(cfg: CfgNode) -> None:
    """Raise `InputError` where a value of a config cannot be used.

    Checked are the keys of this package and of Detectron2: their types, their ranges, and pairs
    that do not fit together. Other keys may have any value.

    Example:
        >>> from pointrend_seg.engine import load_config
        >>> check_config(load_config(""))
    """
    check_nodes(cfg)
    for name, key in {**detectron2_keys(), **KEYS}.items():
        *nodes, leaf = name.split(".")
        node: CfgNode | None = cfg
        for each in nodes:
            node = None if node is None else node.get(each)
        if node is not None and leaf in node:
            key.check(node[leaf])
    for conflict in find_conflicts(cfg):
        raise InputError(conflict)


def check_nodes(cfg: CfgNode) -> None:
    """Raise `InputError` where a node with keys of its own was replaced by a value.

    YAML's ``MODEL:`` with nothing below it is such a value, None.
    """
    known = {**detectron2_keys(), **KEYS}
    nodes = dict.fromkeys(
        ".".join(name.split(".")[:depth])
        for name in known
        for depth in range(1, name.count(".") + 1)
    )
    for name in nodes:
        value = cfg
        for each in name.split("."):
            value = value.get(each, CfgNode())
        if not isinstance(value, CfgNode):
            raise InputError(
                f"{name} is {value!r}, but it has keys of its own, such as "
                f"{next(key for key in known if key.startswith(f'{name}.'))}. Remove the line, or "
                "write the keys below it, indented."
            )
