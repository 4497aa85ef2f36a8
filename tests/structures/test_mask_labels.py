"""Labels read from masks against Detectron2's, which copies them, and by hand."""

import numpy as np
import pytest
import torch
from detectron2.projects.point_rend.point_features import sample_point_labels
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import roi_align

from mask_inputs import Allocated, blobs, instances_of, random_boxes, seeded
from pointrend_seg.errors import InputError
from pointrend_seg.structures import box_targets
from pointrend_seg.structures.shared_masks import SharedMasks, shared_masks

# --- at points ------------------------------------------------------------------------------


def test_labels_at_points_by_hand():
    """Pixel centres are the pixels; between them it is bilinear, and beyond there is nothing."""
    masks = SharedMasks(torch.tensor([[[1, 0, 0], [1, 1, 0]]]))
    expected = {
        (0.5, 0.5): 1.0,
        (1.5, 0.5): 0.0,
        (1.5, 1.5): 1.0,
        (1.0, 0.5): 0.5,
        (1.0, 1.0): 0.75,
        (0.0, 0.0): 0.25,
        (0.0, 0.5): 0.5,
        (0.5, 2.0): 0.5,
        (-0.5, 0.5): 0.0,
        (90.0, -70.0): 0.0,
    }
    labels = masks.labels_at_points(torch.tensor([list(expected)]))
    assert labels.dtype == torch.float32
    assert labels[0].tolist() == pytest.approx(list(expected.values()))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (37, 53), (480, 641), (800, 1216)])
def test_labels_at_points_are_detectron2s_to_the_bit(height, width):
    generator = seeded()
    bits = blobs(6, generator, height, width)
    extent = torch.tensor([width, height])
    coords = (torch.rand(6, 211, 2, generator=generator) * 1.4 - 0.2) * extent
    # Centres, corners and the image's own edge.
    coords[:, :50] = (coords[:, :50] * 2).round() / 2
    coords[0, :4] = torch.tensor([[0, 0], [width, 0], [0, height], [width, height]]).float()
    want = sample_point_labels([instances_of(BitMasks(bits), height, width)], coords)
    got = SharedMasks(bits).labels_at_points(coords)
    assert torch.equal(got, want)
    if height > 1:
        assert 0 < ((got > 0) & (got < 1)).float().mean() < 1


def test_boxes_of_one_object_read_its_bits():
    generator = seeded()
    bits, index = blobs(3, generator, 20, 30), torch.tensor([2, 0, 2, 2, 1])
    coords = torch.rand(5, 9, 2, generator=generator) * 20
    got = SharedMasks(bits, index).labels_at_points(coords)
    assert torch.equal(got, SharedMasks(bits[index]).labels_at_points(coords))


def test_no_boxes_no_labels():
    none = SharedMasks(torch.zeros(0, 8, 9, dtype=torch.bool))
    assert none.labels_at_points(torch.zeros(0, 5, 2)).shape == (0, 5)
    assert none.crop_and_resize(torch.zeros(0, 4), 7).shape == (0, 7, 7)
    some = SharedMasks(torch.ones(2, 8, 9, dtype=torch.bool))[[]]
    assert some.labels_at_points(torch.zeros(0, 5, 2)).shape == (0, 5)
    assert some.crop_and_resize(torch.zeros(0, 4), 7).shape == (0, 7, 7)


def test_reading_at_points_makes_no_mask():
    """Detectron2 makes every proposal's mask a float map of the image, 4 bytes for each pixel."""
    height, width, boxes = 400, 600, 32
    bits = blobs(4, seeded(), height, width)
    masks = SharedMasks(bits, torch.arange(boxes) % 4)
    coords = torch.rand(boxes, 196, 2, generator=seeded()) * 400
    with Allocated() as ours:
        masks.labels_at_points(coords)
    assert ours.largest == boxes * 196 * 8  # an index for each point
    copied = instances_of(BitMasks(bits[masks.index]), height, width)
    with Allocated() as theirs:
        sample_point_labels([copied], coords)
    assert theirs.largest == boxes * height * width * 4


# --- in boxes -------------------------------------------------------------------------------


def awkward_boxes(height, width):
    """Boxes without area, beyond the image, of the whole image, and on its pixels' edges."""
    h, w = float(height), float(width)
    return torch.tensor(
        [
            [3.0, 4.0, 3.0, 9.0],
            [3.2, 4.7, 3.2, 4.7],
            [0.0, 0.0, 0.0, 0.0],
            [w, h, w, h],
            [-20.0, -30.0, -4.0, -6.0],
            [w + 5, h + 5, w + 30, h + 9],
            [-15.5, 2.0, w + 15.5, 6.0],
            [5.0, -9.0, 9.0, h + 40],
            [0.0, 0.0, w, h],
            [-3 * w, -3 * h, 4 * w, 4 * h],
            [w - 1, h - 1, w, h],
            [w - 2.5, 1.0, w + 2.5, h + 1],
            [2.0, 2.0, 16.0, 16.0],
            [1.0, 1.0, 8.0, 8.0],
            [0.25, 0.25, 0.5, 0.5],
        ]
    )


def assert_as_detectron2(bits, index, boxes, size):
    want = BitMasks(bits[index]).crop_and_resize(boxes, size)
    got = SharedMasks(bits, index).crop_and_resize(boxes, size)
    assert got.dtype == torch.bool
    assert torch.equal(got, want)
    return got


@pytest.mark.parametrize(("height", "width"), [(1, 1), (24, 31), (97, 64), (251, 340)])
@pytest.mark.parametrize("size", [1, 7, 28])
def test_labels_in_boxes_are_detectron2s(height, width, size):
    generator = seeded()
    boxes = torch.rand(40, 2, 2, generator=generator).sort(dim=1).values * 1.3 - 0.15
    boxes = (boxes * torch.tensor([width, height])).flatten(1)
    boxes = torch.cat((boxes, boxes.round(), awkward_boxes(height, width)))
    index = torch.randint(0, 3, (len(boxes),), generator=generator)
    got = assert_as_detectron2(blobs(3, generator, height, width), index, boxes, size)
    assert height == 1 or 0.1 < got.float().mean() < 0.9


def test_cells_that_are_half_covered_are_decided_as_detectron2_does():
    """Straight edges through the middle of boxes of odd sizes, so that rounding decides."""
    bits = torch.zeros(2, 500, 900, dtype=torch.bool)
    bits[0, :, 850:] = True
    bits[1, 450:, :] = True
    reach = torch.rand(200, 2, generator=seeded()) * 30 + 1
    centre = torch.tensor([850.0, 450.0])
    boxes = torch.cat((centre - reach, centre + reach), dim=1)
    assert_as_detectron2(bits, torch.arange(len(boxes)) % 2, boxes, 7)


@st.composite
def masks_and_boxes(draw):
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    seed = draw(st.integers(0, 2**16))
    bits = torch.rand(2, height, width, generator=seeded(seed)) < draw(st.floats(0, 1))
    coordinate = st.floats(-60, 100, width=32) | st.integers(-10, 50).map(float)
    corners = st.tuples(coordinate, coordinate, coordinate, coordinate)
    boxes = torch.tensor(draw(st.lists(corners, min_size=1, max_size=6)))
    low, high = torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:])
    return bits, torch.cat((low, high), dim=1)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(masks_and_boxes(), st.integers(1, 9))
def test_any_masks_and_boxes(masks_and_boxes, size):
    bits, boxes = masks_and_boxes
    assert_as_detectron2(bits, torch.arange(len(boxes)) % 2, boxes, size)


@pytest.mark.parametrize("size", [1, 7, 28])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (60, 80), (97, 31)])
def test_coverage_is_roi_align(height, width, size):
    """As fractions, before the threshold; boxes of one pixel, of none, and beyond the image."""
    generator = seeded()
    bits = torch.rand(9, height, width, generator=generator) < 0.5
    boxes = torch.cat((random_boxes(60, generator, 60, 80), awkward_boxes(height, width)))
    index = torch.randint(0, 9, (len(boxes),), generator=generator)
    rois = torch.cat((index[:, None].float(), boxes), dim=1)
    want = roi_align(bits[:, None].double(), rois.double(), (size, size), 1.0, 0, True)[:, 0]
    got = box_targets._coverage(bits, index, boxes, size)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), want, atol=2e-5, rtol=0)
    assert (got.amax((1, 2)) > 0.3).any()


def half_covered(pixels=64):
    """Boxes whose cells are half covered; sums in float say a little less, or a little more."""
    bits = torch.zeros(2, pixels, pixels, dtype=torch.bool)
    bits[0, :, pixels // 2 :] = True
    bits[1, pixels // 2 :] = True
    reach = torch.arange(1, 60) / 7
    boxes = torch.stack([pixels / 2 - reach] * 2 + [pixels / 2 + reach] * 2, dim=1)
    return bits, torch.arange(len(boxes)) % 2, boxes


@pytest.mark.parametrize("error", [-5e-4, 5e-4])
def test_near_ties_are_decided_as_detectron2_does(monkeypatch, error):
    """Whatever the sums of `_coverage` say of them, within its accuracy."""
    original = box_targets._coverage
    monkeypatch.setattr(box_targets, "_coverage", lambda *args: original(*args) + error)
    bits, index, boxes = half_covered()
    assert ((original(bits, index, boxes, 7) - 0.5).abs() < 1e-5).float().mean() > 0.1
    got = assert_as_detectron2(bits, index, boxes, 7)
    assert 0.2 < got.float().mean() < 0.8


def test_labels_in_boxes_do_not_depend_on_autocast():
    bits, index, boxes = half_covered()
    boxes = torch.cat((boxes, random_boxes(59, seeded(), 64, 64)))
    index = torch.cat((index, index))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_as_detectron2(bits, index, boxes, 7)


def test_reading_in_boxes_makes_one_mask_floats_at_a_time():
    """Detectron2 copies the mask of each proposal and makes it a float map of the image."""
    height, width = 400, 600
    bits = blobs(4, seeded(), height, width)
    boxes = random_boxes(64, seeded(), 60, 80) + 100
    masks = SharedMasks(bits, torch.arange(64) % 4)
    with Allocated() as ours:
        masks.crop_and_resize(boxes, 7)
    whole = height * width * 4  # at the most one at a time, where rounding decides
    assert ours.largest < 64 * 85 * 65 * 8 < 64 * whole / 20
    with Allocated() as theirs:
        BitMasks(masks.tensor).crop_and_resize(boxes, 7)
    assert theirs.largest == 64 * whole


# --- ground truth of any kind ---------------------------------------------------------------

POLYGONS = [
    [np.array([4.0, 5.0, 40.0, 8.0, 33.0, 36.0, 8.0, 30.0])],
    [np.array([10.2, 3.1, 20.7, 3.9, 15.5, 20.4]), np.array([30.0, 20.0, 45.0, 22.0, 38.0, 38.0])],
]


def as_run_lengths(polygons, height, width):
    """What COCO calls RLE, decoded as mappers do."""
    from pycocotools import mask as mask_utils

    return mask_utils.decode(
        mask_utils.merge(mask_utils.frPyObjects([list(p) for p in polygons], height, width))
    )


def test_polygons_run_lengths_and_bits_give_the_same_labels():
    height, width = 40, 50
    polygons = PolygonMasks(POLYGONS)
    bits = BitMasks.from_polygon_masks(polygons, height, width)
    decoded = np.stack([as_run_lengths(each, height, width) for each in POLYGONS])
    boxes, generator = polygons.get_bounding_boxes().tensor, seeded()
    coords = torch.rand(2, 200, 2, generator=generator) * 40
    labels = []
    for masks in (bits, polygons, SharedMasks(bits.tensor), BitMasks(decoded)):
        shared = shared_masks(instances_of(masks, height, width))
        labels.append((shared.labels_at_points(coords), shared.crop_and_resize(boxes, 7)))
    assert 0.2 < labels[0][0].mean() < 0.8
    for at_points, in_boxes in labels[1:]:
        assert torch.equal(at_points, labels[0][0]) and torch.equal(in_boxes, labels[0][1])


def test_an_object_of_many_boxes_is_rasterised_once(monkeypatch):
    seen, original = [], BitMasks.from_polygon_masks

    def counting(polygons, height, width):
        seen.append(len(polygons))
        return original(polygons, height, width)

    monkeypatch.setattr(BitMasks, "from_polygon_masks", staticmethod(counting))
    index = torch.tensor([1, 0, 1, 1, 0, 1])
    shared = shared_masks(instances_of(PolygonMasks(POLYGONS)[index], 40, 50))
    assert seen == [2] and len(shared) == 6
    assert torch.equal(shared.tensor, original(POLYGONS, 40, 50).tensor[index])


def test_no_polygons():
    shared = shared_masks(instances_of(PolygonMasks([]), 40, 50))
    assert shared.tensor.shape == (0, 40, 50)


def test_an_image_without_objects_has_no_masks_at_all():
    empty = Instances((40, 50))
    empty.proposal_boxes = Boxes(torch.zeros(0, 4))
    assert shared_masks(empty).tensor.shape == (0, 40, 50)


def test_objects_without_masks():
    instances = Instances((40, 50))
    instances.proposal_boxes = Boxes(torch.zeros(2, 4))
    with pytest.raises(InputError, match="objects without.*annotate.*MASK_ON"):
        shared_masks(instances)


def test_masks_of_another_kind():
    with pytest.raises(InputError, match="are a list; they are BitMasks, PolygonMasks or Shared"):
        shared_masks(instances_of([1, 2], 40, 50))
    with pytest.raises(InputError, match=r"\(objects, H, W\), not \(40, 50\)"):
        SharedMasks(torch.zeros(40, 50))
