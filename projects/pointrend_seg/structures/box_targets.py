"""Targets of coarse masks: which cells of a box a ground-truth mask covers.

Shape shorthand: G objects of an image, R boxes, M the side of a target, an H x W image.
"""

import torch
from torch import Tensor
from torchvision.ops import roi_align

from ..points.execution import is_eager_on_cpu
from ..points.precision import without_autocast

# Half-covered cells are decided by rounding; see labels_in_boxes.
_NEAR_TIE = 1e-3


def labels_in_boxes(bits: Tensor, index: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Find which cells of an M x M grid in each box a mask covers at least by half.

    It is Mask R-CNN's target, RoIAlign of the mask with a threshold of 0.5, and equal to
    `BitMasks.crop_and_resize`. Only one object's mask at a time becomes floats (on a GPU those of
    the image), whatever the number of its boxes.

    Args:
        bits: (G, H, W), bool, the masks of the objects.
        index: (R,), int64 in [0, G), the object of each box.
        boxes: (R, 4), float, x1, y1, x2, y2 in pixels of the image.
        size: M.

    Returns:
        (R, M, M), bool, on the device of ``boxes``.
    """
    boxes = boxes.float()
    bits, index = bits.to(boxes.device), index.to(boxes.device)
    if not is_eager_on_cpu(boxes, with_gradients=True):
        return _align(bits.float(), index, boxes, size) >= 0.5
    covered = _coverage(bits, index, boxes, size)
    ties = ((covered - 0.5).abs() < _NEAR_TIE).flatten(1).any(1).nonzero().flatten()
    for k in ties.split(1):
        covered[k] = _align(bits[index[k]].float(), torch.zeros_like(k), boxes[k], size)
    return covered >= 0.5


def _align(masks: Tensor, index: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Apply RoIAlign to masks (G, H, W), float, for boxes of these objects: (R, M, M)."""
    rois = torch.cat((index[:, None].to(boxes.dtype), boxes), dim=1)
    return roi_align(masks[:, None], rois, (size, size), 1.0, 0, True)[:, 0]


def _coverage(bits: Tensor, index: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Compute RoIAlign on a CPU as two matrix products, in a tenth of the time and all but equal.

    A cell is the mean of bilinear readings on a grid of its own, so it is a weighted sum of pixels
    whose weights are a product of those of its rows and those of its columns.
    """
    height, width = bits.shape[1:]
    row_weights = _axis_weights(boxes[:, 1], boxes[:, 3], height, size)
    column_weights = _axis_weights(boxes[:, 0], boxes[:, 2], width, size)
    covered = boxes.new_zeros(len(boxes), size, size)
    with without_autocast(boxes.device):
        for number in index.unique():
            own = (index == number).nonzero().flatten()
            rows = row_weights[own].flatten(0, 1) @ bits[number].float()
            covered[own] = rows.unflatten(0, (-1, size)) @ column_weights[own].transpose(1, 2)
    return covered


def _axis_weights(start: Tensor, stop: Tensor, length: int, size: int) -> Tensor:
    """Compute how much each pixel along one axis counts in each cell, by RoIAlign's rules.

    As many readings are taken in a cell as it has pixels, rounded up. Those more than a pixel
    outside of the image give nothing, the others what is at its edge.

    Returns:
        (R, M, length).
    """
    cell = ((stop - start) / size)[:, None, None]
    count = cell.ceil().clamp(min=0)
    number = torch.arange(int(count.max()) if len(count) else 0)
    first = start[:, None, None] - 0.5 + torch.arange(size)[:, None] * cell
    place = first + (number + 0.5) * cell / count.clamp(min=1)
    counts = (number < count) & (place >= -1) & (place <= length)
    place = place.clamp(0, length - 1)
    pixel = place.floor()
    part = place - pixel
    weights = place.new_zeros(len(start), size, length)
    for neighbour, weight in ((pixel, 1 - part), (pixel + 1, part)):
        neighbour = neighbour.clamp(max=length - 1).long()
        weights.scatter_add_(2, neighbour, weight * counts / count.clamp(min=1))
    return weights
