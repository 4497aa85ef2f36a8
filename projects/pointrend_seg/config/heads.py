"""Tell whose class a head is: of this package, of Detectron2's PointRend, of Detectron2, or else.

Classes are known by the module that defines them, so that nothing has to be imported.
"""

import inspect
from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY, SEM_SEG_HEADS_REGISTRY
from detectron2.utils.registry import Registry

from ..errors import InputError
from .keys import INSTANCE_NODE, SEMANTIC_NODE

BUILTIN = "detectron2.projects.point_rend"
_OURS = __name__.partition(".")[0]
_PLAIN = ("detectron2.modeling", "detectron2.projects.deeplab")
# Detectron2's PointRend, the names of its heads in the two registries.
BUILTIN_SEMANTIC_HEADS = ("PointRendSemSegHead",)
BUILTIN_MASK_HEADS = ("PointRendMaskHead", "CoarseMaskHead", "ImplicitPointRendMaskHead")

# Heads of this package without a point head; points train them all the same.
_WITHOUT_POINT_HEAD = ("PointSupMaskRCNNHead",)


def registered_module(registry: Registry, name: str) -> str | None:
    """Return the module that defines what is registered under a name, None if nothing is."""
    return registry.get(name).__module__ if name in registry else None


def has_point_heads(cfg: CfgNode) -> tuple[bool | None, bool | None]:
    """Tell whether the semantic and the mask head of a config use this package's point heads.

    Returns:
        for each True for a head of this package or a subclass of one, or a name of Detectron2's
        PointRend, which `adopt_config` translates; False for another head of Detectron2; None for
        a class of somebody else's, which may read any key.
    """
    return (
        _has_point_head(
            SEM_SEG_HEADS_REGISTRY, cfg.MODEL.SEM_SEG_HEAD.NAME, BUILTIN_SEMANTIC_HEADS
        ),
        _has_point_head(ROI_MASK_HEAD_REGISTRY, cfg.MODEL.ROI_MASK_HEAD.NAME, BUILTIN_MASK_HEADS),
    )


def may_train_from_points(cfg: CfgNode) -> bool:
    """Tell whether a config's mask head can be one that labelled points train; False for others."""
    return (
        cfg.MODEL.ROI_MASK_HEAD.NAME in _WITHOUT_POINT_HEAD or has_point_heads(cfg)[1] is not False
    )


def _has_point_head(registry: Registry, name: str, builtin: Sequence[str]) -> bool | None:
    if name in builtin:
        return True
    if name in _WITHOUT_POINT_HEAD:
        return False
    module = registered_module(registry, name)
    if module is None:
        return None
    entry = registry.get(name)
    bases = inspect.getmro(entry) if inspect.isclass(entry) else (entry,)
    if any(_is_in(base.__module__, _OURS) for base in bases):
        return True
    return False if any(_is_in(module, package) for package in _PLAIN) else None


def _is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def check_branch(cfg: CfgNode, names: Sequence[str]) -> None:
    """Raise `InputError` for a changed key of a point head that the config does not use.

    Args:
        cfg: a config before `adopt_config`.
        names: the keys that were changed.

    Example:
        >>> from pointrend_seg.engine import load_config
        >>> cfg = load_config("", ["MODEL.SEM_SEG_HEAD.NAME", "PointRendSemanticHead"])
        >>> check_branch(cfg, ["MODEL.SEM_SEG_POINT_HEAD.FC_DIM"])
    """
    semantic, instance = has_point_heads(cfg)
    moved = cfg.MODEL.SEM_SEG_HEAD.NAME in BUILTIN_SEMANTIC_HEADS  # with the values of the other
    for name in names:
        node, _, key = name.rpartition(".")
        if node == INSTANCE_NODE and semantic and instance is False and not moved:
            head, right = cfg.MODEL.SEM_SEG_HEAD.NAME, SEMANTIC_NODE
        elif node == SEMANTIC_NODE and instance and semantic is False:
            head, right = cfg.MODEL.ROI_MASK_HEAD.NAME, INSTANCE_NODE
        else:
            continue
        if key != "NUM_CLASSES":  # which nothing reads, and Detectron2's commands set
            raise InputError(
                f"{name} has no effect: the PointRend head of this config is {head}, which reads "
                f"{right}. Set {right}.{key} instead."
            )
