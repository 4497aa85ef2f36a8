"""Pooling and the layers behind it, part by part. Shape shorthand as at the top of the package."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ....points.boxes import to_image
from ....points.coordinates import regular_grid
from .parts import parts
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
        """Of each part the image, the place among the boxes, and the points (n, 2)."""
        grid, boxes = regular_grid(self.size, self.boxes[0].device), torch.cat(self.boxes)
        of_parts = parts(
            self.boxes,
            self.size**2,
            lambda image: ImageReader(self.maps, self.names, image),
            num_buffers=4,
        )
        for image, part in of_parts:
            yield image, part, to_image(grid, boxes[part].to(grid.dtype)).flatten(0, 1)

    def apply_layers(self, rows: Tensor) -> Tensor:
        """From (B * size * size, D) to (B, D')."""
        return self.layers(rows.unflatten(0, (-1, self.size, self.size)).permute(0, 3, 1, 2))


class PooledLayers(Function):
    """``PooledLayers.apply(pooling, *parameters, *maps)`` gives the output of the layers, (R, D').

    The parameters are those of the layers. Nothing is kept for the backward pass: it reads and
    computes again.
    """

    @staticmethod
    def forward(ctx, pooling: Pooling, *tensors: Tensor) -> Tensor:
        ctx.pooling = pooling
        ctx.save_for_backward(*tensors[: len(tensors) - len(pooling.maps.maps)])
        device = tensors[0].device.type
        ctx.autocast = {
            "device_type": device,
            "dtype": torch.get_autocast_dtype(device),
            "enabled": torch.is_autocast_enabled(device),
        }
        output = None
        for image, part, points in pooling.parts():
            of_part = pooling.apply_layers(image.read(points))
            if output is None:
                output = of_part.new_empty(sum(map(len, pooling.boxes)), of_part.shape[1])
            output[part] = of_part
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        pooling, parameters = ctx.pooling, ctx.saved_tensors
        trained = [each for each in parameters if each.requires_grad]
        sums = [torch.zeros_like(each) for each in trained]
        of_maps = pooling.maps.sums()
        for image, part, points in pooling.parts():
            rows = image.read(points).requires_grad_()
            with torch.enable_grad(), torch.autocast(**ctx.autocast):
                output = pooling.apply_layers(rows)
            of_rows, *of_trained = torch.autograd.grad(output, (rows, *trained), gradient[part])
            for each, of_part in zip(sums, of_trained, strict=True):
                each += of_part
            image.add(of_maps, points, of_rows)
        found = iter(sums)
        of_parameters = [next(found) if each.requires_grad else None for each in parameters]
        return None, *of_parameters, *(None for _ in pooling.maps.maps)
