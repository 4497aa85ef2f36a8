"""Turn configs that are written for Detectron2's PointRend into configs of this package."""

import logging
import os

from detectron2.config import CfgNode as CN
from detectron2.config import get_cfg
from detectron2.modeling import (
    ROI_HEADS_REGISTRY,
    ROI_MASK_HEAD_REGISTRY,
    SEM_SEG_HEADS_REGISTRY,
)

from ..errors import InputError
from .checks import check_config
from .heads import BUILTIN, BUILTIN_SEMANTIC_HEADS, has_point_heads, registered_module
from .keys import add_pointrend_config
from .reading import merge_config_file
from .tree import value_of

logger = logging.getLogger(__name__)

# Names of Detectron2's PointRend, and what they are called here.
NAMES = {
    "MODEL.SEM_SEG_HEAD.NAME": {"PointRendSemSegHead": "PointRendSemanticHead"},
    "MODEL.ROI_HEADS.NAME": {"PointRendROIHeads": "StandardROIHeads"},
    "MODEL.ROI_MASK_HEAD.NAME": {
        "PointRendMaskHead": "PointRendInstanceHead",
        "CoarseMaskHead": "PointRendInstanceHead",
        "ImplicitPointRendMaskHead": "ImplicitPointRendInstanceHead",
    },
    "MODEL.POINT_HEAD.NAME": {
        "StandardPointHead": "PointMLP",
        "ImplicitPointHead": "ImplicitPointMLP",
    },
    "MODEL.SEM_SEG_POINT_HEAD.NAME": {"StandardPointHead": "PointMLP"},
}
# Mask heads of Detectron2's PointSup, for where its package is not imported.
_POINT_SUP_HEADS = {
    "ImplicitPointRendPointSupHead": "ImplicitPointRendMaskHead",
    "MaskRCNNConvUpsamplePointSupHead": "PointSupMaskRCNNHead",
}
_REGISTRIES = {
    "MODEL.SEM_SEG_HEAD.NAME": SEM_SEG_HEADS_REGISTRY,
    "MODEL.ROI_HEADS.NAME": ROI_HEADS_REGISTRY,
    "MODEL.ROI_MASK_HEAD.NAME": ROI_MASK_HEAD_REGISTRY,
}
# What a mask head of another package may read, and a semantic one derived from Detectron2's.
_OF_THE_MASK_HEAD = ("MODEL.ROI_HEADS.NAME", "MODEL.POINT_HEAD.NAME")


def adopt_config(cfg: CN | str | os.PathLike) -> CN:
    """Turn a config that is written for Detectron2's PointRend into one for this package.

    Names are translated; the values in ``MODEL.POINT_HEAD`` that are meant for a semantic head go
    to ``MODEL.SEM_SEG_POINT_HEAD``; the keys of this package are added. A config that names
    nothing of Detectron2's PointRend keeps its values, and so does the point head of a head that
    is somebody's own class. Every translation is logged; replacing a class that somebody
    registered under a name of Detectron2's PointRend is warned of.

    Args:
        cfg: a config, which is changed in place, frozen or not; or the path of a YAML file, whose
            ``_BASE_`` files are read too.

    Returns:
        the config.

    Raises:
        InputError: there is no such file, or the semantic head and its point head have different
            numbers of classes; or a value cannot be used, see `check_config`.

    Example:
        >>> cfg = get_cfg()
        >>> cfg.MODEL.ROI_MASK_HEAD.NAME = "PointRendMaskHead"
        >>> adopt_config(cfg).MODEL.ROI_MASK_HEAD.NAME
        'PointRendInstanceHead'
    """
    if not isinstance(cfg, CN):
        path, cfg = os.fspath(cfg), get_cfg()
        if not os.path.isfile(path):
            raise InputError(f"The config file {path} does not exist.")
        add_pointrend_config(cfg)
        merge_config_file(cfg, path)
    frozen = cfg.is_frozen()
    cfg.defrost()
    try:
        check_config(cfg)
        _adopt(cfg)
    finally:
        if frozen:
            cfg.freeze()
    return cfg


def with_pointrend_keys(cfg: CN, *, semantic: bool = False) -> CN:
    """Return a config that has this package's keys, for a head that is built from it.

    Args:
        cfg: returned as it is where `add_pointrend_config` was called on it. Else it was made for
            Detectron2's PointRend, and a copy of it is adopted.
        semantic: whether its ``MODEL.POINT_HEAD`` is then meant for a semantic head.
    """
    if "SEM_SEG_POINT_HEAD" in cfg.MODEL and "MASK_RESOLUTION" in cfg.MODEL.get("POINT_HEAD", ()):
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    if semantic:
        (cfg.MODEL.SEM_SEG_HEAD.NAME,) = BUILTIN_SEMANTIC_HEADS
    return adopt_config(cfg)


def _adopt(cfg: CN) -> None:
    add_pointrend_config(cfg)
    mask_head = cfg.MODEL.ROI_MASK_HEAD.NAME
    if mask_head in _POINT_SUP_HEADS and mask_head not in ROI_MASK_HEAD_REGISTRY:
        _translate(cfg, "MODEL.ROI_MASK_HEAD.NAME", _POINT_SUP_HEADS[mask_head])
    if cfg.MODEL.SEM_SEG_HEAD.NAME in NAMES["MODEL.SEM_SEG_HEAD.NAME"]:
        _move_semantic_point_head(cfg)
    if cfg.MODEL.ROI_MASK_HEAD.NAME in NAMES["MODEL.ROI_MASK_HEAD.NAME"]:
        _translate(cfg, "MODEL.ROI_MASK_HEAD.POOLER_TYPE", "")
    semantic, instance = has_point_heads(cfg)
    is_somebodys = instance is None or (semantic is None and not instance)
    for key, names in NAMES.items():
        old = value_of(cfg, key)
        if old in names and not (is_somebodys and key in _OF_THE_MASK_HEAD):
            _warn_of_a_fork(key, old, names[old])
            _translate(cfg, key, names[old])


def _warn_of_a_fork(key: str, old: str, new: str) -> None:
    module = registered_module(_REGISTRIES[key], old) if key in _REGISTRIES else None
    if module is not None and not module.startswith((BUILTIN, __package__.partition(".")[0])):
        logger.warning(
            f"{key} is '{old}', which {module} registered; it is replaced by {new}, as the class "
            "of this name in Detectron2's PointRend would be. Register yours under another name "
            "to use it."
        )


def _move_semantic_point_head(cfg: CN) -> None:
    old, new = cfg.MODEL.POINT_HEAD, cfg.MODEL.SEM_SEG_POINT_HEAD
    classes, allowed = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, {cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES}
    if cfg.MODEL.ROI_MASK_HEAD.NAME in NAMES["MODEL.ROI_MASK_HEAD.NAME"]:
        allowed.add(cfg.MODEL.ROI_HEADS.NUM_CLASSES)  # the node of both branches
    if old.NUM_CLASSES not in allowed:
        raise InputError(
            f"MODEL.POINT_HEAD.NUM_CLASSES is {old.NUM_CLASSES} and MODEL.SEM_SEG_HEAD.NUM_CLASSES "
            f"is {classes}: Detectron2's PointRend needs the same number in both. Set both to the "
            "number of classes of the data set."
        )
    for key in new:
        if key in old and new[key] != old[key]:
            logger.info(f"MODEL.POINT_HEAD.{key} -> MODEL.SEM_SEG_POINT_HEAD.{key}: {old[key]}")
            new[key] = old[key]


def _translate(cfg: CN, key: str, value: str) -> None:
    node, _, name = key.rpartition(".")
    old = value_of(cfg, key)
    if old != value:
        logger.info(f"{key}: {old} -> {value or repr(value)}")
        value_of(cfg, node)[name] = value
