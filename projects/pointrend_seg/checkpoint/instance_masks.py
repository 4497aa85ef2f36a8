"""Infer a mask head and its config keys from the shapes of its weights.

Shape shorthand: K box classes; C mask classes, 1 if masks are class-agnostic.
"""

import math

from .weight_shapes import WeightShapes

HEAD, POINTS, IMPLICIT = "MODEL.ROI_MASK_HEAD", "MODEL.POINT_HEAD", "MODEL.IMPLICIT_POINTREND"
_ENCODING_CHANNELS = 256  # of Implicit PointRend's positional encoding


def describe_masks(
    shapes: WeightShapes, *, num_classes: int | None, map_channels: int | None
) -> tuple[str, dict, dict]:
    """Describe a mask head.

    Args:
        shapes: shapes of the weights below ``roi_heads.mask_head``.
        num_classes: K, None if unknown.
        map_channels: channels of each feature map, None if unknown.

    Returns:
        a description of the task; values of config keys; other properties by a readable name.
    """
    coarse, implicit = shapes.under("coarse_head."), shapes.under("parameter_head.")
    if coarse:
        return _pointrend(coarse, shapes.under("point_head."), num_classes)
    if implicit:
        return _implicit(implicit, shapes.under("point_head."), num_classes, map_channels)
    if shapes:
        settings: dict[str, object] = {"MODEL.MASK_ON": True}
        if shapes.under("mask_fcn1.") or shapes.under("deconv."):
            settings[f"{HEAD}.NAME"] = "MaskRCNNConvUpsampleHead"
        if "predictor.weight" in shapes and num_classes not in (None, 1):
            settings[f"{HEAD}.CLS_AGNOSTIC_MASK"] = shapes["predictor.weight"][0] == 1
        return "instance segmentation without PointRend", settings, {}
    return "object detection, without masks", {"MODEL.MASK_ON": False}, {}


def _pointrend(
    coarse: WeightShapes, point: WeightShapes, num_classes: int | None
) -> tuple[str, dict, dict]:
    settings: dict[str, object] = {
        "MODEL.MASK_ON": True,
        **_head_without_pooler("PointRendInstanceHead"),
        f"{HEAD}.POINT_HEAD_ON": bool(point),
        **_conv_fc(coarse),
    }
    facts = _pooled_channels(coarse)
    coarse_classes = None
    task = "instance segmentation, PointRend" + ("" if point else " with its point head off")
    if "predictor.weight" in point:
        layers = point.mlp()
        settings[f"{POINTS}.NAME"] = "PointMLP"
        settings[f"{POINTS}.FC_DIM"] = layers.width
        settings[f"{POINTS}.NUM_FC"] = layers.hidden
        settings[f"{POINTS}.COARSE_PRED_EACH_LAYER"] = layers.repeated > 0
        settings.update(_agnostic(layers.outputs, num_classes))
        # A class-agnostic point head can follow a class-specific coarse head.
        coarse_classes = layers.repeated or (layers.outputs if layers.outputs > 1 else None)
    coarse_masks = _coarse_masks(coarse, coarse_classes, num_classes)
    if coarse_masks:
        coarse_classes, side = coarse_masks
        if not point and num_classes != 1:
            settings[f"{HEAD}.CLS_AGNOSTIC_MASK"] = coarse_classes == 1
        settings[f"{HEAD}.OUTPUT_SIDE_RESOLUTION"] = side
        facts["classes of the coarse masks"] = coarse_classes
        if "predictor.weight" in point:
            facts["classes of the masks at points"] = layers.outputs
            facts["fine feature channels"] = layers.inputs - coarse_classes
    return task, settings, facts


def _head_without_pooler(head: str) -> dict[str, str]:
    """Return the keys of a head that reads the feature maps itself and takes no pooler."""
    return {f"{HEAD}.NAME": head, f"{HEAD}.POOLER_TYPE": ""}


def _agnostic(classes: int, num_classes: int | None) -> dict[str, bool]:
    """Return the keys that make masks class-agnostic: either is enough, otherwise both are off."""
    if classes > 1:
        return {f"{POINTS}.CLS_AGNOSTIC_MASK": False, f"{HEAD}.CLS_AGNOSTIC_MASK": False}
    return {} if num_classes == 1 else {f"{POINTS}.CLS_AGNOSTIC_MASK": True}


def _coarse_masks(
    coarse: WeightShapes, known: int | None, num_classes: int | None
) -> tuple[int, int] | None:
    """Return C and the side of the coarse masks, None if they are ambiguous.

    Args:
        coarse: shapes of the coarse head, which predicts C * side ** 2 logits in one vector.
        known: C, None if unknown.
        num_classes: K, None if unknown.
    """
    logits = coarse.get("prediction.weight", (0,))[0]
    candidates = {known} if known else {num_classes or 1, 1}
    fitting = [
        (classes, math.isqrt(logits // classes))
        for classes in candidates
        if logits and logits == classes * math.isqrt(logits // classes) ** 2
    ]
    return fitting[0] if len(fitting) == 1 else None


def _implicit(
    head: WeightShapes, point: WeightShapes, num_classes: int | None, map_channels: int | None
) -> tuple[str, dict, dict]:
    encoded = "positional_encoding_gaussian_matrix" in point
    settings: dict[str, object] = {
        "MODEL.MASK_ON": True,
        **_head_without_pooler("ImplicitPointRendInstanceHead"),
        **_conv_fc(head),
        f"{POINTS}.NAME": "ImplicitPointMLP",
        f"{IMPLICIT}.POS_ENC_ENABLED": encoded,
    }
    facts: dict[str, object] = _pooled_channels(head)
    count = head.get("prediction.weight", (0,))[0]
    facts["parameters of each instance's MLP"] = count
    mlps = _implicit_mlps(count, num_classes or 1, map_channels, _ENCODING_CHANNELS * encoded)
    if len(mlps) > 1:
        facts["possible MLPs (classes, NUM_FC, FC_DIM, fine channels)"] = mlps
    if len(mlps) == 1:
        ((classes, hidden, width, fine),) = mlps
        settings[f"{POINTS}.FC_DIM"] = width
        settings[f"{POINTS}.NUM_FC"] = hidden
        settings[f"{IMPLICIT}.IMAGE_FEATURE_ENABLED"] = fine > 0
        settings.update(_agnostic(classes, num_classes))
        facts["classes of the masks at points"] = classes
        facts["fine feature channels"] = fine
    return "instance segmentation, Implicit PointRend", settings, facts


def _implicit_mlps(
    count: int, num_classes: int, map_channels: int | None, encoding: int
) -> list[tuple[int, int, int, int]]:
    """Return all (C, hidden layers, their width, fine channels) with ``count`` parameters.

    Widths are limited to multiples of 8 up to 1024, and fine channels to 0 to 4 feature maps.
    """
    mlps = []
    for classes in sorted({num_classes, 1}):
        for hidden in range(1, 7):
            for width in range(8, 1025, 8):
                between = (hidden - 1) * (width + 1) * width
                rest = count - between - width - (width + 1) * classes
                inputs, remainder = divmod(rest, width)
                maps, partial = divmod(inputs - encoding, map_channels or 1)
                if remainder == partial == 0 and 0 <= maps <= 4 and inputs > 0:
                    mlps.append((classes, hidden, width, inputs - encoding))
    return mlps


def _conv_fc(head: WeightShapes) -> dict[str, object]:
    """Return the keys of a coarse head or parameter head, which have the same layers."""
    settings: dict[str, object] = {}
    if "fc1.weight" in head:
        settings[f"{HEAD}.FC_DIM"] = head["fc1.weight"][0]
        settings[f"{HEAD}.NUM_FC"] = head.count("fc")
    if "reduce_spatial_dim_conv.weight" in head:
        conv_dim = settings[f"{HEAD}.CONV_DIM"] = head["reduce_spatial_dim_conv.weight"][0]
        next_layer = head.first(r"^(fc1|prediction)\.weight$")
        if next_layer:  # the head drops the last row and column of odd sizes: this is the even size
            settings[f"{HEAD}.POOLER_RESOLUTION"] = 2 * math.isqrt(next_layer[1] // conv_dim)
    return settings


def _pooled_channels(head: WeightShapes) -> dict[str, object]:
    first = head.first(r"^reduce_(channel|spatial)_dim_conv\.weight$")
    return {"pooled feature channels": first[1]} if first else {}
