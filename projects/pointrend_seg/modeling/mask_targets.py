"""What predicted masks are compared with in training: full masks, or single labelled points.

A mask head asks its method ``targets`` for an object with the two methods of `MaskTargets`, once
for each batch. Override that method to train from something else; docs/samplers.md has an example.

Shape shorthand in this module:

    R: number of boxes of all images together; R_i of one image
    P: number of points of one box
    S: side of the coarse masks
"""

import logging
from collections.abc import Callable
from functools import cache
from typing import Protocol

import torch
from detectron2.structures import Instances
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from ..points.boxes import to_box
from ..points.interpolation import sample_points
from ..structures.shared_masks import labels_in_box_frames, shared_masks

IGNORED = -1.0
_COORDS, _LABELS = "gt_point_coords", "gt_point_labels"


class MaskTargets(Protocol):
    """The labels of a batch's boxes.

    Labels are float32 in [0, 1], or -1 where there is none.
    """

    def on_coarse(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Choose where the coarse masks are compared.

        Args:
            logits: (R, S, S), of the class of each box.

        Returns:
            logits and labels of one shape, (R, ...).
        """
        ...

    def at_points(self, draw: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
        """Choose the training points of the point head.

        Args:
            draw: returns the points of the head's sampler, (R, P, 2), for targets that have a label
                everywhere; others do not call it.

        Returns:
            points (R, P, 2), float32, in the [0, 1] frames of the boxes, and their labels (R, P).
        """
        ...


class FullMasks:
    """Labels everywhere, read from the ``gt_masks`` of proposals."""

    def __init__(self, instances: list[Instances]):
        self.boxes = [each.proposal_boxes.tensor for each in instances]
        self.masks = [shared_masks(each) for each in instances]

    def on_coarse(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Compare every cell, see `MaskTargets`."""
        by_image = zip(self.masks, self.boxes, strict=True)
        labels = [masks.crop_and_resize(boxes, logits.shape[-1]) for masks, boxes in by_image]
        return logits, torch.cat(labels).float()

    def at_points(self, draw: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
        """Take the sampler's points, see `MaskTargets`."""
        coords = draw()
        return coords, labels_in_box_frames(self.masks, self.boxes, coords)


class GivenPoints:
    """Labels at some points and nowhere else.

    Attributes:
        coords: (R, P, 2), float32, in [0, 1], the frames of the boxes.
        labels: (R, P), float32 in [0, 1], or -1.
    """

    def __init__(self, coords: Tensor, labels: Tensor):
        """
        Args:
            coords: (R, P, 2), in the frames of the boxes. Points outside of [0, 1] are ignored.
            labels: (R, P), 0 or 1 or between, or -1 for a point that is ignored; any dtype.

        Raises:
            InputError: the shapes do not fit.
        """
        if coords.dim() != 3 or coords.shape[2] != 2 or labels.shape != coords.shape[:2]:
            raise InputError(
                "Training points are (R, P, 2) coordinates and (R, P) labels of R boxes, not "
                f"{tuple(coords.shape)} and {tuple(labels.shape)}."
            )
        inside = ((coords >= 0) & (coords <= 1)).all(dim=2)  # False also for what is no number
        # Ignored points are read, too, so they lie where there is something to read.
        self.coords = coords.float().where(inside.unsqueeze(2), 0.5)
        self.labels = labels.to(self.coords).where(inside, IGNORED)

    @classmethod
    def from_instances(cls, instances: list[Instances]) -> "GivenPoints":
        """Read ``gt_point_coords`` and ``gt_point_labels`` of proposals.

        Args:
            instances: R_i proposals of each image, with ``proposal_boxes``; where there are any
                also ``gt_point_coords`` (R_i, P_i, 2), (x, y) in pixels of the image, and
                ``gt_point_labels`` (R_i, P_i): 1 for the object, 0 for what is not, -1 ignored.
        """
        labelled = [each for each in instances if len(each) > 0]
        for each in labelled:
            shape = tuple(each.gt_point_coords.shape)
            fits = each.has(_LABELS) and shape == (*each.gt_point_labels.shape, 2)
            if not fits or len(shape) != 3:
                raise InputError(
                    f"{_COORDS} is {shape}; it must be (objects, points, 2), and {_LABELS} must be "
                    "there, too, with a label for each of these points."
                )
        # Where nothing is labelled there is one point, which is ignored.
        most = max((each.gt_point_labels.shape[1] for each in labelled), default=0) or 1
        coords, labels = [], []
        for each in instances:
            boxes = each.proposal_boxes.tensor
            if len(each) == 0:
                coords.append(boxes.new_zeros(0, most, 2))
                labels.append(boxes.new_zeros(0, most))
                continue
            missing = most - each.gt_point_labels.shape[1]
            points = to_box(each.gt_point_coords.to(boxes.device), boxes)
            coords.append(F.pad(points, (0, 0, 0, missing)))
            labels.append(F.pad(each.gt_point_labels.to(boxes), (0, missing), value=IGNORED))
        return cls(torch.cat(coords), torch.cat(labels))

    def on_coarse(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Read the coarse masks at the points, as upsampling would, see `MaskTargets`."""
        read = sample_points(logits.unsqueeze(1), self.coords, padding_mode="border")
        return read.squeeze(1), self.labels

    def at_points(self, draw: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
        """Take these points, see `MaskTargets`."""
        return self.coords, self.labels


def find_targets(instances: list[Instances]) -> MaskTargets:
    """Return what the proposals of a batch are labelled with: ``gt_masks``, or else points.

    Args:
        instances: proposals of each image; those without any may have no ground truth at all.

    Raises:
        InputError: some images have masks, and others points alone.
    """
    labelled = [each for each in instances if len(each) > 0]
    with_points = [each.has(_COORDS) and not each.has("gt_masks") for each in labelled]
    if not any(with_points):
        return FullMasks(instances)
    if not all(with_points):
        raise InputError(
            "A batch has images with masks (gt_masks) and images with points alone "
            f"({_COORDS}): train from points of all images (INPUT.POINT_SUP True), or from masks "
            "of all."
        )
    _say_once(
        f"Masks are trained from labelled points ({_COORDS}): no full masks are used, and SAMPLER "
        "and TRAIN_NUM_POINTS of the point head have no effect."
    )
    return GivenPoints.from_instances(instances)


@cache
def _say_once(text: str) -> None:
    logging.getLogger(__name__).info(text)
