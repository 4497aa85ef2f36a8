"""The coarse prediction of the semantic branch: any semantic head, asked for its raw logits.

Any head in Detectron2's `SEM_SEG_HEADS_REGISTRY` will do that has

``layers(features) -> Tensor``
    the logits (N, C, h, w) *before* they are upsampled, from the backbone's dict of feature maps;
``common_stride``
    int, a power of two: the image pixels that one cell of these logits stands for, so that
    h = ceil(H / common_stride);

and, if it wants its own training loss,

``losses(logits, targets) -> dict[str, Tensor]``
    from those logits and labels (N, h * common_stride, w * common_stride), int64. A head without
    it is trained with the cross entropy of the upsampled logits. Where pixels have weights of
    their own, it is used if it has a third argument ``weights``.

Detectron2's `SemSegFPNHead`, DeepLab's `DeepLabV3PlusHead` and Panoptic-DeepLab's
`PanopticDeepLabSemSegHead` are such heads. DeepLab's `DeepLabV3Head` has no ``layers``; its parts
are called one by one here.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ASPP, ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from ..errors import InputError
from .panoptic_deeplab import PANOPTIC_DEEPLAB_HEAD, import_panoptic_deeplab
from .registry import look_up

INTERFACE = (
    "A coarse head needs `layers(features)`, which returns its logits (N, C, h, w) before they "
    "are upsampled, and an int attribute `common_stride`, the stride of these logits "
    "(docs/coarse-heads.md)."
)


def build_coarse_head(cfg: CfgNode, input_shape: dict[str, ShapeSpec], *, name: str) -> nn.Module:
    """Build a semantic head and check that it can serve as a coarse one.

    Args:
        cfg: the whole config; the head reads ``cfg.MODEL.SEM_SEG_HEAD`` as it always does.
        name: its name in `SEM_SEG_HEADS_REGISTRY`.

    Raises:
        InputError: no such head, or it lacks what the top of this module asks for.
    """
    key = "MODEL.SEM_SEG_POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME"
    if name == PANOPTIC_DEEPLAB_HEAD:
        import_panoptic_deeplab()
    build = look_up(SEM_SEG_HEADS_REGISTRY, name, key)
    try:
        head = build(cfg, input_shape)
    except (ValueError, AssertionError) as error:
        raise InputError(
            f"The coarse head {name} cannot be built from this config: {error} Check "
            "MODEL.SEM_SEG_HEAD and INPUT.CROP."
        ) from error
    return prepare_coarse_head(head, f"{key} is '{name}'")


def prepare_coarse_head(head: Any, what: str) -> Any:
    """Check that a head can serve as a coarse one, and let DeepLab's see images of any size.

    Args:
        what: the beginning of the message, such as "coarse_head is a DeepLabV3Head".

    Raises:
        InputError: it lacks what the top of this module asks for.
    """
    missing = [] if callable(getattr(head, "layers", None)) or _is_aspp(head) else ["layers"]
    missing += [] if isinstance(getattr(head, "common_stride", None), int) else ["common_stride"]
    if missing:
        raise InputError(f"{what}, which has no `{'` and no `'.join(missing)}`. {INTERFACE}")
    _accept_any_size(head)
    return head


def coarse_logits(head: Any, features: dict[str, Tensor]) -> Tensor:
    """Compute a head's logits (N, C, h, w) at its own stride."""
    if hasattr(head, "layers"):
        return head.layers(features)
    return head.predictor(head.aspp(features[head.in_features[0]]))


def loss_of_coarse_head(head: Any, weights: Tensor | None) -> Callable[..., dict] | None:
    """Return the training loss of a coarse head, which takes its logits and labels.

    Args:
        weights: (N, H, W) of the pixels, which the loss is given; None: they have none.

    Returns:
        None for a head without a loss, or without one that takes the weights.
    """
    if not hasattr(head, "losses"):
        return None
    takes_weights = "weights" in inspect.signature(head.losses).parameters
    if takes_weights and isinstance(getattr(head, "loss", None), nn.CrossEntropyLoss):
        return None  # Panoptic-DeepLab's head gives weights to it, which it does not take
    if weights is None:
        return head.losses
    return partial(head.losses, weights=weights) if takes_weights else None


def _is_aspp(head: nn.Module) -> bool:
    return all(hasattr(head, part) for part in ("aspp", "predictor", "in_features"))


class ImagePooling(nn.Module):
    """DeepLab's average over windows of the training crop's size, in maps of any size.

    Windows are no larger than the map. Where it is a multiple of the crop this is what Detectron2
    computes; it refuses every other size, though nothing in its way of pooling asks for a multiple.
    """

    def __init__(self, kernel_size: tuple[int, int]):
        super().__init__()
        self.kernel_size = tuple(kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.kernel_size
        return avg_pool2d(x, (min(height, x.shape[-2]), min(width, x.shape[-1])), stride=1)


def _accept_any_size(head: nn.Module) -> None:
    """Let DeepLab's heads evaluate images whose size is no multiple of the training crop's."""
    for aspp in head.modules():
        if isinstance(aspp, ASPP) and aspp.pool_kernel_size is not None:
            aspp.convs[-1][0] = ImagePooling(aspp.pool_kernel_size)
            aspp.pool_kernel_size = None  # what the refusal looks at
