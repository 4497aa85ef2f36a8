"""Validate the config of the semantic head, before anything is built."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec

from ..config.keys import SEMANTIC_NODE, check_node
from ..errors import InputError


def steps_to_full_size(steps: int, stride: int) -> int:
    """Return the number of subdivision steps from a stride to 1.

    Args:
        steps: that number, or -1 to have it found out.

    Raises:
        InputError: it is another number, or the stride is no power of two.
    """
    needed = stride.bit_length() - 1
    if stride != 1 << needed:
        raise InputError(
            f"The coarse head's stride is {stride}; doubling reaches full size from a power of two "
            "only. Set MODEL.SEM_SEG_HEAD.COMMON_STRIDE to one."
        )
    if steps not in (-1, needed):
        raise InputError(
            f"{SEMANTIC_NODE}.SUBDIVISION_STEPS is {steps}, but {needed} steps lead from the "
            f"coarse head's stride {stride} to the image's own size. Set it to {needed}, or to -1 "
            "to have it found out."
        )
    return needed


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
        raise InputError(f"MODEL.SEM_SEG_HEAD.NUM_CLASSES is {head.NUM_CLASSES}; it is 1 or more.")
    if node.CLS_AGNOSTIC_MASK:
        raise InputError(
            f"{SEMANTIC_NODE}.CLS_AGNOSTIC_MASK is True, which has no meaning for semantic "
            "segmentation: set it to False (for a binary model set "
            "MODEL.SEM_SEG_HEAD.NUM_CLASSES to 1)."
        )
    check_node(cfg, SEMANTIC_NODE)
    wanted = max(2, head.NUM_CLASSES)
    if len(head.CLASS_WEIGHTS) not in (0, wanted):
        raise InputError(
            f"MODEL.SEM_SEG_HEAD.CLASS_WEIGHTS has {len(head.CLASS_WEIGHTS)} numbers; "
            f"{head.NUM_CLASSES} class(es) need {wanted}"
            + (" (background, foreground)." if head.NUM_CLASSES == 1 else ".")
        )
