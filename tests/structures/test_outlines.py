"""Outlines along pixel edges: filling them gives the mask again, with holes and parts."""

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest

from pointrend_seg.structures.outlines import joined_ring, outline_polygons
from pointrend_seg.structures.regions import Region, regions_of_values

RNG = np.random.default_rng(0)


def region(mask, x0=0, y0=0):
    return Region(np.ascontiguousarray(np.asarray(mask).T, np.uint8), x0, y0)


def filled(polygons, height, width):
    """Fill outlines and empty holes by the definition: the parity of edges at the left."""
    inside = np.zeros((height, width), int)
    for polygon in polygons:
        for ring in (polygon.outline, *polygon.holes):
            for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
                if x0 == x1:
                    inside[int(min(y0, y1)) : int(max(y0, y1)), int(x0) :] += 1
    return inside % 2 == 1


def disc(radius, size=64):
    y, x = np.mgrid[:size, :size]
    return (x - size / 2) ** 2 + (y - size / 2) ** 2 <= radius**2


def ring_mask():
    return disc(28) & ~disc(15) | disc(5)


MASKS = {
    "random": RNG.random((23, 31)) < 0.5,
    "dense": RNG.random((40, 30)) < 0.8,
    "sparse": RNG.random((40, 30)) < 0.2,
    "smooth": cv2.GaussianBlur(RNG.random((80, 90)).astype(np.float32), (0, 0), 3) > 0.5,
    "ring": ring_mask(),
    "pixel": np.ones((1, 1), bool),
    "row": np.ones((1, 9), bool),
    "corners": np.eye(4, dtype=bool),
    "checkers": np.indices((7, 8)).sum(0) % 2 == 0,
}


@pytest.mark.parametrize("name", MASKS)
def test_exact_outlines_fill_the_mask(name):
    mask = MASKS[name]
    polygons = outline_polygons(region(mask, 3, 5))
    height, width = mask.shape[0] + 9, mask.shape[1] + 7
    expected = np.zeros((height, width), bool)
    expected[5 : 5 + mask.shape[0], 3 : 3 + mask.shape[1]] = mask
    assert np.array_equal(filled(polygons, height, width), expected)
    assert len(polygons) == cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0] - 1
    # as COCO's polygons, with seams to the holes
    rings = [joined_ring(polygon).ravel().tolist() for polygon in polygons]
    runs = mask_util.merge(mask_util.frPyObjects(rings, height, width))
    assert np.array_equal(mask_util.decode(runs), expected)
    for polygon in polygons:  # neighbours differ, and no point is on a straight line
        for each in (polygon.outline, *polygon.holes):
            steps = np.roll(each, -1, axis=0) - each
            assert ((steps == 0).sum(axis=1) == 1).all()
            assert ((steps != 0) != np.roll(steps != 0, 1, axis=0)).all()


def test_parts_and_holes():
    (outline, holes), island = outline_polygons(region(ring_mask()))
    assert len(holes) == 1 and not island.holes
    assert np.abs(outline - 32).max() <= 29 and np.abs(holes[0] - 32).max() <= 16
    assert outline_polygons(region(np.zeros((0, 0)))) == []
    assert outline_polygons(region(np.zeros((3, 3)))) == []


@pytest.mark.parametrize("tolerance", [0.75, 1, 2])
def test_simplified_outlines_stay_near(tolerance):
    exact, simple = (outline_polygons(region(disc(25)), each)[0] for each in (0, tolerance))
    assert len(simple.outline) < len(exact.outline)
    drawn = [
        mask_util.decode(mask_util.frPyObjects([each.outline.ravel().tolist()], 64, 64))[:, :, 0]
        for each in (exact, simple)
    ]
    iou = (drawn[0] & drawn[1]).sum() / (drawn[0] | drawn[1]).sum()
    assert iou > 1 - 0.05 * tolerance
    tiny = outline_polygons(region([[1]]), 9)[0].outline  # less than a triangle would be left
    assert tiny.tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]


def test_regions_of_values_are_the_masks_of_each_value():
    values = RNG.integers(0, 5, (17, 29)) * (RNG.random((17, 29)) < 0.3)
    found = dict(regions_of_values(values))
    assert found.keys() == set(np.unique(values)) - {0}
    for value, each in found.items():
        mask = mask_util.decode(each.run_lengths(17, 29))
        assert np.array_equal(mask, values == value) and each.area == mask.sum()
        again = Region.from_run_lengths(each.run_lengths(17, 29))
        assert (again.x0, again.y0) == (each.x0, each.y0)
        part = np.zeros((17, 29), bool)
        cut = each.cut(4, 3, 12, 9)
        h, w = cut.pixels.shape
        part[cut.y0 : cut.y0 + h, cut.x0 : cut.x0 + w] = cut.pixels
        assert np.array_equal(part[:6, :8], (values == value)[3:9, 4:12])
    assert list(regions_of_values(np.zeros((3, 4), int))) == []
