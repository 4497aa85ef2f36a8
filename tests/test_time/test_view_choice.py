"""At which sizes test-time augmentation shows an image."""

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.modeling import DatasetMapperTTA
from PIL import Image

from pointrend_seg.config.checks import check_config
from pointrend_seg.data.input_size import PLAN, TestResize, at_own_size
from pointrend_seg.errors import InputError
from pointrend_seg.test_time.views import ViewChoice, check_augmentable, views
from small_configs import small_instance_cfg, small_semantic_cfg

DEFAULT = (400, 500, 600, 700, 800, 900, 1000, 1100, 1200)


def config(*opts):
    return small_instance_cfg(opts=opts)


def sizes(cfg, height, width):
    """The sizes of an image's views, by the choice of a config."""
    plan = TestResize.from_config(cfg).plan(height, width)
    scales = ViewChoice.from_config(cfg).view_scales(height, width, plan)
    return [(int(height * y + 0.5), int(width * x + 0.5)) for y, x in scales]


@pytest.mark.parametrize("size", [(480, 640), (640, 427), (33, 500), (500, 500), (1, 9), (7, 4001)])
def test_min_sizes_are_detectron2s(size):
    expected = [T.ResizeShortestEdge.get_output_shape(*size, side, 4000) for side in DEFAULT]
    assert sizes(config(), *size) == [(max(1, h), max(1, w)) for h, w in expected]


def test_own_min_sizes_count_whatever_the_model_sees_otherwise():
    opts = ("TEST.AUG.MIN_SIZES", (64, 96), "INPUT.MIN_SIZE_TEST", 256)
    assert sizes(config(*opts), 100, 200) == [(64, 128), (96, 192)]
    trained = ("INPUT.TRAINED_SCALES", (1.0, 1.0, 1.0))
    assert sizes(config(*opts, *trained), 100, 200) == [(64, 128), (96, 192)]
    assert sizes(config(*opts, "TEST.AUG.MAX_SIZE", 150), 100, 200) == [(64, 128), (75, 150)]


def test_default_sizes_are_not_for_models_that_see_other_ones():
    small = ("INPUT.MIN_SIZE_TEST", 256, "INPUT.MAX_SIZE_TEST", 512)
    assert sizes(config(*small), 128, 256) == [(192, 384), (256, 512), (320, 640)]


def test_factors_are_of_the_scale_that_is_kept():
    trained = ("INPUT.TRAINED_SCALES", (1.0, 1.0, 1.0))
    assert sizes(config(*trained), 512, 400) == [(384, 300), (512, 400), (640, 500)]
    scaled = ("INPUT.SCALE_TEST", 0.5, "TEST.AUG.SCALES", (1, 2.0))
    assert sizes(config(*scaled), 512, 400) == [(256, 200), (512, 400)]


def test_factors_are_limited_by_the_maximum_size_alone():
    opts = ("INPUT.MIN_SIZE_TEST", 0, "TEST.AUG.SCALES", (0.001, 1.0, 5.0))
    assert sizes(config(*opts, "TEST.AUG.MAX_SIZE", 1000), 100, 400) == [
        (1, 1),
        (100, 400),
        (250, 1000),
    ]


def test_a_factor_of_1_is_the_size_without_augmentation():
    cfg = config("TEST.AUG.SCALES", (1.0,))
    for height, width in np.random.default_rng(0).integers(1, 3000, (300, 2)).tolist():
        plan = TestResize.from_config(cfg).plan(height, width)
        assert sizes(cfg, height, width) == [(plan.height, plan.width)]


def test_views_are_those_of_detectron2():
    """The images of its own mapper, in its order."""
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (3, 60, 83), np.uint8))
    cfg = config("TEST.AUG.MIN_SIZES", (40, 96), "TEST.AUG.MAX_SIZE", 120)
    plan = TestResize.from_config(at_own_size(cfg)).plan(60, 83)
    scales = ViewChoice.from_config(cfg).view_scales(60, 83, plan)
    plan = plan.__class__(60, 83, 1, 1, view_scales=scales)
    record = {"image": image, "height": 60, "width": 83}
    theirs = DatasetMapperTTA(cfg)(record)
    ours = [*views({**record, PLAN: plan}, flip=True)]
    assert len(ours) == len(theirs) == 4
    for view, expected in zip(ours, theirs, strict=True):
        assert torch.equal(view.inputs["image"], expected["image"].float())
        assert view.is_flipped == any(
            type(t).__name__ == "HFlipTransform" for t in expected["transforms"].transforms
        )
    assert [view.is_flipped for view in views({**record, PLAN: plan}, flip=False)] == [False] * 2
    first = next(views({**record, PLAN: plan}, flip=True, largest_first=True))
    assert first.inputs["image"].shape == (3, 87, 120)


def test_channels_that_are_reversed_are_turned_back():
    image = torch.arange(3 * 4 * 5, dtype=torch.uint8).view(3, 4, 5)
    plan = TestResize(0, 0).plan(4, 5)
    plan = plan.__class__(4, 5, 1, 1, view_scales=((2.0, 2.0),))
    record = {"image": image, "image_is_reversed": True, "height": 4, "width": 5, PLAN: plan}
    (view,) = views(record, flip=False)
    pixels = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((10, 8), Image.BILINEAR)
    assert np.array_equal(view.inputs["image"].permute(1, 2, 0).numpy()[:, :, ::-1], pixels)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MIN_SIZES", ()),
        ("MIN_SIZES", (0,)),
        ("MIN_SIZES", (400, -1)),
        ("MIN_SIZES", (400.5,)),
        ("MAX_SIZE", 0),
        ("SCALES", (0.0,)),
        ("SCALES", (-1.0,)),
        ("SCALES", (1.0, 1000.0)),
        ("SCALES", (float("nan"),)),
        ("FLIP", 1),
    ],
)
def test_wrong_values_are_named(key, value):
    cfg = config()
    cfg.TEST.AUG[key] = value
    for check in (check_augmentable, check_config):
        with pytest.raises(InputError, match=rf"TEST\.AUG\.{key} is .*; it must be "):
            check(cfg)


def test_sizes_and_factors_are_not_both_given():
    cfg = config("TEST.AUG.MIN_SIZES", (400,), "TEST.AUG.SCALES", (1.0,))
    with pytest.raises(InputError, match="give sizes or factors, not both"):
        check_augmentable(cfg)


def test_configs_without_keys_of_this_package_are_read():
    cfg = config()
    del cfg.TEST.AUG["SCALES"], cfg.INPUT["SCALE_TEST"], cfg.TEST["TILES"]
    assert ViewChoice.from_config(cfg).factors == ()


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("MODEL.META_ARCHITECTURE", "PanopticFPN"), "META_ARCHITECTURE is PanopticFPN"),
        (("MODEL.META_ARCHITECTURE", "RetinaNet"), "META_ARCHITECTURE is RetinaNet"),
        (("MODEL.META_ARCHITECTURE", "Unknown"), "META_ARCHITECTURE is Unknown"),
        (("MODEL.KEYPOINT_ON", True), r"MODEL\.KEYPOINT_ON True"),
        (("MODEL.LOAD_PROPOSALS", True), r"MODEL\.LOAD_PROPOSALS True"),
    ],
)
def test_models_that_are_not_known_are_refused(opts, message):
    with pytest.raises(InputError, match=f"Test-time augmentation .*{message}.* Leave out --tta"):
        check_augmentable(config(*opts))


@pytest.mark.parametrize("cfg", [small_instance_cfg(), small_semantic_cfg()])
def test_both_tasks_are_known(cfg):
    check_augmentable(cfg)


@pytest.mark.parametrize(
    ("opts", "expected"),
    [
        (
            ("INPUT.MIN_SIZE_TEST", 256),
            "at 0.75, 1, 1.25 times the usual size, each also mirrored.",
        ),
        (
            ("INPUT.MIN_SIZE_TEST", 100, "TEST.AUG.MIN_SIZES", (50, 150), "TEST.AUG.FLIP", False),
            "at 0.5, 1.5 times the usual size.",
        ),
        (
            ("INPUT.MIN_SIZE_TEST", 100, "TEST.AUG.MIN_SIZES", (200, 300)),
            "at 2, 3 times the usual size, each also mirrored. These sizes, TEST.AUG.MIN_SIZES, "
            "are all larger or all smaller than what the model was trained for; TEST.AUG.SCALES "
            "takes factors of it.",
        ),
    ],
)
def test_what_is_used_is_said(opts, expected):
    cfg = config(*opts)
    plan = TestResize.from_config(cfg).plan(200, 200)
    choice = ViewChoice.from_config(cfg)
    assert choice.describe(choice.view_scales(200, 200, plan), plan) == expected
