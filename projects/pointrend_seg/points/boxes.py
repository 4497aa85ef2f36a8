"""Points in boxes: the frame of a box, and features of the backbone at points in it.

Shape shorthand in this module:

    I: number of images
    R: number of boxes, R_1 + … + R_I of all images
    P: number of points of one box
    C: channels of all feature maps together

Points of a box are (x, y) in its [0, 1] x [0, 1] frame, see `points.py`. Boxes are lists of one
(R_i, 4) float tensor for each image: x1, y1, x2, y2 in pixels, (0, 0) the image's outer corner.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .coordinates import regular_grid
from .interpolation import concatenate_channels, sample_points
from .precision import at_least_float32


def to_image(coords: Tensor, boxes: Tensor) -> Tensor:
    """Convert points from the frames of their boxes to pixels of the image.

    Args:
        coords: (R, P, 2), in the [0, 1] frames of the boxes.
        boxes: (R, 4), x1, y1, x2, y2 in pixels.

    Returns:
        (R, P, 2), float32 or wider, (x, y) in pixels, (0, 0) the outer corner of the image.

    Example:
        >>> box = torch.tensor([[10.0, 20.0, 30.0, 24.0]])
        >>> to_image(torch.tensor([[[0.5, 0.25]]]), box)
        tensor([[[20., 21.]]])
    """
    boxes, coords = at_least_float32(boxes)[:, None], at_least_float32(coords)
    corner, size = boxes[..., :2], boxes[..., 2:] - boxes[..., :2]
    return coords * size + corner


def to_box(points: Tensor, boxes: Tensor) -> Tensor:
    """Convert points from pixels of the image to the frames of their boxes.

    Args:
        points: (R, P, 2), (x, y) in pixels, (0, 0) the outer corner of the image.
        boxes: (R, 4), x1, y1, x2, y2 in pixels.

    Returns:
        (R, P, 2), float32 or wider: in [0, 1] within the box, infinite or NaN where it has no area.

    Example:
        >>> box = torch.tensor([[10.0, 20.0, 30.0, 24.0]])
        >>> to_box(torch.tensor([[[20.0, 21.0]]]), box)
        tensor([[[0.5000, 0.2500]]])
    """
    boxes, points = at_least_float32(boxes)[:, None], at_least_float32(points)
    corner, size = boxes[..., :2], boxes[..., 2:] - boxes[..., :2]
    return (points - corner) / size


def to_map(points: Tensor, size: Sequence[int], stride: int) -> Tensor:
    """Convert points from pixels of the image to the [0, 1] frame of a map.

    Args:
        points: (..., 2), (x, y) in pixels.
        size: (H, W) of the map.
        stride: of the map, in pixels.

    Returns:
        (..., 2).
    """
    x, y = points.unbind(-1)
    return torch.stack((x / (size[1] * stride), y / (size[0] * stride)), dim=-1)


def sample_features(
    features: Mapping[str, Tensor],
    strides: Mapping[str, int],
    boxes: list[Tensor],
    coords: Tensor,
    *,
    padding_mode: str = "zeros",
) -> Tensor:
    """Read feature maps at points of boxes.

    Args:
        features: the backbone's maps, each (I, C_k, H_k, W_k).
        strides: name and stride of each map to read, in the order of their channels.
        coords: (R, P, 2), in the boxes' frames.
        padding_mode: see `sample_points`.

    Returns:
        (R, C, P) in the dtype of the features.
    """
    in_pixels = to_image(coords, torch.cat(boxes))
    image_values, stop = [], 0
    for image, image_boxes in enumerate(boxes):
        start, stop = stop, stop + image_boxes.shape[0]
        points = in_pixels[start:stop]
        map_values = []
        for name, stride in strides.items():
            feature_map = features[name][image : image + 1]
            flat = to_map(points.view(1, -1, 2), feature_map.shape[-2:], stride)
            values = sample_points(feature_map, flat, padding_mode=padding_mode)
            map_values.append(values[0].view(values.shape[1], *points.shape[:2]).transpose(0, 1))
        image_values.append(concatenate_channels(map_values))
    return torch.cat(image_values, dim=0)


def pool(
    features: Mapping[str, Tensor],
    strides: Mapping[str, int],
    boxes: list[Tensor],
    size: int,
    *,
    padding_mode: str = "zeros",
) -> Tensor:
    """Read features on a regular grid in each box: (R, C, size, size).

    For one map this is RoIAlign with one sample per cell; several maps are concatenated.
    """
    num_boxes = sum(each.shape[0] for each in boxes)
    coords = regular_grid(size, boxes[0].device).expand(num_boxes, -1, -1)
    values = sample_features(features, strides, boxes, coords, padding_mode=padding_mode)
    return values.reshape(values.shape[0], values.shape[1], size, size)


def select_boxes(boxes: list[Tensor], numbers: Tensor) -> list[Tensor]:
    """Select boxes by rising numbers (n,), which count through the boxes of all images."""
    chosen = numbers.new_zeros(sum(map(len, boxes)), dtype=torch.bool)
    chosen[numbers] = True
    masks = chosen.split([len(each) for each in boxes])
    return [each[mask] for each, mask in zip(boxes, masks, strict=True)]
