"""The plain path of the instance head: as the paper has it, and the measure for the fast one.

Shape shorthand: R boxes of all images together, C classes, P points of one box, h x w coarse masks.
"""

import copy
from collections.abc import Callable, Iterator

from torch import Tensor, nn

from ...points.boxes import pool, sample_features, some_boxes
from ...points.interpolation import sample_points
from ...points.losses import mask_point_loss
from ..point_heads import select_class


class PlainPath:
    """Coarse masks and points of boxes."""

    def __init__(
        self,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        *,
        coarse_head: nn.Module,
        point_head: nn.Module | None,
        pooler_strides: dict[str, int],
        pooler_size: int,
        point_strides: dict[str, int],
        padding_mode: str,
    ):
        """
        Args:
            features: the backbone's maps by name.
            boxes: of each image, (R_i, 4), in pixels.
            coarse_head, point_head, …: see `PointRendInstanceHead`.
        """
        self.features, self.boxes = features, boxes
        self.coarse_head, self.point_head = coarse_head, point_head
        self.pooler_strides, self.pooler_size = pooler_strides, pooler_size
        self.point_strides, self.padding_mode = point_strides, padding_mode

    def coarse(self) -> Tensor:
        """The coarse logits (R, C, h, w)."""
        pooled = pool(
            self.features,
            self.pooler_strides,
            self.boxes,
            self.pooler_size,
            padding_mode=self.padding_mode,
        )
        return self.coarse_head(pooled)

    def predict_points(self, coarse: Tensor, classes: Tensor, coords: Tensor) -> Tensor:
        """Logits (R, P) of each box's class (R,), at points (R, P, 2) of the boxes' frames."""
        fine = sample_features(
            self.features, self.point_strides, self.boxes, coords, padding_mode=self.padding_mode
        )
        at_points = sample_points(coarse, coords, padding_mode=self.padding_mode)
        return select_class(self.point_head(fine, at_points), classes)

    def only(self, numbers: Tensor) -> "PlainPath":
        """The same for some of the boxes, by their rising numbers (n,)."""
        other = copy.copy(self)
        other.boxes = some_boxes(self.boxes, numbers)
        return other

    def point_loss(
        self, coarse: Tensor, classes: Tensor, coords: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`mask_point_loss` at points (R, P, 2) with labels (R, P), and the logits (R, P)."""
        logits = self.predict_points(coarse, classes, coords)
        return mask_point_loss(logits, labels), logits

    def predictors(
        self, coarse: Tensor, classes: Tensor, *, num_points: int, num_reads: int
    ) -> Iterator[tuple[int, Callable[[Tensor], Tensor]]]:
        """What predicts points, for the boxes in parts.

        Args:
            num_points, num_reads: how many points of each box a call is for, and how many calls
                there will be.

        Yields:
            the number of boxes B in the part, and a function that takes points (B, P, 2) in their
            frames and gives logits (B, P) of their classes. All of them are one part here.
        """
        yield len(coarse), lambda coords: self.predict_points(coarse, classes, coords)
