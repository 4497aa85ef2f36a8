"""The limits on the number of detections of a model: raise them, and see that one is reached."""

import contextlib
from collections.abc import Iterator
from typing import Any

from detectron2.config import CfgNode
from torch import nn

_MOST = 20_000  # detections or proposals; more would not fit into memory


@contextlib.contextmanager
def raised_limits(model: nn.Module, factor: float) -> Iterator[None]:
    """Raise the limits on proposals and detections of a model in evaluation, for a while.

    They are given for an image of the size that the model was trained on. A larger one at the same
    scale has more objects.

    Args:
        model: one of Detectron2's; models without such limits stay as they are.
        factor: of the limits, 1 or more.
    """
    if factor <= 1:
        yield
        return
    changed: list[tuple[Any, Any, int]] = []
    try:
        for module in model.modules():
            for name in ("pre_nms_topk", "post_nms_topk"):  # by whether the model trains
                limits = getattr(module, name, None)
                if isinstance(limits, dict) and False in limits:
                    changed.append((limits, False, limits[False]))
                    limits[False] = _raised(limits[False], factor)
            for name in ("test_topk_per_image", "max_detections_per_image"):
                limit = getattr(module, name, None)
                if isinstance(limit, int) and limit > 0:
                    changed.append((module.__dict__, name, limit))
                    module.__dict__[name] = _raised(limit, factor)
        yield
    finally:
        for place, name, value in changed:
            place[name] = value


def _raised(limit: int, factor: float) -> int:
    return max(limit, min(_MOST, int(limit * factor)))


def has_proposals(model: Any) -> bool:
    """Tell whether a model, or a wrapped one, takes its detections from limited proposals."""
    modules = model.modules() if isinstance(model, nn.Module) else ()
    return any(isinstance(getattr(module, "post_nms_topk", None), dict) for module in modules)


def reached_limit(cfg: CfgNode, found: int, factor: float = 1.0, *, proposals: bool = True) -> str:
    """Return what to say of an image whose detections reach a limit; "" where they do not.

    Args:
        cfg: of the model.
        found: number of detections.
        factor: by which `raised_limits` raised the limits.
        proposals: whether the model `has_proposals`.
    """
    limit = cfg.TEST.DETECTIONS_PER_IMAGE
    allowed = _raised(limit, factor) if limit > 0 else 0
    if allowed and found >= allowed:
        raised = f" ({allowed} for a part of this size)" if allowed != limit else ""
        return (
            f"has {found} detections, the most that TEST.DETECTIONS_PER_IMAGE {limit} "
            f"allows{raised}, so objects may be missing. Raise it, for example to "
            f"TEST.DETECTIONS_PER_IMAGE {2 * limit}."
        )
    most = _raised(cfg.MODEL.RPN.POST_NMS_TOPK_TEST, factor)
    if proposals and 2 * found >= most:
        before, after = cfg.MODEL.RPN.PRE_NMS_TOPK_TEST, cfg.MODEL.RPN.POST_NMS_TOPK_TEST
        return (
            f"has {found} detections from at most {most} proposals, so objects may be "
            f"missing. Raise both limits, for example to MODEL.RPN.POST_NMS_TOPK_TEST {4 * after} "
            f"MODEL.RPN.PRE_NMS_TOPK_TEST {4 * before}."
        )
    return ""
