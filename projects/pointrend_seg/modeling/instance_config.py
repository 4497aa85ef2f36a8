"""Read and validate the config of the mask heads, before anything is built."""

from collections.abc import Mapping

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec

from ..config.keys import INSTANCE_NODE, check_node
from ..errors import InputError
from .box_subdivision import BoxSubdivision
from .readers import ReadSettings


def check_mask_config(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
    """Validate the config of either mask head.

    Args:
        cfg: the whole config.
        input_shape: what `StandardROIHeads` gives a mask head that pools by itself.

    Raises:
        InputError: with the key to change.
    """
    head, node = cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.POINT_HEAD
    if not isinstance(input_shape, Mapping):  # lazy configs give a mapping of their own
        raise InputError(
            f"MODEL.ROI_MASK_HEAD.POOLER_TYPE is '{head.POOLER_TYPE}', but {head.NAME} reads the "
            "feature maps by itself, at points. Set it to ''. Heads of one feature map "
            "(Res5ROIHeads) cannot be used with it: MODEL.ROI_HEADS.NAME is StandardROIHeads or "
            "CascadeROIHeads."
        )
    _check_features("MODEL.ROI_MASK_HEAD.IN_FEATURES", head.IN_FEATURES, input_shape)
    if head.POINT_HEAD_ON or head.NAME != "PointRendInstanceHead":
        _check_features(f"{INSTANCE_NODE}.IN_FEATURES", node.IN_FEATURES, input_shape)
    for key, value, least in (
        ("MODEL.ROI_HEADS.NUM_CLASSES", cfg.MODEL.ROI_HEADS.NUM_CLASSES, 1),
        ("MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", head.POOLER_RESOLUTION, 2),
    ):
        if value < least:
            raise InputError(f"{key} is {value}; it must be {least} or more.")
    check_node(cfg, "MODEL.ROI_MASK_HEAD")
    check_node(cfg, INSTANCE_NODE)
    if node.MASK_RESOLUTION and head.NAME == "PointRendInstanceHead" and not head.POINT_HEAD_ON:
        raise InputError(
            f"{INSTANCE_NODE}.MASK_RESOLUTION is {node.MASK_RESOLUTION}, but MODEL.ROI_MASK_HEAD."
            "POINT_HEAD_ON is False, so that masks stay coarse. Set it to True, or "
            f"{INSTANCE_NODE}.MASK_RESOLUTION to 0."
        )


def mask_classes(cfg: CfgNode) -> int:
    """Return C of either mask head: 1 where one of the nodes asks for class-agnostic masks."""
    nodes = (cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.POINT_HEAD)
    return 1 if any(node.CLS_AGNOSTIC_MASK for node in nodes) else cfg.MODEL.ROI_HEADS.NUM_CLASSES


def read_settings(
    cfg: CfgNode, input_shape: dict[str, ShapeSpec], *, at_points: bool
) -> ReadSettings:
    """Collect which maps a mask head reads, and how.

    Args:
        at_points: whether the head predicts points.
    """
    head, node = cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.POINT_HEAD
    point_names = node.IN_FEATURES if at_points else ()
    return ReadSettings(
        point_strides={name: input_shape[name].stride for name in point_names},
        pooler_strides={name: input_shape[name].stride for name in head.IN_FEATURES},
        pooler_size=head.POOLER_RESOLUTION,
        padding_mode=node.PADDING_MODE,
        fast_path=node.FAST_PATH,
    )


def box_subdivision(node: CfgNode) -> BoxSubdivision:
    """Collect how inference subdivides, from ``cfg.MODEL.POINT_HEAD``."""
    return BoxSubdivision(node.SUBDIVISION_STEPS, node.SUBDIVISION_NUM_POINTS, node.MASK_RESOLUTION)


def _check_features(key: str, names: list[str], input_shape: dict[str, ShapeSpec]) -> None:
    if len(set(names)) < len(names):
        raise InputError(f"{key} is {list(names)}: name each feature map once.")
    if names and all(name in input_shape for name in names):
        return
    raise InputError(
        f"{key} is {list(names)}, but the mask head is given {', '.join(input_shape)} "
        "(MODEL.ROI_HEADS.IN_FEATURES). Name some of these, or add what is missing to that key."
    )
