"""Points of boxes, read and predicted in one. Shape shorthand as at the top of the package."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ....points.boxes import to_image
from ...point_heads import PointMLP
from ..protocol import CoarsePrediction, PointInputs, Predict
from .boxes import RowBoxReader, can_be_split
from .mlp import CoarseCells, RowMLP
from .parts import split_boxes
from .point_loss import PointBatch, PointLoss
from .rows import MapPlanes, RowTable, as_rows, interpolation_weights, open_map

# Takes points (n, 2), returns rows (n, D).
Read = Callable[[Tensor], Tensor]

# The first layer goes over a map when more points than this are read for each of its cells.
_POINTS_WORTH_MAP = 0.5
# With more cells than this in a coarse mask, folding is no gain.
_MOST_CELLS = 100


class FusedBoxReader(RowBoxReader):
    """A `BoxReader` that takes a `PointMLP` apart, in training and in inference."""

    @classmethod
    def fits(cls, pooled_head: nn.Module, point_head: nn.Module | None) -> bool:
        """Tell whether the heads can be taken apart.

        What `torch.compile` is to train it must be able to look through, so it is left alone.
        """
        return (
            not (torch.compiler.is_compiling() and torch.is_grad_enabled())
            and isinstance(point_head, PointMLP)
            and type(point_head) is PointMLP
            and point_head.num_fc > 0
            and point_head.is_plain()
            and can_be_split(pooled_head)
            and pooled_head.output_shape[1] * pooled_head.output_shape[2] <= _MOST_CELLS
        )

    def point_loss(
        self, inputs: PointInputs, coords: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute the loss, with its gradients on the way, and logits that have none."""
        coarse, classes = _one_class(inputs)
        trains = torch.is_grad_enabled()
        batch = PointBatch(self.maps, self.point_names, self.boxes, coords, classes, labels, trains)
        weights, biases = self._parameters()
        return PointLoss.apply(batch, coarse, *weights, *biases, *self.maps.maps.values())

    def predictors(
        self, inputs: PointInputs, *, num_points: int, num_reads: int
    ) -> Iterator[tuple[slice, Predict]]:
        """Give a predictor for each part of the boxes, see `BoxReader`."""
        coarse, classes = _one_class(inputs)
        boxes, size = torch.cat(self.boxes), coarse.shape[-2:]
        num_channels = sum(self.maps.maps[name].shape[1] for name in self.point_names)
        mlp = RowMLP(*self._parameters(), num_channels)

        def open_image(image: int) -> Read:
            return self._first_layer(
                mlp, image, self.boxes[image].shape[0] * num_points * num_reads
            )

        for first, part in split_boxes(self.boxes, num_points, open_image):
            cells = coarse[part].flatten(2).transpose(1, 2)
            folded = mlp.fold(cells)

            def predict(
                coords: Tensor,
                first: Read = first,
                part: slice = part,
                cells: Tensor = cells,
                folded: list[Tensor | None] = folded,
            ) -> Tensor:
                weights = interpolation_weights(coords, size, self.settings.padding_mode)
                points = to_image(coords, boxes[part]).flatten(0, 1)
                masks = CoarseCells(cells, weights, classes[part])
                return mlp.forward(first(points), masks, folded)[0]

            yield part, predict

    def _parameters(self) -> tuple[list[Tensor], list[Tensor]]:
        assert isinstance(self.point_head, PointMLP)
        return self.point_head.parameters_by_layer()

    def _first_layer(self, mlp: RowMLP, image: int, num_points: int) -> Read:
        """Return the first layer without its coarse part, a function of points (n, 2): (n, D')."""
        padding_mode = self.settings.padding_mode
        reads: list[Read] = []
        start = 0
        for name in self.point_names:
            feature_map, stride = self.maps.maps[name][image], self.maps.strides[name]
            kernel = mlp.point_kernels[0][:, start : start + len(feature_map)].t()
            start += len(feature_map)
            size = feature_map.shape[-2:]
            # (A trace is for any number, and many points are where the time goes.)
            if torch.jit.is_tracing() or num_points > _POINTS_WORTH_MAP * size[0] * size[1]:
                table = as_rows(feature_map) @ kernel
                reads.append(RowTable(table, size, stride, padding_mode).read)
            else:
                reads.append(_read_and_apply(open_map(feature_map, stride, padding_mode), kernel))

        def first(points: Tensor) -> Tensor:
            values = reads[0](points)
            for read in reads[1:]:
                values += read(points)
            return values.add_(mlp.biases[0])

        return first


def _one_class(inputs: PointInputs) -> tuple[Tensor, Tensor]:
    """Return coarse logits (R, C, h, w) and the class of each box (R,)."""
    assert isinstance(inputs, CoarsePrediction) and inputs.classes is not None
    return inputs.logits, inputs.classes


def _read_and_apply(opened: RowTable | MapPlanes, kernel: Tensor) -> Read:
    return lambda points: opened.read(points) @ kernel
