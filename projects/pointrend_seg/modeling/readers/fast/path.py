"""`FastPath`, what the instance head sees of this package.

Shape shorthand as at the top of the package.
"""

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ....points.boxes import some_boxes, to_image
from ...coarse_mask_head import ConvFCHead
from ...point_heads import PointMLP, is_untouched
from .mlp import Coarse, RowMLP
from .parts import parts
from .point_loss import PointBatch, PointLoss
from .pooling import PooledLayers, Pooling
from .rows import RowTable, as_rows, cell_weights, reader
from .shared_maps import SharedMaps

# The first layer goes over a map when more points than this are read for each of its cells.
_POINTS_WORTH_MAP = 0.5
# With more cells than this in a coarse mask, folding is no gain.
_MOST_CELLS = 100


class FastPath:
    """Coarse masks and points of boxes, the fast way; the interface is that of `PlainPath`."""

    def __init__(
        self,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        *,
        coarse_head: ConvFCHead,
        point_head: PointMLP,
        pooler_strides: dict[str, int],
        pooler_size: int,
        point_strides: dict[str, int],
        padding_mode: str,
    ):
        """See `PlainPath`; the heads are as `fits` wants them."""
        self.boxes = boxes
        self.coarse_head, self.point_head = coarse_head, point_head
        self.pooler_names, self.pooler_size = list(pooler_strides), pooler_size
        self.point_names, self.padding_mode = list(point_strides), padding_mode
        self.maps = SharedMaps(features, {**pooler_strides, **point_strides}, padding_mode)

    @staticmethod
    def fits(coarse_head: nn.Module, point_head: nn.Module | None, boxes: list[Tensor]) -> bool:
        """Whether the heads are what this path takes apart, and there is a box.

        A layer that was replaced or hooked does something that only calling it does. And what
        `torch.compile` is to train it must be able to look through.
        """
        return (
            any(map(len, boxes))
            and not (torch.compiler.is_compiling() and torch.is_grad_enabled())
            and type(coarse_head) is ConvFCHead
            and coarse_head.output_shape[1] * coarse_head.output_shape[2] <= _MOST_CELLS
            and all(map(is_untouched, coarse_head.modules()))
            and all(type(layer) is nn.Conv2d for layer in coarse_head.convolutions)
            and type(point_head) is PointMLP
            and point_head.num_fc > 0
            and point_head.is_plain()
        )

    def coarse(self) -> Tensor:
        """The coarse logits (R, C, h, w)."""
        head = self.coarse_head
        pooling = Pooling(self.maps, self.pooler_names, self.boxes, self.pooler_size, head.convolve)
        parameters = [each for layer in head.convolutions for each in layer.parameters()]
        return head.predict(PooledLayers.apply(pooling, *parameters, *self.maps.maps.values()))

    def only(self, numbers: Tensor) -> "FastPath":
        """The same for some of the boxes, by their rising numbers (n,)."""
        other = copy.copy(self)
        other.boxes = some_boxes(self.boxes, numbers)
        return other

    def point_loss(
        self, coarse: Tensor, classes: Tensor, coords: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`mask_point_loss` at points, and the logits (R, P), which have no gradient."""
        trains = torch.is_grad_enabled()
        batch = PointBatch(self.maps, self.point_names, self.boxes, coords, classes, labels, trains)
        weights, biases = self._parameters()
        return PointLoss.apply(batch, coarse, *weights, *biases, *self.maps.maps.values())

    def predictors(
        self, coarse: Tensor, classes: Tensor, *, num_points: int, num_reads: int
    ) -> Iterator[tuple[int, Callable[[Tensor], Tensor]]]:
        """See `PlainPath.predictors`."""
        boxes, size = torch.cat(self.boxes), coarse.shape[-2:]
        mlp = RowMLP(*self._parameters(), self._num_channels())

        def open_image(image: int):
            return self._first_layer(mlp, image, len(self.boxes[image]) * num_points * num_reads)

        for first, part in parts(self.boxes, num_points, open_image):
            cells = coarse[part].flatten(2).transpose(1, 2)
            folded = mlp.fold(cells)

            def predict(coords, first=first, part=part, cells=cells, folded=folded):
                weights = cell_weights(coords, size, self.padding_mode)
                points = to_image(coords, boxes[part].to(coords.dtype)).flatten(0, 1)
                masks = Coarse(cells, weights, classes[part])
                return mlp.forward(first(points), masks, folded)[0]

            yield part.stop - part.start, predict

    def _first_layer(self, mlp: RowMLP, image: int, num_points: int) -> Callable[[Tensor], Tensor]:
        """The first layer without its coarse part, as a function of points (n, 2): (n, D')."""
        of_maps, start = [], 0
        for name in self.point_names:
            feature_map, stride = self.maps.maps[name][image], self.maps.strides[name]
            kernel = mlp.of_point[0][:, start : start + len(feature_map)].t()
            start += len(feature_map)
            size = feature_map.shape[-2:]
            if num_points > _POINTS_WORTH_MAP * size[0] * size[1]:
                table = as_rows(feature_map) @ kernel
                of_maps.append(RowTable(table, size, stride, self.padding_mode).read)
            else:
                of_maps.append(
                    _read_and_apply(reader(feature_map, stride, self.padding_mode), kernel)
                )

        def first(points: Tensor) -> Tensor:
            values = of_maps[0](points)
            for of_map in of_maps[1:]:
                values += of_map(points)
            return values.add_(mlp.biases[0])

        return first

    def _parameters(self) -> tuple[list[Tensor], list[Tensor]]:
        layers = self.point_head.layers
        return [layer.weight for layer in layers], [layer.bias for layer in layers]

    def _num_channels(self) -> int:
        return sum(self.maps.maps[name].shape[1] for name in self.point_names)


def _read_and_apply(read, kernel: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda points: read.read(points) @ kernel
