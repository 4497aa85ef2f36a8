"""The point head of Implicit PointRend: an MLP whose weights are predicted for each box.

Source: Cheng, Parkhi, Kirillov, "Pointly-Supervised Instance Segmentation" (CVPR 2022), which
introduces Implicit PointRend.

Shape shorthand: R boxes, C classes, P points, C_fine channels of the fine features.
"""

import math
from collections.abc import Callable

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..points.precision import without_autocast
from .arguments import POINT_HEAD, check_arguments
from .point_heads import POINT_HEAD_REGISTRY, select_class

# Random Fourier features (Tancik et al. 2020): so many frequencies, a sine and a cosine of each.
_FREQUENCIES = 128
# Up to so many classes training computes all of them and picks one, as Detectron2 does: the same
# to the last bit, at a price that hardly shows.
MOST_CLASSES_AT_ONCE = 128


@POINT_HEAD_REGISTRY.register()
class ImplicitPointMLP(nn.Module):
    """A function of the place in the box, different for each box.

    It sees the place, encoded by random Fourier features, and the fine features there. It has no
    weights of its own: `num_params` of them come with each box. State-dict name
    (``positional_encoding_gaussian_matrix``) and the order of the parameters are those of
    Detectron2's `ImplicitPointHead`.
    """

    is_implicit = True
    positional_encoding_gaussian_matrix: Tensor

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        fc_dim: int = 256,
        num_fc: int = 3,
        image_feature_enabled: bool = True,
        positional_encoding_enabled: bool = True,
    ):
        """
        Args:
            in_channels: C_fine.
            num_classes: C, logits per point.
            fc_dim, num_fc: width and number of the hidden layers; at least one.
            image_feature_enabled: see the fine features.
            positional_encoding_enabled: see the place. One of the two it must.
        """
        super().__init__()
        check_arguments(self, POINT_HEAD, locals())
        self.num_classes = num_classes
        if image_feature_enabled:
            self.in_channels = in_channels
        if not (image_feature_enabled or positional_encoding_enabled):
            raise InputError(
                "MODEL.IMPLICIT_POINTREND.IMAGE_FEATURE_ENABLED and POS_ENC_ENABLED are both "
                "False, so the point head would see nothing. Set one of them to True."
            )
        if num_fc < 1:
            raise InputError(f"MODEL.POINT_HEAD.NUM_FC is {num_fc}; it must be 1 or more.")
        self.image_feature_enabled = image_feature_enabled
        self.positional_encoding_enabled = positional_encoding_enabled
        if positional_encoding_enabled:
            matrix = torch.randn(2, _FREQUENCIES)
            self.register_buffer("positional_encoding_gaussian_matrix", matrix)
        self.layer_shapes = _layer_shapes(
            in_channels,
            num_classes,
            fc_dim,
            num_fc,
            image_feature_enabled,
            positional_encoding_enabled,
        )

    @classmethod
    def from_config(
        cls, cfg: CfgNode, *, in_channels: int, num_classes: int, implicit: CfgNode
    ) -> dict:
        """``cfg`` is ``MODEL.POINT_HEAD``, ``implicit`` is ``MODEL.IMPLICIT_POINTREND``."""
        return {
            "in_channels": in_channels,
            "num_classes": num_classes,
            "fc_dim": cfg.FC_DIM,
            "num_fc": cfg.NUM_FC,
            "image_feature_enabled": implicit.IMAGE_FEATURE_ENABLED,
            "positional_encoding_enabled": implicit.POS_ENC_ENABLED,
        }

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ImplicitPointMLP":
        """Convert and move the module as usual, but keep the frequencies in float32 or wider."""
        if not self.positional_encoding_enabled:
            return super()._apply(fn, recurse)
        exact = self.positional_encoding_gaussian_matrix
        super()._apply(fn, recurse)
        converted = self.positional_encoding_gaussian_matrix
        if torch.finfo(converted.dtype).bits < 32:
            self.positional_encoding_gaussian_matrix = exact.to(converted.device)
        return self

    @property
    def num_params(self) -> int:
        """The number of parameters of each box: weights of all layers, then biases of all."""
        return _count_parameters(self.layer_shapes)

    def forward(
        self, fine_features: Tensor, coords: Tensor, parameters: Tensor, classes: Tensor
    ) -> Tensor:
        """Predict logits at points.

        Args:
            fine_features: (R, C_fine, P).
            coords: (R, P, 2), in the frames of the boxes.
            parameters: (R, num_params).
            classes: (R,), int64: the class of each box whose logits are wanted.

        Returns:
            (R, P) logits.
        """
        weights, biases = self._layers(parameters)
        num_classes = self.layer_shapes[-1][0]
        only_one = num_classes > (MOST_CLASSES_AT_ONCE if self.training else 1)
        if only_one:
            weights[-1] = select_class(weights[-1], classes).unsqueeze(1)
            biases[-1] = select_class(biases[-1], classes).unsqueeze(1)
        return select_class(self._mlp(fine_features, coords, weights, biases), classes)

    def predict_classes(self, fine_features: Tensor, coords: Tensor, parameters: Tensor) -> Tensor:
        """Predict the logits of all classes, (R, C, P); arguments as of `forward`."""
        return self._mlp(fine_features, coords, *self._layers(parameters))

    def _mlp(
        self, fine_features: Tensor, coords: Tensor, weights: list[Tensor], biases: list[Tensor]
    ) -> Tensor:
        x = self._inputs(fine_features, coords)
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            x = F.relu(weight @ x + bias)
        return weights[-1] @ x + biases[-1]

    def _inputs(self, fine_features: Tensor, coords: Tensor) -> Tensor:
        """Put the encoded place and the fine features together: (R, C_in, P)."""
        if not self.positional_encoding_enabled:
            return fine_features
        matrix = self.positional_encoding_gaussian_matrix.to(coords.dtype)
        with without_autocast(coords.device):
            # Half precision has no digits left for the high frequencies.
            angles = 2 * math.pi * ((2 * coords - 1) @ matrix)
            place = torch.cat((angles.sin(), angles.cos()), dim=2).transpose(1, 2)
        if not self.image_feature_enabled:
            return place.to(fine_features.dtype)
        return torch.cat((place.to(fine_features.dtype), fine_features), dim=1)

    def _layers(self, parameters: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Split parameters into weights (R, out, in) and biases (R, out, 1) of all layers."""
        weight_sizes = [out * width for out, width in self.layer_shapes]
        bias_sizes = [out for out, _ in self.layer_shapes]
        parts = parameters.split(weight_sizes + bias_sizes, dim=1)
        depth = len(self.layer_shapes)
        weights = [
            part.view(part.shape[0], *shape)
            for part, shape in zip(parts[:depth], self.layer_shapes, strict=True)
        ]
        return weights, [part.unsqueeze(2) for part in parts[depth:]]


def parameter_shape(
    *,
    in_channels: int,
    num_classes: int,
    fc_dim: int = 256,
    num_fc: int = 3,
    image_feature_enabled: bool = True,
    positional_encoding_enabled: bool = True,
) -> tuple[int]:
    """Return the ``output_shape`` of what predicts the parameters of an `ImplicitPointMLP`.

    Args:
        in_channels, num_classes, …: as `ImplicitPointMLP` takes them.

    Example:
        >>> settings = {"in_channels": 4, "num_classes": 2, "fc_dim": 8}
        >>> parameter_shape(**settings) == (ImplicitPointMLP(**settings).num_params,)
        True
    """
    widths = (in_channels, num_classes, fc_dim, num_fc)
    shapes = _layer_shapes(*widths, image_feature_enabled, positional_encoding_enabled)
    return (_count_parameters(shapes),)


def _layer_shapes(
    in_channels: int,
    num_classes: int,
    fc_dim: int,
    num_fc: int,
    image_feature_enabled: bool,
    positional_encoding_enabled: bool,
) -> list[tuple[int, int]]:
    """Return (out, in) of each layer."""
    width = in_channels * image_feature_enabled + 2 * _FREQUENCIES * positional_encoding_enabled
    widths = [width, *[fc_dim] * num_fc, num_classes]
    return list(zip(widths[1:], widths[:-1], strict=True))


def _count_parameters(layer_shapes: list[tuple[int, int]]) -> int:
    return sum(out * width + out for out, width in layer_shapes)
