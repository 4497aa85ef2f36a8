"""Points of whole images, read and predicted in parts.

Shape shorthand: N images, C classes, P points, D channels of the fine features.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ....points.interpolation import sample_points
from ...point_heads import PointMLP
from ..plain import PlainFrameReader
from ..protocol import CoarsePrediction, PointInputs
from .mlp import RowMLP

# The hidden layers of so many points fit into a processor's cache.
_POINTS_IN_CACHE = 4096


class FastFrameReader(PlainFrameReader):
    """A `FrameReader` for a CPU: so many points at once that they stay in its cache."""

    point_head: PointMLP

    def predict(self, inputs: PointInputs, coords: Tensor) -> Tensor:
        """Predict logits (N, C, P), see `FrameReader`.

        Args:
            inputs: a `CoarsePrediction` of all classes.
        """
        assert isinstance(inputs, CoarsePrediction) and inputs.classes is None
        if torch.jit.is_tracing():  # the number of points is not known
            return self._predict_part(inputs, coords)
        parts = coords.split(max(1, _POINTS_IN_CACHE // max(1, len(coords))), dim=1)
        return torch.cat([self._predict_part(inputs, part) for part in parts], dim=2)

    def _predict_part(self, inputs: CoarsePrediction, coords: Tensor) -> Tensor:
        fine_features = self.read(coords)
        at_points = sample_points(inputs.logits, coords, padding_mode=self.settings.padding_mode)
        return predict_all_classes(self.point_head, fine_features, at_points)


def predict_all_classes(head: PointMLP, fine_features: Tensor, coarse_features: Tensor) -> Tensor:
    """Compute `PointMLP.forward` on rows, with one product for each input instead of one for both.

    Nothing is concatenated in fresh memory. Without gradients.

    Args:
        head: one whose `is_plain` is true.
        fine_features: (N, D, P).
        coarse_features: (N, C, P).

    Returns:
        (N, C, P) logits.
    """
    shape = fine_features.shape[0], fine_features.shape[2]
    x, coarse = (each.transpose(1, 2).flatten(0, 1) for each in (fine_features, coarse_features))
    layers = RowMLP(*head.parameters_by_layer(), x.shape[1])
    kernels = zip(layers.point_kernels, layers.cell_kernels, layers.biases, strict=True)
    for k, (point_kernel, cell_kernel, bias) in enumerate(kernels):
        if k > 0:
            x.relu_()
        start = F.linear(coarse, cell_kernel, bias) if cell_kernel.shape[1] else bias
        x = torch.addmm(start, x, point_kernel.t())
    return x.unflatten(0, shape).transpose(1, 2)
