"""Feature maps that are read several times and have one gradient.

PyTorch makes a gradient as large as the map for each reading of it, and adds them up. Shape
shorthand as at the top of the package.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ....points.interpolation import concatenate_channels
from .rows import add_to_rows, open_map


class SharedMaps:
    """Feature maps, and one gradient for all who read them.

    Attributes:
        maps: what is to be read, by name: each (I, D_k, H_k, W_k).
        strides: of each.
        padding_mode: "zeros" or "border", see `sample_points`.
    """

    def __init__(
        self, features: Mapping[str, Tensor], strides: Mapping[str, int], padding_mode: str
    ):
        self.strides, self.padding_mode = strides, padding_mode
        self._sums: dict[str, Tensor] | None = None
        self._backward_pass = -1
        self.maps = {name: features[name] for name in strides}
        if not torch.jit.is_tracing():  # which cannot see into functions
            maps = _Share.apply(self, *self.maps.values())
            self.maps = dict(zip(strides, maps, strict=True))

    def zeros(self) -> dict[str, Tensor]:
        """Make zeros for the gradients of the maps: (I, H_k * W_k, D_k) each, float32 or wider."""
        return {name: _rows_like(each) for name, each in self.maps.items()}

    def sums(self) -> dict[str, Tensor]:
        """Return the gradients so far, to add to in place."""
        self._forget_other_passes()
        if self._sums is None:
            self._sums = self.zeros()
        return self._sums

    def add(self, sums: dict[str, Tensor], factor: Tensor) -> None:
        """Add ``factor * sums``, whose shapes are those of `zeros`; ``sums`` is used up."""
        self._forget_other_passes()
        if self._sums is None:
            self._sums = {name: each.mul_(factor) for name, each in sums.items()}
        else:
            for name, each in sums.items():
                self._sums[name].addcmul_(each, factor.to(each.dtype))

    def _forget_other_passes(self) -> None:
        """Drop what a backward pass left behind that wanted gradients of parameters alone."""
        number = torch._C._current_graph_task_id()
        if number != self._backward_pass:
            self._backward_pass, self._sums = number, None

    def take(self) -> list[Tensor]:
        """Take the gradients, in the shapes of the maps (with the channels last in memory)."""
        sums, self._sums = self.sums(), None
        return [
            sums[name].unflatten(1, each.shape[-2:]).permute(0, 3, 1, 2).to(each.dtype)
            for name, each in self.maps.items()
        ]


class _Share(Function):
    """The maps themselves. Who reads them adds to `SharedMaps`, or reports a gradient as usual."""

    @staticmethod
    def forward(ctx: Any, shared: SharedMaps, *maps: Tensor) -> tuple[Tensor, ...]:
        ctx.shared = shared
        ctx.set_materialize_grads(False)
        return tuple(each.view_as(each) for each in maps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
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
            open_map(shared.maps[name][image], shared.strides[name], shared.padding_mode)
            for name in names
        ]

    def read(self, points: Tensor) -> Tensor:
        """Read values (n, D) at points (n, 2), in pixels of the image."""
        return concatenate_channels([each.read(points) for each in self._readers])

    def add(self, sums: dict[str, Tensor], points: Tensor, gradient: Tensor) -> None:
        """Add the gradient (n, D) of what `read` gave to the gradients of the maps.

        Args:
            sums: as of `SharedMaps.zeros`.
        """
        shared = self.shared
        widths = [shared.maps[name].shape[1] for name in self.names]
        for name, map_gradient in zip(self.names, gradient.split(widths, dim=1), strict=True):
            add_to_rows(
                sums[name][self.image],
                points,
                map_gradient,
                shared.maps[name].shape[-2:],
                shared.strides[name],
                shared.padding_mode,
            )
