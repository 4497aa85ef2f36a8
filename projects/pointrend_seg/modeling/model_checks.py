"""Check that the heads of a model fit its backbone and each other, before it sees an image."""

from typing import Any

from ..errors import InputError
from .implicit_head import ImplicitPointRendInstanceHead
from .instance_head import PointRendInstanceHead
from .semantic_head import PointRendSemanticHead

_HEADS = (PointRendSemanticHead, PointRendInstanceHead, ImplicitPointRendInstanceHead)


def check_model(model: Any) -> None:
    """Raise `InputError` where a head of this package does not fit the model that it is part of.

    Configs are checked before heads are built from them; this is for heads that are built from
    keywords, which do not know the rest of the model.

    Args:
        model: one of Detectron2's, with ``backbone``; others are not looked at.
    """
    shapes = model.backbone.output_shape() if hasattr(model, "backbone") else {}
    for name, head in model.named_modules():
        if shapes and isinstance(head, _HEADS):
            _check_reading(name, head, shapes)
    heads = getattr(model, "roi_heads", None)
    mask_head = getattr(heads, "mask_head", None)
    if isinstance(mask_head, _HEADS):
        _check_roi_heads(heads, mask_head)


def _check_reading(name: str, head: Any, shapes: dict) -> None:
    pooled = getattr(head, "coarse_head", None) or getattr(head, "parameter_head", None)
    for kind, reader in (("point_strides", head.point_head), ("pooler_strides", pooled)):
        strides = getattr(head.reading, kind)
        missing = [each for each in strides if each not in shapes]
        if missing:
            raise InputError(
                f"{name}.reading.{kind} names {' and '.join(missing)}, but the backbone gives "
                f"{', '.join(shapes)}. Name some of these."
            )
        for each, stride in strides.items():
            if shapes[each].stride != stride:
                raise InputError(
                    f"{name}.reading.{kind} says that {each} has stride {stride}, but the backbone "
                    f"gives it at stride {shapes[each].stride}. Set it to that."
                )
        given = sum(shapes[each].channels for each in strides)
        expected = getattr(reader, "in_channels", given)
        if strides and given != expected:
            raise InputError(
                f"{name} reads {', '.join(strides)}, of {given} channels together, but in_channels "
                f"of its {type(reader).__name__} is {expected}. Set it to {given}."
            )


def _check_roi_heads(heads: Any, mask_head: Any) -> None:
    if getattr(heads, "mask_pooler", None) is not None:
        raise InputError(
            f"roi_heads.mask_pooler is set, but {type(mask_head).__name__} reads the feature maps "
            "by itself. Set it to None."
        )
    unread = {**mask_head.reading.point_strides, **mask_head.reading.pooler_strides}
    missing = [name for name in unread if name not in heads.mask_in_features]
    if missing:
        raise InputError(
            f"The mask head reads {' and '.join(missing)}, but roi_heads.mask_in_features are "
            f"{', '.join(heads.mask_in_features)}. Add what is missing."
        )
    coarse = getattr(mask_head, "coarse_head", None)
    shape = getattr(coarse, "output_shape", (getattr(mask_head.point_head, "num_classes", 1),))
    if shape[0] not in (1, heads.num_classes):
        raise InputError(
            f"The mask head has masks for {shape[0]} classes, but roi_heads.num_classes is "
            f"{heads.num_classes}. Give both the same number, or the mask head 1 for masks that "
            "are class-agnostic."
        )
