"""Write segment ids as the colours of COCO's panoptic PNGs: id = R + 256 G + 256² B."""

import numpy as np

LARGEST_ID = 2**24 - 1


def encode_ids(ids: np.ndarray) -> np.ndarray:
    """Return segment ids (H, W), integers from 0 to `LARGEST_ID`, as RGB (H, W, 3), uint8.

    Example:
        >>> encode_ids(np.array([[7, 258]])).tolist()
        [[[7, 0, 0], [2, 1, 0]]]
    """
    ids = ids.astype(np.int32)
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], axis=-1).astype(np.uint8)


def decode_ids(rgb: np.ndarray) -> np.ndarray:
    """Return the segment ids (H, W), int32, of RGB (H, W, 3), uint8.

    Example:
        >>> decode_ids(np.array([[[7, 0, 0], [2, 1, 0]]], np.uint8)).tolist()
        [[7, 258]]
    """
    red, green, blue = (rgb[..., channel].astype(np.int32) for channel in range(3))
    return red + (green << 8) + (blue << 16)
