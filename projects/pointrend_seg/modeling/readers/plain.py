"""Readers that compute as the paper has it: the reference that the fast ones are measured against.

Shape shorthand: N regions, R boxes of all images together, C channels of all maps, P points.
"""

import copy
from collections.abc import Iterator
from functools import partial

from torch import Tensor, nn

from ...points.boxes import pool, sample_features, select_boxes
from ...points.frames import Extent, sample_frames
from ...points.losses import mask_point_loss
from ..coarse_mask_head import ConvFCHead
from .protocol import PointInputs, Predict, ReadSettings


class PlainFrameReader:
    """A `FrameReader` that reads all points at once."""

    def __init__(
        self, features: dict[str, Tensor], frame: Extent, settings: ReadSettings, head: nn.Module
    ):
        self.features, self.frame, self.settings = features, frame, settings
        self.point_head = head

    def read(self, coords: Tensor) -> Tensor:
        """Read the fine features (N, C, P) at points (N, P, 2) of the frame."""
        settings = self.settings
        return sample_frames(
            self.features,
            settings.point_strides,
            self.frame,
            coords,
            padding_mode=settings.padding_mode,
        )

    def predict(self, inputs: PointInputs, coords: Tensor) -> Tensor:
        """Predict logits (N, C, P), see `FrameReader`."""
        fine_features = self.read(coords)
        return inputs.predict(self.point_head, fine_features, coords, self.settings.padding_mode)


class PlainBoxReader:
    """A `BoxReader` that reads the points of all boxes at once."""

    def __init__(
        self,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        settings: ReadSettings,
        point_head: nn.Module | None,
    ):
        self.features, self.boxes, self.settings = features, boxes, settings
        self.point_head = point_head

    def read(self, coords: Tensor) -> Tensor:
        """Read the fine features (R, C, P) at points (R, P, 2) of the boxes."""
        settings = self.settings
        return sample_features(
            self.features,
            settings.point_strides,
            self.boxes,
            coords,
            padding_mode=settings.padding_mode,
        )

    def pool(self, head: ConvFCHead) -> Tensor:
        """Apply a head to pooled features, see `BoxReader`."""
        settings = self.settings
        pooled = pool(
            self.features,
            settings.pooler_strides,
            self.boxes,
            settings.pooler_size,
            padding_mode=settings.padding_mode,
        )
        return head(pooled)

    def select(self, numbers: Tensor) -> "PlainBoxReader":
        """Restrict the reader to some of the boxes, see `BoxReader`."""
        other = copy.copy(self)
        other.boxes = select_boxes(self.boxes, numbers)
        return other

    def predict(self, inputs: PointInputs, coords: Tensor) -> Tensor:
        """Predict logits (R, P) at points (R, P, 2) of the boxes."""
        assert self.point_head is not None
        fine_features = self.read(coords)
        return inputs.predict(self.point_head, fine_features, coords, self.settings.padding_mode)

    def point_loss(
        self, inputs: PointInputs, coords: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute loss and logits at points, see `BoxReader`."""
        logits = self.predict(inputs, coords)
        return mask_point_loss(logits, labels), logits

    def predictors(
        self, inputs: PointInputs, *, num_points: int, num_reads: int
    ) -> Iterator[tuple[slice, Predict]]:
        """Give one predictor for all boxes, see `BoxReader`."""
        yield slice(0, sum(boxes.shape[0] for boxes in self.boxes)), partial(self.predict, inputs)
