"""Objects that several tiles see become one: joined, or taken from the tile that sees the whole."""

import cv2
import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances, ROIMasks

from pointrend_seg.structures import RleMasks
from pointrend_seg.tiling.instances import InstanceMerger
from pointrend_seg.tiling.layout import TileGrid

HEIGHT, WIDTH = 150, 260
GRID = TileGrid.cover(HEIGHT, WIDTH, 100, 20)


def ellipse(x, y, rx, ry, angle=0):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.ellipse(mask, (x, y), (rx, ry), angle, 0, 360, 1, -1)
    return mask.astype(bool)


def box_of(mask):
    ys, xs = np.nonzero(mask)
    return [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def seen(masks, *, scores=None, classes=None, kind="bits", least=1):
    """What an exact detector finds in each tile: every object of which it sees `least` pixels."""
    for x0, y0, x1, y1 in GRID.boxes():
        parts = [mask[y0:y1, x0:x1] for mask in masks]
        found = [k for k, part in enumerate(parts) if part.sum() >= least]
        instances = Instances((y1 - y0, x1 - x0))
        boxes = torch.tensor([box_of(parts[k]) for k in found], dtype=torch.float32)
        instances.pred_boxes = Boxes(boxes.reshape(-1, 4))
        instances.scores = torch.tensor([(scores or [0.9] * len(masks))[k] for k in found])
        numbers = [(classes or [0] * len(masks))[k] for k in found]
        instances.pred_classes = torch.tensor(numbers, dtype=torch.int64)
        if kind == "bits":
            bits = [torch.from_numpy(parts[k]) for k in found]
            empty = torch.zeros(0, y1 - y0, x1 - x0, dtype=torch.bool)
            instances.pred_masks = torch.stack(bits) if bits else empty
        elif kind == "roi":
            crops = []
            for k, (left, top, right, bottom) in zip(found, boxes.int().tolist(), strict=True):
                crop = parts[k][top:bottom, left:right].astype(np.float32)
                crops.append(torch.from_numpy(cv2.resize(crop, (96, 96))))
            instances.pred_masks = ROIMasks(torch.stack(crops) if crops else torch.zeros(0, 96, 96))
        yield instances


def merged(parts):
    merger = InstanceMerger(GRID)
    for part in parts:
        merger.add(part)
    return merger.merge()


def ious(found, masks):
    """The IoU of each mask with the detection that fits best."""
    bits = [mask.numpy() for mask in found.pred_masks]
    return [max(((b & m).sum() / (b | m).sum() for b in bits), default=0) for m in masks]


SCENES = {
    "small objects everywhere": [
        ellipse(x, y, 6, 4) for x in range(8, WIDTH, 17) for y in range(8, HEIGHT, 13)
    ],
    "objects larger than the overlap, across borders": [
        ellipse(90, 40, 35, 12),
        ellipse(170, 90, 30, 40),
        ellipse(60, 100, 12, 30),
    ],
    "one over all tiles": [ellipse(130, 75, 120, 60)],
    "a long one": [ellipse(130, 75, 128, 5, 20)],
    "touching in the overlap": [ellipse(85, 30, 5, 10), ellipse(96, 30, 5, 10)],
    "nothing": [],
}


@pytest.mark.parametrize("kind", ["bits", "roi"])
@pytest.mark.parametrize("scene", SCENES)
def test_each_object_is_found_once(scene, kind):
    masks = SCENES[scene]
    found = merged(seen(masks, kind=kind, least=5))
    assert len(found) == len(masks) and isinstance(found.pred_masks, RleMasks)
    assert found.image_size == found.pred_masks.image_size == (HEIGHT, WIDTH)
    exact = 1 if kind == "bits" else 0.8
    assert all(iou >= exact for iou in ious(found, masks))
    boxes = sorted(found.pred_boxes.tensor.tolist())
    assert np.allclose(boxes, sorted([*map(box_of, masks)]) or boxes)


def test_an_object_is_taken_from_the_tile_that_sees_the_whole():
    """Also where the fragment has the higher score, and a worse mask."""
    whole = ellipse(85, 50, 12, 10)  # the tile from 80 on sees the rest of it
    masks = list(seen([whole]))
    fragment = masks[1].pred_masks
    fragment[0, :, :2] = False  # it does not quite reach the border
    masks[1].scores = torch.tensor([0.99])
    found = merged(masks)
    assert len(found) == 1 and ious(found, [whole]) == [1]
    assert found.scores.item() == pytest.approx(0.9)


def test_a_bad_fragment_at_the_border_is_left_out():
    whole = ellipse(85, 50, 12, 10)
    parts = list(seen([whole]))
    bits = parts[1].pred_masks.numpy()
    bits[0] &= np.arange(100)[:, None] > 50  # half of what is there
    parts[1].pred_boxes.tensor[0] = torch.tensor(box_of(bits[0])).float()
    assert len(merged(parts)) == 1


def test_the_higher_score_counts_where_both_see_the_whole():
    both = ellipse(90, 40, 6, 6)
    parts = list(seen([both]))
    parts[0].scores[:], parts[1].scores[:] = 0.7, 0.8
    found = merged(parts)
    assert len(found) == 1 and found.scores.item() == pytest.approx(0.8)


def test_classes_are_not_mixed():
    both = [ellipse(90, 40, 35, 12), ellipse(90, 40, 30, 10)]
    found = merged(seen(both, classes=[0, 1]))
    assert sorted(found.pred_classes.tolist()) == [0, 1]
    assert ious(found, both) == [1, 1]


def test_small_objects_on_large_ones_stay():
    """Of the same class, in the region that two tiles see."""
    masks = [ellipse(90, 40, 35, 20), ellipse(90, 40, 4, 4)]
    found = merged(seen(masks))
    assert len(found) == 2 and ious(found, masks) == [1, 1]


def test_boxes_without_masks():
    masks = SCENES["objects larger than the overlap, across borders"]
    found = merged(seen(masks, kind="none"))
    assert not found.has("pred_masks")
    assert sorted(found.pred_boxes.tensor.tolist()) == sorted(
        [list(map(float, box_of(mask))) for mask in masks]
    )


def test_scores_fall():
    masks = SCENES["small objects everywhere"]
    scores = np.random.default_rng(0).uniform(0.1, 1, len(masks)).round(3).tolist()
    found = merged(seen(masks, scores=scores, least=60))
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert len(found) > 130  # more than one call of pycocotools takes
