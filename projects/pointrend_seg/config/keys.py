"""List every config key of this package in one table; docs/configuration.md is written from it."""

import math
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

from detectron2.config import CfgNode as CN

from ..errors import InputError
from .pixel_range import PIXEL_RANGES, is_pixel_range
from .tree import value_of

# The config nodes of the point heads.
INSTANCE_NODE, SEMANTIC_NODE = "MODEL.POINT_HEAD", "MODEL.SEM_SEG_POINT_HEAD"
# Those of backbones from other libraries.
TIMM_NODE, TORCHVISION_NODE = "MODEL.TIMM", "MODEL.TORCHVISION"
# Limits that only mistakes reach: channels, layers, pixels.
WIDEST, DEEPEST, LARGEST_SIDE = 2**16, 1000, 2**16


_KINDS: dict[type, tuple[str, str]] = {
    bool: ("True or False", "values True or False"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a string", "strings"),
    dict: ("a dict", "dicts"),
}
_SIZED = (list, tuple, str)
_ANY_LENGTH = (0, math.inf)
_LARGEST = 2**63  # of PyTorch's integers
_SHOWN = 80  # characters of a value in a message


@dataclass(frozen=True)
class Key:
    """A config key, and the values that are allowed.

    The limits of a list's key are those of each item.

    Attributes:
        name: the key with its nodes, such as ``TEST.REPORT``.
        default: the default; every value has its type. A list may be a tuple, and a number with a
            fraction may be a whole one.
        help: the meaning, as in docs/configuration.md.
        least, most: the range of a number, ends included; ``least`` None: any number.
        above, below: ends of the range that are not included.
        also: numbers out of the range that are allowed, too.
        infinite: whether infinity is in the range; NaN never is.
        choices: the values that are allowed; empty: any of the type.
        kind: the type of a value, or of a list's items, where the default does not show it.
        lengths: the least and the greatest length of a list or string.
        optional: whether None is allowed.
        test: tells whether a value of the right type is allowed; ``words`` then say what is.
        words: the allowed values in words, where they do not follow from the rest.
    """

    name: str
    default: object
    help: str = ""
    least: float | None = None
    most: float = math.inf
    above: float | None = None
    below: float | None = None
    also: tuple[float, ...] = ()
    infinite: bool = False
    choices: tuple[str | int, ...] = ()
    kind: type | None = None
    lengths: tuple[int, float] = (0, math.inf)
    optional: bool = False
    test: Callable[[Any], bool] | None = None
    words: str = ""

    @property
    def allowed(self) -> str:
        """Return the allowed values in words; "" where the type is the only limit."""
        if self.words:
            return self.words
        one = " or ".join(map(repr, self.choices)) or self._range()
        if self._is_list and (one or self.lengths != _ANY_LENGTH):
            least, most = self.lengths
            count = f"a list of {least}" if least == most else "a list of one or more"
            one = f", each {one}" if one else ""
            return f"{count if least else 'a list of'} {self._items()}{one}"
        if not one and self.lengths[0]:
            one = "a string that is not empty"
        return f"{one} or None" if one and self.optional else one

    def check(self, value: Any) -> None:
        """Raise `InputError` unless a value has the key's type and is in range."""
        if self.accepts(value):
            return
        kind = f"a list of {self._items()}" if self._is_list else _KINDS[self._type or str][0]
        shown = repr(value)
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]} …"
        raise InputError(f"{self.name} is {shown}; it must be {self.allowed or kind}.")

    def accepts(self, value: Any) -> bool:
        """Return whether a value has the key's type and is in range."""
        if value is None:
            return self.optional
        values = value if self._is_list else [value]
        return (
            isinstance(values, list | tuple)
            and (self._type is None or all(map(self._accepts_one, values)))
            and (not isinstance(value, _SIZED) or self.lengths[0] <= len(value) <= self.lengths[1])
            and (self.test is None or self.test(value))
        )

    @property
    def _is_list(self) -> bool:
        return isinstance(self.default, list | tuple)

    @property
    def _type(self) -> type | None:
        """The type of a value, or of a list's items; None for any."""
        if self.kind is not None:
            return self.kind
        defaults = self.default if isinstance(self.default, list | tuple) else [self.default]
        kinds = {type(each) for each in defaults}
        return kinds.pop() if len(kinds) == 1 and kinds <= _KINDS.keys() else None

    def _items(self) -> str:
        return _KINDS[self._type][1] if self._type else "values"

    def _accepts_one(self, value: Any) -> bool:
        if self._type not in (int, float):
            is_dict = self._type is dict and isinstance(value, dict)
            is_allowed = not self.choices or value in self.choices
            return is_dict or (type(value) is self._type and is_allowed)
        if not isinstance(value, Real) or isinstance(value, bool) or value != value:
            return False
        # a list may have 800.0 for 800
        if self._type is int and not (isinstance(value, Integral) or self._is_list):
            return False
        if self._type is int and value % 1 != 0:
            return False
        if self.choices:
            return value in self.choices
        return value in self.also or self._is_in_range(value)

    def _is_in_range(self, value: Any) -> bool:
        return (
            (self.infinite or abs(value) < _LARGEST)
            and (self.least is None or self.least <= value)
            and (self.above is None or self.above < value)
            and (self.below is None or value < self.below)
            and value <= self.most
        )

    def _range(self) -> str:
        """Return the range of a number in words; "" for any."""
        low = "" if self.least is None else f"{self.least} or more"
        low = low if self.above is None else f"above {self.above}"
        if not low:
            return ""
        if self.below is not None:
            low += f" and below {self.below}"
        elif self.most < math.inf:
            low = f"{self.least} to {self.most}" if self.above is None else low
            low += f" and up to {self.most}" * (self.above is not None)
        return " or ".join([low, *map(str, self.also)])


# fmt: off
_POINT_HEAD = (
    Key("NAME", "PointMLP", "A name in POINT_HEAD_REGISTRY."),
    Key("IN_FEATURES", ("p2",),
        "Feature maps of the backbone that are read at the points, concatenated in this order.",
        lengths=(1, math.inf)),
    Key("FC_DIM", 256, "Width of the hidden layers.", least=1, most=WIDEST),
    Key("NUM_FC", 3, "Number of hidden layers.", least=0, most=DEEPEST),
    Key("COARSE_PRED_EACH_LAYER", True,
        "Give the coarse prediction to every layer of the MLP, not only to the first."),
    Key("CLS_AGNOSTIC_MASK", False,
        "One mask for all classes, coarse and fine (instance branch only)."),
    Key("SAMPLER", "ImportancePointSampler",
        "A name in POINT_SAMPLER_REGISTRY: how training points are chosen. The implicit head "
        "always draws them uniformly."),
    Key("TRAIN_NUM_POINTS", 14 * 14, "Training points per image, or per box.", least=1),
    Key("OVERSAMPLE_RATIO", 3, "The paper's k: candidates per training point.", least=1,
        most=1000),
    Key("IMPORTANCE_SAMPLE_RATIO", 0.75,
        "The paper's beta: the share of training points that are the most uncertain candidates; "
        "the rest are uniform.", least=0, most=1),
    Key("SUBDIVISION_STEPS", 5,
        "How often the resolution doubles in inference, from OUTPUT_SIDE_RESOLUTION: 7 * 2**5 = "
        "224. The implicit head starts from a grid of SUBDIVISION_NUM_POINTS, 28 * 28, and takes "
        "3.", least=0, most=20),
    Key("SUBDIVISION_NUM_POINTS", 28 * 28,
        "The most points that are predicted again at each subdivision step.", least=1),
    Key("PADDING_MODE", "zeros",
        "What is read beyond the edge of a feature map: zeros, as in Detectron2's PointRend, or "
        "the values at its border.", choices=("zeros", "border")),
    Key("LOSS_WEIGHT", 1.0, "Weight of the point loss.", least=0),
    Key("FAST_PATH", True,
        "Compute in the fast order. False: in the order of the paper and of Detectron2, whose "
        "results are then repeated to the last bit. In the training of semantic models and of the "
        "implicit head both are the same."),
)


_IMAGE_BACKBONE = (
    Key("OUT_FEATURES", ("res2", "res3", "res4", "res5"),
        "The feature maps of the backbone without an FPN, by their stride: res2 has 4, res5 has "
        "32. Later stages are not built. With an FPN: MODEL.FPN.IN_FEATURES.", kind=str,
        lengths=(1, math.inf)),
    Key("OUTPUT_STRIDE", 32,
        "Stride of the last stage; below 32 the stages that would halve the map again are dilated "
        "and keep their names. Only without an FPN, and only where the model has it.",
        choices=(8, 16, 32)),
    Key("DROP_PATH", 0.0, "Rate of stochastic depth in training.", least=0, below=1),
    Key("FREEZE_NORM", False,
        "Freeze all BatchNorm layers of the backbone: statistics and scales stay those of the "
        "weights. For pretrained weights and few images in a batch."),
    Key("INPUT_OF_WEIGHTS", True,
        "Set MODEL.PIXEL_MEAN, MODEL.PIXEL_STD and INPUT.FORMAT to what the model was trained "
        "with, where all three are Detectron2's defaults; the log says so. Other values are kept, "
        "with a warning if the model expects others. False: never."),
)


def _point_head(node: str) -> list[Key]:
    """Return the keys that both point heads have, as those of a node."""
    return [replace(key, name=f"{node}.{key.name}") for key in _POINT_HEAD]


_ROWS = (
    *_point_head(SEMANTIC_NODE),
    # In the place of the shared key of this name.
    Key(f"{SEMANTIC_NODE}.SUBDIVISION_STEPS", -1,
        "-1: as many as lead from the coarse head's stride to the image's own size. With fewer the "
        "rest is upsampled without points; more are refused.", least=-1, most=20),
    Key(f"{SEMANTIC_NODE}.COARSE_SEM_SEG_HEAD_NAME", "SemSegFPNHead",
        "The head that is refined: one that fits docs/coarse-heads.md."),
    Key(f"{SEMANTIC_NODE}.TRAIN_POINTS_PER_HEIGHT", 0.0,
        "Number of training points as a share of the image's height, e.g. 0.0625 for a sixteenth. "
        "0: TRAIN_NUM_POINTS of them.", least=0),
    Key(f"{SEMANTIC_NODE}.AVOID_IGNORED", False,
        "Draw no training points where the label is ignored, padding included."),
    Key("MODEL.SEM_SEG_HEAD.CLASS_WEIGHTS", (),
        "Weight of each class in both losses; of background and foreground in a binary model.",
        kind=float, least=0),
    Key("MODEL.SEM_SEG_HEAD.HEAD_CHANNELS", 256,
        "Width of the last convolutions of Panoptic-DeepLab's semantic head.", least=1,
        most=WIDEST),
    Key("MODEL.SEM_SEG_HEAD.LOSS_TOP_K", 0.2,
        "The share of the pixels, those with the highest loss, that the same head's loss "
        "averages.", above=0, most=1),
    *_point_head(INSTANCE_NODE),
    Key(f"{INSTANCE_NODE}.NUM_CLASSES", 80,
        "Not read: MODEL.ROI_HEADS.NUM_CLASSES is. Here so that Detectron2's configs load."),
    Key(f"{INSTANCE_NODE}.COARSE_SEM_SEG_HEAD_NAME", "SemSegFPNHead",
        "Not read. Here so that Detectron2's configs load."),
    Key(f"{INSTANCE_NODE}.MASK_RESOLUTION", 0,
        "Side of the masks in their boxes, in cells. 0: the coarse side (of the implicit head the "
        "root of SUBDIVISION_NUM_POINTS) times 2 ** SUBDIVISION_STEPS. -1: for each box the "
        "smallest such product that covers its longer side in pixels of the image that the model "
        "sees.", least=-1),
    Key("MODEL.ROI_MASK_HEAD.IN_FEATURES", ("p2",), "Feature maps that the coarse head reads.",
        lengths=(1, math.inf)),
    Key("MODEL.ROI_MASK_HEAD.FC_DIM", 1024, "Width of its hidden layers.", least=1, most=WIDEST),
    Key("MODEL.ROI_MASK_HEAD.NUM_FC", 2, "Number of its hidden layers.", least=0, most=DEEPEST),
    Key("MODEL.ROI_MASK_HEAD.OUTPUT_SIDE_RESOLUTION", 7, "Side of the coarse mask.", least=1,
        most=1024),
    Key("MODEL.ROI_MASK_HEAD.POINT_HEAD_ON", False, "Refine the coarse mask at points."),
    Key("MODEL.IMPLICIT_POINTREND.IMAGE_FEATURE_ENABLED", True,
        "The implicit function reads the fine features."),
    Key("MODEL.IMPLICIT_POINTREND.POS_ENC_ENABLED", True,
        "The implicit function reads the position in the box."),
    Key("MODEL.IMPLICIT_POINTREND.PARAMS_L2_REGULARIZER", 0.00001,
        "Weight of loss_l2, the mean square of the parameters.", least=0),
    Key(f"{TIMM_NODE}.NAME", "",
        "Of build_timm_backbone and build_timm_fpn_backbone: a model of timm that has feature "
        "maps (features_only), such as resnet50 or convnext_tiny."),
    *(replace(key, name=f"{TIMM_NODE}.{key.name}") for key in _IMAGE_BACKBONE),
    Key(f"{TORCHVISION_NODE}.NAME", "",
        "Of build_torchvision_backbone and build_torchvision_fpn_backbone: a classification model "
        "of torchvision, such as resnet50 or convnext_tiny."),
    *(replace(key, name=f"{TORCHVISION_NODE}.{key.name}") for key in _IMAGE_BACKBONE),
    Key("MODEL.SWIN.EMBED_DIM", 96, "Channels of the first stage.", least=1, most=WIDEST),
    Key("MODEL.SWIN.DEPTHS", (2, 2, 6, 2), "Blocks of each of the four stages.", least=1,
        most=DEEPEST, lengths=(4, 4)),
    Key("MODEL.SWIN.NUM_HEADS", (3, 6, 12, 24), "Attention heads of each stage.", least=1,
        most=WIDEST, lengths=(4, 4)),
    Key("MODEL.SWIN.WINDOW_SIZE", 7, "Side of the attention windows.", least=1, most=1024),
    Key("MODEL.SWIN.DROP_PATH", 0.2, "Rate of stochastic depth.", least=0, below=1),
    Key("MODEL.MVIT.EMBED_DIM", 96, "Channels of the first stage.", least=1, most=WIDEST),
    Key("MODEL.MVIT.DEPTH", 10, "Number of blocks.", least=4, most=DEEPEST),
    Key("MODEL.MVIT.NUM_HEADS", 1, "Attention heads of the first stage.", least=1, most=WIDEST),
    Key("MODEL.MVIT.LAST_BLOCK_INDEXES", (0, 2, 7, 9), "Number of each stage's last block.",
        least=0, most=DEEPEST, lengths=(4, 4)),
    Key("MODEL.MVIT.DROP_PATH", 0.2, "Rate of stochastic depth.", least=0, below=1),
    Key("MODEL.VIT.IMG_SIZE", 1024,
        "Side of the images that the tables of relative positions are made for; for others they "
        "are interpolated.", least=32, most=LARGEST_SIDE, test=lambda side: side % 32 == 0,
        words="a multiple of 32"),
    Key("MODEL.VIT.EMBED_DIM", 768, "Channels.", least=1, most=WIDEST),
    Key("MODEL.VIT.DEPTH", 12, "Number of blocks.", least=1, most=DEEPEST),
    Key("MODEL.VIT.NUM_HEADS", 12, "Attention heads.", least=1, most=WIDEST),
    Key("MODEL.VIT.WINDOW_SIZE", 14, "Side of the attention windows, in patches of 16 pixels.",
        least=1, most=1024),
    Key("MODEL.VIT.WINDOW_BLOCK_INDEXES", (0, 1, 3, 4, 6, 7, 9, 10),
        "Blocks that attend within windows; the others see the whole image.", kind=int, least=0,
        most=DEEPEST),
    Key("MODEL.VIT.DROP_PATH", 0.1, "Rate of stochastic depth.", least=0, below=1),
    Key("INPUT.CROP.SINGLE_CATEGORY_MAX_AREA", 1.0,
        "A random crop is drawn again, ten times at most, while one class fills more than this "
        "share of it.", above=0),
    Key("INPUT.COLOR_AUG_SSD", False, "SSD's colour jitter, in the training of semantic models."),
    Key("INPUT.POINT_SUP", False,
        "Masks are trained from labelled points (point_coords and point_labels of each object) "
        "instead of masks; see docs/point-supervision.md."),
    Key("INPUT.SAMPLE_POINTS", 0,
        "With INPUT.POINT_SUP, the number of points of each object that are drawn at random in "
        "each iteration. 0: all.", least=0),
    Key("INPUT.TRAINED_SCALES", (),
        "Written by training: the scale of the images as the model saw them (side of its input "
        "divided by side of the file), 5th, 50th and 95th percentile. Empty: unknown.",
        kind=float, above=0, test=lambda value: len(value) in (0, 3),
        words="an empty list, or a list of three numbers above 0"),
    Key("INPUT.TRAINED_SIDE", 0.0,
        "Written by training: side of a square with as many pixels as the model's input had "
        "(median). 0: unknown.", least=0),
    Key("INPUT.SCALE_TEST", 0.0,
        "Scale of images in evaluation and prediction, a factor of both sides. 0: as "
        "INPUT.MIN_SIZE_TEST and INPUT.MAX_SIZE_TEST say, unless the training images had one scale "
        "and that would be another; then that of training. -1: as those two keys say, always.",
        above=0, most=100, also=(0, -1)),
    Key("INPUT.PIXEL_RANGE", "percentile",
        "Which pixel values of 16-bit, 32-bit and floating-point images become 0 and 255. "
        "percentile: the 1st and the 99.8th percentile of each image. full: the ends of the "
        "integer type, or 0 and 1. 0..4095, for example: these numbers. 8-bit images are not "
        "changed. See docs/predicting.md.", test=is_pixel_range, words=PIXEL_RANGES),
    Key("INPUT.BANDS", (),
        "Which bands of a TIFF file are red, green and blue, counted from 1, e.g. (3, 2, 1); one "
        "number for grey. Empty: the first three of up to four.", kind=int, least=1,
        most=WIDEST, test=lambda bands: len(bands) in (0, 1, 3),
        words="a list of three whole numbers from 1, or of one, or an empty list"),
    Key("INPUT.MAX_PIXELS", 2**28,
        "The most pixels of an image; those with more are refused before they are decoded.",
        least=1),
    Key("DATASETS.CUSTOM", [],
        "Your own data sets: a list of dicts with name, images, annotations and, optionally, "
        "classes, ignore_value, ignore_color; see docs/custom-dataset.md.", kind=dict),
    Key("DATASETS.CLASSES_FROM_DATA", False,
        "Set the model's number of classes (and its ignored label) to those of the first training "
        "data set, and raise the limits on detections where its images have more objects. False: "
        "only compare the classes."),
    Key("TEST.REPORT", True,
        "After an evaluation, write report.html beside the predictions; see docs/evaluation.md."),
    Key("TEST.AUG.SCALES", (),
        "Sizes of test-time augmentation (TEST.AUG.ENABLED), as factors of the size at which the "
        "model sees an image without it. Empty: the sizes TEST.AUG.MIN_SIZES; but where these have "
        "their default and INPUT.MIN_SIZE_TEST is not 800, for which it is made, or an image's "
        "scale is that of training, 0.75, 1 and 1.25.", kind=float, above=0, most=100),
    Key("TEST.TILES.SIZE", 0,
        "See larger images in tiles of this side, in pixels of the model's input. 0: only images "
        "that are too large at the scale of training are seen in tiles, of 1024 pixels.",
        least=64, also=(0,), most=LARGEST_SIDE),
    Key("TEST.TILES.OVERLAP", 64,
        "Overlap of neighbouring tiles, in the same pixels; at most half of the side. Objects up "
        "to this size are seen whole in one tile.", least=0, most=LARGEST_SIDE),
)
# fmt: on
KEYS = {key.name: key for key in _ROWS}


def check_node(cfg: CN, node: str) -> None:
    """Raise `InputError` where a value in a node, such as ``MODEL.POINT_HEAD``, is out of range."""
    for name, key in KEYS.items():
        if name.startswith(f"{node}."):
            key.check(value_of(cfg, name))


def add_pointrend_config(cfg: CN) -> None:
    """Add the keys of this package, and DeepLab's, to a Detectron2 config.

    Keys that are there already, with whatever value, stay as they are: calling it again, or after
    the functions of the same purpose in `detectron2.projects`, changes nothing that was set.
    Keys that Detectron2's PointRend has too have its names and its defaults.

    Example:
        >>> from detectron2.config import get_cfg
        >>> cfg = get_cfg()
        >>> add_pointrend_config(cfg)
        >>> cfg.MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS
        784
    """
    from detectron2.projects.deeplab import add_deeplab_config

    new = CN({"INPUT": {"CROP": {}}, "SOLVER": {}, "MODEL": {"SEM_SEG_HEAD": {}, "RESNETS": {}}})
    add_deeplab_config(new)
    for key in KEYS.values():
        *nodes, name = key.name.split(".")
        node = new
        for each in nodes:
            node = node.setdefault(each, CN())
        node[name] = copy(key.default)
    _add_missing(cfg, new)


def _add_missing(cfg: CN, new: CN) -> None:
    for key, value in new.items():
        if key not in cfg:
            cfg[key] = value
        elif isinstance(value, CN):
            _add_missing(cfg[key], value)
