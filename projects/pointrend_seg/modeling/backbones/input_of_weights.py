"""The normalisation and the order of channels that pretrained weights expect."""

import logging
from functools import partial
from typing import NamedTuple

from detectron2.config import CfgNode, get_cfg
from torchvision import models

from ...config.keys import TIMM_NODE, TORCHVISION_NODE
from ...config.tree import value_of
from .timm_models import check_timm_name, import_timm
from .torchvision_models import check_torchvision_name

logger = logging.getLogger(__name__)

_KEYS = ("MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD", "INPUT.FORMAT")


class ModelInput(NamedTuple):
    """What a model was trained with.

    Attributes:
        mean, std: of the red, green and blue channel, for values from 0 to 255.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


def take_input_of_weights(cfg: CfgNode) -> None:
    """Set the normalisation of a config to that of its backbone of timm or torchvision.

    Only where ``MODEL.PIXEL_MEAN``, ``MODEL.PIXEL_STD`` and ``INPUT.FORMAT`` all have Detectron2's
    defaults; the log names the new values. Other values are kept, with a warning if the weights
    expect other ones. Nothing is done for other backbones, and where ``INPUT_OF_WEIGHTS`` of the
    backbone's node is False.

    Raises:
        InputError: no model has that name, or timm is not installed.
    """
    node = node_of_backbone(cfg)
    if not node or not value_of(cfg, node).INPUT_OF_WEIGHTS:
        return
    name = value_of(cfg, node).NAME
    wanted = expected_input(node, name)
    if wanted is None:
        return
    values = dict(zip(_KEYS, (list(wanted.mean), list(wanted.std), "RGB"), strict=True))
    present, defaults = _values(cfg), _values(get_cfg())
    if present == values:
        return
    shown = ", ".join(f"{key} {value}" for key, value in values.items())
    if present == defaults:
        for key, value in values.items():
            parent, _, leaf = key.rpartition(".")
            value_of(cfg, parent)[leaf] = value
        logger.info("Weights of %s expect %s: the config now has these values.", name, shown)
    else:
        logger.warning(
            "Weights of %s expect %s. The config has other values, which are kept: %s. Set "
            "%s.INPUT_OF_WEIGHTS False if they are meant.",
            name,
            shown,
            ", ".join(f"{key} {value}" for key, value in present.items()),
            node,
        )


def node_of_backbone(cfg: CfgNode) -> str:
    """Return ``MODEL.TIMM`` or ``MODEL.TORCHVISION`` if the backbone is built from it, else ""."""
    name = cfg.MODEL.BACKBONE.NAME
    if name in ("build_timm_backbone", "build_timm_fpn_backbone"):
        return TIMM_NODE
    if name in ("build_torchvision_backbone", "build_torchvision_fpn_backbone"):
        return TORCHVISION_NODE
    return ""


def expected_input(node: str, name: str) -> ModelInput | None:
    """Return what the published weights of a model expect; None where there are none.

    Args:
        node: ``MODEL.TIMM`` or ``MODEL.TORCHVISION``.
        name: the model's name there.
    """
    if node == TIMM_NODE:
        check_timm_name(name)
        found = import_timm().models.get_pretrained_cfg(name, allow_unregistered=True)
        mean, std = (found.mean, found.std) if found is not None else (None, None)
    else:
        check_torchvision_name(name)
        weights = getattr(models.get_model_weights(name), "DEFAULT", None)
        transforms = weights.transforms if weights is not None else None
        preset = transforms() if isinstance(transforms, partial) else None
        mean, std = getattr(preset, "mean", None), getattr(preset, "std", None)
    if not mean or not std:
        return None
    return ModelInput(*(tuple(round(255 * value, 3) for value in each) for each in (mean, std)))


def _values(cfg: CfgNode) -> dict[str, object]:
    values = {key: value_of(cfg, key) for key in _KEYS}
    return {key: value if isinstance(value, str) else list(value) for key, value in values.items()}
