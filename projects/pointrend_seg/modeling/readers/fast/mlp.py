"""A `PointMLP` on rows, for one class of each box: the arithmetic of the fast path.

Shape shorthand in this module:

    B: number of boxes
    C: number of classes
    P: number of points of one box
    S: number of cells of a coarse map
    D: channels of the fine features; D' of a hidden layer

`PointMLP` gives each layer the features of a point and, beside them, the coarse logits of all C
classes there. Three things are done differently here:

- The coarse logits at a point are a weighted sum of the S cells of the coarse map, and a layer is
  linear in them. So a layer's coarse part is applied to the cells, which are few ("folding"), and
  the sum is taken of the results.
- Of the last layer only the row of the box's class is computed. So nothing is as wide as C.
- A point is a row, so that a layer is one matrix product for all points of all boxes.

Both directions are written down: `forward`, and `backward` for gradients in parts. `all_classes` is
for the semantic head, which needs all of them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...point_heads import PointMLP


@dataclass
class Coarse:
    """What a point MLP is to know of the coarse masks of B boxes.

    Attributes:
        cells: (B, S, C), the coarse logits.
        weights: (B, P, S), with which the cells contribute to the points.
        classes: (B,), int64, the class that is wanted of each box.
    """

    cells: Tensor
    weights: Tensor
    classes: Tensor


class RowMLP:
    """The layers of a `PointMLP`, each taken apart into what sees the point and what the cells."""

    def __init__(self, weights: list[Tensor], biases: list[Tensor], in_channels: int):
        """
        Args:
            weights: of each layer, (out, in, 1) or (out, in); the last is the predictor's.
            biases: of each layer, (out,).
            in_channels: D.
        """
        weights = [weight.flatten(1) for weight in weights]
        widths = [in_channels, *(len(weight) for weight in weights[:-1])]
        self.of_point = [weight[:, :width] for weight, width in zip(weights, widths, strict=True)]
        self.of_cells = [weight[:, width:] for weight, width in zip(weights, widths, strict=True)]
        self.biases = biases

    def fold(self, cells: Tensor) -> list[Tensor | None]:
        """Each hidden layer's coarse part of the cells, (B, S, D'); None where it has none."""
        return [cells @ kernel.t() if kernel.shape[1] else None for kernel in self.of_cells[:-1]]

    def first(self, rows: Tensor) -> Tensor:
        """The first layer without its coarse part: (B * P, D) to (B * P, D')."""
        return F.linear(rows, self.of_point[0], self.biases[0])

    def forward(
        self, first: Tensor, coarse: Coarse, folded: list[Tensor | None]
    ) -> tuple[Tensor, list[Tensor]]:
        """
        Args:
            first: (B * P, D'), what `first` gives; it is overwritten.
            folded: what `fold` gives.

        Returns:
            logits (B, P), and the outputs of the hidden layers, each (B * P, D').
        """
        x, outputs, points = first, [], coarse.weights.shape[:2]
        for k, of_cells in enumerate(folded):
            if k > 0:
                x = F.linear(x, self.of_point[k], self.biases[k])
            if of_cells is not None:
                # (In place there is no autocast, so the types are made the same here.)
                x.unflatten(0, points).baddbmm_(coarse.weights.to(x.dtype), of_cells.to(x.dtype))
            outputs.append(x.relu_())
        of_point, of_cells = self._predictor(coarse)
        logits = torch.bmm(x.unflatten(0, points), of_point.unsqueeze(2)).squeeze(2)
        logits = logits + self.biases[-1][self._rows(coarse), None]
        if of_cells.shape[1]:
            in_cells = torch.bmm(coarse.cells, of_cells.unsqueeze(2))
            in_points = torch.bmm(coarse.weights, in_cells.to(coarse.weights.dtype))
            logits = logits + in_points.squeeze(2).to(logits.dtype)
        return logits, outputs

    def _rows(self, coarse: Coarse) -> Tensor:
        """The predictor's row for each box: its class, or for masks of no class the only one."""
        return coarse.classes if len(self.biases[-1]) > 1 else torch.zeros_like(coarse.classes)

    def _predictor(self, coarse: Coarse) -> tuple[Tensor, Tensor]:
        """The predictor for each box: of the point (B, D'), of the coarse logits (B, C or 0)."""
        rows = self._rows(coarse)
        return self.of_point[-1][rows], self.of_cells[-1][rows]

    def backward(
        self,
        gradient: Tensor,
        rows: Tensor,
        coarse: Coarse,
        outputs: list[Tensor],
        sums: "RowMLP",
    ) -> tuple[Tensor, Tensor]:
        """The gradients of what `forward` does, and of `first` before it.

        Args:
            gradient: (B, P), of the logits.
            rows: (B * P, D), what `first` was given.
            outputs: what `forward` gave.
            sums: of the same sizes; the gradients of the layers are added to its tensors.

        Returns:
            the gradients of ``rows``, (B * P, D), and of the coarse cells, (B, S, C).
        """
        of_box = self._predictor_backward(gradient, coarse, outputs[-1], sums)
        dtype, of_cells_weights = outputs[-1].dtype, coarse.weights.transpose(1, 2)
        of_point, _ = self._predictor(coarse)
        x = gradient.to(dtype).unsqueeze(2) * of_point.to(dtype).unsqueeze(1)
        x = x.flatten(0, 1)
        for k in reversed(range(len(outputs))):
            x = torch.ops.aten.threshold_backward(x, outputs[k], 0)
            below = outputs[k - 1] if k > 0 else rows
            sums.biases[k] += x.sum(0)
            sums.of_point[k] += x.t() @ below.to(dtype)
            if self.of_cells[k].shape[1]:
                folded = torch.bmm(of_cells_weights.to(dtype), x.unflatten(0, gradient.shape))
                sums.of_cells[k] += folded.flatten(0, 1).t() @ coarse.cells.flatten(0, 1)
                of_box += folded @ self.of_cells[k]
            x = x @ self.of_point[k]
        return x, of_box

    def _predictor_backward(
        self, gradient: Tensor, coarse: Coarse, x: Tensor, sums: "RowMLP"
    ) -> Tensor:
        """The same for the predictor's parameters and the coarse cells, (B, S, C)."""
        chosen = self._rows(coarse)
        of_point = torch.bmm(gradient.to(x.dtype).unsqueeze(1), x.unflatten(0, gradient.shape))
        sums.biases[-1].index_add_(0, chosen, gradient.sum(1))
        sums.of_point[-1].index_add_(0, chosen, of_point.squeeze(1).to(gradient.dtype))
        of_box = torch.zeros_like(coarse.cells)
        _, of_cells = self._predictor(coarse)
        if of_cells.shape[1]:
            in_cells = torch.bmm(gradient.unsqueeze(1), coarse.weights).to(coarse.cells.dtype)
            of_coarse = torch.bmm(in_cells, coarse.cells).squeeze(1)
            sums.of_cells[-1].index_add_(0, chosen, of_coarse.to(gradient.dtype))
            of_box += torch.bmm(in_cells.transpose(1, 2), of_cells.unsqueeze(1))
        return of_box


def all_classes(head: PointMLP, fine_features: Tensor, coarse_features: Tensor) -> Tensor:
    """`PointMLP.forward` on rows, with a product for each of its inputs instead of one for both.

    So nothing is put together in fresh memory. Without gradients.

    Args:
        head: one whose `is_plain` is true.
        fine_features: (N, D, P).
        coarse_features: (N, C, P).

    Returns:
        (N, C, P) logits.
    """
    shape = len(fine_features), fine_features.shape[2]
    x, coarse = (each.transpose(1, 2).flatten(0, 1) for each in (fine_features, coarse_features))
    weights, biases = zip(*((layer.weight, layer.bias) for layer in head.layers), strict=True)
    layers = RowMLP(weights, biases, x.shape[1])
    of_layers = zip(layers.of_point, layers.of_cells, biases, strict=True)
    for k, (of_point, of_coarse, bias) in enumerate(of_layers):
        if k > 0:
            x.relu_()
        start = F.linear(coarse, of_coarse, bias) if of_coarse.shape[1] else bias
        x = torch.addmm(start, x, of_point.t())
    return x.unflatten(0, shape).transpose(1, 2)
