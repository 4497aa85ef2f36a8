"""At which size a model sees an image: that of training is kept, photographs are resized."""

import numpy as np
import pytest
from detectron2.data import transforms as T
from PIL import Image

from pointrend_seg.data.input_size import (
    InputPlan,
    TestResize,
    add_plan,
    training_scales,
    with_training_scales,
)
from small_configs import small_instance_cfg

ONE = (1.0, 1.0, 1.0)
COCO = (1.1, 1.5, 2.4)  # images of many sizes, resized to one


def resize(min_size=256, max_size=384, **options):
    return TestResize(min_size, max_size, **options)


def records(*sizes):
    return [{"height": height, "width": width} for height, width in sizes]


@pytest.mark.parametrize("size", [(50, 90), (300, 400), (128, 128), (1000, 300), (256, 384)])
@pytest.mark.parametrize("min_size", [0, 64, 256])
@pytest.mark.parametrize(
    "options", [{}, {"trained_scales": COCO}, {"trained_scales": ONE, "scale": -1.0}]
)
def test_images_are_resized_as_detectron2_does(size, min_size, options):
    """Without scales of training, with varied ones, and where it is asked for."""
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    theirs = T.ResizeShortestEdge([min_size] * 2, 384).get_transform(image).apply_image(image)
    ours = resize(min_size, **options).get_transform(image).apply_image(image)
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("trained", "size", "scale"),
    [
        (ONE, (512, 512), 1),  # the usual would be 256 / 512
        (ONE, (64, 64), 1),  # 256 / 64
        ((0.75, 1.0, 1.25), (512, 512), 1),  # trained at several sizes
        ((2.0, 2.0, 2.0), (512, 512), 2),
        (ONE, (240, 240), 256 / 240),  # about the same: as Detectron2 does
        ((0.5, 1.0, 2.0), (512, 512), 0.5),
        (COCO, (3000, 3000), 256 / 3000),
    ],
)
def test_the_scale_of_training_is_kept(trained, size, scale):
    plan = resize(trained_scales=trained).plan(*size)
    assert plan.scale == pytest.approx(scale)
    assert (plan.height, plan.width) == tuple(round(side * scale) for side in size)
    assert plan.is_kept == (abs(scale - 256 / size[0]) > 1e-6)


def test_a_scale_that_is_asked_for_counts():
    plan = resize(trained_scales=ONE, scale=0.25).plan(400, 200)
    assert (plan.height, plan.width, plan.scale, plan.too_small) == (100, 50, 0.25, True)
    assert not resize(trained_scales=ONE, scale=0.5).plan(400, 200).too_small  # not below half
    assert not resize(scale=0.25).plan(400, 200).too_small  # nothing is known of the training


@pytest.mark.parametrize(
    ("options", "size", "tile"),
    [
        ({"trained_scales": ONE}, (2048, 2048), 0),
        ({"trained_scales": ONE}, (2048, 2049), 1024),
        ({"trained_scales": ONE, "scale": -1.0}, (6000, 6000), 0),
        ({"trained_scales": ONE, "min_size": 0}, (6000, 6000), 1024),
        ({}, (6000, 6000), 0),
        ({"scale": 1.0}, (6000, 6000), 1024),
        ({"tile": 128, "scale": 1.0}, (128, 129), 128),
        ({"tile": 128, "scale": 1.0}, (128, 128), 0),
        ({"tile": 300}, (6000, 6000), 0),  # it is resized to 256
    ],
)
def test_what_is_seen_in_tiles(options, size, tile):
    assert resize(**options).plan(*size).tile == tile


@pytest.mark.parametrize(
    ("options", "size", "factor"),
    [
        ({"trained_side": 128}, (512, 512), 16),
        ({"trained_side": 128}, (128, 200), 1),  # less than twice as many pixels
        ({"trained_side": 128, "tile": 256}, (512, 512), 4),
        ({"trained_side": 128, "scale": -1.0}, (512, 512), 1),
        ({}, (512, 512), 1),
    ],
)
def test_larger_inputs_may_have_more_objects(options, size, factor):
    assert resize(trained_scales=ONE, **options).plan(*size).limits == factor


def test_plans_are_added_where_they_are_special():
    usual, special = {}, {}
    augmentations = T.AugmentationList([resize(trained_scales=ONE)])
    add_plan(usual, augmentations, 256, 256)
    add_plan(special, augmentations, 512, 512)
    assert usual == {} and isinstance(special["input_plan"], InputPlan)


def test_scales_of_training():
    cfg = small_instance_cfg(2, ("INPUT.MIN_SIZE_TRAIN", (128,), "INPUT.MAX_SIZE_TRAIN", 192))
    assert training_scales(cfg, records((128, 128), (128, 160))) == ([1.0] * 3, 135.8)
    cfg.INPUT.MIN_SIZE_TRAIN = (64, 128)
    low, median, high = training_scales(cfg, records(*[(64, 64)] * 3, (32, 96)))[0]
    assert low == pytest.approx(1, abs=0.1) and high == 2
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.CROP.ENABLED = (0,), True
    cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = "absolute", (100, 100)
    assert training_scales(cfg, records((4000, 4000))) == ([1.0] * 3, 100)
    cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = "relative_range", (0.5, 0.5)
    assert training_scales(cfg, records((4000, 4000))) == ([1.0] * 3, 2000)
    assert training_scales(cfg, []) == ([], 0)


def test_scales_of_files_without_a_stated_size(tmp_path):
    Image.new("L", (80, 40)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"broken")
    cfg = small_instance_cfg(2, ("INPUT.MIN_SIZE_TRAIN", (20,)))
    found = [{"file_name": str(tmp_path / name)} for name in ("a.png", "b.png")]
    assert training_scales(cfg, found) == ([0.5] * 3, 28.3)


def test_a_config_states_the_scales_and_can_be_read_again(tmp_path):
    cfg = small_instance_cfg(2)
    cfg.freeze()
    stated = with_training_scales(cfg, [1.0, 1.0, 1.0], 128.0)
    assert stated.is_frozen() and tuple(cfg.INPUT.TRAINED_SCALES) == ()
    (tmp_path / "config.yaml").write_text(stated.dump())
    read = small_instance_cfg(2)
    read.merge_from_file(str(tmp_path / "config.yaml"))
    assert TestResize.from_config(read).plan(512, 512).scale == 1
