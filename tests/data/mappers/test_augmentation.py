# ruff: noqa: NPY002  (Detectron2 seeds NumPy's global state)
import colorsys

import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data import transforms as T
from detectron2.projects.point_rend import add_pointrend_config

from pointrend_seg.data.mappers.augmentation import (
    ColorAugSSD,
    ColorJitterTransform,
    PadToSize,
    build_sem_seg_train_aug,
)
from pointrend_seg.errors import InputError


def make_cfg(**input_keys):
    cfg = get_cfg()
    add_pointrend_config(cfg)
    cfg.INPUT.MIN_SIZE_TRAIN = (48,)
    for key, value in input_keys.items():
        node = cfg.INPUT.CROP if key.startswith("CROP_") else cfg.INPUT
        setattr(node, key.removeprefix("CROP_"), value)
    return cfg


def augment(cfg, image, labels, seed=0):
    np.random.seed(seed)
    aug_input = T.AugInput(image, sem_seg=labels)
    T.AugmentationList(build_sem_seg_train_aug(cfg))(aug_input)
    return aug_input.image, aug_input.sem_seg


@pytest.fixture
def image():
    return np.random.default_rng(3).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.fixture
def labels():
    return np.random.default_rng(4).integers(0, 5, (40, 60), dtype=np.uint8)


def test_brightness_then_contrast_by_hand():
    pixels = np.array([[[0, 100, 250]]], np.uint8)
    jitter = ColorJitterTransform("BGR", brightness=20, contrast=1.5)
    assert jitter.apply_image(pixels).tolist() == [[[30, 180, 255]]]
    darker = ColorJitterTransform("BGR", brightness=-30, contrast=0.5, contrast_last=True)
    assert darker.apply_image(pixels).tolist() == [[[0, 35, 110]]]


@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
def test_hue_and_saturation_against_colorsys(image_format):
    rgb = np.array([[[200, 60, 40], [30, 90, 220], [80, 160, 70]]], np.uint8)
    image = rgb if image_format == "RGB" else rgb[:, :, ::-1]
    jitter = ColorJitterTransform(image_format, saturation=0.5, hue=-18)
    result = jitter.apply_image(image)
    result = result if image_format == "RGB" else result[:, :, ::-1]
    for before, after in zip(rgb[0], result[0], strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(before / 255))
        expected = colorsys.hsv_to_rgb((hue - 18 / 180) % 1, saturation * 0.5, value)
        assert np.abs(np.array(expected) * 255 - after).max() <= 4  # OpenCV rounds H, S, V


def test_each_change_alone(image):
    """Arguments that are left out change nothing."""
    assert (ColorJitterTransform("BGR").apply_image(image) == image).all()
    changes = {"brightness": 20, "contrast": 1.5, "saturation": 0.5, "hue": 18}
    results = [image]
    for name, value in changes.items():
        results.append(ColorJitterTransform("BGR", **{name: value}).apply_image(image))
        assert all((results[-1] != other).any() for other in results[:-1])


def test_contrast_order_matters_only_with_clipping_or_hsv(image):
    first = ColorJitterTransform("BGR", contrast=1.4, saturation=1.5)
    last = ColorJitterTransform("BGR", contrast=1.4, saturation=1.5, contrast_last=True)
    assert (first.apply_image(image) != last.apply_image(image)).any()


def test_jitter_changes_nothing_but_the_image(image, labels):
    jitter = ColorJitterTransform("BGR", brightness=20)
    before = image.copy()
    jitter.apply_image(image)
    assert (image == before).all()
    assert jitter.apply_segmentation(labels) is labels
    assert jitter.apply_coords(np.array([[1.5, 2.5]])).tolist() == [[1.5, 2.5]]


def test_draws_cover_their_ranges_and_repeat_with_the_seed(image):
    def draw():
        np.random.seed(5)
        return [ColorAugSSD("BGR").get_transform(image) for _ in range(400)]

    first, second = draw(), draw()
    names = ("brightness", "contrast", "saturation", "hue", "contrast_last")
    for name, low, high, neutral in [
        ("brightness", -32, 32, 0),
        ("contrast", 0.5, 1.5, 1),
        ("saturation", 0.5, 1.5, 1),
        ("hue", -18, 18, 0),
    ]:
        drawn = np.array([getattr(t, name) for t in first], float)
        changed = drawn[drawn != neutral]
        assert 0.4 < len(changed) / len(drawn) < 0.6
        assert low <= changed.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < changed.max() <= high
    assert 0.4 < np.mean([t.contrast_last for t in first]) < 0.6
    key = [[getattr(t, name) for name in names] for t in first]
    assert key == [[getattr(t, name) for name in names] for t in second]


def test_both_ends_of_the_hues_are_drawn(image):
    np.random.seed(5)
    jitter = ColorAugSSD("BGR", hue_delta=2)
    assert {jitter.get_transform(image).hue for _ in range(200)} == {-2, -1, 0, 1, 2}


def test_crop_is_of_its_size_and_labels_follow_the_image(labels):
    image = np.repeat(labels[:, :, None] * 10, 3, axis=2)
    cfg = make_cfg(
        MIN_SIZE_TRAIN=(40,), CROP_ENABLED=True, CROP_TYPE="absolute", CROP_SIZE=[24, 32]
    )
    for seed in range(5):
        cropped, cropped_labels = augment(cfg, image, labels, seed)
        assert cropped.shape == (24, 32, 3)
        assert (cropped[:, :, 0] == cropped_labels * 10).all()


def test_one_class_does_not_fill_the_crop():
    labels = np.zeros((64, 128), np.uint8)
    labels[:, 90:] = 1
    image = np.zeros((64, 128, 3), np.uint8)
    keys = {"MIN_SIZE_TRAIN": (64,), "CROP_ENABLED": True, "CROP_TYPE": "absolute"}
    keys |= {"CROP_SIZE": [32, 32], "RANDOM_FLIP": "none"}

    def share_filled(max_area):
        cfg = make_cfg(CROP_SINGLE_CATEGORY_MAX_AREA=max_area, **keys)
        return np.mean([(augment(cfg, image, labels, s)[1] == 0).mean() > 0.8 for s in range(30)])

    assert share_filled(0.8) < 0.2 < 0.5 < share_filled(1.0)


def test_ignored_category_comes_from_the_config():
    cfg = make_cfg(CROP_ENABLED=True, CROP_TYPE="absolute", CROP_SIZE=[32, 32])
    cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = 7
    augs = build_sem_seg_train_aug(cfg)
    assert augs[1].ignored_category == 7
    assert augs[-1].label_value == 7


def test_crop_larger_than_the_image_is_padded(image, labels):
    cfg = make_cfg(
        MIN_SIZE_TRAIN=(40,), CROP_ENABLED=True, CROP_TYPE="absolute", CROP_SIZE=[64, 32]
    )
    padded, padded_labels = augment(cfg, image, labels)
    assert padded.shape == (64, 32, 3)
    assert padded_labels.shape == (64, 32)
    assert (padded_labels[40:] == 255).all()
    assert (padded_labels[:40] < 5).all()
    assert (padded[40:] == np.rint(cfg.MODEL.PIXEL_MEAN)).all()


@pytest.mark.parametrize("size", [(40, 60), (30, 80), (50, 20), (30, 20)])
def test_larger_sides_are_not_padded(image, size):
    padded = PadToSize(size, (0, 0, 0), 255).get_transform(image).apply_image(image)
    assert padded.shape == (max(size[0], 40), max(size[1], 60), 3)
    assert (padded[:40, :60] == image).all()


@pytest.mark.parametrize(
    ("enabled", "kind", "size"),
    [
        (False, "absolute", [64, 96]),
        (True, "absolute_range", [64, 96]),
        (True, "relative", [0.5, 1.0]),
        (True, "relative_range", [1, 0.5]),
        (True, "absolute_range", [1, 1]),
    ],
)
def test_other_crops_are_not_padded(image, labels, enabled, kind, size):
    cfg = make_cfg(
        MIN_SIZE_TRAIN=(40,), CROP_ENABLED=enabled, CROP_TYPE=kind, CROP_SIZE=size, FORMAT="RGB",
        COLOR_AUG_SSD=True,
    )  # fmt: skip
    cropped, cropped_labels = augment(cfg, image, labels)
    assert cropped.shape[:2] == cropped_labels.shape and (cropped_labels < 5).all()
    assert cropped.shape[0] <= 40 and cropped.shape[1] <= 60


def test_padding_is_not_colour_jittered(image, labels):
    cfg = make_cfg(COLOR_AUG_SSD=True, CROP_ENABLED=True, CROP_TYPE="absolute", CROP_SIZE=[64, 96])
    for seed in range(6):
        padded, _ = augment(cfg, image, labels, seed)
        assert (padded[48:] == np.rint(cfg.MODEL.PIXEL_MEAN)).all()


def test_padding_of_float_images_and_its_inverse():
    image = np.ones((2, 3, 3), np.float32)
    pad = PadToSize((4, 3), (0.25, 0.5, 0.75), 255).get_transform(image)
    padded = pad.apply_image(image)
    assert padded.dtype == np.float32
    assert padded[3, 0].tolist() == [0.25, 0.5, 0.75]
    assert (pad.inverse().apply_image(padded) == image).all()


@pytest.mark.parametrize("flip", ["none", "horizontal", "vertical"])
def test_flip_follows_the_config(flip, image, labels):
    cfg = make_cfg(MIN_SIZE_TRAIN=(40,), RANDOM_FLIP=flip)
    candidates = {
        "none": image,
        "horizontal": image[:, ::-1],
        "vertical": image[::-1],
    }
    seen = set()
    for seed in range(12):
        flipped, _ = augment(cfg, image, labels, seed)
        seen |= {name for name, candidate in candidates.items() if (flipped == candidate).all()}
    assert seen == {"none", flip}


def test_jitter_needs_a_colour_format():
    with pytest.raises(InputError, match=r"INPUT.FORMAT is 'L'.*'BGR' or 'RGB'"):
        build_sem_seg_train_aug(make_cfg(COLOR_AUG_SSD=True, FORMAT="L"))


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        ("centre", [4, 4], "INPUT.CROP.TYPE is 'centre'; known are 'relative'"),
        *(
            (kind, size, "takes two fractions above 0 and up to 1")
            for kind in ("relative", "relative_range")
            for size in ([512, 1024], [0, 0.5], [0.5, 1.1], [0.5], [0.5, 0.5, 0.5])
        ),
        *(
            (kind, size, "takes two whole numbers of pixels")
            for kind in ("absolute", "absolute_range")
            for size in ([0.5, 0.5], [0, 64], [64, -1], [64.5, 64], [64], [64, 64, 64])
        ),
    ],
)
def test_impossible_crops_are_refused(kind, size, message):
    with pytest.raises(InputError, match=message):
        build_sem_seg_train_aug(make_cfg(CROP_ENABLED=True, CROP_TYPE=kind, CROP_SIZE=size))
