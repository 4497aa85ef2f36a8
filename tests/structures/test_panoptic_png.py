import numpy as np

from pointrend_seg.structures.panoptic_png import LARGEST_ID, decode_ids, encode_ids


def test_ids_come_back():
    """All three bytes, of integers of any type and of arrays with gaps between their elements."""
    ids = np.random.default_rng(0).integers(0, LARGEST_ID + 1, (7, 10))
    ids[0, :2] = 0, LARGEST_ID
    for each in (ids, ids.astype(np.int32), ids.astype(np.uint32)[:, ::2], ids.T):
        rgb = encode_ids(each)
        assert rgb.dtype == np.uint8 and rgb.shape == (*each.shape, 3)
        red, green, blue = np.moveaxis(rgb.astype(int), -1, 0)
        assert np.array_equal(red + 256 * green + 256**2 * blue, each)
        assert np.array_equal(decode_ids(rgb), each) and decode_ids(rgb).dtype == np.int32
        assert np.array_equal(decode_ids(rgb[:, ::-1]), each[:, ::-1])
