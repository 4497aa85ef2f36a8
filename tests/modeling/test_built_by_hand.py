"""Heads that are built from keywords, without a config: mistakes get the messages of a config."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.projects.deeplab.semantic_seg import DeepLabV3Head, DeepLabV3PlusHead
from detectron2.structures import Boxes, Instances

from pointrend_seg.config.detectron2_keys import detectron2_keys
from pointrend_seg.config.keys import KEYS
from pointrend_seg.errors import InputError
from pointrend_seg.modeling import arguments
from pointrend_seg.modeling.box_subdivision import BoxSubdivision
from pointrend_seg.modeling.coarse_mask_head import ConvFCHead
from pointrend_seg.modeling.implicit_head import ImplicitPointRendInstanceHead
from pointrend_seg.modeling.implicit_point_head import ImplicitPointMLP, parameter_shape
from pointrend_seg.modeling.instance_head import PointRendInstanceHead
from pointrend_seg.modeling.point_heads import PointMLP
from pointrend_seg.modeling.readers import ReadSettings
from pointrend_seg.modeling.samplers import ImportancePointSampler
from pointrend_seg.modeling.semantic_head import PointRendSemanticHead
from small_configs import small_semantic_cfg

SHAPES = {"res2": ShapeSpec(channels=4, stride=4), "res5": ShapeSpec(channels=6, stride=16)}
TABLES = [
    table
    for name, table in vars(arguments).items()
    if name.isupper() and name not in ("KEYS", "INSTANCE_NODE", "SEMANTIC_NODE")
]


def test_every_keyword_has_the_rule_of_a_config_key():
    assert len(TABLES) == 6
    for table in TABLES:
        assert {
            key for key in table.values() if isinstance(key, str)
        } <= KEYS.keys() | detectron2_keys().keys()


def mask_head(features=("p2",), strides=(4,), size=6, classes=3, point_classes=None, **settings):
    """A small mask head for maps of 8 channels."""
    point = {"in_channels": 8, "num_classes": point_classes or classes, "fc_dim": 8}
    pooled = {"in_channels": 8, "pooler_size": size, "conv_dim": 4, "fc_dims": [9]}
    pooled |= {"output_shape": (classes, 3, 3)} | settings.pop("pooled", {})
    strides = dict(zip(features, strides, strict=True))
    return PointRendInstanceHead(
        point_head=PointMLP(**point | settings.pop("point", {})),
        coarse_head=ConvFCHead(**pooled),
        point_sampler=ImportancePointSampler(),
        reading=ReadSettings(strides, {"p2": 4}, pooler_size=settings.pop("pooler", 6)),
        subdivision=BoxSubdivision(**{"num_steps": 2, "num_points": 16} | settings.pop("sub", {})),
        **settings,
    )


def implicit_head(**settings):
    point = {"in_channels": 8, "num_classes": 3, "fc_dim": 4}
    pooled = {"in_channels": 8, "pooler_size": 6, "conv_dim": 4, "fc_dims": [9]}
    return ImplicitPointRendInstanceHead(
        point_head=ImplicitPointMLP(**point),
        parameter_head=ConvFCHead(
            **pooled, output_shape=settings.pop("output_shape", parameter_shape(**point))
        ),
        reading=ReadSettings({"p2": 4}, {"p2": 4}, pooler_size=6),
        subdivision=BoxSubdivision(2, 16),
        **settings,
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"point": {"fc_dim": 0}}, "fc_dim of PointMLP is 0; it must be 1 to 65536"),
        ({"point": {"fc_dim": "256"}}, "fc_dim of PointMLP is '256'; it must be 1 to 65536"),
        ({"point": {"num_fc": -1}}, "num_fc of PointMLP is -1"),
        ({"point": {"coarse_pred_each_layer": 1}}, "must be True or False"),
        ({"pooled": {"fc_dims": [0]}}, r"fc_dims of ConvFCHead is \[0\]"),
        ({"pooled": {"pooler_size": 1}}, "pooler_size of ConvFCHead is 1; it must be 2 to 1024"),
        ({"pooled": {"output_shape": (3, 7, 6)}}, r"is \(3, 7, 6\); it must be \(number of"),
        ({"pooler": 14}, "pooler_size of the coarse head is 6, but that of ReadSettings is 14"),
        ({"point_classes": 4}, r"num_classes of the point head is 4, but output_shape\[0\] is 3"),
        ({"strides": (0,)}, "point_strides of ReadSettings has 0 for p2"),
        ({"strides": (4.0,)}, "point_strides of ReadSettings has 4.0 for p2"),
        ({"sub": {"num_steps": -1}}, "num_steps of BoxSubdivision is -1"),
        ({"sub": {"mask_resolution": -2}}, "mask_resolution of BoxSubdivision is -2"),
        ({"train_num_points": 0}, "train_num_points of PointRendInstanceHead is 0"),
        ({"point_loss_weight": float("nan")}, "point_loss_weight of PointRendInstanceHead is nan"),
    ],
)
def test_mask_heads(settings, message):
    assert mask_head() is not None
    with pytest.raises(InputError, match=message):
        mask_head(**settings)


def test_implicit_heads():
    wrong = (parameter_shape(in_channels=8, num_classes=2, fc_dim=4)[0],)
    assert implicit_head() is not None
    with pytest.raises(InputError, match=r"output_shape of the parameter head is \(\d+,\), but"):
        implicit_head(output_shape=wrong)
    with pytest.raises(InputError, match="l2_weight of ImplicitPointRendInstanceHead is -1"):
        implicit_head(l2_weight=-1)


def instances():
    return [
        Instances((64, 64), pred_boxes=Boxes([[4.0, 4, 40, 40]]), pred_classes=torch.tensor([1]))
    ]


def test_feature_maps_that_a_mask_head_is_not_made_for():
    p2, narrow = torch.rand(1, 8, 16, 16), torch.rand(1, 5, 16, 16)
    for head in (mask_head().eval(), implicit_head().eval()):
        assert head({"p2": p2}, instances())[0].has("pred_masks")
        with pytest.raises(InputError, match="Set mask_pooler of the ROI heads to None"):
            head(torch.rand(1, 8, 14, 14), instances())
        with pytest.raises(InputError, match="names p2, but the head is given p3"):
            head({"p3": p2}, instances())
        with pytest.raises(InputError, match="of 5 channels together, but in_channels"):
            head({"p2": narrow}, instances())


def deeplab(kind, num_classes=3, crop=(64, 96)):
    """DeepLab's head, as its own package builds it."""
    opts = (
        "INPUT.CROP.ENABLED",
        True,
        "INPUT.CROP.TYPE",
        "absolute",
        "INPUT.CROP.SIZE",
        list(crop),
    )
    names = ["res5"] if kind is DeepLabV3Head else ["res2", "res5"]
    stride = 16 if kind is DeepLabV3Head else 4
    opts += ("MODEL.SEM_SEG_HEAD.IN_FEATURES", names, "MODEL.SEM_SEG_HEAD.COMMON_STRIDE", stride)
    opts += ("MODEL.SEM_SEG_HEAD.PROJECT_FEATURES", ["res2"], "MODEL.SEM_SEG_HEAD.NORM", "")
    opts += ("MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS", [4], "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS", 32)
    opts += ("MODEL.SEM_SEG_HEAD.LOSS_TYPE", "hard_pixel_mining")
    return kind(small_semantic_cfg(num_classes, opts), SHAPES)


def semantic_head(coarse_head, **settings):
    point_classes = settings.pop("point_classes", 3)
    strides = settings.pop("strides", {"res2": 4})
    return PointRendSemanticHead(
        coarse_head=coarse_head,
        point_head=PointMLP(in_channels=settings.pop("in_channels", 4), num_classes=point_classes),
        point_sampler=ImportancePointSampler(),
        reading=ReadSettings(strides, {}) if strides else {},
        num_classes=3,
        **settings,
    )


def maps(height, width):
    return {
        name: torch.rand(1, shape.channels, height // shape.stride, width // shape.stride)
        for name, shape in SHAPES.items()
    }


@pytest.mark.parametrize("kind", [DeepLabV3Head, DeepLabV3PlusHead])
def test_deeplab_sees_images_that_are_no_multiple_of_its_crop(kind):
    """Also where no config builds it: the head that takes it lets it."""
    alone = deeplab(kind).eval()
    with pytest.raises(ValueError, match="divisible"):
        alone(maps(80, 112))
    head = semantic_head(deeplab(kind)).eval()
    assert head(maps(80, 112))[0].shape == (1, 3, 80, 112)
    assert head(maps(64, 96))[0].shape == (1, 3, 64, 96)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_points_per_height": -1.0}, "train_points_per_height of PointRendSemanticHead is"),
        ({"subdivision_num_points": 0}, "subdivision_num_points of PointRendSemanticHead is 0"),
        ({"class_weights": [1.0, 2.0]}, r"class_weights has 2 numbers; 3 class\(es\) need 3"),
        ({"class_weights": [1.0, 2.0, -1.0]}, "class_weights of PointRendSemanticHead is"),
        ({"point_classes": 4}, "point_head.num_classes is 4, but num_classes is 3"),
        ({"ignore_value": "255"}, "ignore_value of PointRendSemanticHead is '255'"),
        (
            {"strides": None},
            r"reading of PointRendSemanticHead is \{\}; it must be made",
        ),
    ],
)
def test_semantic_heads(settings, message):
    with pytest.raises(InputError, match=message):
        semantic_head(deeplab(DeepLabV3Head), **settings)


def test_what_a_semantic_head_is_not_made_for():
    with pytest.raises(InputError, match="coarse_head is a Conv2d, which has no `layers` and no"):
        semantic_head(torch.nn.Conv2d(4, 3, 1))
    with pytest.raises(InputError, match=r"coarse_head predicts 5 channel\(s\), but num_classes"):
        semantic_head(deeplab(DeepLabV3Head, num_classes=5)).eval()(maps(64, 96))
    with pytest.raises(InputError, match="point_strides names p2, but the head is given res2"):
        semantic_head(deeplab(DeepLabV3Head), strides={"p2": 4}).eval()(maps(64, 96))
    with pytest.raises(InputError, match="of 4 channels together, but in_channels of PointMLP"):
        semantic_head(deeplab(DeepLabV3Head), in_channels=7).eval()(maps(64, 96))
