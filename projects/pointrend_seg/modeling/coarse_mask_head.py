"""The coarse head of the instance branch, and what predicts parameters for the implicit one.

Shape shorthand: R boxes, C_in channels of the pooled features, S x S their size.
"""

import logging
import math
from typing import Any

import fvcore.nn.weight_init as weight_init
import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import Tensor, nn
from torch.nn import functional as F

from .arguments import POOLED_HEAD, check_arguments

logger = logging.getLogger(__name__)


class ConvFCHead(nn.Module):
    """Convolutions that make pooled features smaller, then fully connected layers (section 4.1).

    State-dict names and the initialisation are those of Detectron2's head of that name.
    """

    _version = 2

    def __init__(
        self,
        *,
        in_channels: int,
        pooler_size: int,
        conv_dim: int,
        fc_dims: list[int],
        output_shape: tuple[int, ...],
    ):
        """
        Args:
            in_channels: C_in. More than ``conv_dim`` are reduced to it by a convolution of 1 x 1.
            pooler_size: S, 2 or more; of an odd size the last row and column are left out.
            conv_dim: channels behind the convolutions.
            fc_dims: widths of the hidden layers.
            output_shape: what is predicted for each box, e.g. (C, 7, 7).
        """
        super().__init__()
        check_arguments(self, POOLED_HEAD, locals())
        self.in_channels, self.pooler_size = in_channels, pooler_size
        self.num_fc = len(fc_dims)
        self.output_shape = tuple(output_shape)
        self.has_reduction = in_channels > conv_dim
        if self.has_reduction:
            self.reduce_channel_dim_conv = nn.Conv2d(in_channels, conv_dim, kernel_size=1)
        width = min(in_channels, conv_dim)
        self.reduce_spatial_dim_conv = nn.Conv2d(width, conv_dim, kernel_size=2, stride=2)
        width = conv_dim * (pooler_size // 2) ** 2
        for k, fc_dim in enumerate(fc_dims, start=1):
            self.add_module(f"fc{k}", nn.Linear(width, fc_dim))
            width = fc_dim
        self.prediction = nn.Linear(width, math.prod(self.output_shape))
        # After all are made, and in this order, as in Detectron2: the same seed gives the same
        # weights.
        nn.init.normal_(self.prediction.weight, std=0.001)
        nn.init.zeros_(self.prediction.bias)
        if self.has_reduction:
            weight_init.c2_msra_fill(self.reduce_channel_dim_conv)
        weight_init.c2_msra_fill(self.reduce_spatial_dim_conv)
        for k in range(1, self.num_fc + 1):
            weight_init.c2_xavier_fill(getattr(self, f"fc{k}"))

    def forward(self, x: Tensor) -> Tensor:
        """Predict from pooled features.

        Args:
            x: (R, C_in, S, S).

        Returns:
            (R, *output_shape).
        """
        return self.predict(self.convolve(x))

    @property
    def convolutions(self) -> list[nn.Module]:
        """The convolutions, looked up at each call so that a swapped one is used."""
        reduction = [self.reduce_channel_dim_conv] if self.has_reduction else []
        return [*reduction, self.reduce_spatial_dim_conv]

    def convolve(self, x: Tensor) -> Tensor:
        """Apply the convolutions: (R, C_in, S, S) to (R, conv_dim * (S // 2) ** 2)."""
        for layer in self.convolutions:
            x = F.relu(layer(x))
        return torch.flatten(x, start_dim=1)

    def predict(self, x: Tensor) -> Tensor:
        """Apply the fully connected layers, from what `convolve` gives to (R, *output_shape)."""
        for k in range(1, self.num_fc + 1):
            x = F.relu(getattr(self, f"fc{k}")(x))
        return self.prediction(x).view(x.shape[0], *self.output_shape)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Rename the hidden layers of the format before version 2, ``coarse_mask_fc1``, …"""
        old = [key for key in state_dict if key.startswith(f"{prefix}coarse_mask_fc")]
        for key in old:
            state_dict[key.replace("coarse_mask_fc", "fc")] = state_dict.pop(key)
        if old:
            logger.info(f"Weights of the format before version 2: {prefix}coarse_mask_fc* -> fc*")
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def build_pooled_head(
    node: CfgNode, input_shape: dict[str, ShapeSpec], output_shape: tuple[int, ...]
) -> ConvFCHead:
    """Build the head that sees pooled features.

    Args:
        node: ``cfg.MODEL.ROI_MASK_HEAD``.
        input_shape: of the backbone's maps by name.
        output_shape: what is predicted for each box.
    """
    return ConvFCHead(
        in_channels=sum(input_shape[name].channels for name in node.IN_FEATURES),
        pooler_size=node.POOLER_RESOLUTION,
        conv_dim=node.CONV_DIM,
        fc_dims=[node.FC_DIM] * node.NUM_FC,
        output_shape=output_shape,
    )
