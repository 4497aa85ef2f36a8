"""Labels of instance masks: the bits of the ground truth, read at points and in boxes.

Shape shorthand in this module:

    G: number of objects in an image
    R: number of boxes in an image; several may belong to one object
    P: number of points of one box
    M: side of a box's mask target
    H, W: size of the image

Masks as bits, as polygons and as polygons mixed with run lengths all become `SharedMasks` first,
so they give the same labels. Bits are read where they are needed: neither a full-size mask is
copied for a box, nor is one made a float, which for 128 boxes of a 800 x 1216 image is 0.5 GB.
"""

import torch
from detectron2.structures import BitMasks, Instances, PolygonMasks
from torch import Tensor
from torchvision.ops import roi_align

from .box_points import to_image
from .errors import InputError
from .points import pixel_position

# Half-covered cells are decided by rounding; see labels_in_boxes.
_NEAR_TIE = 1e-3


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
        """(R, H, W), bool: a copy of the mask of each box."""
        return self.bits[self.index]

    @property
    def device(self) -> torch.device:
        return self.bits.device

    def to(self, *args, **kwargs) -> "SharedMasks":
        bits = self.bits.to(*args, **kwargs)
        return SharedMasks(bits, self.index.to(bits.device))

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item) -> "SharedMasks":
        return SharedMasks(self.bits, self.index[item].reshape(-1))

    def __iter__(self):
        return (self.bits[k] for k in self.index)

    def __repr__(self) -> str:
        return f"SharedMasks({len(self)} boxes, {len(self.bits)} objects)"

    def nonempty(self) -> Tensor:
        return self.bits.flatten(1).any(dim=1)[self.index]

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """As `BitMasks.crop_and_resize`; see `labels_in_boxes`."""
        return labels_in_boxes(self, boxes, mask_size)


def shared_masks(instances: Instances) -> SharedMasks:
    """The ground-truth masks of the boxes of one image.

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
        "SharedMasks (pointrend_seg.point_labels)."
    )


def _rasterised(masks: PolygonMasks, height: int, width: int) -> SharedMasks:
    """Each object once; Detectron2 copies its polygons for each of its boxes."""
    keys = [tuple(polygon.tobytes() for polygon in polygons) for polygons in masks.polygons]
    objects = dict(zip(keys, masks.polygons, strict=True))
    number = {key: k for k, key in enumerate(objects)}
    bits = BitMasks.from_polygon_masks(list(objects.values()), height, width).tensor
    return SharedMasks(bits, torch.tensor([number[key] for key in keys], dtype=torch.int64))


def labels_in_box_frames(truth: list[SharedMasks], boxes: list[Tensor], coords: Tensor) -> Tensor:
    """Labels at points of the boxes of several images.

    Args:
        truth, boxes: of each image, R_i masks and (R_i, 4) boxes in pixels.
        coords: (R, P, 2), in the boxes' [0, 1] frames, R of all images together.

    Returns:
        (R, P), as `labels_at_points`.
    """
    of_images = zip(truth, boxes, coords.split([len(each) for each in boxes]), strict=True)
    return torch.cat(
        [labels_at_points(masks, to_image(points, each)) for masks, each, points in of_images]
    )


def labels_at_points(masks: SharedMasks, coords: Tensor) -> Tensor:
    """Read masks at points, bilinearly; beyond the image there is nothing (0).

    Args:
        masks: of R boxes.
        coords: (R, P, 2), float32, (x, y) in pixels of the image, (0, 0) its outer corner.

    Returns:
        (R, P), float32, in [0, 1] and on the device of ``coords``: a fraction within half a pixel
        of a mask's edge.
    """
    height, width = masks.image_size
    bits, index = masks.bits.to(coords.device), masks.index.to(coords.device)
    x = pixel_position(coords[..., 0] / width, width)
    y = pixel_position(coords[..., 1] / height, height)
    left, top = x.floor(), y.floor()
    to_right, to_bottom = x - left, y - top
    to_left, to_top = 1.0 - to_right, 1.0 - to_bottom

    def bit(row: Tensor, column: Tensor) -> Tensor:
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        row, column = row.where(inside, 0).long(), column.where(inside, 0).long()
        return bits[index[:, None], row, column] & inside

    return (
        bit(top, left) * (to_top * to_left)
        + bit(top, left + 1) * (to_top * to_right)
        + bit(top + 1, left) * (to_bottom * to_left)
        + bit(top + 1, left + 1) * (to_bottom * to_right)
    )


def labels_in_boxes(masks: SharedMasks, boxes: Tensor, size: int) -> Tensor:
    """What of a mask lies in a box, on an M x M grid: which cells are at least half covered.

    It is Mask R-CNN's target, RoIAlign of the mask with a threshold of 0.5, and equal to
    `BitMasks.crop_and_resize`. Only one object's mask at a time becomes floats (on a GPU those of
    the image), whatever the number of its boxes.

    Args:
        masks: of R boxes.
        boxes: (R, 4), float, x1, y1, x2, y2 in pixels of the image.
        size: M.

    Returns:
        (R, M, M), bool, on the device of ``boxes``.
    """
    boxes = boxes.float()
    bits, index = masks.bits.to(boxes.device), masks.index.to(boxes.device)
    if boxes.device.type != "cpu" or torch.compiler.is_compiling():
        return _align(bits.float(), index, boxes, size) >= 0.5
    covered = _coverage(bits, index, boxes, size)
    ties = ((covered - 0.5).abs() < _NEAR_TIE).flatten(1).any(1).nonzero().flatten()
    for k in ties.split(1):
        covered[k] = _align(bits[index[k]].float(), torch.zeros_like(k), boxes[k], size)
    return covered >= 0.5


def _align(masks: Tensor, index: Tensor, boxes: Tensor, size: int) -> Tensor:
    """RoIAlign of masks (G, H, W), float, for boxes of these numbers: (R, M, M)."""
    rois = torch.cat((index[:, None].to(boxes.dtype), boxes), dim=1)
    return roi_align(masks[:, None], rois, (size, size), 1.0, 0, True)[:, 0]


def _coverage(bits: Tensor, index: Tensor, boxes: Tensor, size: int) -> Tensor:
    """RoIAlign on a CPU, as two matrix products, in a tenth of the time and all but equal.

    A cell is the mean of bilinear readings on a grid of its own, so it is a weighted sum of pixels
    whose weights are a product of those of its rows and those of its columns.
    """
    height, width = bits.shape[1:]
    of_rows = _axis_weights(boxes[:, 1], boxes[:, 3], height, size)
    of_columns = _axis_weights(boxes[:, 0], boxes[:, 2], width, size)
    covered = boxes.new_zeros(len(boxes), size, size)
    with torch.autocast("cpu", enabled=False):
        for number in index.unique():
            own = (index == number).nonzero().flatten()
            rows = of_rows[own].flatten(0, 1) @ bits[number].float()
            covered[own] = rows.unflatten(0, (-1, size)) @ of_columns[own].transpose(1, 2)
    return covered


def _axis_weights(start: Tensor, stop: Tensor, length: int, size: int) -> Tensor:
    """How much each pixel along one axis counts in each cell of boxes, by RoIAlign's rules.

    As many readings are taken in a cell as it has pixels, rounded up. Those more than a pixel
    outside of the image give nothing, the others what is at its edge.

    Returns:
        (R, M, length).
    """
    cell = ((stop - start) / size)[:, None, None]
    count = cell.ceil().clamp(min=0)
    number = torch.arange(int(count.max()) if len(count) else 0)
    first = start[:, None, None] - 0.5 + torch.arange(size)[:, None] * cell
    place = first + (number + 0.5) * cell / count.clamp(min=1)
    counts = (number < count) & (place >= -1) & (place <= length)
    place = place.clamp(0, length - 1)
    pixel = place.floor()
    part = place - pixel
    weights = place.new_zeros(len(start), size, length)
    for neighbour, weight in ((pixel, 1 - part), (pixel + 1, part)):
        neighbour = neighbour.clamp(max=length - 1).long()
        weights.scatter_add_(2, neighbour, weight * counts / count.clamp(min=1))
    return weights
