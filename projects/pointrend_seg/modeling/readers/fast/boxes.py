"""Points of boxes, read as rows in parts. Shape shorthand as at the top of the package."""

from collections.abc import Iterator
from typing import TypeGuard

import torch
from torch import Tensor, nn

from ....points.boxes import to_image
from ...coarse_mask_head import ConvFCHead
from ...point_heads import is_untouched
from ..plain import PlainBoxReader
from ..protocol import PointInputs, Predict, ReadSettings
from .parts import split_boxes
from .pooling import PooledLayers, Pooling
from .shared_maps import ImageReader, SharedMaps


class RowBoxReader(PlainBoxReader):
    """A `BoxReader` that works in parts, so that no buffer grows with the number of boxes.

    The point head is called as it is, with the features of a part. The heads are as `fits` wants
    them, and there is at least one box.
    """

    def __init__(
        self,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        settings: ReadSettings,
        point_head: nn.Module | None,
    ):
        super().__init__(features, boxes, settings, point_head)
        self.point_names = list(settings.point_strides)
        strides = {**settings.pooler_strides, **settings.point_strides}
        self.maps = SharedMaps(features, strides, settings.padding_mode)

    @classmethod
    def fits(cls, pooled_head: nn.Module, point_head: nn.Module | None) -> bool:
        """Tell whether these heads can be used: an implicit point head, without gradients."""
        return (
            not torch.is_grad_enabled()
            and getattr(point_head, "is_implicit", False)
            and can_be_split(pooled_head)
        )

    def pool(self, head: ConvFCHead) -> Tensor:
        """Apply a head to pooled features, see `BoxReader`."""
        names, size = list(self.settings.pooler_strides), self.settings.pooler_size
        pooling = Pooling(self.maps, names, self.boxes, size, head.convolve)
        if torch.jit.is_tracing():  # which cannot see into functions with gradients of their own
            return head.predict(pooling.output())
        parameters = [each for layer in head.convolutions for each in layer.parameters()]
        return head.predict(PooledLayers.apply(pooling, *parameters, *self.maps.maps.values()))

    def predictors(
        self, inputs: PointInputs, *, num_points: int, num_reads: int
    ) -> Iterator[tuple[slice, Predict]]:
        """Give a predictor for each part of the boxes, see `BoxReader`."""
        boxes = torch.cat(self.boxes)
        for image, part in split_boxes(self.boxes, num_points, self._open_image):

            def predict(
                coords: Tensor,
                image: ImageReader = image,
                part_boxes: Tensor = boxes[part],
                part_inputs: PointInputs = inputs[part],
            ) -> Tensor:
                points = to_image(coords, part_boxes).flatten(0, 1)
                fine_features = image.read(points).unflatten(0, coords.shape[:2]).transpose(1, 2)
                padding_mode = self.settings.padding_mode
                assert self.point_head is not None
                return part_inputs.predict(self.point_head, fine_features, coords, padding_mode)

            yield part, predict

    def _open_image(self, image: int) -> ImageReader:
        return ImageReader(self.maps, self.point_names, image)


def can_be_split(pooled_head: nn.Module) -> TypeGuard[ConvFCHead]:
    """Tell whether the convolutions of a pooled head may run without the rest of it.

    A layer that was replaced or hooked does something that only calling it does.
    """
    return (
        type(pooled_head) is ConvFCHead
        and all(map(is_untouched, pooled_head.modules()))
        and all(type(layer) is nn.Conv2d for layer in pooled_head.convolutions)
    )
