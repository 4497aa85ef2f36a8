"""Check the keywords of heads that are built without a config: by hand, or by a lazy config."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..config.detectron2_keys import detectron2_keys
from ..config.keys import INSTANCE_NODE, KEYS, SEMANTIC_NODE, Key
from ..errors import InputError


def _shared(node: str) -> dict[str, str]:
    return {
        "train_num_points": f"{node}.TRAIN_NUM_POINTS",
        "point_loss_weight": f"{node}.LOSS_WEIGHT",
    }


# Keywords, and the config keys that say which values they may have.
SEMANTIC_HEAD = {
    **_shared(SEMANTIC_NODE),
    "num_classes": "MODEL.SEM_SEG_HEAD.NUM_CLASSES",
    "ignore_value": "MODEL.SEM_SEG_HEAD.IGNORE_VALUE",
    "train_points_per_height": f"{SEMANTIC_NODE}.TRAIN_POINTS_PER_HEIGHT",
    "avoid_ignored": f"{SEMANTIC_NODE}.AVOID_IGNORED",
    "subdivision_steps": f"{SEMANTIC_NODE}.SUBDIVISION_STEPS",
    "subdivision_num_points": f"{SEMANTIC_NODE}.SUBDIVISION_NUM_POINTS",
    "coarse_loss_weight": "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT",
    "class_weights": "MODEL.SEM_SEG_HEAD.CLASS_WEIGHTS",
}
MASK_HEAD = {
    **_shared(INSTANCE_NODE),
    "l2_weight": "MODEL.IMPLICIT_POINTREND.PARAMS_L2_REGULARIZER",
}
POINT_HEAD = {
    "in_channels": "MODEL.FPN.OUT_CHANNELS",
    "num_classes": "MODEL.ROI_HEADS.NUM_CLASSES",
    "fc_dim": f"{INSTANCE_NODE}.FC_DIM",
    "num_fc": f"{INSTANCE_NODE}.NUM_FC",
    "coarse_pred_each_layer": f"{INSTANCE_NODE}.COARSE_PRED_EACH_LAYER",
    "image_feature_enabled": "MODEL.IMPLICIT_POINTREND.IMAGE_FEATURE_ENABLED",
    "positional_encoding_enabled": "MODEL.IMPLICIT_POINTREND.POS_ENC_ENABLED",
}
POOLED_HEAD: dict[str, str | Key] = {
    "in_channels": "MODEL.FPN.OUT_CHANNELS",
    "pooler_size": Key("", 14, least=2, most=1024),
    "conv_dim": "MODEL.ROI_MASK_HEAD.CONV_DIM",
    "fc_dims": "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS",
}
READING = {
    "padding_mode": f"{INSTANCE_NODE}.PADDING_MODE",
    "fast_path": f"{INSTANCE_NODE}.FAST_PATH",
}
SUBDIVISION = {
    "num_steps": f"{INSTANCE_NODE}.SUBDIVISION_STEPS",
    "num_points": f"{INSTANCE_NODE}.SUBDIVISION_NUM_POINTS",
    "mask_resolution": f"{INSTANCE_NODE}.MASK_RESOLUTION",
}


def check_arguments(
    owner: object, keys: Mapping[str, str | Key], values: Mapping[str, Any]
) -> None:
    """Raise `InputError` for a keyword whose value the config key of that meaning may not have.

    Args:
        owner: the object that was called with them, for the message.
        keys: the config key of each keyword. Those that are not among the values do not count.
        values: of the keywords; others may be among them.

    Example:
        >>> from pointrend_seg.modeling.point_heads import PointMLP
        >>> PointMLP(in_channels=8, num_classes=2, fc_dim=0)
        Traceback (most recent call last):
        ...
        pointrend_seg.errors.InputError: fc_dim of PointMLP is 0; it must be 1 to 65536.
    """
    for name in [name for name in keys if name in values]:
        key, value = keys[name], values[name]
        if isinstance(key, str):
            key = KEYS.get(key) or detectron2_keys()[key]
        if isinstance(value, Sequence) and not isinstance(value, str):
            value = list(value)  # also the lists of lazy configs
        if value is not None or not isinstance(key.default, list | tuple):
            replace(key, name=f"{name} of {type(owner).__name__}").check(value)


def check_type(owner: object, expected: type, **arguments: Any) -> None:
    """Raise `InputError` for a keyword that is no object of a class."""
    for name, value in arguments.items():
        if not isinstance(value, expected):
            raise InputError(
                f"{name} of {type(owner).__name__} is {value!r:.80}; it must be made with "
                f"{expected.__name__}(…)."
            )


def check_same(what: str, found: Any, other: str, expected: Any) -> None:
    """Raise `InputError` where two keywords of a head do not have the same value.

    Args:
        what, other: the keywords, for the message.
    """
    if found != expected:
        raise InputError(f"{what} is {found}, but {other} is {expected}. They must be the same.")


def check_mask_parts(coarse_head: Any, point_head: Any, pooler_size: int) -> None:
    """Raise `InputError` where the parts of a `PointRendInstanceHead` do not fit each other.

    Parts of somebody else's classes, without these attributes, are not looked at.

    Args:
        coarse_head: a `ConvFCHead` with ``output_shape`` (C, S, S).
        point_head: a `PointMLP`, or None.
        pooler_size: of the `ReadSettings`.
    """
    size = getattr(coarse_head, "pooler_size", pooler_size)
    check_same("pooler_size of the coarse head", size, "that of ReadSettings", pooler_size)
    shape = getattr(coarse_head, "output_shape", None)
    if shape is None:
        return
    if len(shape) != 3 or shape[1] != shape[2]:
        raise InputError(
            f"output_shape of the coarse head is {shape}; it must be (number of classes, S, S), "
            "with S the side of the coarse masks, such as (80, 7, 7)."
        )
    num_classes = getattr(point_head, "num_classes", shape[0])
    check_same("num_classes of the point head", num_classes, "output_shape[0]", shape[0])


def check_implicit_parts(parameter_head: Any, point_head: Any, pooler_size: int) -> None:
    """Raise `InputError` where the parts of an implicit mask head do not fit each other.

    Args:
        parameter_head: a `ConvFCHead` with ``output_shape`` (num_params,).
        point_head: an `ImplicitPointMLP`.
        pooler_size: of the `ReadSettings`.
    """
    size = getattr(parameter_head, "pooler_size", pooler_size)
    check_same("pooler_size of the parameter head", size, "that of ReadSettings", pooler_size)
    wanted = (getattr(point_head, "num_params", None),)
    found = wanted if wanted == (None,) else getattr(parameter_head, "output_shape", wanted)
    check_same(
        "output_shape of the parameter head", found, "(num_params,) of the point head", wanted
    )


def check_num_channels(what: str, logits: Tensor, num_classes: int) -> None:
    """Raise `InputError` where logits (N, C, h, w) have another C than a head's classes."""
    if not torch.jit.is_tracing() and logits.shape[1] != num_classes:
        raise InputError(
            f"{what} predicts {logits.shape[1]} channel(s), but num_classes of the head is "
            f"{num_classes}. Give both the same number."
        )


def check_feature_maps(
    features: Mapping[str, Tensor] | Tensor,
    strides: Mapping[str, int],
    what: str,
    reader: nn.Module | None = None,
) -> None:
    """Raise `InputError` where a head is not given the feature maps that it reads.

    Args:
        features: what the head was called with.
        strides: name and stride of each map that it reads.
        what: the keyword that names them, for the message.
        reader: the part of the head that sees them all together; its ``in_channels``, if it has
            them, are compared.
    """
    if not isinstance(features, Mapping):
        raise InputError(
            "The mask head reads the feature maps by itself, at points, but it was given pooled "
            "features of boxes. Set mask_pooler of the ROI heads to None (in a YAML config "
            "MODEL.ROI_MASK_HEAD.POOLER_TYPE to '')."
        )
    missing = [name for name in strides if name not in features]
    if missing:
        raise InputError(
            f"{what} names {' and '.join(missing)}, but the head is given "
            f"{', '.join(features)}. Name some of these, or give the head more (mask_in_features "
            "of ROI heads, out_features of the backbone)."
        )
    if torch.jit.is_tracing():  # a graph has no errors
        return
    given = sum(features[name].shape[1] for name in strides)
    expected = getattr(reader, "in_channels", given)
    if given != expected:
        raise InputError(
            f"{what} names {', '.join(strides)}, of {given} channels together, but in_channels of "
            f"{type(reader).__name__} is {expected}. Set it to {given}."
        )
