"""Point coordinates.

Coordinates are (x, y), float32, in the [0, 1] x [0, 1] frame of their map: (0, 0) is the outer
corner of the first pixel and the centre of pixel (row i, column j) of an H x W map lies at
((j + 0.5) / W, (i + 0.5) / H). That is ``align_corners=False`` throughout; docs/coordinates.md
has the pictures.

Shape shorthand: N regions, an H x W map, P points of one region.
"""

import torch
from torch import Tensor


def pixel_position(coords: Tensor, size: int) -> Tensor:
    """Convert one axis of points from the [0, 1] frame of a map to pixel centres.

    It has the rounding of grid_sample, whose last step is a fused multiply-add: one rounding,
    which doubles give. So whoever reads by other means than `sample_points` reads at the very
    same places.
    """
    normalised = 2.0 * coords - 1.0
    return ((normalised + 1.0).double() * (size / 2) - 0.5).to(coords.dtype)


def grid_point_coords(indices: Tensor, height: int, width: int) -> Tensor:
    """Return the coordinates of the centres of grid cells.

    Args:
        indices: (N, P), int64, row-major cell indices in [0, height * width).

    Returns:
        (N, P, 2), float32, in the frame of the grid.

    Example:
        >>> grid_point_coords(torch.tensor([[0, 3]]), height=2, width=2)
        tensor([[[0.2500, 0.2500],
                 [0.7500, 0.7500]]])
    """
    step_x, step_y = _reciprocal(width), _reciprocal(height)
    column = (indices % width).to(torch.float32)
    row = torch.div(indices, width, rounding_mode="floor").to(torch.float32)
    return torch.stack((step_x / 2.0 + column * step_x, step_y / 2.0 + row * step_y), dim=2)


def _reciprocal(size: int | Tensor) -> float | Tensor:
    """Return 1 / size in double precision; the sizes of a traced graph are tensors."""
    return 1.0 / (size.double() if isinstance(size, Tensor) else size)


def smaller(first: int, second: int) -> int:
    """Return the smaller of two sizes, also in a traced graph, where they are tensors."""
    if isinstance(first, Tensor) or isinstance(second, Tensor):
        return torch.minimum(torch.as_tensor(first), torch.as_tensor(second))
    return min(first, second)


def regular_grid(side: int, device: torch.device) -> Tensor:
    """Return the cell centres of a regular grid, row by row: (1, side * side, 2), float32.

    The rounding is that of `affine_grid`, and so of Detectron2's grids, which `grid_point_coords`
    has not. `affine_grid` itself is no operation of ONNX before opset 20.
    """
    centres = torch.linspace(-1, 1, side, dtype=torch.float32, device=device) * (side - 1) / side
    centres = centres / 2 + 0.5
    columns, rows = centres.expand(side, side), centres.unsqueeze(1).expand(side, side)
    return torch.stack((columns, rows), dim=2).view(1, -1, 2)
