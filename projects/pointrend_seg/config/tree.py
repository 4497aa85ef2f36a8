"""Walk the nodes of a config."""

from collections.abc import Iterator
from typing import Any

from detectron2.config import CfgNode


def all_keys(cfg: CfgNode, prefix: str = "") -> Iterator[str]:
    """Yield every key with its nodes, such as ``TEST.REPORT``, the nodes themselves included."""
    for key, value in cfg.items():
        yield prefix + key
        if isinstance(value, CfgNode):
            yield from all_keys(value, f"{prefix}{key}.")


def value_of(cfg: CfgNode, key: str) -> Any:
    """Return the value, or the node, that a key such as ``TEST.REPORT`` names."""
    for name in key.split("."):
        cfg = cfg[name]
    return cfg
