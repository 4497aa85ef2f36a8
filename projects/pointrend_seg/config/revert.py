"""Turn configs of this package back into configs for Detectron2's PointRend."""

import logging

from detectron2.config import CfgNode as CN
from detectron2.config import get_cfg

from ..errors import InputError
from .adopt import NAMES
from .heads import has_point_heads
from .keys import INSTANCE_NODE, KEYS, SEMANTIC_NODE, add_pointrend_config
from .tree import all_keys, value_of

logger = logging.getLogger(__name__)

_FOR_BOTH = ("SAMPLER", "PADDING_MODE", "LOSS_WEIGHT", "FAST_PATH", "MASK_RESOLUTION")
_OF_DETECTRON2 = (
    *("MODEL.ROI_MASK_HEAD.", "MODEL.IMPLICIT_POINTREND.", f"{INSTANCE_NODE}."),
    *("INPUT.CROP.SINGLE_CATEGORY_MAX_AREA", "INPUT.COLOR_AUG_SSD"),
)
# Values that change nothing in the model, so that leaving them out is not worth a warning.
_SILENT = ("FAST_PATH", "INPUT.TRAINED_SCALES", "INPUT.TRAINED_SIDE")


def builtin_config(cfg: CN) -> CN:
    """Return a config for Detectron2's PointRend that stands for the same model.

    Names are translated back, and only keys are kept that Detectron2 and its PointRend know. What
    has no counterpart there and was set is logged as a warning.

    Args:
        cfg: a config of this package, of a semantic or an instance model; it is not changed.

    Returns:
        a config that Detectron2 loads after ``detectron2.projects.point_rend``'s
        `add_pointrend_config`; ``.dump()`` gives the YAML text.

    Raises:
        InputError: it is of no PointRend model, or of one that Detectron2's PointRend cannot build.

    Example:
        >>> from pointrend_seg.engine import load_config
        >>> cfg = load_config("", ["MODEL.ROI_MASK_HEAD.NAME", "PointRendInstanceHead"])
        >>> builtin_config(cfg).MODEL.ROI_MASK_HEAD.NAME
        'PointRendMaskHead'
    """
    semantic, instance = has_point_heads(cfg)
    if bool(semantic) == bool(instance):
        found = "both branches are" if semantic else "neither head is"
        raise InputError(
            f"Detectron2's PointRend refines one branch, but {found} of PointRend in this config "
            f"(MODEL.SEM_SEG_HEAD.NAME {cfg.MODEL.SEM_SEG_HEAD.NAME}, MODEL.ROI_MASK_HEAD.NAME "
            f"{cfg.MODEL.ROI_MASK_HEAD.NAME})."
        )
    if semantic and cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES < 2:
        raise InputError(
            "MODEL.SEM_SEG_HEAD.NUM_CLASSES is 1: Detectron2's PointRend has no semantic models of "
            "one class."
        )
    source = cfg.clone()
    source.defrost()
    if semantic:
        _fill_shared_node(source)
    else:
        source.MODEL.POINT_HEAD.NUM_CLASSES = cfg.MODEL.ROI_HEADS.NUM_CLASSES
        source.INPUT.MASK_FORMAT = "bitmask"
    for key, names in NAMES.items():
        back = {new: old for old, new in reversed(names.items())}  # the first of several names
        node, _, name = key.rpartition(".")
        if key != "MODEL.ROI_HEADS.NAME" and value_of(source, key) in back:
            value_of(source, node)[name] = back[value_of(source, key)]
    return _known_to_detectron2(source, semantic=bool(semantic))


def _fill_shared_node(cfg: CN) -> None:
    """Put the semantic point head's values into the one node that Detectron2's PointRend has."""
    ours, shared = cfg.MODEL.SEM_SEG_POINT_HEAD, cfg.MODEL.POINT_HEAD
    for key in ours:
        if key in shared:
            shared[key] = ours[key]
    shared.NUM_CLASSES = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    most = cfg.MODEL.SEM_SEG_HEAD.COMMON_STRIDE.bit_length() - 1
    if shared.SUBDIVISION_STEPS not in (-1, most):
        logger.warning(
            f"{SEMANTIC_NODE}.SUBDIVISION_STEPS is {shared.SUBDIVISION_STEPS}; it is {most} in the "
            "config for Detectron2's PointRend, which cuts out a wrong region with fewer."
        )
    shared.SUBDIVISION_STEPS = most


def _known_to_detectron2(source: CN, *, semantic: bool) -> CN:
    """Copy the values of the keys that Detectron2 has, its PointRend's included."""
    target, defaults = get_cfg(), get_cfg()
    add_pointrend_config(defaults)
    kept = {key for key in KEYS if _is_builtin_key(key)}
    for key in all_keys(source):
        value = value_of(source, key)
        if isinstance(value, CN):
            continue
        *nodes, name = key.split(".")
        node: CN | None = target
        for each in nodes:
            missing = node is not None and each not in node
            if missing and any(other.startswith(f"{'.'.join(nodes)}.") for other in kept):
                node[each] = CN()  # type: ignore[index]
            node = None if node is None else node.get(each)
        if node is not None and (name in node or key in kept):
            node[name] = value
        elif value != value_of(defaults, key) and not _is_silent(key, semantic):
            logger.warning(f"{key} is {value!r}; Detectron2 and its PointRend have no such key.")
    return target


def _is_builtin_key(key: str) -> bool:
    return key.startswith(_OF_DETECTRON2) and key.rpartition(".")[2] not in _FOR_BOTH


def _is_silent(key: str, semantic: bool) -> bool:
    node = key.rpartition(".")[0]
    moved = node == SEMANTIC_NODE and key.rpartition(".")[2] not in _FOR_BOTH
    unused = node == (INSTANCE_NODE if semantic else SEMANTIC_NODE)
    return key.endswith(_SILENT) or moved or unused
