"""Scenes: geometry, labels, images, seeds."""

import numpy as np
import pytest

from pointrend_seg.data.synthetic import outlines
from pointrend_seg.data.synthetic.rendering import fill, render_image, render_labels
from pointrend_seg.data.synthetic.scenes import KINDS, generate_scene


def inside_by_counting(shape, x, y):
    """Apply the even-odd rule edge by edge, with an upward ray instead of a rightward one."""
    crossings = 0
    for ring in shape:
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if (x0 <= x) != (x1 <= x) and y0 + (x - x0) * (y1 - y0) / (x1 - x0) < y:
                crossings += 1
    return crossings % 2 == 1


@pytest.mark.parametrize("seed", range(4))
def test_labels_are_the_topmost_shape_at_each_pixels_centre(seed):
    scene = generate_scene(seed, 96, 160)
    kinds, objects = render_labels(scene)
    rng = np.random.default_rng(seed)
    for row, column in zip(rng.integers(0, 96, 150), rng.integers(0, 160, 150), strict=True):
        hits = [
            number
            for number, item in enumerate(scene.objects)
            if any(inside_by_counting(s, column + 0.5, row + 0.5) for s in item.shapes)
        ]
        assert objects[row, column] == hits[-1]
        assert scene.kinds[kinds[row, column]] == scene.objects[hits[-1]].kind


def test_filling_a_ring_leaves_its_hole():
    shape = outlines.place(outlines.ring(10, 3), 16, 16)
    y, x = np.mgrid[:32, :32] + 0.5
    radius = np.hypot(x - 16, y - 16)
    got = fill(shape, 32, 32)
    assert got[(radius > 7.2) & (radius < 9.8)].all()  # the outline has 48 corners
    assert not got[(radius < 6.8) | (radius > 10.1)].any()


def test_pixels_whose_centre_is_on_an_edge_belong_to_one_of_two_neighbours():
    left, right = [outlines.box(0, 0, 2.5, 4)], [outlines.box(2.5, 0, 6, 4)]
    assert np.array_equal(fill(left, 4, 6) ^ fill(right, 4, 6), np.ones((4, 6), dtype=bool))


def test_shapes_beyond_the_image_are_clipped():
    assert fill([outlines.box(-5, -5, 20, 20)], 4, 6).all()
    assert not fill([outlines.box(-5, -5, -1, 20)], 4, 6).any()


def test_seeds_determine_the_scene():
    first, again, other = (generate_scene(seed, 64, 96) for seed in (5, 5, 6))
    assert np.array_equal(render_image(first), render_image(again))
    assert np.array_equal(render_labels(first)[1], render_labels(again)[1])
    assert not np.array_equal(render_image(first), render_image(other))


def test_every_kind_is_common():
    seen = [set(np.unique(render_labels(generate_scene((3, i)))[0])) for i in range(12)]
    for number, kind in enumerate(KINDS):
        assert sum(number in kinds for kinds in seen) >= 9, kind


def test_image_edges_are_at_label_edges():
    """The mean colour step across label edges is far above that within a label."""
    scene = generate_scene(1)
    image = render_image(scene).astype(float)
    kinds = render_labels(scene)[0]
    step = np.abs(np.diff(image, axis=1)).sum(axis=2)
    edge = np.diff(kinds.astype(int), axis=1) != 0
    assert image.shape == (256, 512, 3)
    assert step[edge].mean() > 2.5 * step[~edge].mean()


def test_details_are_thin():
    """Less than half of the letters, poles, rings and bicycles survive an opening by 9 pixels."""
    import cv2

    kinds = render_labels(generate_scene(2))[0]
    thin = np.isin(kinds, [KINDS.index(k) for k in ("letter", "pole", "ring", "bicycle")])
    opened = cv2.morphologyEx(thin.astype(np.uint8), cv2.MORPH_OPEN, np.ones((9, 9), np.uint8))
    assert opened.sum() < 0.5 * thin.sum()


def test_larger_objects_are_fewer_with_details_of_the_same_width():
    """At twice the size, an opening by 10 pixels removes as much of thin details."""
    import cv2

    def measure(scale):
        lengths, thin, left = [], 0, 0
        for seed in range(4):
            scene = generate_scene(seed, object_scale=scale)
            for item in scene.objects:
                points = np.concatenate([ring for shape in item.shapes for ring in shape])
                if item.kind in ("ring", "letter", "bicycle"):
                    lengths.append(np.ptp(points, axis=0).max())
            kinds = render_labels(scene)[0]
            mask = np.isin(kinds, [KINDS.index(k) for k in ("ring", "letter", "bicycle")])
            opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((10, 10)))
            thin, left = thin + mask.sum(), left + opened.sum()
        return len(lengths), np.median(lengths), left / thin

    small, large = measure(1.0), measure(2.0)
    assert large[0] < 0.5 * small[0] and 1.6 < large[1] / small[1] < 2.4
    assert small[2] < 0.1 and large[2] < 0.1


def test_fractions_of_crowds_and_deserted_scenes():
    scenes = [generate_scene(seed, 64, 96, crowds=0.3, deserted=0.2) for seed in range(200)]
    crowds = sum(any(item.is_crowd for item in scene.objects) for scene in scenes)
    background = {"sky", "skyline", "ground", "path"}
    deserted = sum({item.kind for item in scene.objects} <= background for scene in scenes)
    assert 25 < deserted < 58 and 30 < crowds < 68
