"""The point loss and its gradients, part by part. Shape shorthand as at the top of the package."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ....points.boxes import to_image
from ....points.losses import label_scale, mask_point_gradient, mask_point_loss
from ....points.precision import at_least_float32
from .mlp import CoarseCells, RowMLP
from .parts import split_boxes
from .rows import interpolation_weights
from .shared_maps import ImageReader, SharedMaps


@dataclass
class PointBatch:
    """The training points of R boxes.

    Attributes:
        maps: what is read.
        names: those with the fine features, put together in this order.
        boxes: of each image, (R_i, 4).
        coords: (R, P, 2), in the boxes' frames.
        classes: (R,), int64.
        labels: (R, P), in [0, 1], or -1 where there is none.
        trains: whether gradients will be wanted.
    """

    maps: SharedMaps
    names: list[str]
    boxes: list[Tensor]
    coords: Tensor
    classes: Tensor
    labels: Tensor
    trains: bool

    def parts(self, coarse: Tensor) -> Iterator[tuple[ImageReader, slice, Tensor, CoarseCells]]:
        """Yield the image of each part, its place, its points (n, 2) and its coarse masks."""
        boxes, size = torch.cat(self.boxes), coarse.shape[-2:]
        parts = split_boxes(
            self.boxes,
            self.coords.shape[1],
            lambda image: ImageReader(self.maps, self.names, image),
            num_buffers=2,
        )
        for image, part in parts:
            coords = self.coords[part]
            weights = interpolation_weights(coords, size, self.maps.padding_mode)
            cells = coarse[part].flatten(2).transpose(1, 2)
            points = to_image(coords, boxes[part]).flatten(0, 1)
            yield image, part, points, CoarseCells(cells, weights, self.classes[part])


class PointLoss(Function):
    """``PointLoss.apply(batch, coarse, *weights, *biases, *maps)`` gives loss and logits (R, P).

    The loss is `mask_point_loss` of the logits that a `PointMLP` of these weights and biases gives
    for the fine features and the coarse logits (R, C, h, w). It is a mean, so its gradients are
    known up to a factor as soon as a part's logits are. They are worked out then, and only their
    sums are kept; the logits themselves have no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, batch: PointBatch, coarse: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, Tensor]:
        num_maps = len(batch.maps.maps)
        parameters = tensors[: len(tensors) - num_maps]
        layers = len(parameters) // 2
        width = sum(batch.maps.maps[name].shape[1] for name in batch.names)
        mlp = RowMLP(parameters[:layers], parameters[layers:], width)
        train = batch.trains and any(ctx.needs_input_grad)
        sums = [_zeros(each) for each in parameters if train]
        mlp_sums = RowMLP(sums[:layers], sums[layers:], width) if train else None
        map_gradients = batch.maps.zeros() if train else {}
        coarse_gradients, logit_parts = [], []
        for image, part, points, masks in batch.parts(coarse):
            rows = image.read(points)
            part_logits, outputs = mlp.forward(mlp.first(rows), masks, mlp.fold(masks.cells))
            logit_parts.append(at_least_float32(part_logits))
            if mlp_sums is not None:
                gradient = mask_point_gradient(logit_parts[-1], batch.labels[part])
                row_gradient, cell_gradient = mlp.backward(gradient, rows, masks, outputs, mlp_sums)
                image.add(map_gradients, points, row_gradient)
                coarse_gradients.append(cell_gradient.transpose(1, 2))
        logits = torch.cat(logit_parts)
        if train:
            coarse_gradient = torch.cat(coarse_gradients).reshape(coarse.shape)
            ctx.gradients = coarse_gradient, sums, map_gradients, label_scale(batch.labels)
        ctx.maps, ctx.num_maps = batch.maps, num_maps
        ctx.mark_non_differentiable(logits)
        return mask_point_loss(logits, batch.labels), logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError(
                "The gradients of the fast path's point loss can be had once. For a second "
                "backward pass set MODEL.POINT_HEAD.FAST_PATH to False."
            )
        coarse_gradient, sums, map_gradients, scale = ctx.gradients
        ctx.gradients = None
        # Of each box the gradient of its mean was taken: in half precision, that of the sum over
        # all points might be too large, and that of the mean too small.
        factor = gradient / len(coarse_gradient) * scale
        ctx.maps.add(map_gradients, factor)
        return (
            None,
            coarse_gradient.mul_(factor),
            *(each.mul_(factor) for each in sums),
            *(None for _ in range(ctx.num_maps)),
        )


def _zeros(like: Tensor) -> Tensor:
    """Make zeros to add gradients to, in float32 or wider; autograd casts them back."""
    return torch.zeros_like(like, dtype=torch.promote_types(like.dtype, torch.float32))
