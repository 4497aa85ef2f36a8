# ruff: noqa: NPY002  (Detectron2 seeds NumPy's global state)
"""Labelled points in the training input, against masks that go through the same transforms."""

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image

from pointrend_seg.data.images.reader import ImageReader
from pointrend_seg.data.mappers.augmentation import PadToSize
from pointrend_seg.data.mappers.instance import InstanceMapper
from pointrend_seg.errors import InputError
from small_configs import small_instance_cfg

HEIGHT, WIDTH = 40, 60
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
DISC = (ROWS - 20) ** 2 + (COLUMNS - 18) ** 2 < 150
BOX = [6, 8, 31, 33]


def thing(coords, labels, box=BOX, **more):
    points = {"point_coords": coords, "point_labels": labels}
    return {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, **points, **more}


@pytest.fixture
def record(tmp_path):
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(tmp_path / "a.png")
    return {"file_name": str(tmp_path / "a.png"), "height": HEIGHT, "width": WIDTH}


def mapper(*augmentations, masks=False, **more):
    made = InstanceMapper(
        True,
        augmentations=list(augmentations),
        image_format="BGR",
        reader=ImageReader(),
        num_classes=1,
        use_instance_mask=False,
        use_points=True,
        **more,
    )
    made.use_instance_mask = masks  # to compare them
    return made


def mapped(record, annotations, *augmentations, **more):
    return mapper(*augmentations, **more)(record | {"annotations": annotations})["instances"]


def test_indices_of_pixels_become_their_centres(record):
    instances = mapped(record, [thing([[18, 20], [6.25, 8]], [1, 0])])
    assert instances.gt_point_coords.tolist() == [[[18.5, 20.5], [6.75, 8.5]]]
    assert instances.gt_point_labels.tolist() == [[1, 0]]
    assert instances.gt_point_coords.dtype == torch.float32
    assert instances.gt_point_labels.dtype == torch.int64
    assert not instances.has("gt_masks")


def test_a_flip_mirrors_points(record):
    flip = T.RandomFlip(1.0)
    instances = mapped(record, [thing([[0, 20], [6, 8]], [1, 0], box=[0, 8, 31, 33])], flip)
    assert instances.gt_point_coords.tolist() == [[[59.5, 20.5], [53.5, 8.5]]]


def test_points_outside_of_a_crop_are_ignored(record):
    crop = T.CropTransform(10, 10, 20, 20)
    instances = mapped(record, [thing([[10, 10], [9, 10], [29, 29], [30, 29]], [0, 0, 1, 1])], crop)
    assert instances.gt_point_labels.tolist() == [[0, -1, 1, -1]]
    assert instances.gt_point_coords[0, 0].tolist() == [0.5, 0.5]
    assert instances.gt_boxes.tensor.tolist() == [[0, 0, 20, 20]]


def test_objects_that_are_cut_away_go_with_their_points(record):
    far = thing([[40, 5]], [1], box=[36, 2, 50, 8])
    instances = mapped(
        record, [far, thing([[12, 20], [30, 9]], [1, 0])], T.CropTransform(10, 10, 20, 20)
    )
    assert len(instances) == 1
    assert instances.gt_point_coords.tolist() == [[[2.5, 10.5], [20.5, -0.5]]]
    assert instances.gt_point_labels.tolist() == [[1, -1]]


def test_objects_with_fewer_points_are_padded(record):
    instances = mapped(record, [thing([[18, 20]], [1]), thing([[7, 9], [18, 20]], [0, 1])])
    assert instances.gt_point_labels.tolist() == [[1, -1], [0, 1]]
    assert instances.gt_point_coords.shape == (2, 2, 2)


@pytest.mark.parametrize("annotations", [[], [thing([[18, 20]], [1], iscrowd=1)]])
def test_images_without_objects(record, annotations):
    instances = mapped(record, annotations)
    assert instances.gt_point_coords.shape == (0, 0, 2)
    assert instances.gt_point_labels.shape == (0, 0)
    assert mapped(record, [], sample_points=5).gt_point_labels.shape == (0, 5)


def test_a_crowd_needs_no_points(record):
    crowd = {"bbox": BOX, "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "iscrowd": 1}
    assert len(mapped(record, [crowd, thing([[18, 20]], [1])])) == 1


def test_some_points_are_drawn_anew_each_time(record):
    coords = [[6 + k, 20] for k in range(10)]
    annotations = [thing(coords, [k % 2 for k in range(10)]), thing([[7, 9]], [0])]
    half = mapper(sample_points=5)
    np.random.seed(0)
    drawn = [half(record | {"annotations": annotations})["instances"] for _ in range(20)]
    assert {each.gt_point_labels.shape for each in drawn} == {(2, 5)}
    columns = [(each.gt_point_coords[0, :, 0] - 6.5).int().tolist() for each in drawn]
    assert all(len(set(each)) == 5 for each in columns)
    assert set(sum(columns, [])) == set(range(10))
    for each, at in zip(drawn, columns, strict=True):
        assert each.gt_point_labels[0].tolist() == [k % 2 for k in at]
        assert each.gt_point_labels[1].tolist() == [0, -1, -1, -1, -1]


def test_all_points_take_no_random_number(record):
    np.random.seed(0)
    mapped(record, [thing([[18, 20]], [1])])
    after = np.random.rand()
    np.random.seed(0)
    assert after == np.random.rand()


AUGMENTATIONS = {
    "none": [],
    "flip": [T.RandomFlip(1.0)],
    "vertical flip": [T.RandomFlip(1.0, horizontal=False, vertical=True)],
    "smaller": [T.ResizeShortestEdge(29, 1000)],
    "larger": [T.ResizeShortestEdge(97, 1000)],
    "other aspect": [T.Resize((71, 45))],
    "crop": [T.RandomCrop("relative_range", (0.4, 0.4))],
    "rotation": [T.RandomRotation([-40, 40], expand=False)],
    "expanding rotation": [T.RandomRotation([10, 80], expand=True)],
    "quarter turn": [T.RandomRotation([90, 90], expand=True)],
    "large-scale jitter": [T.ResizeScale(0.3, 2.5, 64, 64), T.FixedSizeCrop((64, 64))],
    "extent": [T.RandomExtent((0.6, 1.4), (0.2, 0.2))],
    "padding": [PadToSize((64, 80), (0.0, 0.0, 0.0), 255)],
    "colours": [T.RandomContrast(0.5, 1.5), T.RandomLighting(0.5)],
    "many": [
        T.RandomCrop("relative_range", (0.6, 0.6)),
        T.ResizeShortestEdge([30, 50, 70], 1000, "choice"),
        T.RandomRotation([-20, 20], expand=False),
        T.RandomFlip(),
    ],
}


FILLED = ("rotation", "expanding rotation", "extent", "many")


def inner_labels(mask, coords):
    """Return the mask's values at points, -1 where the 3 x 3 pixels around one differ."""
    mask = mask.astype(np.uint8)
    square = np.ones((3, 3), np.uint8)
    same = cv2.erode(mask, square) == cv2.dilate(mask, square)
    x, y = np.floor(coords).astype(int).T
    return np.where(same[y, x], mask[y, x].astype(int), -1)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_labels_are_those_of_the_augmented_mask(record, name):
    rng = np.random.default_rng(1)
    points = np.argwhere(np.ones_like(DISC))[:, ::-1]  # every pixel of the image
    labels = DISC[points[:, 1], points[:, 0]].astype(int)
    mask = DISC.astype(np.uint8)
    annotation = thing(points, labels, box=[0, 0, WIDTH, HEIGHT], segmentation=mask)
    compared = {0: 0, 1: 0}
    for seed in rng.integers(0, 2**31, 10):
        np.random.seed(seed)
        instances = mapped(record, [annotation], *AUGMENTATIONS[name], masks=True)
        if not len(instances):
            continue
        mask, coords = instances.gt_masks.tensor[0].numpy(), instances.gt_point_coords[0].numpy()
        inside = ((coords >= 0) & (coords < mask.shape[::-1])).all(1)
        found = instances.gt_point_labels[0].numpy()
        assert (found[~inside] == -1).all()
        if name not in FILLED:  # which hide what lies at the edge
            assert (found[inside] >= 0).all()
        inside = found >= 0
        wanted = inner_labels(mask, coords[inside])
        sure = wanted >= 0
        np.testing.assert_array_equal(found[inside][sure], wanted[sure])
        for label in compared:
            compared[label] += int((wanted == label).sum())
    assert min(compared.values()) > 500


@pytest.mark.parametrize("name", ["none", "flip", "vertical flip", "crop", "quarter turn"])
def test_labels_are_exact_where_pixels_are_moved(record, name):
    """Without resampling a label is that of its pixel, at the edge of the object as well."""
    points = np.argwhere(np.ones_like(DISC))[:, ::-1]
    labels = DISC[points[:, 1], points[:, 0]].astype(int)
    mask = DISC.astype(np.uint8)
    annotation = thing(points, labels, box=[0, 0, WIDTH, HEIGHT], segmentation=mask)
    np.random.seed(3)
    instances = mapped(record, [annotation], *AUGMENTATIONS[name], masks=True)
    mask, coords = instances.gt_masks.tensor[0].numpy(), instances.gt_point_coords[0].numpy()
    inside = instances.gt_point_labels[0].numpy() >= 0
    x, y = np.floor(coords[inside]).astype(int).T
    assert (instances.gt_point_labels[0].numpy()[inside] == mask[y, x]).all()
    assert inside.sum() == mask.size


def test_the_config_says_what_is_read(record):
    cfg = small_instance_cfg(num_classes=1)
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = (HEIGHT,), "none"
    cfg.INPUT.POINT_SUP, cfg.INPUT.SAMPLE_POINTS = True, 1
    both = thing([[18, 20], [7, 9]], [1, 0], segmentation=DISC.astype(np.uint8))
    instances = InstanceMapper(cfg)(record | {"annotations": [both]})["instances"]
    assert instances.gt_point_labels.shape == (1, 1)
    assert not instances.has("gt_masks")
    cfg.INPUT.POINT_SUP = False
    instances = InstanceMapper(cfg)(record | {"annotations": [both]})["instances"]
    assert not instances.has("gt_point_labels")
    assert int(instances.gt_masks.tensor.sum()) == DISC.sum()
    cfg.INPUT.POINT_SUP, cfg.MODEL.MASK_ON = True, False
    instances = InstanceMapper(cfg)(record | {"annotations": [both]})["instances"]
    assert not instances.has("gt_point_labels")
    assert not instances.has("gt_masks")


def test_points_and_masks_are_not_trained_on_together():
    options = {"augmentations": [], "image_format": "BGR", "num_classes": 1}
    with pytest.raises(InputError, match="Set use_instance_mask to False"):
        InstanceMapper(True, use_instance_mask=True, use_points=True, **options)


def test_a_crop_needs_no_masks(record):
    cfg = small_instance_cfg(num_classes=1)
    cfg.INPUT.POINT_SUP = cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = "relative", (0.5, 0.5)
    np.random.seed(0)
    instances = InstanceMapper(cfg)(record | {"annotations": [thing([[18, 20]], [1])]})["instances"]
    assert instances.gt_point_labels.shape[1:] == (1,)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ({}, "has no 'point_coords'"),
        ({"point_coords": [[1, 2]]}, "has no 'point_labels'"),
        ({"point_coords": [], "point_labels": []}, "has empty lists of points"),
        ({"point_coords": "no", "point_labels": [1]}, "has the point_coords 'no', not a list"),
        ({"point_coords": [[1, 2]], "point_labels": [1, 0]}, "has 1 point_coords, but 2 point_"),
        ({"point_coords": [1, 2], "point_labels": [1, 0]}, "has the point 1"),
        ({"point_coords": [[1, 2, 3]], "point_labels": [1]}, "has the point [1, 2, 3]"),
        ({"point_coords": [[float("nan"), 2]], "point_labels": [1]}, "has the point [nan, 2]"),
        ({"point_coords": [[1, "2"]], "point_labels": [1]}, "has the point [1, '2']"),
        ({"point_coords": [[1, 2]], "point_labels": [2]}, "has the point label 2"),
        ({"point_coords": [[1, 2]], "point_labels": [-1]}, "has the point label -1"),
        ({"point_coords": [[1, 2]], "point_labels": [None]}, "has the point label None"),
        ({"point_coords": [[60, 2]], "point_labels": [1]}, "has the point 60, 2, which lies out"),
        ({"point_coords": [[1, -1]], "point_labels": [1]}, "has the point 1, -1, which lies out"),
    ],
)
def test_invalid_points(record, points, message):
    annotation = {"bbox": BOX, "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, **points}
    with pytest.raises(InputError, match="Annotation number 0") as raised:
        mapped(record, [annotation])
    assert message in str(raised.value)
