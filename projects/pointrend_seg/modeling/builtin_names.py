"""What public code reads from Detectron2's mask heads, by its names there.

Shape shorthand: R boxes of all images together, P points of one box, S the side of a coarse mask.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.structures import Boxes
from torch import Tensor

from ..errors import InputError
from ..points.boxes import pool, sample_features
from ..points.interpolation import sample_points
from .readers import ReadSettings

# What a subclass of Detectron2's heads may override, which nothing here calls, and what is called.
_INSTEAD = {
    "_init_roi_head": "`from_config`, which returns the keywords of `__init__`",
    "_init_point_head": "`from_config`, which returns the keywords of `__init__`",
    "_sample_train_points": "`targets` (labels), or set a point sampler (docs/samplers.md)",
    "_uniform_sample_train_points": "`targets` (labels and their points)",
    "_roi_pooler": "`forward`",
    "_point_pooler": "`forward`",
    "_get_point_logits": "the point head",
    "_subdivision_inference": "`inference`",
}


class BuiltinNames:
    """Attributes and methods of Detectron2's `PointRendMaskHead`, for the mask heads.

    Nothing of this package uses them. They read and change nothing but what the head has.
    """

    reading: ReadSettings
    point_head: Any
    subdivision: Any
    train_num_points: int

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a method that would never be called: a `forward` of the class's own may call it.

        Raises:
            InputError: it says what to override instead.
        """
        super().__init_subclass__(**kwargs)
        forward = getattr(cls, "forward", None)
        if not getattr(forward, "__module__", "").startswith(__package__):
            return
        for name in filter(vars(cls).__contains__, _INSTEAD):
            raise InputError(
                f"{cls.__name__} overrides {name}, which Detectron2's PointRend calls and this "
                f"package does not. Override {_INSTEAD[name]} instead."
            )

    @property
    def _feature_scales(self) -> dict[str, float]:
        """1 / stride of each feature map that the head reads."""
        strides = {**self.reading.pooler_strides, **self.reading.point_strides}
        return {name: 1.0 / stride for name, stride in strides.items()}

    @property
    def roi_pooler_in_features(self) -> list[str]:
        """Names of the feature maps that are pooled in boxes."""
        return list(self.reading.pooler_strides)

    @property
    def roi_pooler_size(self) -> int:
        """Side of the pooled grid."""
        return self.reading.pooler_size

    @property
    def mask_point_on(self) -> bool:
        """Whether masks are refined at points."""
        return self.point_head is not None

    @property
    def mask_point_in_features(self) -> list[str]:
        """Names of the feature maps that are read at points."""
        return list(self.reading.point_strides)

    @property
    def mask_point_train_num_points(self) -> int:
        """Number of training points of each box."""
        return self.train_num_points

    @property
    def mask_point_subdivision_num_points(self) -> int:
        """Most points of each box that a subdivision step predicts."""
        return self.subdivision.num_points

    @property
    def mask_point_subdivision_steps(self) -> int:
        """Number of doublings from S; those that predict every cell are counted, too."""
        return self.subdivision.num_steps

    def _roi_pooler(self, features: Mapping[str, Tensor], boxes: Sequence[Boxes]) -> Tensor:
        """Read features on a regular grid in each box.

        Args:
            features: the backbone's maps by name.
            boxes: of each image, in pixels.

        Returns:
            (R, C, pooler size, pooler size), which ``coarse_head`` takes.
        """
        reading = self.reading
        return pool(
            features,
            reading.pooler_strides,
            [each.tensor for each in boxes],
            reading.pooler_size,
            padding_mode=reading.padding_mode,
        )

    def _point_pooler(
        self, features: Mapping[str, Tensor], proposal_boxes: Sequence[Boxes], point_coords: Tensor
    ) -> Tensor:
        """Read features at points (R, P, 2) of boxes: (R, C, P), which ``point_head`` takes."""
        return sample_features(
            features,
            self.reading.point_strides,
            [each.tensor for each in proposal_boxes],
            point_coords,
            padding_mode=self.reading.padding_mode,
        )

    def _get_point_logits(
        self, point_fine_grained_features: Tensor, point_coords: Tensor, coarse_mask: Tensor
    ) -> Tensor:
        """Predict points (R, P, 2) from fine features (R, C_fine, P) and what the boxes have.

        Args:
            coarse_mask: coarse logits (R, C, S, S); for an implicit head its parameters.

        Returns:
            (R, C, P) logits.
        """
        if getattr(self.point_head, "is_implicit", False):
            return self.point_head.predict_classes(
                point_fine_grained_features, point_coords, coarse_mask
            )
        coarse = sample_points(coarse_mask, point_coords, padding_mode=self.reading.padding_mode)
        return self.point_head(point_fine_grained_features, coarse)
