"""Write segment ids as the colours of COCO's panoptic PNGs: id = R + 256 G + 256² B."""

import numpy as np

LARGEST_ID = 2**24 - 1


def encode_ids(ids: np.ndarray) -> np.ndarray:
    """Return segment ids (H, W), integers from 0 to `LARGEST_ID`, as RGB (H, W, 3), uint8.

    Example:
        >>> encode_ids(np.array([[7, 258]])).tolist()
        [[[7, 0, 0], [2, 1, 0]]]
    """
    low_byte_first = np.ascontiguousarray(ids, "<i4")
    return np.ascontiguousarray(low_byte_first.view(np.uint8).reshape(*ids.shape, 4)[..., :3])


def decode_ids(rgb: np.ndarray) -> np.ndarray:
    """Return the segment ids (H, W), int32, of RGB (H, W, 3), uint8.

    Example:
        >>> decode_ids(np.array([[[7, 0, 0], [2, 1, 0]]], np.uint8)).tolist()
        [[7, 258]]
    """
    low_byte_first = np.zeros((*rgb.shape[:2], 4), np.uint8)
    low_byte_first[..., :3] = rgb
    return low_byte_first.view("<i4")[..., 0].astype(np.int32, copy=False)
