"""Pooling and the layers behind it, part by part. Shape shorthand as at the top of the package."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ....points.boxes import to_image
from ....points.coordinates import regular_grid
from .parts import split_boxes
from .shared_maps import ImageReader, SharedMaps


@dataclass
class Pooling:
    """Features on a regular grid in each box, and what is made of them.

    Attributes:
        maps: what is read.
        names: which of them, put together in this order.
        boxes: of each image, (R_i, 4).
        size: points on a side.
        layers: takes (B, D, size, size), returns (B, D'), box by box.
    """

    maps: SharedMaps
    names: list[str]
    boxes: list[Tensor]
    size: int
    layers: Callable[[Tensor], Tensor]

    def parts(self) -> Iterator[tuple[ImageReader, slice, Tensor]]:
        """Yield the image of each part, its place among the boxes, and its points (n, 2)."""
        grid, boxes = regular_grid(self.size, self.boxes[0].device), torch.cat(self.boxes)
        parts = split_boxes(
            self.boxes,
            self.size**2,
            lambda image: ImageReader(self.maps, self.names, image),
            num_buffers=4,
        )
        for image, part in parts:
            yield image, part, to_image(grid, boxes[part]).flatten(0, 1)

    def output(self) -> Tensor:
        """Read all boxes and apply the layers: (R, D'), of at least one part."""
        parts = [self.apply_layers(image.read(points)) for image, _, points in self.parts()]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def apply_layers(self, rows: Tensor) -> Tensor:
        """Apply the layers to rows: (B * size * size, D) to (B, D')."""
        return self.layers(rows.unflatten(0, (-1, self.size, self.size)).permute(0, 3, 1, 2))


class PooledLayers(Function):
    """``PooledLayers.apply(pooling, *parameters, *maps)`` gives the output of the layers, (R, D').

    The parameters are those of the layers. Nothing is kept for the backward pass: it reads and
    computes again.
    """

    @staticmethod
    def forward(ctx: Any, pooling: Pooling, *tensors: Tensor) -> Tensor:
        ctx.pooling = pooling
        ctx.save_for_backward(*tensors[: len(tensors) - len(pooling.maps.maps)])
        device = tensors[0].device.type
        ctx.autocast = {
            "device_type": device,
            "dtype": torch.get_autocast_dtype(device),
            "enabled": torch.is_autocast_enabled(device),
        }
        return pooling.output()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        pooling, parameters = ctx.pooling, ctx.saved_tensors
        trained = [each for each in parameters if each.requires_grad]
        sums = [torch.zeros_like(each) for each in trained]
        map_gradients = pooling.maps.sums()
        for image, part, points in pooling.parts():
            rows = image.read(points).requires_grad_()
            with torch.enable_grad(), torch.autocast(**ctx.autocast):
                output = pooling.apply_layers(rows)
            wanted = (rows, *trained)
            row_gradient, *gradients = torch.autograd.grad(output, wanted, gradient[part])
            for each, part_gradient in zip(sums, gradients, strict=True):
                each += part_gradient
            image.add(map_gradients, points, row_gradient)
        found = iter(sums)
        found_or_none = (next(found) if each.requires_grad else None for each in parameters)
        return None, *found_or_none, *(None for _ in pooling.maps.maps)
