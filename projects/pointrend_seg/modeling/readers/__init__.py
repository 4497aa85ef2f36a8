"""How points are read: the protocol, a plain and a fast implementation, and the choice.

This is the one place where a path is chosen, for all three heads.
"""

import torch
from torch import Tensor, nn

from ...points.execution import is_eager_on_cpu, is_traced
from ...points.frames import Extent
from ..arguments import check_feature_maps
from ..point_heads import PointMLP
from .fast import FastFrameReader, FusedBoxReader, RowBoxReader
from .plain import PlainBoxReader, PlainFrameReader
from .protocol import (
    BoxReader,
    CoarsePrediction,
    FrameReader,
    InferenceObserver,
    PointInputs,
    PredictedParameters,
    ReadSettings,
)

__all__ = [
    "BoxReader",
    "CoarsePrediction",
    "FrameReader",
    "InferenceObserver",
    "PointInputs",
    "PredictedParameters",
    "ReadSettings",
    "open_box_reader",
    "open_frame_reader",
]


def open_frame_reader(
    features: dict[str, Tensor], frame: Extent, settings: ReadSettings, point_head: nn.Module
) -> FrameReader:
    """Open a reader of whole images.

    It is the fast one where ``settings.fast_path`` asks for it, on a CPU without gradients, and
    the point head is a `PointMLP` that can be taken apart. What is traced rounds as the model does.

    Args:
        features: the backbone's maps by name, (N, C_k, H_k, W_k).
        frame: height and width in pixels of what the coarse logits stand for.
    """
    feature_map = features[next(iter(settings.point_strides))]
    fast = (
        settings.fast_path
        and (is_eager_on_cpu(feature_map) or (is_traced() and feature_map.device.type == "cpu"))
        and isinstance(point_head, PointMLP)
        and point_head.is_plain()
    )
    reader = FastFrameReader if fast else PlainFrameReader
    return reader(features, frame, settings, point_head)


def open_box_reader(
    features: dict[str, Tensor],
    boxes: list[Tensor],
    settings: ReadSettings,
    *,
    pooled_head: nn.Module,
    point_head: nn.Module | None,
) -> BoxReader:
    """Open a reader of boxes.

    With ``settings.fast_path`` and at least one box, a `PointMLP` behind a `ConvFCHead` is fused
    with the reading where both can be taken apart, and an implicit point head reads in parts where
    no gradients are wanted. `torch.jit.trace` sees the same, for any number of boxes, so that a
    trace rounds as the model does; ONNX, which has no `embedding_bag`, gets the plain reader.

    Args:
        features: the backbone's maps by name, (images, C_k, H_k, W_k).
        boxes: (R_i, 4) of each image: x1, y1, x2, y2 in pixels.
        pooled_head: what `BoxReader.pool` will be called with.
        point_head: None where points are not predicted.
    """
    check_feature_maps(features, settings.pooler_strides, "pooler_strides", pooled_head)
    if point_head is not None:
        check_feature_maps(features, settings.point_strides, "point_strides", point_head)
    fast = is_traced() if torch.jit.is_tracing() else any(map(len, boxes))
    if settings.fast_path and fast:
        if FusedBoxReader.fits(pooled_head, point_head):
            return FusedBoxReader(features, boxes, settings, point_head)
        if RowBoxReader.fits(pooled_head, point_head):
            return RowBoxReader(features, boxes, settings, point_head)
    return PlainBoxReader(features, boxes, settings, point_head)
