"""Point heads: the MLPs that re-predict points (section 3.3).

Shape shorthand: N regions, C classes, P points, C_fine channels of the fine features, an h x w
coarse map.

A point head is chosen by its name in `POINT_HEAD_REGISTRY` (config key ``NAME``), built as
``head(cfg, in_channels=C_fine, num_classes=C)`` where ``cfg`` is the point head's config node, and
called as ``head(fine_features, coarse_features)``. That of the implicit variant is in
`implicit_point_head.py`.
"""

from typing import Any

import fvcore.nn.weight_init as weight_init
import torch
from detectron2.config import CfgNode, configurable
from detectron2.utils.registry import Registry
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from .arguments import POINT_HEAD, check_arguments
from .registry import look_up

POINT_HEAD_REGISTRY = Registry("POINTREND_POINT_HEAD")
POINT_HEAD_REGISTRY.__doc__ = """
Registry for point heads: modules that predict logits from features at points. See the top of
`point_heads.py` for how they are built and called.
"""


@POINT_HEAD_REGISTRY.register()
class PointMLP(nn.Module):
    """An MLP with shared weights at every point, written as convolutions of kernel 1.

    State-dict names (``fc1``, ``fc2``, …, ``predictor``) and the initialisation are those of
    Detectron2's `StandardPointHead`.
    """

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        fc_dim: int = 256,
        num_fc: int = 3,
        coarse_pred_each_layer: bool = True,
        num_outputs: int | None = None,
    ):
        """
        Args:
            in_channels: C_fine, the channels of all fine features together.
            num_classes: C, the channels of the coarse prediction.
            fc_dim, num_fc: width and number of the hidden layers.
            coarse_pred_each_layer: give the coarse prediction to every layer, not only to the
                first.
            num_outputs: logits per point; None for ``num_classes``.
        """
        super().__init__()
        check_arguments(self, POINT_HEAD, locals())
        self.in_channels, self.num_classes = in_channels, num_classes
        self.num_fc = num_fc
        self.coarse_pred_each_layer = coarse_pred_each_layer
        repeated = num_classes if coarse_pred_each_layer else 0
        width = in_channels + num_classes
        for k in range(1, num_fc + 1):
            self.add_module(f"fc{k}", nn.Conv1d(width, fc_dim, kernel_size=1))
            width = fc_dim + repeated
        self.predictor = nn.Conv1d(width, num_outputs or num_classes, kernel_size=1)
        # After all are made, as in Detectron2: the same seed gives the same weights.
        for k in range(1, num_fc + 1):
            weight_init.c2_msra_fill(getattr(self, f"fc{k}"))
        nn.init.normal_(self.predictor.weight, std=0.001)
        assert self.predictor.bias is not None
        nn.init.zeros_(self.predictor.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, *, in_channels: int, num_classes: int) -> dict:
        return {
            "in_channels": in_channels,
            "num_classes": num_classes,
            "fc_dim": cfg.FC_DIM,
            "num_fc": cfg.NUM_FC,
            "coarse_pred_each_layer": cfg.COARSE_PRED_EACH_LAYER,
            "num_outputs": 1 if cfg.CLS_AGNOSTIC_MASK else num_classes,
        }

    def forward(self, fine_features: Tensor, coarse_features: Tensor) -> Tensor:
        """Predict logits at points.

        Args:
            fine_features: (N, C_fine, P), features of the backbone at the points.
            coarse_features: (N, C, P), the coarse logits at the points.

        Returns:
            (N, C, P) logits.
        """
        x = torch.cat((fine_features, coarse_features), dim=1)
        for k in range(1, self.num_fc + 1):
            # Looked up at every call, so that a swapped layer (quantisation, LoRA) is used.
            x = F.relu(getattr(self, f"fc{k}")(x))
            if self.coarse_pred_each_layer:
                x = torch.cat((x, coarse_features), dim=1)
        return self.predictor(x)

    @property
    def layers(self) -> list[nn.Module]:
        """``fc1``, …, ``predictor``, looked up at each call so that a swapped layer is used."""
        return [getattr(self, f"fc{k}") for k in range(1, self.num_fc + 1)] + [self.predictor]

    def parameters_by_layer(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the weights, (out, in, 1), and the biases, (out,), of all `layers`."""
        layers: list[Any] = self.layers  # of `nn.Conv1d` where `is_plain`
        return [layer.weight for layer in layers], [layer.bias for layer in layers]

    def is_plain(self) -> bool:
        """Tell whether it is nothing but the layers it was made with, which may be taken apart."""
        return all(
            type(layer) is nn.Conv1d
            and layer.weight.shape[1:] == (layer.in_channels, 1)
            and layer.bias is not None
            for layer in self.layers
        ) and all(is_untouched(module) for module in (self, *self.layers))


def select_class(logits: Tensor, classes: Tensor) -> Tensor:
    """Select the logits of each region's class: (N, C, ...) and (N,) to (N, ...).

    Where C is 1, the masks are class-agnostic and the only logits are returned.
    """
    if logits.shape[1] == 1:
        return logits[:, 0]
    return logits[torch.arange(logits.shape[0], device=logits.device), classes]


def is_untouched(module: nn.Module) -> bool:
    """Tell whether calling a module does what its class says: no hook, no forward of its own."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return "forward" not in vars(module) and not any(getattr(module, name) for name in hooks)


def build_point_head(
    cfg: CfgNode,
    *,
    in_channels: int,
    num_classes: int,
    key: str,
    implicit: CfgNode | None = None,
) -> Any:
    """Build the point head that a config node names.

    Args:
        cfg: ``cfg.MODEL.POINT_HEAD`` or ``cfg.MODEL.SEM_SEG_POINT_HEAD``.
        in_channels: C_fine.
        num_classes: C, of the task head.
        key: the node's name, for messages.
        implicit: ``cfg.MODEL.IMPLICIT_POINTREND`` for a head that is to be an implicit function
            (its class has ``is_implicit = True``).

    Raises:
        InputError: no head has that name, or it is of the other kind.
    """
    head = look_up(POINT_HEAD_REGISTRY, cfg.NAME, f"{key}.NAME")
    if getattr(head, "is_implicit", False) != (implicit is not None):
        wanted = "ImplicitPointMLP" if implicit is not None else "PointMLP"
        raise InputError(
            f"{key}.NAME is '{cfg.NAME}', which does not go with this mask head: set it to "
            f"'{wanted}', or change MODEL.ROI_MASK_HEAD.NAME. ImplicitPointRendInstanceHead "
            "takes ImplicitPointMLP, the other heads take PointMLP."
        )
    extra = {} if implicit is None else {"implicit": implicit}
    return head(cfg, in_channels=in_channels, num_classes=num_classes, **extra)
