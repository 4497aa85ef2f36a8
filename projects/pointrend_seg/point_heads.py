"""Point heads: the MLPs that re-predict points (section 3.3).

Shape shorthand: N regions, C classes, P points, C_fine channels of the fine features.

A point head is chosen by its name in `POINT_HEAD_REGISTRY` (config key ``NAME``), built as
``head(cfg, in_channels=C_fine, num_classes=C)`` where ``cfg`` is the point head's config node, and
called as ``head(fine_features, coarse_features)``.
"""

import fvcore.nn.weight_init as weight_init
import torch
from detectron2.config import CfgNode, configurable
from detectron2.utils.registry import Registry
from torch import Tensor, nn
from torch.nn import functional as F

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
        """
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


def build_point_head(cfg: CfgNode, *, in_channels: int, num_classes: int, key: str) -> nn.Module:
    """Build the point head that a config node names.

    Args:
        cfg: ``cfg.MODEL.POINT_HEAD`` or ``cfg.MODEL.SEM_SEG_POINT_HEAD``.
        in_channels: C_fine.
        num_classes: C, of the task head.
        key: the node's name, for messages.
    """
    head = look_up(POINT_HEAD_REGISTRY, cfg.NAME, f"{key}.NAME")
    return head(cfg, in_channels=in_channels, num_classes=num_classes)
