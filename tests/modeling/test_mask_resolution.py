"""Masks of any resolution, and each of its own."""

import pytest
import torch
from detectron2.layers import paste_masks_in_image
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances, ROIMasks

from mask_inputs import HEAD, HEIGHT, NODE, WIDTH, detections, features, mask_head, of_place
from pointrend_seg.errors import InputError
from pointrend_seg.evaluation.coco_results import encode_instances
from pointrend_seg.modeling.box_subdivision import PER_BOX, sides_of_boxes, steps_to
from pointrend_seg.modeling.roi_mask_model import to_output_size
from pointrend_seg.points.boxes import select_boxes
from pointrend_seg.points.subdivision import subdivide_from_grid
from pointrend_seg.structures.box_masks import BoxMasks
from small_configs import IMPLICIT_OPTS as IMPLICIT

RESOLUTION = f"{NODE}.MASK_RESOLUTION"
KINDS = {"fast": (), "plain": (f"{NODE}.FAST_PATH", False), "implicit": IMPLICIT}


@pytest.mark.parametrize(
    ("resolution", "start", "points", "want"),
    [
        (224, 7, 784, (28, 3, None)),
        (224, 7, 783, (14, 4, None)),
        (448, 7, 784, (28, 4, None)),
        (300, 7, 784, (28, 3, 300)),
        (29, 7, 784, (28, 0, 29)),
        (28, 7, 784, (28, 0, None)),
        (14, 7, 784, (14, 0, None)),
        (5, 7, 784, (5, 0, None)),
        (40, 10, 100, (10, 2, None)),
        (3, 7, 4, (7, 0, 3)),  # smaller than the coarse grid, and more than one step predicts
    ],
)
def test_steps(resolution, start, points, want):
    assert steps_to(resolution, start, points) == want


@pytest.mark.parametrize("resolution", [3, 7, 11, 12, 24, 37])
def test_where_every_cell_is_predicted_the_way_there_does_not_matter(resolution):
    side, steps, last = steps_to(resolution, 3, 20)
    settings = {"predict": of_place, "device": "cpu", "num_points": 37**2}
    got = subdivide_from_grid(2, side=side, num_steps=steps, last_side=last, **settings)
    want = subdivide_from_grid(2, side=resolution, num_steps=0, **settings)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def predicted(opts, images=None, maps=None):
    with torch.no_grad():
        return mask_head(opts).eval()(maps or features(), images or detections(3, 2))


def test_a_power_of_two_is_one_more_step():
    """To the last bit."""
    more = predicted((f"{NODE}.SUBDIVISION_STEPS", 6))
    for a, b in zip(predicted((RESOLUTION, 448)), more, strict=True):
        assert a.pred_masks.shape[-2:] == (448, 448) and torch.equal(a.pred_masks, b.pred_masks)
    for a, b in zip(predicted((RESOLUTION, 224)), predicted(()), strict=True):
        assert torch.equal(a.pred_masks, b.pred_masks)


@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_cells(kind):
    """With as many points as cells each is the point head's prediction at its centre."""
    whole = (f"{NODE}.SUBDIVISION_NUM_POINTS", 44**2)
    for a, b in zip(
        predicted((*KINDS[kind], *whole, RESOLUTION, 44)),
        predicted((*KINDS[kind], f"{NODE}.SUBDIVISION_NUM_POINTS", 30**2, RESOLUTION, 44)),
        strict=True,
    ):
        a, b = a.pred_masks, b.pred_masks
        assert a.shape == b.shape and a.shape[-2:] == (44, 44)
        assert ((a > 0.5) == (b > 0.5)).float().mean() > 0.97


def test_sides_of_boxes():
    boxes = [torch.tensor([[0.0, 0, 5, 9], [0, 0, 14, 3], [0, 0, 15, 3]]), torch.zeros(0, 4)]
    boxes.append(torch.tensor([[5.0, 5, 5, 5], [0, 0, 9000, 10], [0, 0, 10, 200]]))
    assert sides_of_boxes(boxes, 7).tolist() == [14, 14, 28, 14, 896, 224]


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_the_boxs_own_size(kind):
    """Each is what a head of that one resolution predicts for the box."""
    images = predicted((*KINDS[kind], RESOLUTION, PER_BOX), detections(5, 0, 3), features(3))
    sides = {len(mask) for each in images for mask in each.pred_masks.masks}
    assert len(sides) > 1 and len(images[1].pred_masks) == 0
    for side in sides:
        same = predicted((*KINDS[kind], RESOLUTION, side), detections(5, 0, 3), features(3))
        for own, fixed in zip(images, same, strict=True):
            for mask, want in zip(own.pred_masks.masks, fixed.pred_masks[:, 0], strict=True):
                if len(mask) == side:
                    torch.testing.assert_close(mask, want, atol=1e-4, rtol=1e-4)


def test_no_boxes_at_all():
    for each in predicted((RESOLUTION, PER_BOX), detections(0, 0)):
        assert len(each.pred_masks) == 0 and each.pred_masks.device.type == "cpu"
        assert detector_postprocess(each, 50, 60).pred_masks.shape == (0, 50, 60)


@pytest.fixture
def found():
    (image,) = predicted((RESOLUTION, PER_BOX), detections(6), features(1))
    image.scores = torch.linspace(0.9, 0.4, 6)
    return image


def test_postprocessing_pastes_them(found):
    boxes = found.pred_boxes.clone()
    boxes.scale(2, 2)
    boxes.clip((2 * HEIGHT, 2 * WIDTH))
    want = [
        paste_masks_in_image(mask[None], box[None], (2 * HEIGHT, 2 * WIDTH))[0]
        for mask, box in zip(found.pred_masks.masks, boxes.tensor, strict=True)
    ]
    got = detector_postprocess(found, 2 * HEIGHT, 2 * WIDTH)
    assert len(got) == 6 and torch.equal(got.pred_masks, torch.stack(want))
    assert got.pred_masks.any((1, 2)).sum() > 3


def test_evaluation_encodes_them_as_if_pasted(found):
    pasted = detector_postprocess(_copy(found), HEIGHT, WIDTH)
    in_boxes = to_output_size(_copy(found), HEIGHT, WIDTH)
    assert isinstance(in_boxes.pred_masks, BoxMasks)
    assert encode_instances(in_boxes, 1) == encode_instances(pasted, 1)


def _copy(found):
    copied = Instances(found.image_size, **found.get_fields())
    copied.pred_boxes = Boxes(found.pred_boxes.tensor.clone())
    return copied


def test_they_are_roi_masks(found):
    masks = found.pred_masks
    assert isinstance(masks, ROIMasks) and len(masks) == 6
    sides = [len(mask) for mask in masks.masks]
    assert [len(m) for m in masks[2:4].masks] == sides[2:4]
    kept = torch.tensor([True, False, True, False, False, True])
    assert [len(m) for m in masks[kept].masks] == [sides[0], sides[2], sides[5]]
    assert [len(m) for m in masks[torch.tensor([4, 1])].masks] == [sides[4], sides[1]]
    assert len(found[kept].pred_masks) == 3 and len(found[1].pred_masks) == 1
    assert len(found.to("cpu").pred_masks) == 6
    assert len(Instances.cat([found, found]).pred_masks) == 12


def test_some_boxes():
    boxes = [torch.arange(8.0).view(2, 4), torch.zeros(0, 4), torch.arange(4.0).view(1, 4)]
    got = select_boxes(boxes, torch.tensor([1, 2]))
    assert [len(each) for each in got] == [1, 0, 1] and torch.equal(got[0], boxes[0][1:])


@pytest.mark.parametrize(
    ("opts", "text"),
    [
        ((RESOLUTION, -2), "MASK_RESOLUTION is -2; it must be -1 or more"),
        ((RESOLUTION, 448, f"{HEAD}.POINT_HEAD_ON", False), "so that masks stay coarse"),
    ],
)
def test_what_cannot_be(opts, text):
    with pytest.raises(InputError, match=text):
        mask_head(opts)
