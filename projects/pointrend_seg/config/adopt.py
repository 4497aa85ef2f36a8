"""Turn configs that are written for Detectron2's PointRend into configs of this package."""

import logging
import os

from detectron2.config import CfgNode as CN
from detectron2.config import get_cfg

from ..errors import InputError
from .checks import check_config
from .keys import add_pointrend_config
from .reading import merge_config_file
from .tree import value_of

logger = logging.getLogger(__name__)

# Names of Detectron2's PointRend, and what they are called here.
_NAMES = {
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


def adopt_config(cfg: CN | str | os.PathLike) -> CN:
    """Turn a config that is written for Detectron2's PointRend into one for this package.

    Names are translated; the values in ``MODEL.POINT_HEAD`` that are meant for a semantic head go
    to ``MODEL.SEM_SEG_POINT_HEAD``; the keys of this package are added. A config that names
    nothing of Detectron2's PointRend keeps its values. Every translation is logged.

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


def _adopt(cfg: CN) -> None:
    add_pointrend_config(cfg)
    if cfg.MODEL.SEM_SEG_HEAD.NAME in _NAMES["MODEL.SEM_SEG_HEAD.NAME"]:
        _move_semantic_point_head(cfg)
    if cfg.MODEL.ROI_MASK_HEAD.NAME in _NAMES["MODEL.ROI_MASK_HEAD.NAME"]:
        _translate(cfg, "MODEL.ROI_MASK_HEAD.POOLER_TYPE", "")
    for key, names in _NAMES.items():
        old = value_of(cfg, key)
        _translate(cfg, key, names.get(old, old))


def _move_semantic_point_head(cfg: CN) -> None:
    old, new = cfg.MODEL.POINT_HEAD, cfg.MODEL.SEM_SEG_POINT_HEAD
    classes = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    if classes != old.NUM_CLASSES:
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
