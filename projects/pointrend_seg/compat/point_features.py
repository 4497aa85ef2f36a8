"""Sampling points and reading features at them, with the signatures of Detectron2's PointRend.

Shape shorthand: N images or boxes, R boxes of all images together, C channels or classes, P points,
an H x W map. Coordinates are (x, y) in [0, 1] of their map or box, float32.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor
from torch.nn import functional as F

from ..points.boxes import sample_features, to_image
from ..points.coordinates import regular_grid
from ..points.interpolation import sample_points
from ..points.precision import at_least_float32
from ..points.sampling import importance_points
from ..points.subdivision import most_uncertain_points
from ..structures.shared_masks import shared_masks


def point_sample(input: Tensor, point_coords: Tensor, **kwargs: Any) -> Tensor:
    """Read maps at points.

    Args:
        input: (N, C, H, W), any floating dtype and memory layout.
        point_coords: (N, P, 2) or (N, P_y, P_x, 2).
        kwargs: ``mode``, ``padding_mode`` and ``align_corners``, as of `grid_sample`.

    Returns:
        (N, C, P) or (N, C, P_y, P_x) in the dtype of ``input``; computed in float32 or wider.

    Example:
        >>> point_sample(torch.ones(1, 2, 4, 4), torch.full((1, 3, 2), 0.5)).shape
        torch.Size([1, 2, 3])
    """
    flat = point_coords.flatten(1, -2)
    if kwargs.pop("align_corners", None):
        maps = at_least_float32(input)
        grid = (2.0 * flat.to(maps.dtype) - 1.0).unsqueeze(2)
        values = F.grid_sample(maps, grid, align_corners=True, **kwargs)[..., 0].to(input.dtype)
    else:
        values = sample_points(input, flat, **kwargs)
    return values.unflatten(2, point_coords.shape[1:-1])


def generate_regular_grid_point_coords(R: int, side_size: int, device: torch.device) -> Tensor:
    """Return the cell centres of a regular grid, row by row, for R regions: (R, side_size², 2)."""
    return regular_grid(side_size, device).expand(R, -1, -1)


def get_uncertain_point_coords_with_randomness(
    coarse_logits: Tensor,
    uncertainty_func: Callable[[Tensor], Tensor],
    num_points: int,
    oversample_ratio: float,
    importance_sample_ratio: float,
) -> Tensor:
    """Draw training points of which most lie where a prediction is unsure.

    Args:
        coarse_logits: (N, C, H, W).
        uncertainty_func: takes logits (N, C, P'), returns (N, 1, P'); higher is less certain.
        num_points: P.
        oversample_ratio: candidates for each point, 1 or more.
        importance_sample_ratio: in [0, 1], the share of points that are the least certain
            candidates; the rest is uniform.

    Returns:
        (N, P, 2), for a seed the same as in Detectron2's PointRend.

    Example:
        >>> uncertainty = lambda logits: -logits.abs()
        >>> logits = torch.randn(2, 1, 8, 8)
        >>> get_uncertain_point_coords_with_randomness(logits, uncertainty, 9, 3, 0.75).shape
        torch.Size([2, 9, 2])
    """
    return importance_points(
        coarse_logits,
        num_points,
        lambda logits: uncertainty_func(logits)[:, 0],
        oversample_ratio=oversample_ratio,
        importance_sample_ratio=importance_sample_ratio,
    )


def get_uncertain_point_coords_on_grid(
    uncertainty_map: Tensor, num_points: int
) -> tuple[Tensor, Tensor]:
    """Find the least certain cells of a grid.

    Args:
        uncertainty_map: (N, 1, H, W), any memory layout; higher is less certain.
        num_points: how many; at most H * W are taken.

    Returns:
        their indices, (N, P), int64, row-major, in any order; and their centres, (N, P, 2).
    """
    return most_uncertain_points(uncertainty_map[:, 0], num_points)


def point_sample_fine_grained_features(
    features_list: Sequence[Tensor],
    feature_scales: Sequence[float],
    boxes: Sequence[Boxes],
    point_coords: Tensor,
) -> tuple[Tensor, Tensor]:
    """Read feature maps at points of boxes.

    Args:
        features_list: maps, each (images, C_k, H_k, W_k).
        feature_scales: of each map, 1 / stride.
        boxes: of each image, in pixels.
        point_coords: (R, P, 2), in the frames of the boxes.

    Returns:
        the features, (R, C_1 + C_2 + …, P), and the points in pixels, (R, P, 2).
    """
    corners = [each.tensor for each in boxes]
    features = {str(k): each for k, each in enumerate(features_list)}
    strides: dict[str, Any] = {str(k): 1 / scale for k, scale in enumerate(feature_scales)}
    values = sample_features(features, strides, corners, point_coords)
    return values, to_image(point_coords, torch.cat(corners))


def get_point_coords_wrt_image(boxes_coords: Tensor, point_coords: Tensor) -> Tensor:
    """Convert points (R, P, 2) from the frames of boxes (R, 4), in pixels, to pixels."""
    with torch.no_grad():
        return to_image(point_coords, boxes_coords)


@torch.no_grad()
def sample_point_labels(instances: Sequence[Instances], point_coords: Tensor) -> Tensor:
    """Read ground-truth masks at points.

    Args:
        instances: of each image, with ``gt_masks`` as bits or, unlike in Detectron2, polygons.
        point_coords: (R, P, 2), in pixels of the images.

    Returns:
        (R, P), float32 in [0, 1], a fraction near the edge of a mask.
    """
    parts = point_coords.split([len(each) for each in instances])
    return torch.cat(
        [
            shared_masks(each).labels_at_points(points)
            for each, points in zip(instances, parts, strict=True)
        ]
    )
