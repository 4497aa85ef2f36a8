"""Reading the maps of an image at points as rows, the layout in which a point MLP is fastest.

Points are (x, y) in pixels of the image, (0, 0) its outer corner; a map of stride s stands for
(H * s, W * s) pixels of it. Values are those of `points.sample_points`. Shape shorthand as at the
top of the package.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ....points.boxes import to_map
from ....points.coordinates import pixel_position
from ....points.interpolation import sample_points
from ....points.precision import at_least_float32


def as_rows(feature_map: Tensor) -> Tensor:
    """View a map (D, H, W) as a table (H * W, D); nothing is copied."""
    return feature_map.flatten(1).t()


class RowTable:
    """A table of rows, one for each cell of a map, that is read between the cells.

    Sums are taken in float32 or wider, as `sample_points` does.
    """

    def __init__(self, table: Tensor, size: Sequence[int], stride: int, padding_mode: str):
        """
        Args:
            table: (H * W, D), any memory layout.
            size: (H, W).
            padding_mode: "zeros" or "border", see `sample_points`.
        """
        self.dtype = table.dtype
        self.table = at_least_float32(table).contiguous()
        self.size, self.stride, self.padding_mode = size, stride, padding_mode

    def read(self, points: Tensor) -> Tensor:
        """Read values (n, D) at points (n, 2), in the dtype of the table."""
        cells, weights = neighbours(points, self.size, self.stride, self.padding_mode)
        weights = weights.to(self.table.dtype)
        values = F.embedding_bag(cells, self.table, mode="sum", per_sample_weights=weights)
        return values.to(self.dtype)


class MapPlanes:
    """A map that is read as it is, one channel after the other."""

    def __init__(self, feature_map: Tensor, stride: int, padding_mode: str):
        """
        Args:
            feature_map: (D, H, W).
        """
        self.dtype, self.map = feature_map.dtype, at_least_float32(feature_map)
        self.stride, self.padding_mode = stride, padding_mode

    def read(self, points: Tensor) -> Tensor:
        """Read values (n, D) at points (n, 2), in the dtype of the map; a transposed view."""
        coords = to_map(points.unsqueeze(0), self.map.shape[-2:], self.stride)
        values = sample_points(self.map.unsqueeze(0), coords, padding_mode=self.padding_mode)[0]
        return values.to(self.dtype).t()


def open_map(feature_map: Tensor, stride: int, padding_mode: str) -> RowTable | MapPlanes:
    """Open a map (D, H, W) in the way that reads it faster.

    Rows are read at once where a pixel's channels lie together in memory. Elsewhere that takes a
    copy of the map: nothing for a GPU, but more than the reading itself on a CPU.
    """
    rows = as_rows(feature_map)
    if feature_map.device.type == "cpu" and not rows.is_contiguous():
        return MapPlanes(feature_map, stride, padding_mode)
    return RowTable(rows, feature_map.shape[-2:], stride, padding_mode)


def neighbours(
    points: Tensor, size: Sequence[int], stride: int, padding_mode: str
) -> tuple[Tensor, Tensor]:
    """Find the four cells that each point lies between, and their bilinear weights.

    Args:
        points: (n, 2), (x, y) in pixels, any floating dtype and any values, NaN and inf included.

    Returns:
        cells: (n, 4), int64, always in [0, H * W).
        weights: (n, 4), float32 or wider, always finite; 0 for a cell that is not in the map, and
            for all cells of a point that is not a number.
    """
    height, width = size
    coords = to_map(at_least_float32(points), size, stride)
    x, y = pixel_position(coords[:, 0], width), pixel_position(coords[:, 1], height)
    if padding_mode == "border":
        x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    left, top = x.floor(), y.floor()
    right_part, bottom_part = x - left, y - top
    columns, column_weights = _pair(left, right_part, width)
    rows, row_weights = _pair(top, bottom_part, height)
    cells = rows[:, :, None] * width + columns[:, None, :]
    weights = row_weights[:, :, None] * column_weights[:, None, :]
    return cells.flatten(1), weights.flatten(1)


def _pair(first: Tensor, part: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return a cell along one axis and the next one, (n, 2), and the weights of both."""
    both = torch.stack((first, first + 1), dim=1)
    weights = torch.stack((1 - part, part), dim=1)
    inside = (both >= 0) & (both <= size - 1)
    return both.where(inside, 0).long(), weights.where(inside, 0)


def add_to_rows(
    table: Tensor,
    points: Tensor,
    values: Tensor,
    size: Sequence[int],
    stride: int,
    padding_mode: str,
) -> None:
    """Add values to the cells that they were read from, in place: the adjoint of reading.

    Args:
        table: (H * W, D).
        points: (n, 2).
        values: (n, D).
    """
    cells, weights = neighbours(points, size, stride, padding_mode)
    values = values.to(table.dtype)
    for cell, weight in zip(cells.unbind(1), weights.to(table.dtype).split(1, dim=1), strict=True):
        table.index_add_(0, cell, values * weight)


def interpolation_weights(coords: Tensor, size: Sequence[int], padding_mode: str) -> Tensor:
    """Compute the bilinear weights of all cells of a small map: hat functions of two axes.

    Args:
        coords: (..., 2), in the [0, 1] frame of the map.
        size: (h, w).

    Returns:
        (..., h * w).
    """
    hats = []
    for axis, cells in ((1, size[0]), (0, size[1])):
        place = pixel_position(at_least_float32(coords[..., axis]), cells)
        if padding_mode == "border":
            place = place.clamp(0, cells - 1)
        centres = torch.arange(cells, dtype=place.dtype, device=place.device)
        hats.append((1 - (place.unsqueeze(-1) - centres).abs()).clamp(min=0))
    return (hats[0].unsqueeze(-1) * hats[1].unsqueeze(-2)).flatten(-2)
