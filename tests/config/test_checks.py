"""Values of Detectron2's keys and ours are checked once, and nothing that works is refused."""

import glob
import os
from importlib.util import find_spec

import detectron2
import pytest

from pointrend_seg import InputError, adopt_config
from pointrend_seg.config.checks import check_config
from pointrend_seg.config.detectron2_keys import _RULES, detectron2_keys
from pointrend_seg.config.errors import check_tree
from pointrend_seg.config.keys import KEYS
from pointrend_seg.config.tree import value_of
from pointrend_seg.engine import load_config
from pointrend_seg.prediction import Predictor
from small_configs import small_instance_cfg, small_semantic_cfg

ZOO = os.path.join(os.path.dirname(detectron2.__file__), "model_zoo", "configs")
OURS = os.path.join(os.path.dirname(__file__), "..", "..", "configs")


def test_every_config_of_detectron2_and_of_ours_is_accepted():
    files = [f for folder in (ZOO, OURS) for f in glob.glob(f"{folder}/**/*.yaml", recursive=True)]
    assert len(files) > 60
    for file in files:
        if "lite0" in file and find_spec("timm") is None:
            continue  # whose normalisation is that of timm's model
        check_config(load_config(file, ["MODEL.DEVICE", "cpu"]))


def test_every_default_is_allowed_and_every_rule_has_a_key():
    for key in (*detectron2_keys().values(), *KEYS.values()):
        key.check(key.default)
    assert _RULES.keys() <= detectron2_keys().keys()


BAD = [
    ("SOLVER.BASE_LR", -1.0, "SOLVER.BASE_LR is -1.0; it must be 0 or more."),
    ("SOLVER.BASE_LR", float("nan"), "is nan; it must be 0 or more"),
    ("SOLVER.BASE_LR", float("inf"), "is inf; it must be"),
    ("SOLVER.BASE_LR", None, "is None; it must be"),
    ("SOLVER.IMS_PER_BATCH", 0, "is 0; it must be 1 to"),
    ("SOLVER.CHECKPOINT_PERIOD", 0, "is 0; it must be 1 or more"),
    ("SOLVER.STEPS", (5, 3), "a list of whole numbers of 1 or more, in ascending order"),
    ("SOLVER.STEPS", ("a",), "a list of whole numbers"),
    ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "foo", "it must be 'value' or 'norm'"),
    ("DATALOADER.NUM_WORKERS", -1, "is -1; it must be 0 to 1024"),
    ("DATALOADER.SAMPLER_TRAIN", "foo", "'TrainingSampler' or"),
    ("MODEL.RESNETS.DEPTH", 19, "MODEL.RESNETS.DEPTH is 19; it must be 18, 34, 50, 101 or 152"),
    ("MODEL.RESNETS.NORM", "foo", "is 'foo'; it must be '' or 'BN'"),
    ("MODEL.BACKBONE.FREEZE_AT", 9, "MODEL.BACKBONE.FREEZE_AT is 9"),
    ("MODEL.PIXEL_MEAN", [1.0, 2.0], "has 2 number(s) and MODEL.PIXEL_STD 3"),
    ("MODEL.PIXEL_STD", [1.0, 0.0, 1.0], "each above 0"),
    ("MODEL.RPN.IOU_THRESHOLDS", [0.7, 0.3], "in ascending order"),
    ("MODEL.RPN.IOU_THRESHOLDS", [2.0], "above 0 and up to 1"),
    ("MODEL.RPN.IOU_LABELS", [0, 1], "MODEL.RPN.IOU_LABELS has 2 labels, but 2 threshold(s)"),
    ("MODEL.ROI_HEADS.NUM_CLASSES", 0, "is 0; it must be 1 to"),
    ("MODEL.ROI_HEADS.NMS_THRESH_TEST", 5.0, "is 5.0; it must be 0 to 1"),
    ("MODEL.ANCHOR_GENERATOR.SIZES", [[]], "a list of numbers above 0, or of such lists"),
    ("INPUT.MIN_SIZE_TRAIN", (), "a list of one or more whole numbers, each 0 to 65536"),
    ("INPUT.MIN_SIZE_TRAIN_SAMPLING", "foo", "'choice' or 'range'"),
    ("INPUT.FORMAT", "XYZ", "'BGR' or 'RGB'"),
    ("INPUT.CROP.SIZE", [0, 0], "a list of 2 numbers, each above 0"),
    ("INPUT.POINT_SUP", 1, "it must be True or False"),
    ("INPUT.SAMPLE_POINTS", -1, "it must be 0 or more"),
    ("INPUT.SAMPLE_POINTS", 5, "but INPUT.POINT_SUP is False, so that no points are read"),
    ("DATASETS.TRAIN", [["a"]], "a list of names of data sets"),
    ("OUTPUT_DIR", "", "the path of a folder"),
    ("SEED", 2**40, "up to 4294967295"),
    ("MODEL.POINT_HEAD.IN_FEATURES", [], "a list of one or more strings"),
    ("MODEL.POINT_HEAD.NAME", {}, "is {}; it must be a string"),
    ("MODEL.RPN", None, "MODEL.RPN is None, but it has keys of its own"),
    ("MODEL", 7, "MODEL is 7, but it has keys of its own"),
]


@pytest.mark.parametrize(("key", "value", "text"), BAD)
def test_what_cannot_be_used_is_refused(key, value, text):
    cfg = small_instance_cfg()
    node, _, leaf = key.rpartition(".")
    (value_of(cfg, node) if node else cfg)[leaf] = value
    with pytest.raises(InputError) as caught:
        adopt_config(cfg)
    assert text in str(caught.value) and key.partition(".")[0] in str(caught.value)


@pytest.mark.parametrize("architecture", ["SemanticSegmentor", "PanopticFPN"])
def test_points_are_for_instance_models(architecture):
    opts = ["MODEL.DEVICE", "cpu", "MODEL.META_ARCHITECTURE", architecture]
    with pytest.raises(InputError, match=f"but MODEL.META_ARCHITECTURE is {architecture}"):
        load_config("", [*opts, "INPUT.POINT_SUP", "True"])
    opts = ["MODEL.DEVICE", "cpu", "INPUT.POINT_SUP", "True", "INPUT.SAMPLE_POINTS", "5"]
    assert load_config("", opts).INPUT.SAMPLE_POINTS == 5


@pytest.mark.parametrize(
    "opts",
    [
        ("DATASETS.TRAIN", "('a', 'a')"),  # twice as often
        ("SOLVER.STEPS", "(50000, 60000)"),  # beyond the end
        ("INPUT.MIN_SIZE_TRAIN", "(800.0, 900)"),
        ("SOLVER.WEIGHT_DECAY_BIAS", "0"),
        ("SOLVER.CLIP_GRADIENTS.NORM_TYPE", "1e999"),
        ("TEST.DETECTIONS_PER_IMAGE", "-1"),
        ("MODEL.ANCHOR_GENERATOR.SIZES", "[[32], [64, 128.5]]"),
        ("INPUT.FORMAT", "L"),  # whose one channel becomes three by the means
        ("MODEL.BACKBONE.NAME", "my_net", "MODEL.RESNETS.DEPTH", "26"),
    ],
)
def test_what_detectron2_works_with_is_accepted(opts):
    load_config("", list(opts))


@pytest.mark.parametrize(
    ("opts", "text"),
    [
        (("SEED.X", "1"), "There is no config key SEED.X: SEED is a value"),
        (("", "1"), "There is no config key ''"),
        (("MODEL.RPN", "5"), "MODEL.RPN has keys of its own, such as MODEL.RPN."),
        (("SOLVER.MAX_ITER", "{'A': 1}"), "SOLVER.MAX_ITER must be of type int"),
    ],
)
def test_pairs_of_the_wrong_shape(opts, text):
    with pytest.raises(InputError) as caught:
        load_config("", list(opts))
    assert text in str(caught.value)
    with pytest.raises(InputError) as caught:
        Predictor(small_semantic_cfg(), opts=opts)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ([1], "a.yaml is no config: expected lines of KEY: VALUE, but found [1], of type list"),
        (None, "found nothing"),
        ({1: 2}, "has the key 1, of type int"),
        ({"MODEL": {None: 2}}, "has the key None in MODEL, of type NoneType"),
        ({"SEED": {1, 2}}, "SEED in a.yaml is {1, 2}, of type set"),
    ],
)
def test_trees_of_the_wrong_shape(tree, text):
    with pytest.raises(InputError) as caught:
        check_tree(tree, "a.yaml")
    assert text in str(caught.value)
