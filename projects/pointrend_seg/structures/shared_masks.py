"""Ground-truth masks of boxes that share the bits of their objects.

Shape shorthand in this module:

    G: number of objects in an image
    R: number of boxes in an image; several may belong to one object
    P: number of points of one box
    M: side of a mask target
    H, W: size of the image

Masks as bits, as polygons and as polygons mixed with run lengths all become `SharedMasks` first,
so they give the same labels. Bits are read where they are needed: neither a full-size mask is
copied for a box, nor is one made a float, which for 128 boxes of a 800 x 1216 image is 0.5 GB.
"""

from collections.abc import Iterator
from typing import Any

import torch
from detectron2.structures import BitMasks, Instances, PolygonMasks
from torch import Tensor

from ..errors import InputError
from ..points.boxes import to_image
from ..points.labels import labels_at_points
from .box_targets import labels_in_boxes


class SharedMasks(BitMasks):
    """Bit masks of objects, and which object each box belongs to.

    A `BitMasks` to whoever uses it, but taking boxes out of it, as Detectron2's sampling of
    proposals does, picks numbers and copies no mask: 512 proposals of a 800 x 1216 image would be
    0.5 GB. ``tensor`` is made when it is asked for.

    Attributes:
        bits: (G, H, W), bool.
        index: (R,), int64, the object of each box.
        image_size: (H, W).
    """

    def __init__(self, bits: Tensor, index: Tensor | None = None):
        """
        Args:
            bits: (G, H, W), bool; other types and arrays are converted.
            index: (R,), int64 in [0, G); None for one box for each object.
        """
        bits = torch.as_tensor(bits).to(torch.bool)
        if bits.dim() != 3:
            raise InputError(f"Masks must be (objects, H, W), not {tuple(bits.shape)}.")
        self.bits = bits
        self.index = torch.arange(len(bits), device=bits.device) if index is None else index
        self.image_size = bits.shape[1:]

    @property
    def tensor(self) -> Tensor:
        """A copy of the mask of each box, (R, H, W), bool."""
        return self.bits[self.index]

    @property
    def device(self) -> torch.device:
        return self.bits.device

    def to(self, *args: Any, **kwargs: Any) -> "SharedMasks":
        bits = self.bits.to(*args, **kwargs)
        return SharedMasks(bits, self.index.to(bits.device))

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int | slice | Tensor) -> "SharedMasks":
        return SharedMasks(self.bits, self.index[item].reshape(-1))

    def __iter__(self) -> Iterator[Tensor]:
        return (self.bits[k] for k in self.index)

    def __repr__(self) -> str:
        return f"SharedMasks({len(self)} boxes, {len(self.bits)} objects)"

    def nonempty(self) -> Tensor:
        return self.bits.flatten(1).any(dim=1)[self.index]

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """Compute mask targets as `BitMasks.crop_and_resize` does: (R, M, M), bool.

        Args:
            boxes: (R, 4), x1, y1, x2, y2 in pixels of the image.
            mask_size: M.
        """
        return labels_in_boxes(self.bits, self.index, boxes, mask_size)

    def labels_at_points(self, coords: Tensor) -> Tensor:
        """Read the mask of each box at points: (R, P), float32 in [0, 1].

        Args:
            coords: (R, P, 2), float32, (x, y) in pixels of the image.
        """
        return labels_at_points(self.bits, self.index, coords)


def shared_masks(instances: Instances) -> SharedMasks:
    """Return the ground-truth masks of the boxes of one image.

    Args:
        instances: R boxes with ``gt_masks`` as `SharedMasks`, `BitMasks` or `PolygonMasks`.

    Raises:
        InputError: there are boxes, but no masks.
    """
    if not instances.has("gt_masks"):
        if len(instances) == 0:
            # Proposals of an image without objects carry no ground truth at all.
            return SharedMasks(torch.zeros(0, *instances.image_size, dtype=torch.bool))
        raise InputError(
            "Training masks needs ground-truth masks, but there are objects without: annotate "
            "them ('segmentation'), or set MODEL.MASK_ON to False to train boxes alone."
        )
    masks = instances.gt_masks
    if isinstance(masks, SharedMasks):
        return masks
    if isinstance(masks, BitMasks):
        return SharedMasks(masks.tensor)
    if isinstance(masks, PolygonMasks):
        return _rasterised(masks, *instances.image_size)
    raise InputError(
        f"Ground-truth masks are a {type(masks).__name__}; they are BitMasks, PolygonMasks or "
        "SharedMasks (pointrend_seg.structures)."
    )


def _rasterised(masks: PolygonMasks, height: int, width: int) -> SharedMasks:
    """Rasterise each object once; Detectron2 copies its polygons for each of its boxes."""
    keys = [tuple(polygon.tobytes() for polygon in polygons) for polygons in masks.polygons]
    objects = dict(zip(keys, masks.polygons, strict=True))
    number = {key: k for k, key in enumerate(objects)}
    bits = BitMasks.from_polygon_masks(list(objects.values()), height, width).tensor
    return SharedMasks(bits, torch.tensor([number[key] for key in keys], dtype=torch.int64))


def labels_in_box_frames(truth: list[SharedMasks], boxes: list[Tensor], coords: Tensor) -> Tensor:
    """Read labels at points of the boxes of several images.

    Args:
        truth, boxes: of each image, R_i masks and (R_i, 4) boxes in pixels.
        coords: (R, P, 2), in the boxes' [0, 1] frames, R of all images together.

    Returns:
        (R, P), as `labels_at_points`.
    """
    by_image = zip(truth, boxes, coords.split([len(each) for each in boxes]), strict=True)
    return torch.cat(
        [masks.labels_at_points(to_image(points, each)) for masks, each, points in by_image]
    )
