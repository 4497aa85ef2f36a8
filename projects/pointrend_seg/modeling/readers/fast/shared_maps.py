"""Feature maps that are read several times and have one gradient.

PyTorch makes a gradient as large as the map for each reading of it, and adds them up. Shape
shorthand as at the top of the package.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.autograd import Function

from ....points.boxes import to_image
from .parts import parts
from .rows import add_to_rows, reader


class SharedMaps:
    """Feature maps, and one gradient for all who read them.

    Attributes:
        maps: what is to be read, by name: each (I, D_k, H_k, W_k).
        strides: of each.
        padding_mode: "zeros" or "border", see `sample_points`.
    """

    def __init__(self, features: dict[str, Tensor], strides: dict[str, int], padding_mode: str):
        self.strides, self.padding_mode = strides, padding_mode
        self._sums: dict[str, Tensor] | None = None
        self._backward_pass = -1
        maps = _Share.apply(self, *(features[name] for name in strides))
        self.maps = dict(zip(strides, maps, strict=True))

    def zeros(self) -> dict[str, Tensor]:
        """For the gradients of the maps: each (I, H_k * W_k, D_k), float32 or wider."""
        return {name: _rows_like(each) for name, each in self.maps.items()}

    def sums(self) -> dict[str, Tensor]:
        """The gradients so far, to add to in place."""
        self._forget_other_passes()
        if self._sums is None:
            self._sums = self.zeros()
        return self._sums

    def add(self, sums: dict[str, Tensor], factor: Tensor) -> None:
        """Add ``factor * sums``, shapes as of `zeros`; ``sums`` is not to be used afterwards."""
        self._forget_other_passes()
        if self._sums is None:
            self._sums = {name: each.mul_(factor) for name, each in sums.items()}
        else:
            for name, each in sums.items():
                self._sums[name].addcmul_(each, factor.to(each.dtype))

    def _forget_other_passes(self) -> None:
        """A backward pass that wants gradients of parameters alone leaves sums behind."""
        number = torch._C._current_graph_task_id()
        if number != self._backward_pass:
            self._backward_pass, self._sums = number, None

    def take(self) -> list[Tensor]:
        """The gradients, in the shapes of the maps (with the channels last in memory)."""
        sums, self._sums = self.sums(), None
        return [
            sums[name].unflatten(1, each.shape[-2:]).permute(0, 3, 1, 2).to(each.dtype)
            for name, each in self.maps.items()
        ]


class _Share(Function):
    """The maps themselves. Who reads them adds to `SharedMaps`, or reports a gradient as usual."""

    @staticmethod
    def forward(ctx, shared: SharedMaps, *maps: Tensor):
        ctx.shared = shared
        ctx.set_materialize_grads(False)
        return tuple(each.view_as(each) for each in maps)

    @staticmethod
    def backward(ctx, *gradients):
        sums = ctx.shared.take()
        pairs = zip(sums, gradients, strict=True)
        return None, *(own if each is None else own.add_(each) for own, each in pairs)


def _rows_like(maps: Tensor) -> Tensor:
    dtype = torch.promote_types(maps.dtype, torch.float32)
    return maps.new_zeros(len(maps), maps[0, 0].numel(), maps.shape[1], dtype=dtype)


class ImageReader:
    """Some of the maps of one image, read together."""

    def __init__(self, shared: SharedMaps, names: list[str], image: int):
        self.shared, self.names, self.image = shared, names, image
        self._readers = [
            reader(shared.maps[name][image], shared.strides[name], shared.padding_mode)
            for name in names
        ]

    def read(self, points: Tensor) -> Tensor:
        """Values (n, D) at points (n, 2), in pixels of the image."""
        values = [each.read(points) for each in self._readers]
        return values[0] if len(values) == 1 else torch.cat(values, dim=1)

    def add(self, sums: dict[str, Tensor], points: Tensor, gradient: Tensor) -> None:
        """The backward pass of `read`: add the gradient (n, D) of its values to those of the maps.

        Args:
            sums: as of `SharedMaps.zeros`.
        """
        shared = self.shared
        widths = [shared.maps[name].shape[1] for name in self.names]
        for name, of_map in zip(self.names, gradient.split(widths, dim=1), strict=True):
            add_to_rows(
                sums[name][self.image],
                points,
                of_map,
                shared.maps[name].shape[-2:],
                shared.strides[name],
                shared.padding_mode,
            )


def features_in_parts(
    features: dict[str, Tensor],
    strides: dict[str, int],
    boxes: list[Tensor],
    num_points: int,
    padding_mode: str,
) -> Iterator[tuple[slice, Callable[[Tensor], Tensor]]]:
    """What `box_points.sample_features` reads, for the boxes in parts.

    Yields:
        a part's place among the boxes of all images, and a function that takes points (B, P, 2) in
        the frames of its boxes and gives features (B, D, P).
    """
    maps, all_boxes = SharedMaps(features, strides, padding_mode), torch.cat(boxes)
    for image, part in parts(boxes, num_points, lambda k: ImageReader(maps, list(strides), k)):

        def read(coords: Tensor, image=image, part=part) -> Tensor:
            points = to_image(coords, all_boxes[part].to(coords.dtype))
            return image.read(points.flatten(0, 1)).unflatten(0, coords.shape[:2]).transpose(1, 2)

        yield part, read
