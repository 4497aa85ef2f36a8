"""`Predictor` against Detectron2's `DefaultPredictor`, and its other inputs and options."""

import numpy as np
import pytest
import tifffile
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import DefaultPredictor
from PIL import Image

import pointrend_seg
from pointrend_seg.data import input_size
from pointrend_seg.engine.trainer import Trainer
from pointrend_seg.errors import InputError
from pointrend_seg.prediction import Predictor
from pointrend_seg.structures import ClassMap, RleMasks
from small_configs import small_instance_cfg, small_semantic_cfg

SIZES = ("INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 128)


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """Make two configs with weights of random models."""
    found = {}
    for name, make in (("semantic", small_semantic_cfg), ("instance", small_instance_cfg)):
        cfg = make(4, (*SIZES, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "DATASETS.TEST", "()"))
        cfg.DATASETS.TRAIN = ()
        torch.manual_seed(3)
        path = tmp_path_factory.mktemp(name) / "weights.pth"
        torch.save({"model": Trainer.build_model(cfg).state_dict()}, path)
        cfg.MODEL.WEIGHTS = str(path)
        found[name] = cfg
    return found


@pytest.fixture
def image():
    """Make a BGR image of 50 x 90 pixels."""
    return np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)


def same(a, b):
    if "sem_seg" in a:
        return torch.equal(a["sem_seg"], b["sem_seg"])
    a, b = a["instances"], b["instances"]
    fields = ("scores", "pred_classes", "pred_masks")
    boxes = torch.equal(a.pred_boxes.tensor, b.pred_boxes.tensor)
    return len(a) > 0 and boxes and all(torch.equal(a.get(f), b.get(f)) for f in fields)


@pytest.mark.parametrize("name", ["semantic", "instance"])
@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_results_equal_the_default_predictor(configs, image, name, order):
    """The model is trained on `order`; both predictors get BGR."""
    cfg = configs[name].clone()
    cfg.INPUT.FORMAT = order
    theirs, ours = DefaultPredictor(cfg), Predictor(cfg)
    assert same(theirs(image), ours(image))
    assert same(theirs(image[::-1]), ours(image[::-1]))  # a view
    for attribute in ("cfg", "model", "metadata", "aug", "input_format"):
        assert hasattr(ours, attribute)


@pytest.mark.parametrize("name", ["semantic", "instance"])
def test_all_image_types_give_the_same_result(configs, image, name, tmp_path):
    predictor = Predictor(configs[name])
    expected = predictor(image)
    rgb = np.ascontiguousarray(image[:, :, ::-1])
    alpha = np.dstack([image, np.full(image.shape[:2], 7, np.uint8)])
    Image.fromarray(rgb).save(tmp_path / "image.png")
    forms = [
        Image.fromarray(rgb),
        Image.fromarray(rgb).convert("RGBA"),
        torch.from_numpy(image).permute(2, 0, 1),
        alpha,
        tmp_path / "image.png",
        str(tmp_path / "image.png"),
    ]
    for form in forms:
        assert same(predictor(form), expected)
    assert same(Predictor(configs[name], channel_order="RGB")(rgb), expected)


def test_gray_images(configs, image):
    predictor = Predictor(configs["semantic"])
    gray = image[:, :, 0]
    expected = predictor(np.dstack([gray] * 3))
    for form in (gray, gray[:, :, None], Image.fromarray(gray)):
        assert same(predictor(form), expected)


def test_exif_orientation(configs, image, tmp_path):
    turned = Image.fromarray(image)
    exif = turned.getexif()
    exif[0x0112] = 6  # a quarter turn
    turned.save(tmp_path / "turned.png", exif=exif)
    predictor = Predictor(configs["semantic"])
    upright = np.ascontiguousarray(np.rot90(image, -1)[:, :, ::-1])
    assert same(predictor(tmp_path / "turned.png"), predictor(upright))
    assert same(predictor(Image.open(tmp_path / "turned.png")), predictor(upright))


@pytest.mark.parametrize("name", ["semantic", "instance"])
def test_several_images(configs, image, name):
    images = [image, image[:, ::-1], image[::-1]]
    predictor = Predictor(configs[name])
    single = [predictor(each) for each in images]
    assert all(map(same, predictor(images), single))
    assert predictor([]) == []
    batched = Predictor(configs[name], batch_size=2)(images)
    assert len(batched) == 3
    for a, b in zip(batched, single, strict=True):  # equal but for rounding
        if name == "semantic":
            assert torch.allclose(a["sem_seg"], b["sem_seg"], atol=1e-3)
        else:
            assert torch.allclose(a["instances"].scores, b["instances"].scores, atol=1e-4)


def test_options(configs, image):
    cfg = configs["instance"]
    scores = Predictor(cfg)(image)["instances"].scores
    least = float(scores.median())
    kept = Predictor(cfg, confidence=least)(image)["instances"].scores
    assert len(kept) == (scores > least).sum()
    predictor = Predictor(cfg, max_size=40)
    assert max(predictor.prepare(image)["image"].shape) <= 40
    assert predictor(image)["instances"].image_size == (50, 90)
    assert cfg.INPUT.MAX_SIZE_TEST == 128  # the caller's is left as it was
    cfg = cfg.clone()
    cfg.freeze()
    changed = Predictor(cfg, opts=("TEST.DETECTIONS_PER_IMAGE", 2))
    assert len(changed(image)["instances"]) == 2 and cfg.is_frozen()
    assert changed.classes.names == ("class 0", "class 1", "class 2", "class 3")


@pytest.mark.parametrize(
    ("test", "train", "expected"), [((0, 1), (2,), 0), ((), (2, 1), 2), ((), (), None)]
)
def test_metadata_and_classes_are_those_of_the_test_set(configs, registered, test, train, expected):
    names = [
        registered(f"predictor_of_the_tests_{k}", thing_classes=[f"{k}{i}" for i in range(4)])
        for k in range(3)
    ]
    cfg = configs["instance"].clone()
    cfg.DATASETS.TEST, cfg.DATASETS.TRAIN = (
        tuple(names[k] for k in each) for each in (test, train)
    )
    predictor = Predictor(cfg)
    if expected is None:
        assert predictor.classes.names[0] == "class 0"
    else:
        assert predictor.metadata.name == names[expected]
        assert predictor.classes.names[0] == f"{expected}0"


def test_a_config_object_is_prepared_as_a_file_is(configs, monkeypatch):
    """Its device is one that is there, and the user's own data set says the classes."""
    cfg = configs["instance"].clone()
    name, names = "predictor_of_the_tests", ["a", "b", "c", "d"]
    cfg.DATASETS.CUSTOM = [{"name": name, "images": "i", "annotations": "a.json", "classes": names}]
    cfg.DATASETS.TEST, cfg.MODEL.DEVICE = (name,), "cuda"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    try:
        predictor = Predictor(cfg, confidence=1)
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    assert predictor.classes.names == tuple(names)
    assert predictor.cfg.MODEL.DEVICE == "cpu" and cfg.MODEL.DEVICE == "cuda"
    assert predictor.cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST == 1


@pytest.mark.parametrize(
    ("given", "key"), [("box", -1), (1, 1), ("448", 448), (None, 56), (28, 28)]
)
def test_limits_that_just_pass(configs, given, key):
    cfg = configs["instance"].clone()
    cfg.MODEL.POINT_HEAD.MASK_RESOLUTION = 56
    predictor = Predictor(cfg, max_size=32, mask_resolution=given)
    found = predictor.cfg.MODEL.POINT_HEAD.MASK_RESOLUTION, predictor.cfg.INPUT.MAX_SIZE_TEST
    assert found == (key, 32)


@pytest.mark.parametrize(
    ("min_size", "max_size", "seen"),
    [
        (0, None, (50, 90)),  # 0 is Detectron2's "as it is"
        (0, 45, (25, 45)),
        (40, 1000, (40, 72)),  # a limit, not a size
        (1000, 45, (25, 45)),
    ],
)
def test_model_input_size(configs, image, min_size, max_size, seen):
    cfg = configs["semantic"].clone()
    cfg.INPUT.MIN_SIZE_TEST = min_size
    inputs = Predictor(cfg, max_size=max_size).prepare(image)
    assert inputs["image"].shape == (3, *seen)
    assert (inputs["height"], inputs["width"]) == (50, 90)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (0, np.float32),
        (255, np.float64),
        (1.5, np.float16),
        (255, np.int64),
        (1, np.uint16),
        (0, np.int8),
    ],
)
def test_values_of_every_type(configs, value, kind):
    """Black and white images are none of the mistakes below."""
    seen = Predictor(configs["semantic"]).prepare(np.full((4, 5, 3), value, kind))["image"]
    assert seen.dtype == torch.float32 and (seen - value).abs().max() < 1e-3


def test_what_holds_more_than_8_bits_is_scaled_alike(configs, tmp_path):
    """A file, its array, tensor and PIL image are one input; so are views and big-endian."""
    values = np.random.default_rng(0).integers(0, 200, (24, 36), dtype=np.uint16)
    color = np.stack([values, values // 2, values + 90], axis=2)
    predictor = Predictor(configs["semantic"], channel_order="RGB")
    tifffile.imwrite(tmp_path / "a.tif", values)
    tifffile.imwrite(tmp_path / "c.tif", color, photometric="rgb")
    for name, array in (("a.tif", values), ("c.tif", color)):
        expected = predictor.rgb_pixels(tmp_path / name)
        assert expected.max() == 255 and expected.min() == 0
        same = [array, array.astype(">u2"), array.astype(np.int32), array.astype(np.uint32)]
        same += [np.ascontiguousarray(array[::-1])[::-1]]
        if array.ndim == 3:
            same += [torch.from_numpy(array.transpose(2, 0, 1).astype(np.int16))]
            same += [np.dstack([array, np.full((24, 36), 65535, np.uint16)])]  # alpha
        else:
            same += [Image.open(tmp_path / name), array[:, :, None]]
            same += [Image.fromarray(array.astype(np.float32))]
        for each in same:
            assert np.array_equal(predictor.rgb_pixels(each), expected)


def test_arrays_of_floats(configs, tmp_path):
    """They are 0 to 255, as `DefaultPredictor` takes them, unless a range is given."""
    values = np.random.default_rng(0).normal(0.5, 0.2, (24, 36)).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values)
    for rule in ("percentile", "full", "-1..2"):
        predictor = Predictor(configs["semantic"], pixel_range=rule)
        expected = predictor.rgb_pixels(tmp_path / "a.tif")
        assert np.array_equal(predictor.rgb_pixels(values), expected)
        tensor = torch.from_numpy(values)[None].expand(3, -1, -1)
        assert np.array_equal(predictor.rgb_pixels(tensor), expected)
    plain = Predictor(configs["semantic"])
    bright = (values.clip(0, 1) * 255).astype(np.float32)
    assert plain.rgb_pixels(bright).dtype == np.float32
    assert np.array_equal(plain.rgb_pixels(bright)[:, :, 0], bright)
    with pytest.raises(InputError, match=r"scales it"):
        plain.prepare(values * 1000)
    with pytest.raises(InputError, match="INPUT.PIXEL_RANGE is 'half'; it must be 'percentile'"):
        Predictor(configs["semantic"], pixel_range="half")


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (np.zeros((4, 5, 2), np.uint8), r"an array of shape \(4, 5, 2\)"),
        (np.zeros((0, 5, 3), np.uint8), r"an array of shape \(0, 5, 3\)"),
        (np.full((4, 5, 3), 0.5), r"values from 0.5 to 0.5 \(multiply it by 255\)"),
        (np.full((4, 5, 3), 300), "values from 300 to 300"),
        (np.full((4, 5, 3), np.nan), "values from nan"),
        (np.zeros((4, 5, 3), bool), "an array of bool"),
        (np.zeros((4, 5, 3), np.complex64), "an array of complex64"),
        (np.zeros((4, 5, 3), object), "an array of object"),
        (np.full((4, 5, 3), -1), "values from -1 to -1"),
        (np.full((4, 5, 3), 255.5), "values from 255.5 to 255.5"),
        (np.ones((4, 5, 3)), r"values from 1 to 1 \(multiply it by 255\)"),
        (np.zeros(4, np.uint8), r"an array of shape \(4,\)"),
        (np.zeros((2, 4, 3, 3), np.uint8), r"an array of shape \(2, 4, 3, 3\)"),
        (torch.zeros(3, 4), r"a tensor of shape \(3, 4\)"),
        (torch.zeros(4, 5, 3), r"a tensor of shape \(4, 5, 3\)"),
        ({"image": 1}, "a dict"),
        ("gone.jpg", "image gone.jpg does not exist"),
    ],
)
def test_invalid_images(configs, wrong, text):
    with pytest.raises(InputError, match=text):
        Predictor(configs["semantic"]).prepare(wrong)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"channel_order": "GBR"}, "must be 'BGR' or 'RGB', not 'GBR'"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"confidence": 1.01}, "from 0 to 1"),
        ({"confidence": -0.01}, "from 0 to 1"),
        ({"confidence": 50}, "from 0 to 1, not 50"),
        ({"max_size": 31}, "at least 32 pixels, not 3"),
        ({"mask_resolution": "large"}, "or 'box', not 'large'"),
        ({"mask_resolution": 0}, "or 'box', not 0"),
        ({"mask_resolution": -1}, "or 'box', not -1"),
        ({"mask_resolution": 1.5}, "or 'box', not 1.5"),
        ({"scale": 0.5, "max_size": 64}, "a scale or a maximum size, not both"),
        ({"scale": -3}, "INPUT.SCALE_TEST is -3.0"),
        ({"tile": 63}, "TEST.TILES.SIZE is 63; it must be 64 to 65536 or 0"),
        ({"tile": 128, "overlap": 65}, "OVERLAP is 65, more than half of TEST.TILES.SIZE, 128"),
        ({"weights": "gone.pth"}, "There are no weights at gone.pth"),
        ({"opts": ("INPUT.FORMAT", "L")}, "INPUT.FORMAT must be 'BGR' or 'RGB', not 'L'"),
    ],
)
def test_arguments(configs, arguments, text):
    with pytest.raises(InputError, match=text):
        Predictor(configs["semantic"], **arguments)


def test_it_is_a_public_name():
    assert pointrend_seg.Predictor is Predictor
    with pytest.raises(AttributeError):
        pointrend_seg.Nothing  # noqa: B018


# --- scale and tiles ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["semantic", "instance"])
def test_tiles(configs, name):
    """Images that fit into one tile are as ever; of others the memory stays small."""
    cfg = configs[name].clone()
    cfg.INPUT.MIN_SIZE_TEST = 0
    image = np.random.default_rng(1).integers(0, 256, (100, 150, 3), dtype=np.uint8)
    whole, tiled = Predictor(cfg), Predictor(cfg, tile=64, overlap=16, batch_size=4)
    assert same(whole(image[:64, :64]), tiled(image[:64, :64]))
    large, small = tiled([image, image[:64, :64]])
    assert same(small, whole(image[:64, :64]))
    if name == "semantic":
        found = large["sem_seg"]
        assert isinstance(found, ClassMap) and found.shape == (4, 100, 150)
        assert (found.argmax(0) == whole(image)["sem_seg"].argmax(0)).float().mean() > 0.5
    else:
        found = large["instances"]
        assert isinstance(found.pred_masks, RleMasks) and found.pred_masks.shape[1:] == (100, 150)
        assert len(found) > 20  # the limit holds for each tile
        assert found.pred_boxes.tensor[:, 2].max() > 128


@pytest.mark.parametrize("name", ["semantic", "instance"])
def test_a_tile_is_seen_as_an_image_of_its_own_is(configs, image, name):
    """At the scale that is asked for, resized like any image."""
    cfg = configs[name].clone()
    predictor = Predictor(cfg, tile=64, overlap=0, scale=0.5)
    seen = []
    predictor.model.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[0]))
    image = np.concatenate([image, image], axis=1)  # 50 x 180
    predictor(image)
    assert [(each["height"], each["width"]) for each in seen] == [(50, 128)] * 2
    alone = Predictor(cfg, scale=0.5).prepare(image[:, :128])["image"]
    assert torch.equal(seen[0]["image"], alone) and alone.shape == (3, 25, 64)


@pytest.mark.parametrize(
    ("keys", "options", "seen"),
    [
        ((1.0, 1.0, 1.0), {}, (50, 90)),
        ((1.0, 1.0, 1.0), {"scale": 2}, (100, 180)),
        ((1.0, 1.0, 1.0), {"max_size": 45}, (16, 29)),
        ((1.0, 1.0, 1.0), {"opts": ("INPUT.MIN_SIZE_TEST", 25)}, (25, 45)),
        ((1.0, 1.0, 1.0), {"opts": ("INPUT.SCALE_TEST", -1)}, (16, 29)),
        ((1.0, 1.0, 4.0), {}, (16, 29)),  # photographs of any size
        ((), {}, (16, 29)),
    ],
)
def test_the_scale_of_training_is_kept(configs, image, keys, options, seen):
    cfg = configs["semantic"].clone()
    cfg.INPUT.TRAINED_SCALES, cfg.INPUT.MIN_SIZE_TEST = keys, 16
    predictor = Predictor(cfg, **options)
    assert predictor.prepare(image)["image"].shape == (3, *seen)


def test_what_is_unusual_is_said_once(configs, image, caplog):
    cfg = configs["instance"].clone()
    cfg.INPUT.TRAINED_SCALES = (1.0, 1.0, 1.0)
    predictor = Predictor(cfg, scale=0.4)
    for _ in range(2):
        predictor(image)
    small, limit = (
        record.getMessage() for record in caplog.records if record.name.startswith("pointrend_seg")
    )
    assert "shown to the model at scale 0.4, the training images were at 1: objects look" in small
    assert "2.5 times smaller than in training" in small and "--scale 1 " in small
    assert "has 20 detections, the most that TEST.DETECTIONS_PER_IMAGE 20 allows" in limit
    caplog.clear()
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.TRAINED_SIDE = 16, 32.0
    found = Predictor(cfg, confidence=0)(image)["instances"]
    assert "at scale 1, that of the training images, not 0.322" in caplog.text
    assert len(found) > 20  # there may be more objects than in training


def test_a_large_image_is_seen_in_tiles_by_itself(configs, caplog, monkeypatch):
    monkeypatch.setattr(input_size, "_LARGEST_WHOLE", 128 * 128)
    monkeypatch.setattr(input_size, "_AUTOMATIC_TILE", 128)
    monkeypatch.setattr(input_size, "_AUTOMATIC_OVERLAP", 32)
    cfg = configs["semantic"].clone()
    cfg.INPUT.TRAINED_SCALES = (1.0, 1.0, 1.0)
    found = Predictor(cfg)(np.zeros((150, 200, 3), np.uint8))["sem_seg"]
    assert isinstance(found, ClassMap)
    assert "An image is 200 x 150 (width x height) at scale 1: it is seen in tiles" in caplog.text
