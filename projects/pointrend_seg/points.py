"""Point coordinates and what is done at points: sampling a map, writing back into one.

Shape shorthand in this module:

    N: number of regions, each with a map and points of its own: images for semantic
       segmentation, boxes for instance segmentation
    C: number of channels or classes
    H, W: height and width of a map
    P: number of points of one region

Coordinates are (x, y), float32, in the [0, 1] x [0, 1] frame of their map: (0, 0) is the outer
corner of the first pixel and the centre of pixel (row i, column j) of an H x W map lies at
((j + 0.5) / W, (i + 0.5) / H). That is ``align_corners=False`` throughout; docs/coordinates.md
has the pictures.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def sample_points(
    input: Tensor, coords: Tensor, *, mode: str = "bilinear", padding_mode: str = "zeros"
) -> Tensor:
    """Read a map at points.

    Args:
        input: (N, C, H, W), any floating dtype and memory format.
        coords: (N, P, 2), float, in the frame of ``input``.
        mode: "bilinear" or "nearest".
        padding_mode: what lies outside the map. With "zeros" a point less than half a pixel
            from the edge is mixed with zero, as in Detectron2's PointRend; with "border" the
            edge pixels go on.

    Returns:
        (N, C, P) in the dtype of ``input``.
    """
    # Coordinates stay in float32: in half precision they are a whole pixel off on large maps.
    dtype = torch.promote_types(input.dtype, torch.float32)
    grid = (2.0 * coords.to(dtype) - 1.0).unsqueeze(2)
    maps = input.to(dtype)
    channels = maps.shape[1]
    if _better_by_planes(maps, coords):
        maps = maps.view(-1, _PLANES_AT_ONCE, *maps.shape[2:])
        grid = grid.expand(len(maps), -1, -1, -1)
    output = F.grid_sample(maps, grid, mode=mode, padding_mode=padding_mode, align_corners=False)
    return output.view(len(input), channels, coords.shape[1]).to(input.dtype)


# Below these the time goes into starting each group of planes.
_POINTS_WORTH_PLANES = 512
_CHANNELS_WORTH_PLANES = 64
# So many share the arithmetic of where the points lie.
_PLANES_AT_ONCE = 8


def _better_by_planes(maps: Tensor, coords: Tensor) -> bool:
    """Whether to read the channels of one map as if they were several maps of a few channels.

    On the CPU grid_sample shares maps among the threads, but not channels, and goes through all
    channels at each point. So it takes a half or less, since a few planes stay in the cache, and
    the result is the same to the last bit.
    """
    return (
        maps.device.type == "cpu"
        and len(maps) == 1
        and maps.shape[1] >= _CHANNELS_WORTH_PLANES
        and maps.shape[1] % _PLANES_AT_ONCE == 0
        and coords.shape[1] >= _POINTS_WORTH_PLANES
        and maps[0, 0].is_contiguous()
    )


def pixel_position(coords: Tensor, size: int) -> Tensor:
    """One axis of points in the [0, 1] frame of a map, counted in pixel centres.

    It has the rounding of grid_sample, whose last step is a fused multiply-add: one rounding,
    which doubles give. So whoever reads by other means than `sample_points` reads at the very
    same places.
    """
    normalised = 2.0 * coords - 1.0
    return ((normalised + 1.0).double() * (size / 2) - 0.5).to(coords.dtype)


def grid_point_coords(indices: Tensor, height: int, width: int) -> Tensor:
    """Coordinates of the centres of grid cells.

    Args:
        indices: (N, P), int64, row-major cell indices in [0, height * width).

    Returns:
        (N, P, 2), float32, in the frame of the grid.
    """
    step_x, step_y = 1.0 / float(width), 1.0 / float(height)
    column = (indices % width).to(torch.float32)
    row = torch.div(indices, width, rounding_mode="floor").to(torch.float32)
    return torch.stack((step_x / 2.0 + column * step_x, step_y / 2.0 + row * step_y), dim=2)


def regular_grid(side: int, device: torch.device) -> Tensor:
    """The cell centres of a regular grid, row by row: (1, side * side, 2), float32.

    `affine_grid` has the rounding of Detectron2's grids, which `grid_point_coords` has not.
    """
    whole = torch.eye(2, 3, device=device) / 2  # (values from the host would make a GPU wait)
    whole[:, 2] = 0.5
    return F.affine_grid(whole[None], [1, 1, side, side], align_corners=False).view(1, -1, 2)


def write_points(input: Tensor, indices: Tensor, values: Tensor) -> Tensor:
    """Put point values into a map, in place where the memory format allows it.

    Args:
        input: (N, C, H, W).
        indices: (N, P), int64, row-major cell indices in [0, H * W).
        values: (N, C, P); cast to the dtype of ``input``.

    Returns:
        (N, C, H, W): ``input`` itself when it is contiguous, else a changed copy. Use the
        returned tensor.
    """
    channels = input.shape[1]
    flat = input.flatten(2)
    flat.scatter_(2, indices.unsqueeze(1).expand(-1, channels, -1), values.to(input.dtype))
    return flat.view(input.shape)
