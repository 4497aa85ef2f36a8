"""Validate the config of the semantic head, before anything is built."""

import logging
from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec

from ..config.keys import SEMANTIC_NODE, check_node
from ..errors import InputError

logger = logging.getLogger(__name__)


def resolve_subdivision_steps(steps: int, stride: int) -> int:
    """Return the number of subdivision steps, each of which halves the coarse head's stride.

    Fewer than lead to full size are allowed, as in Detectron2's PointRend: the rest is upsampled.

    Args:
        steps: that number, or -1 for as many as lead to stride 1.

    Raises:
        InputError: there are more than lead to full size, or the stride is no power of two.

    Example:
        >>> resolve_subdivision_steps(-1, stride=8)
        3
    """
    most = stride.bit_length() - 1
    if stride != 1 << most:
        raise InputError(
            f"The coarse head's stride is {stride}; doubling reaches full size from a power of two "
            "only. Set MODEL.SEM_SEG_HEAD.COMMON_STRIDE to one."
        )
    if steps > most:
        raise InputError(
            f"{SEMANTIC_NODE}.SUBDIVISION_STEPS is {steps}, but {most} steps lead from the coarse "
            f"head's stride {stride} to the image's own size. Set it to {most} or less, or to -1 "
            "for as many as needed."
        )
    if 0 <= steps < most:
        logger.warning(
            f"{SEMANTIC_NODE}.SUBDIVISION_STEPS is {steps} of {most} steps from stride {stride} "
            f"to the image's own size: from stride {stride >> steps} on, the result is upsampled "
            "without points. Set it to -1 for as many as needed."
        )
    return most if steps == -1 else steps


def check_semantic_config(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
    """Validate the config of the semantic head; raise `InputError` with the key to change."""
    head, node, known = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.SEM_SEG_POINT_HEAD, ", ".join(input_shape)
    for key, names in (
        (f"{SEMANTIC_NODE}.IN_FEATURES", node.IN_FEATURES),
        ("MODEL.SEM_SEG_HEAD.IN_FEATURES", head.IN_FEATURES),
    ):
        wrong = [name for name in names if name not in input_shape]
        if wrong or not names:
            raise InputError(
                f"{key} is {list(names)}, but the backbone gives {known}. Name some of these, or "
                "add what is missing to the backbone's OUT_FEATURES."
            )
    if head.NUM_CLASSES < 1:
        raise InputError(
            f"MODEL.SEM_SEG_HEAD.NUM_CLASSES is {head.NUM_CLASSES}; it must be 1 or more."
        )
    if node.CLS_AGNOSTIC_MASK:
        raise InputError(
            f"{SEMANTIC_NODE}.CLS_AGNOSTIC_MASK is True, which has no meaning for semantic "
            "segmentation: set it to False (for a binary model set "
            "MODEL.SEM_SEG_HEAD.NUM_CLASSES to 1)."
        )
    check_node(cfg, SEMANTIC_NODE)
    check_class_weights("MODEL.SEM_SEG_HEAD.CLASS_WEIGHTS", head.CLASS_WEIGHTS, head.NUM_CLASSES)


def check_class_weights(name: str, weights: Sequence[float], num_classes: int) -> None:
    """Raise `InputError` unless there are no class weights, or one for each class.

    Args:
        name: of the key or keyword that has them, for the message.
        num_classes: of the head; one class needs two weights.
    """
    wanted = max(2, num_classes)
    if len(weights) not in (0, wanted):
        raise InputError(
            f"{name} has {len(weights)} numbers; {num_classes} class(es) need {wanted}"
            + (" (background, foreground)." if num_classes == 1 else ".")
        )
