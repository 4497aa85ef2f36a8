"""Frames: which pixels of the image a feature map stands for.

A map of stride s and size h x w stands for the h * s x w * s image pixels from the top-left corner
on, its *extent*. When the image's size is no multiple of the strides, the maps of one image differ
in that: 65 pixels are 5 cells at stride 16, which stand for 80 pixels, and 9 cells at stride 8,
which stand for 72. Shape shorthand as in `points.py`; extents are (height, width) in pixels.
"""

from collections.abc import Mapping
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from .coordinates import smaller
from .interpolation import concatenate_channels, sample_points

Extent = tuple[int, int]


def extent(feature_map: Tensor, stride: int) -> Extent:
    """Return height and width in pixels of what a map (N, C, h, w) stands for."""
    return feature_map.shape[-2] * stride, feature_map.shape[-1] * stride


def change_frame(coords: Tensor, old: Extent, new: Extent) -> Tensor:
    """Move points between two frames that share their top-left corner.

    Args:
        coords: (N, P, 2) in the [0, 1] frame of ``old``.

    Returns:
        (N, P, 2) in the [0, 1] frame of ``new``; ``coords`` itself when both are the same. Points
        outside of the new frame get coordinates above 1.
    """
    if not torch.jit.is_tracing() and old == new:
        return coords
    x, y = coords.unbind(-1)
    return torch.stack((x * (old[1] / new[1]), y * (old[0] / new[0])), dim=-1)


def shown_extent(
    frame: Extent, features: Mapping[str, Tensor], strides: Mapping[str, int]
) -> Extent:
    """Return the smallest extent of all maps, the nearest to the image's own size."""
    extents = [frame] + [extent(features[name], stride) for name, stride in strides.items()]
    heights, widths = zip(*extents, strict=True)
    return reduce(smaller, heights), reduce(smaller, widths)


def hide_outside(scores: Tensor, frame: Extent, shown: Extent) -> Tensor:
    """Set the scores of cells to -inf that lie in the frame but not in what is shown, in place.

    Args:
        scores: (N, H, W), on a grid over the frame.
    """
    rows, columns = (
        -(-cells * part // whole)  # rounded up
        for cells, part, whole in zip(scores.shape[1:], shown, frame, strict=True)
    )
    scores[:, rows:] = -torch.inf
    scores[:, :, columns:] = -torch.inf
    return scores


def pad_labels(labels: Tensor, frame: Extent, ignore_value: int) -> Tensor:
    """Extend labels (N, H, W) to the right and below with ``ignore_value`` to fill a frame.

    Raises:
        InputError: the labels are larger than the frame.
    """
    below, right = frame[0] - labels.shape[1], frame[1] - labels.shape[2]
    if below < 0 or right < 0:
        raise InputError(
            f"The coarse logits cover {frame[0]} x {frame[1]} pixels, but the labels are "
            f"{labels.shape[1]} x {labels.shape[2]}: this backbone drops the rest of an image "
            "whose size is no multiple of its stride. Its `size_divisibility` must say so."
        )
    return F.pad(labels, (0, right, 0, below), value=ignore_value)


def check_same_image(
    coarse: Tensor, stride: int, features: Mapping[str, Tensor], strides: Mapping[str, int]
) -> None:
    """Check that coarse logits and fine features can be of one image at these strides.

    (Not in a traced graph, which has no errors.)

    Raises:
        InputError: their extents differ by a cell of the coarser map or more, so the coarse
            head's stride is not what it says.
    """
    if torch.jit.is_tracing():
        return
    frame = extent(coarse, stride)
    for name, fine_stride in strides.items():
        fine = extent(features[name], fine_stride)
        if any(abs(a - b) >= max(stride, fine_stride) for a, b in zip(frame, fine, strict=True)):
            raise InputError(
                f"Coarse logits of {coarse.shape[-2]} x {coarse.shape[-1]} cells at stride "
                f"{stride} cannot be of the same image as '{name}', {features[name].shape[-2]} x "
                f"{features[name].shape[-1]} cells at stride {fine_stride}. Set "
                "MODEL.SEM_SEG_HEAD.COMMON_STRIDE to the stride at which the coarse head predicts."
            )


def sample_frames(
    features: Mapping[str, Tensor],
    strides: Mapping[str, int],
    frame: Extent,
    coords: Tensor,
    *,
    padding_mode: str = "zeros",
) -> Tensor:
    """Read feature maps at points of whole images.

    Args:
        features: maps by name, each (N, C_k, H_k, W_k).
        strides: name and stride of each map to read, in the order of their channels.
        coords: (N, P, 2), in the [0, 1] frame of ``frame``.
        padding_mode: "zeros" or "border", see `sample_points`.

    Returns:
        (N, C, P), C channels of all maps together, in the dtype of the features.
    """
    values = [
        sample_points(
            features[name],
            change_frame(coords, frame, extent(features[name], stride)),
            padding_mode=padding_mode,
        )
        for name, stride in strides.items()
    ]
    return concatenate_channels(values)
