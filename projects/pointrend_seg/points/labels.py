"""Labels of instance masks, read from bits at points.

Shape shorthand in this module:

    G: number of objects in an image
    R: number of boxes in an image; several may belong to one object
    P: number of points of one box
    H, W: size of the image
"""

from torch import Tensor

from .coordinates import pixel_position
from .precision import at_least_float32


def labels_at_points(bits: Tensor, index: Tensor, coords: Tensor) -> Tensor:
    """Read masks at points, bilinearly; beyond the image there is nothing (0).

    Bits are read where they are needed: no mask is copied for a box or turned into floats.

    Args:
        bits: (G, H, W), bool, the masks of the objects.
        index: (R,), int64 in [0, G), the object of each box.
        coords: (R, P, 2), float, (x, y) in pixels of the image, (0, 0) its outer corner.

    Returns:
        (R, P), float32, in [0, 1] and on the device of ``coords``: a fraction within half a pixel
        of a mask's edge.
    """
    height, width = bits.shape[1:]
    bits, index = bits.to(coords.device), index.to(coords.device)
    coords = at_least_float32(coords)
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
