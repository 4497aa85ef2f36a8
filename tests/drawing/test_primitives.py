"""Pictures as arrays."""

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from pointrend_seg.drawing import primitives as vis
from pointrend_seg.modeling.recording import trace_semantic
from pointrend_seg.modeling.semantic_head import CoarseOutput
from small_configs import small_semantic_cfg


def test_the_trace_is_what_the_model_does():
    model = build_model(small_semantic_cfg()).eval()
    image = torch.rand(3, 50, 75) * 255
    trace = trace_semantic(model, image)
    with torch.no_grad():
        refined = model([{"image": image}])[0]["sem_seg"].argmax(0).numpy()
        model.sem_seg_head = CoarseOutput(model.sem_seg_head)
        coarse = model([{"image": image}])[0]["sem_seg"].argmax(0).numpy()
    assert np.array_equal(trace.refined, refined)
    assert np.array_equal(trace.coarse, coarse)
    assert [len(points) for points in trace.points] == [200, 200]
    # The last step's points are centres of pixels of the padded image.
    assert np.allclose(trace.points[-1] % 1, 0.5, atol=1e-3)


def test_points_are_drawn_where_they_are():
    image = np.zeros((4, 6, 3), dtype=np.uint8)
    picture = vis.draw_points(image, np.array([[5.5, 0.5], [9.5, 1.5]]), color=(1, 2, 3))
    assert picture[0, 5].tolist() == [1, 2, 3]
    assert picture.sum() == 6 and image.sum() == 0


def test_the_window_holds_what_was_mended():
    labels = np.zeros((40, 60), dtype=int)
    labels[20:25, 40:45] = 1
    labels[:5] = 255
    coarse = np.zeros((40, 60), dtype=int)
    rows, columns = vis.largest_gain(labels, coarse, labels, (10, 12))
    assert rows.start <= 20 and rows.stop >= 25 and columns.start <= 40 and columns.stop >= 45
    assert (rows.stop - rows.start, columns.stop - columns.start) == (10, 12)
    assert vis.largest_gain(labels, coarse, labels, (99, 99)) == (slice(0, 40), slice(0, 60))


def test_the_window_with_the_most_set_pixels():
    wrong = np.zeros((40, 60), bool)
    wrong[30:33, 50:55] = True
    rows, columns = vis.densest_window(wrong, (10, 12))
    assert wrong[rows, columns].sum() == 15 and wrong[rows, columns].shape == (10, 12)
    assert vis.densest_window(wrong, (99, 99)) == (slice(0, 40), slice(0, 60))


def test_a_table_of_pictures():
    small, wide = (np.full((8, width, 3), (200, 0, 9), np.uint8) for width in (10, 30))
    picture = vis.tile([[small, wide], [small, wide]], ["a", "b"])
    assert (picture == (200, 0, 9)).all(axis=2).sum() == 2 * 80 + 2 * 240


def test_masks_are_drawn_with_outlines():
    image = np.zeros((20, 30, 3), np.uint8)
    masks = np.zeros((2, 20, 30), bool)
    masks[0, 2:12, 2:12] = True
    masks[1, 8:18, 8:18] = True
    colors = np.array([[200, 0, 0], [0, 100, 0]])
    picture = vis.draw_masks(image, masks, colors)
    assert picture.dtype == np.uint8 and not image.any()
    assert picture[2, 2].tolist() == [200, 0, 0]  # outline
    assert picture[5, 5].tolist() == [60, 0, 0]  # inside, mixed with the image
    assert picture[8, 8].tolist() == [0, 100, 0]  # the later one lies on top
    assert picture[0, 0].tolist() == [0, 0, 0]
    large = np.ones((1, 100, 100), bool)
    picture = vis.draw_masks(np.zeros((100, 100, 3), np.uint8), large, colors[:1])
    assert picture[50, 50].tolist() == [110, 0, 0]  # which is tinted more
    none = vis.draw_masks(image, masks[:0], colors[:0])
    assert np.array_equal(none, image)


def test_the_window_of_the_mask_that_gains_most():
    truth = np.zeros((2, 60, 90), bool)
    truth[0, 5:15, 5:15] = True
    truth[1, 30:50, 60:80] = True
    before, after = truth[::-1].copy(), truth.copy()  # in another order than the objects
    before[0, 30:40, 60:70] = False  # the second object's: 100 pixels are wrong
    before[1, 5:8, 5:8] = False  # the first one's: 9
    rows, columns = vis.largest_mask_gain(truth, before, after)
    assert rows.start <= 25 and rows.stop >= 55 and columns.start <= 55 and columns.stop >= 85
    height, width = rows.stop - rows.start, columns.stop - columns.start
    assert width / height == pytest.approx(1.5, abs=0.05) and columns.stop <= 90
    whole = (slice(0, 60), slice(0, 90))
    assert vis.largest_mask_gain(truth, after, before) == whole
    assert vis.largest_mask_gain(truth, before, after[:0]) == whole
    assert vis.largest_mask_gain(truth, before[:0], after) != whole
    assert vis.largest_mask_gain(truth[:0], before, after) == whole


def test_pictures_of_windows_of_any_proportions_have_one_size():
    """Proportions of a window are rounded, and a table's rows must be of one width."""
    window = np.zeros((37, 55, 3), np.uint8)
    assert vis.enlarge(window, 320).shape != (320, 480, 3)
    assert vis.enlarge(window, 320, 480).shape == (320, 480, 3)
