"""Read maps at points, and write values at points back into maps.

Shape shorthand in this module:

    N: number of regions, each with a map and points of its own: images for semantic
       segmentation, boxes for instance segmentation
    C: number of channels or classes
    H, W: height and width of a map
    P: number of points of one region

Coordinates are those of `coordinates.py`.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .execution import is_eager_on_cpu
from .precision import at_least_float32


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

    Example:
        >>> ramp = torch.arange(4.0).view(1, 1, 1, 4)
        >>> sample_points(ramp, torch.tensor([[[0.125, 0.5], [0.5, 0.5]]]))
        tensor([[[0.0000, 1.5000]]])
    """
    # Coordinates stay in float32: in half precision they are a whole pixel off on large maps.
    maps = at_least_float32(input)
    grid = (2.0 * coords.to(maps.dtype) - 1.0).unsqueeze(2)
    channels = maps.shape[1]
    if _better_by_planes(maps, coords):
        maps = maps.view(-1, _PLANES_AT_ONCE, *maps.shape[2:])
        grid = grid.expand(len(maps), -1, -1, -1)
    output = F.grid_sample(maps, grid, mode=mode, padding_mode=padding_mode, align_corners=False)
    return output.view(input.shape[0], channels, coords.shape[1]).to(input.dtype)


# Below these the time goes into starting each group of planes.
_POINTS_WORTH_PLANES = 512
_CHANNELS_WORTH_PLANES = 64
# So many share the arithmetic of where the points lie.
_PLANES_AT_ONCE = 8


def _better_by_planes(maps: Tensor, coords: Tensor) -> bool:
    """Tell whether to read the channels of one map as if they were several maps of a few channels.

    On the CPU grid_sample shares maps among the threads, but not channels, and goes through all
    channels at each point. So it takes a half or less, since a few planes stay in the cache, and
    the result is the same to the last bit.
    """
    return (
        is_eager_on_cpu(maps, with_gradients=True)
        and len(maps) == 1
        and maps.shape[1] >= _CHANNELS_WORTH_PLANES
        and maps.shape[1] % _PLANES_AT_ONCE == 0
        and coords.shape[1] >= _POINTS_WORTH_PLANES
        and maps[0, 0].is_contiguous()
    )


def write_points(input: Tensor, indices: Tensor, values: Tensor) -> Tensor:
    """Put point values into a map, in place where the memory format allows it.

    Args:
        input: (N, C, H, W).
        indices: (N, P), int64, row-major cell indices in [0, H * W).
        values: (N, C, P); cast to the dtype of ``input``.

    Returns:
        (N, C, H, W): ``input`` itself when it is contiguous, else a changed copy. Use the
        returned tensor.

    Example:
        >>> write_points(torch.zeros(1, 1, 1, 3), torch.tensor([[2]]), torch.ones(1, 1, 1))
        tensor([[[[0., 0., 1.]]]])
    """
    channels, height, width = input.shape[1:]
    # (Nothing is left to infer: runtimes of ONNX cannot where there are no regions.)
    flat = input.reshape(indices.shape[0], channels, height * width)
    flat.scatter_(2, indices.unsqueeze(1).expand(-1, channels, -1), values.to(input.dtype))
    return flat.view(input.shape)


def concatenate_channels(values: list[Tensor]) -> Tensor:
    """Concatenate (N, C_k, ...) along the channels; a single tensor is returned without a copy."""
    return values[0] if len(values) == 1 else torch.cat(values, dim=1)
