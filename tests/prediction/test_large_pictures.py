"""Pictures of images that are too large are smaller; what is drawn stays in its place."""

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from coco_sets import mask_rle
from pointrend_seg.data.classes import Classes, palette
from pointrend_seg.prediction import large_pictures
from pointrend_seg.prediction.large_pictures import at_picture_size
from pointrend_seg.prediction.visualizations import draw_overlay
from pointrend_seg.structures import RleMasks


@pytest.fixture(autouse=True)
def small_limit(monkeypatch):
    monkeypatch.setattr(large_pictures, "_LONGEST", 100)


def found(*masks, with_masks=True):
    size = masks[0].shape
    rles = RleMasks([mask_rle(mask) for mask in masks], size)
    instances = Instances(size, pred_boxes=Boxes(rles.boxes()))
    instances.scores = torch.linspace(1, 0.5, len(masks))
    instances.pred_classes = torch.zeros(len(masks), dtype=torch.int64)
    if with_masks:
        instances.pred_masks = rles
    return {"instances": instances}


@pytest.mark.parametrize("with_masks", [True, False])
@pytest.mark.parametrize("step", [2, 3, 4])
def test_objects_lie_where_every_nth_pixel_has_them(step, with_masks):
    size = (61 * step // 2 + 40, 100 * step - 1)
    masks = np.zeros((4, *size), bool)
    masks[0, 5:38, 11:60] = masks[1, :9, :7] = masks[2, -9:, -11:] = True
    masks[3, step // 2 + 1, step // 2 + 1] = True  # between the pixels that are taken
    image = np.zeros((*size, 3), np.uint8)
    small, prediction = at_picture_size(image, found(*masks, with_masks=with_masks))
    height, width = (side // step for side in size)
    assert small.shape == (height, width, 3)
    assert prediction["instances"].image_size == (height, width)
    taken = masks[:, step // 2 :: step, step // 2 :: step]
    for expected, (x0, y0, crop) in zip(
        taken, prediction["instances"].pred_masks.crops(), strict=True
    ):
        pasted = np.zeros_like(expected)
        pasted[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]] = crop
        assert np.array_equal(pasted, expected)


def test_pictures():
    classes = Classes(("a", "b"), palette(2), (0, 1))
    mask = np.zeros((150, 200), bool)
    mask[20:90, 40:160] = True
    image = np.full((150, 200, 3), 90, np.uint8)
    for prediction in (found(mask), found(mask, with_masks=False), {"classes": mask.astype("u1")}):
        picture = draw_overlay(image, prediction, classes, names=False)
        assert picture.shape == (75, 100, 3)
        changed = (picture != 90).any(2)
        if "instances" in prediction:
            assert not changed[:9].any() and changed[12:43, 22:78].all()


def test_other_images_stay_as_they_are():
    image, prediction = np.zeros((100, 100, 3), np.uint8), {"classes": np.zeros((100, 100))}
    assert at_picture_size(image, prediction) == (image, prediction)
