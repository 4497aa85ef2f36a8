"""What the shapes of a mask head's weights tell.

Shape shorthand: K classes of the boxes; C classes of the masks, 1 where they are class-agnostic.
"""

import math

from .weight_shapes import Shapes

HEAD, POINTS, IMPLICIT = "MODEL.ROI_MASK_HEAD", "MODEL.POINT_HEAD", "MODEL.IMPLICIT_POINTREND"
# The channels of Implicit PointRend's positional encoding.
_ENCODING = 256


def describe_masks(
    shapes: Shapes, *, num_classes: int | None, map_channels: int | None
) -> tuple[str, dict, dict]:
    """
    Args:
        shapes: of the weights of ``roi_heads.mask_head``.
        num_classes: K, if it is known.
        map_channels: of each feature map, if it is known.

    Returns:
        the task; the config keys that the shapes tell, with their values; what they tell beside.
    """
    coarse, implicit = shapes.under("coarse_head."), shapes.under("parameter_head.")
    if coarse:
        return _pointrend(coarse, shapes.under("point_head."), num_classes)
    if implicit:
        return _implicit(implicit, shapes.under("point_head."), num_classes, map_channels)
    if shapes:
        settings = {"MODEL.MASK_ON": True}
        if shapes.under("mask_fcn1.") or shapes.under("deconv."):
            settings[f"{HEAD}.NAME"] = "MaskRCNNConvUpsampleHead"
        if "predictor.weight" in shapes and num_classes not in (None, 1):
            settings[f"{HEAD}.CLS_AGNOSTIC_MASK"] = shapes["predictor.weight"][0] == 1
        return "instance segmentation without PointRend", settings, {}
    return "object detection, without masks", {"MODEL.MASK_ON": False}, {}


def _pointrend(coarse: Shapes, point: Shapes, num_classes: int | None) -> tuple[str, dict, dict]:
    settings = {
        "MODEL.MASK_ON": True,
        **_named("PointRendInstanceHead"),
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
        # A class-agnostic point head can stand behind a class-specific coarse head.
        coarse_classes = layers.repeated or (layers.outputs if layers.outputs > 1 else None)
    coarse_classes, side = _coarse_masks(coarse, coarse_classes, num_classes)
    if side:
        if not point and num_classes != 1:
            settings[f"{HEAD}.CLS_AGNOSTIC_MASK"] = coarse_classes == 1
        settings[f"{HEAD}.OUTPUT_SIDE_RESOLUTION"] = side
        facts["classes of the coarse masks"] = coarse_classes
        if "predictor.weight" in point:
            facts["classes of the masks at points"] = layers.outputs
            facts["fine feature channels"] = layers.inputs - coarse_classes
    return task, settings, facts


def _named(head: str) -> dict:
    """These heads read the feature maps themselves, so they go with no pooler."""
    return {f"{HEAD}.NAME": head, f"{HEAD}.POOLER_TYPE": ""}


def _agnostic(classes: int, num_classes: int | None) -> dict:
    """Either of two keys makes masks class-agnostic; neither may where they are not."""
    if classes > 1:
        return {f"{POINTS}.CLS_AGNOSTIC_MASK": False, f"{HEAD}.CLS_AGNOSTIC_MASK": False}
    return {} if num_classes == 1 else {f"{POINTS}.CLS_AGNOSTIC_MASK": True}


def _coarse_masks(
    coarse: Shapes, known: int | None, num_classes: int | None
) -> tuple[int | None, int | None]:
    """C and the side of the coarse masks, whose C * side ** 2 logits are one vector; or None."""
    rows = coarse.get("prediction.weight", (0,))[0]
    candidates = {known} if known else {num_classes or 1, 1}
    fitting = [
        (classes, math.isqrt(rows // classes))
        for classes in candidates
        if rows and rows == classes * math.isqrt(rows // classes) ** 2
    ]
    return fitting[0] if len(fitting) == 1 else (None, None)


def _implicit(
    head: Shapes, point: Shapes, num_classes: int | None, map_channels: int | None
) -> tuple[str, dict, dict]:
    encoded = "positional_encoding_gaussian_matrix" in point
    settings = {
        "MODEL.MASK_ON": True,
        **_named("ImplicitPointRendInstanceHead"),
        **_conv_fc(head),
        f"{POINTS}.NAME": "ImplicitPointMLP",
        f"{IMPLICIT}.POS_ENC_ENABLED": encoded,
    }
    facts = _pooled_channels(head)
    count = head.get("prediction.weight", (0,))[0]
    facts["parameters of each instance's MLP"] = count
    found = _implicit_mlps(count, num_classes or 1, map_channels, _ENCODING * encoded)
    if len(found) > 1:
        facts["MLPs of so many parameters (classes, NUM_FC, FC_DIM, fine channels)"] = found
    if len(found) == 1:
        ((classes, hidden, width, fine),) = found
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
    """All (C, hidden layers, their width, fine channels) with that number of parameters.

    The widths are multiples of 8, and the fine channels those of 0 to 4 feature maps.
    """
    found = []
    for classes in sorted({num_classes, 1}):
        for hidden in range(1, 7):
            for width in range(8, 1025, 8):
                between = (hidden - 1) * (width + 1) * width
                rest = count - between - width - (width + 1) * classes
                inputs, remainder = divmod(rest, width)
                maps, partial = divmod(inputs - encoding, map_channels or 1)
                if remainder == partial == 0 and 0 <= maps <= 4 and inputs > 0:
                    found.append((classes, hidden, width, inputs - encoding))
    return found


def _conv_fc(head: Shapes) -> dict:
    """The keys of the coarse head and of the parameter head, which are built alike."""
    settings = {}
    if "fc1.weight" in head:
        settings[f"{HEAD}.FC_DIM"] = head["fc1.weight"][0]
        settings[f"{HEAD}.NUM_FC"] = head.count("fc")
    if "reduce_spatial_dim_conv.weight" in head:
        conv_dim = settings[f"{HEAD}.CONV_DIM"] = head["reduce_spatial_dim_conv.weight"][0]
        # Of an odd size the last row and column are left out, so it is not told from the even one.
        behind = head.first(r"^(fc1|prediction)\.weight$")
        if behind:
            settings[f"{HEAD}.POOLER_RESOLUTION"] = 2 * math.isqrt(behind[1] // conv_dim)
    return settings


def _pooled_channels(head: Shapes) -> dict:
    first = head.first(r"^reduce_(channel|spatial)_dim_conv\.weight$")
    return {"pooled feature channels": first[1]} if first else {}
