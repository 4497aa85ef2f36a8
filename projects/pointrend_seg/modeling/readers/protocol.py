"""What a head asks of whoever reads the feature maps, and what it says about its regions.

A *reader* is opened for one batch. It predicts logits at points of regions: of whole images
(`FrameReader`) or of boxes (`BoxReader`). There is a plain and a fast implementation of both;
`open_frame_reader` and `open_box_reader` choose.

Shape shorthand: N regions, R boxes of all images together, C classes, P points of one region.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from ...errors import InputError
from ...points.interpolation import sample_points
from ..arguments import READING, check_arguments
from ..coarse_mask_head import ConvFCHead
from ..point_heads import select_class

Predict = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ReadSettings:
    """How a head reads the feature maps of the backbone.

    Attributes:
        point_strides: name and stride of each map that is read at points, in the order in which
            the channels are put together.
        pooler_strides: name and stride of the maps that are pooled in boxes.
        pooler_size: side of the pooled grid.
        padding_mode: "zeros" or "border", see `sample_points`.
        fast_path: compute in the fast order where the heads allow it. Results are the same but
            for rounding.
    """

    point_strides: Mapping[str, int]
    pooler_strides: Mapping[str, int]
    pooler_size: int = 0
    padding_mode: str = "zeros"
    fast_path: bool = True

    def __post_init__(self) -> None:
        check_arguments(self, READING, vars(self))
        for name in ("point_strides", "pooler_strides"):
            strides = dict(getattr(self, name))
            for key, stride in strides.items():
                if isinstance(stride, bool) or not isinstance(stride, int) or stride < 1:
                    raise InputError(
                        f"{name} of ReadSettings has {stride!r} for {key}; strides are whole "
                        "numbers from 1."
                    )
            object.__setattr__(self, name, strides)


class PointInputs(Protocol):
    """What a point head sees of each region besides the fine features."""

    def predict(
        self, point_head: nn.Module, fine_features: Tensor, coords: Tensor, padding_mode: str
    ) -> Tensor:
        """Call the point head.

        Args:
            fine_features: (N, C_fine, P).
            coords: (N, P, 2), in the [0, 1] frames of the regions.

        Returns:
            the logits: (N, C, P), or (N, P) of one class for each region.
        """
        ...

    def __getitem__(self, regions: slice | Tensor) -> "PointInputs":
        """Select regions by a slice or by their numbers (n,)."""
        ...


@dataclass(frozen=True)
class CoarsePrediction:
    """Coarse logits, which a `PointMLP` sees at the points.

    Attributes:
        logits: (N, C, h, w).
        classes: (N,), int64: the class that is wanted of each region; None for all of them.
    """

    logits: Tensor
    classes: Tensor | None = None

    def predict(
        self, point_head: nn.Module, fine_features: Tensor, coords: Tensor, padding_mode: str
    ) -> Tensor:
        """Call the point head, see `PointInputs`."""
        at_points = sample_points(self.logits, coords, padding_mode=padding_mode)
        logits = point_head(fine_features, at_points)
        return logits if self.classes is None else select_class(logits, self.classes)

    def __getitem__(self, regions: slice | Tensor) -> "CoarsePrediction":
        classes = None if self.classes is None else self.classes[regions]
        return CoarsePrediction(self.logits[regions], classes)


@dataclass(frozen=True)
class PredictedParameters:
    """Parameters of an `ImplicitPointMLP`, different for each box.

    Attributes:
        values: (R, num_params).
        classes: (R,), int64: the class that is wanted of each box.
    """

    values: Tensor
    classes: Tensor

    def predict(
        self, point_head: nn.Module, fine_features: Tensor, coords: Tensor, padding_mode: str
    ) -> Tensor:
        """Call the point head, see `PointInputs`."""
        return point_head(fine_features, coords, self.values, self.classes)

    def __getitem__(self, regions: slice | Tensor) -> "PredictedParameters":
        return PredictedParameters(self.values[regions], self.classes[regions])


class FrameReader(Protocol):
    """Predicts at points of whole images."""

    def predict(self, inputs: PointInputs, coords: Tensor) -> Tensor:
        """Predict logits (N, C, P) at points (N, P, 2) of the frame of the coarse logits."""
        ...


class BoxReader(Protocol):
    """Predicts at points of boxes.

    Attributes:
        boxes: (R_i, 4) of each image: x1, y1, x2, y2 in pixels.
    """

    boxes: list[Tensor]

    def pool(self, head: ConvFCHead) -> Tensor:
        """Apply a head to the features on a regular grid in each box: (R, *head.output_shape)."""
        ...

    def select(self, numbers: Tensor) -> "BoxReader":
        """Restrict the reader to some of the boxes, by their rising numbers (n,)."""
        ...

    def point_loss(
        self, inputs: PointInputs, coords: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute `mask_point_loss` at points.

        Args:
            coords: (R, P, 2), in the [0, 1] frames of the boxes.
            labels: (R, P), float in [0, 1], or -1 for points that do not count.

        Returns:
            the loss, a scalar, and the logits (R, P).
        """
        ...

    def predictors(
        self, inputs: PointInputs, *, num_points: int, num_reads: int
    ) -> Iterator[tuple[slice, Predict]]:
        """Give functions that predict at points, for the boxes in parts.

        Args:
            num_points: how many points of each box a call is for.
            num_reads: how many calls there will be.

        Yields:
            a part's place among the boxes of all images, and a function that takes points
            (B, P, 2) of its B boxes and returns logits (B, P).
        """
        ...


class InferenceObserver(Protocol):
    """Sees what a head does on the way to its output."""

    def on_coarse(self, logits: Tensor) -> None:
        """Take the coarse logits (N, C, h, w); for boxes those of the predicted classes, C = 1."""
        ...

    def on_step(self, logits: Tensor, coords: Tensor) -> None:
        """Take the logits (N, C, H, W) after a subdivision step, and the points (N, P, 2) that it
        predicted; for boxes in parts.
        """
        ...
