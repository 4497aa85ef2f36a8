"""PointRend's idea as functions of tensors. This package needs PyTorch and nothing else.

Read from top to bottom, it is the method: `coordinates` and `frames` say where points lie,
`boxes` what a box's points are in the image; `interpolation` reads maps at points and writes back;
`uncertainty` and `sampling` choose training points; `labels` and `losses` train on them;
`subdivision` infers with them.
"""

from .boxes import pool, sample_features, to_box, to_image, to_map
from .coordinates import grid_point_coords, pixel_position, regular_grid
from .frames import change_frame, extent
from .interpolation import sample_points, write_points
from .labels import labels_at_points
from .losses import mask_point_accuracy, mask_point_loss, semantic_loss
from .sampling import importance_points, uniform_points
from .subdivision import most_uncertain_points, subdivide, subdivide_from_grid
from .uncertainty import class_uncertainty

__all__ = [
    "change_frame",
    "class_uncertainty",
    "extent",
    "grid_point_coords",
    "importance_points",
    "labels_at_points",
    "mask_point_accuracy",
    "mask_point_loss",
    "most_uncertain_points",
    "pixel_position",
    "pool",
    "regular_grid",
    "sample_features",
    "sample_points",
    "semantic_loss",
    "subdivide",
    "subdivide_from_grid",
    "to_box",
    "to_image",
    "to_map",
    "uniform_points",
    "write_points",
]
