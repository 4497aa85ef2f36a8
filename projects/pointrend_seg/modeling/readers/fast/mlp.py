"""A `PointMLP` on rows, for one class of each box: the arithmetic of `FusedBoxReader`.

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

Both directions are written down: `forward`, and `backward` for gradients in parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass
class CoarseCells:
    """What a point MLP sees of the coarse masks of B boxes.

    Attributes:
        cells: (B, S, C), the coarse logits.
        weights: (B, P, S), bilinear weights of the cells at the points.
        classes: (B,), int64, the class that is wanted of each box.
    """

    cells: Tensor
    weights: Tensor
    classes: Tensor


class RowMLP:
    """The layers of a `PointMLP`, each split into the part for the point and that for the cells.

    Attributes:
        point_kernels: of each layer, (out, D or D').
        cell_kernels: of each layer, (out, C), or (out, 0) where it does not see the coarse logits.
        biases: of each layer, (out,).
    """

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor], in_channels: int):
        """
        Args:
            weights: of each layer, (out, in, 1) or (out, in); the last is the predictor's.
            biases: of each layer, (out,).
            in_channels: D.
        """
        weights = [weight.flatten(1) for weight in weights]
        widths = [in_channels, *(len(weight) for weight in weights[:-1])]
        pairs = list(zip(weights, widths, strict=True))
        self.point_kernels = [weight[:, :width] for weight, width in pairs]
        self.cell_kernels = [weight[:, width:] for weight, width in pairs]
        self.biases = biases

    def fold(self, cells: Tensor) -> list[Tensor | None]:
        """Apply the hidden layers' coarse parts to the cells: (B, S, D'), or None."""
        return [
            cells @ kernel.t() if kernel.shape[1] else None for kernel in self.cell_kernels[:-1]
        ]

    def first(self, rows: Tensor) -> Tensor:
        """Apply the first layer without its coarse part: (B * P, D) to (B * P, D')."""
        return F.linear(rows, self.point_kernels[0], self.biases[0])

    def forward(
        self, first: Tensor, coarse: CoarseCells, folded: list[Tensor | None]
    ) -> tuple[Tensor, list[Tensor]]:
        """Apply the rest of the MLP.

        Args:
            first: (B * P, D'), what `first` gives; it is overwritten.
            folded: what `fold` gives.

        Returns:
            logits (B, P), and the outputs of the hidden layers, each (B * P, D').
        """
        x, outputs, points = first, [], coarse.weights.shape[:2]
        for k, cells in enumerate(folded):
            if k > 0:
                x = F.linear(x, self.point_kernels[k], self.biases[k])
            if cells is not None:
                # (In place there is no autocast, so the types are made the same here.)
                x.unflatten(0, points).baddbmm_(coarse.weights.to(x.dtype), cells.to(x.dtype))
            outputs.append(x.relu_())
        point_rows, cell_rows = self._predictor(coarse)
        logits = torch.bmm(x.unflatten(0, points), point_rows.unsqueeze(2)).squeeze(2)
        logits = logits + self.biases[-1][self._rows(coarse), None]
        if cell_rows.shape[1]:
            in_cells = torch.bmm(coarse.cells, cell_rows.unsqueeze(2))
            in_points = torch.bmm(coarse.weights, in_cells.to(coarse.weights.dtype))
            logits = logits + in_points.squeeze(2).to(logits.dtype)
        return logits, outputs

    def _rows(self, coarse: CoarseCells) -> Tensor:
        """Return the predictor's row for each box: its class; 0 for class-agnostic masks."""
        return coarse.classes if len(self.biases[-1]) > 1 else torch.zeros_like(coarse.classes)

    def _predictor(self, coarse: CoarseCells) -> tuple[Tensor, Tensor]:
        """Return the predictor's rows of the boxes: point part (B, D'), cell part (B, C or 0)."""
        rows = self._rows(coarse)
        return self.point_kernels[-1][rows], self.cell_kernels[-1][rows]

    def backward(
        self,
        gradient: Tensor,
        rows: Tensor,
        coarse: CoarseCells,
        outputs: list[Tensor],
        sums: "RowMLP",
    ) -> tuple[Tensor, Tensor]:
        """Compute the gradients of `forward` and of `first` before it.

        Args:
            gradient: (B, P), of the logits.
            rows: (B * P, D), what `first` was given.
            outputs: what `forward` gave.
            sums: of the same sizes; the gradients of the layers are added to its tensors.

        Returns:
            the gradients of ``rows``, (B * P, D), and of the coarse cells, (B, S, C).
        """
        cell_gradient = self._predictor_backward(gradient, coarse, outputs[-1], sums)
        dtype, weights = outputs[-1].dtype, coarse.weights.transpose(1, 2)
        point_rows, _ = self._predictor(coarse)
        x = gradient.to(dtype).unsqueeze(2) * point_rows.to(dtype).unsqueeze(1)
        x = x.flatten(0, 1)
        for k in reversed(range(len(outputs))):
            x = torch.ops.aten.threshold_backward(x, outputs[k], 0)
            below = outputs[k - 1] if k > 0 else rows
            sums.biases[k] += x.sum(0)
            sums.point_kernels[k] += x.t() @ below.to(dtype)
            if self.cell_kernels[k].shape[1]:
                folded = torch.bmm(weights.to(dtype), x.unflatten(0, gradient.shape))
                sums.cell_kernels[k] += folded.flatten(0, 1).t() @ coarse.cells.flatten(0, 1)
                cell_gradient += folded @ self.cell_kernels[k]
            x = x @ self.point_kernels[k]
        return x, cell_gradient

    def _predictor_backward(
        self, gradient: Tensor, coarse: CoarseCells, x: Tensor, sums: "RowMLP"
    ) -> Tensor:
        """Add the gradients of the predictor; return that of the coarse cells, (B, S, C)."""
        chosen = self._rows(coarse)
        point_rows = torch.bmm(gradient.to(x.dtype).unsqueeze(1), x.unflatten(0, gradient.shape))
        sums.biases[-1].index_add_(0, chosen, gradient.sum(1))
        sums.point_kernels[-1].index_add_(0, chosen, point_rows.squeeze(1).to(gradient.dtype))
        cell_gradient = torch.zeros_like(coarse.cells)
        _, cell_rows = self._predictor(coarse)
        if cell_rows.shape[1]:
            in_cells = torch.bmm(gradient.unsqueeze(1), coarse.weights).to(coarse.cells.dtype)
            row_gradient = torch.bmm(in_cells, coarse.cells).squeeze(1)
            sums.cell_kernels[-1].index_add_(0, chosen, row_gradient.to(gradient.dtype))
            cell_gradient += torch.bmm(in_cells.transpose(1, 2), cell_rows.unsqueeze(1))
        return cell_gradient
