"""Backbones of timm and torchvision give what these libraries give, under Detectron2's names."""

import logging

import pytest
import torch
from detectron2.modeling import build_backbone, build_model
from torch import nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

from pointrend_seg import InputError
from pointrend_seg.engine import Trainer, load_config
from pointrend_seg.modeling.backbones.image_backbone import feature_names

ALL = ["res2", "res3", "res4", "res5"]


def cfg_of(library, name, *opts, fpn=False):
    kind = f"build_{library}_fpn_backbone" if fpn else f"build_{library}_backbone"
    return load_config(
        "",
        [
            *("MODEL.DEVICE", "cpu", "MODEL.BACKBONE.FREEZE_AT", 0, "MODEL.BACKBONE.NAME", kind),
            *("MODEL.FPN.IN_FEATURES", str(ALL), f"MODEL.{library.upper()}.NAME", name),
            *opts,
        ],
    )


@pytest.fixture
def images():
    torch.manual_seed(1)
    return torch.randn(2, 3, 64, 96)


@pytest.mark.parametrize("fpn", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        *("resnet18", "convnext_atto", "mobilenetv3_small_050", "tf_efficientnet_lite0"),
        *("hrnet_w18_small", "swin_tiny_patch4_window7_224"),
    ],
)
def test_features_of_timm_are_those_of_timm(name, fpn, images):
    timm = pytest.importorskip("timm")
    backbone = build_backbone(cfg_of("timm", name, fpn=fpn)).eval()
    bottom_up = backbone.bottom_up if fpn else backbone
    any_size = {"strict_img_size": False} if "swin" in name else {}
    theirs = timm.create_model(name, features_only=True, **any_size).eval()
    own = bottom_up.net.state_dict()
    theirs.load_state_dict(own, strict=False)
    with torch.no_grad():
        expected = theirs(images)[-4:]
        maps = bottom_up(images)
        assert set(backbone(images)) == (set(ALL) if not fpn else {"p2", "p3", "p4", "p5", "p6"})
    assert list(maps) == ALL
    for stride, key, theirs in zip((4, 8, 16, 32), ALL, expected, strict=True):
        theirs = theirs.permute(0, 3, 1, 2) if "swin" in name else theirs
        assert torch.equal(maps[key], theirs)
        shape = bottom_up.output_shape()[key]
        assert (shape.channels, shape.stride) == (maps[key].shape[1], stride)
        assert maps[key].shape[2:] == (64 // stride, 96 // stride)
    assert backbone.size_divisibility == 32


TORCHVISION = {
    "resnet18": [f"layer{n}" for n in (1, 2, 3, 4)],
    "convnext_tiny": [f"features.{n}" for n in (1, 3, 5, 7)],
    "swin_t": [f"features.{n}" for n in (1, 3, 5, 7)],
    "efficientnet_b0": [f"features.{n}" for n in (2, 3, 5, 8)],
    "mobilenet_v3_small": [f"features.{n}" for n in (1, 3, 8, 12)],
    "regnet_y_400mf": [f"trunk_output.block{n}" for n in (1, 2, 3, 4)],
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_features_of_torchvision_are_those_of_torchvision(name, images):
    backbone = build_backbone(cfg_of("torchvision", name)).eval()
    theirs = models.get_model(name).eval()
    unknown = theirs.load_state_dict(backbone.state_dict(), strict=False).unexpected_keys
    assert unknown == []
    with torch.no_grad():
        expected = create_feature_extractor(theirs, TORCHVISION[name])(images)
        maps = backbone(images)
    assert list(maps) == ALL
    for stride, key, node in zip((4, 8, 16, 32), ALL, TORCHVISION[name], strict=True):
        right = expected[node].permute(0, 3, 1, 2) if name == "swin_t" else expected[node]
        assert torch.equal(maps[key], right), key
        shape = backbone.output_shape()[key]
        assert (shape.channels, shape.stride) == (right.shape[1], stride)


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_output_stride_and_fewer_features(library, images):
    if library == "timm":
        pytest.importorskip("timm")
    node = f"MODEL.{library.upper()}"
    opts = (f"{node}.OUTPUT_STRIDE", 16, f"{node}.OUT_FEATURES", "['res5', 'res3']")
    backbone = build_backbone(cfg_of(library, "resnet50", *opts)).eval()
    with torch.no_grad():
        maps = backbone(images)
    assert {name: tuple(each.shape[1:]) for name, each in maps.items()} == {
        "res3": (512, 8, 12),
        "res5": (2048, 4, 6),
    }
    assert backbone.output_shape()["res5"].stride == 16
    fewer = build_backbone(cfg_of(library, "resnet18", f"{node}.OUT_FEATURES", "['res3']"))
    assert not any("layer3" in name for name in fewer.state_dict())  # not built, not trained


def test_names_of_stages():
    last = feature_names([1, 2, 4, 8, 16, 32, 32])
    assert last == {"res0": 0, "res1": 1, "res2": 2, "res3": 3, "res4": 4, "res5": 6}
    dilated = feature_names([2, 4, 8, 8, 8], dilated=True)
    assert dilated == {"res1": 0, "res2": 1, "res3": 2, "res4": 3, "res5": 4}


def frozen_names(backbone):
    return {name for name, p in backbone.named_parameters() if not p.requires_grad}


@pytest.mark.parametrize(
    ("library", "name", "stage", "frozen", "trained"),
    [
        ("timm", "resnet18", 1, "net.bn1.bias", "net.layer1.0.conv1.weight"),
        ("timm", "resnet18", 3, "net.layer2.1.bn2.bias", "net.layer3.0.conv1.weight"),
        ("timm", "convnext_atto", 1, "net.stem_1.bias", "net.stages_0.blocks.0.norm.weight"),
        ("timm", "tf_efficientnet_lite0", 2, "net.blocks.1.1.bn3.bias", "net.blocks.2.0.bn1.bias"),
        ("torchvision", "resnet18", 2, "layer1.1.bn2.bias", "layer2.0.conv1.weight"),
        ("torchvision", "swin_t", 2, "features.1.1.mlp.3.bias", "features.2.norm.bias"),
    ],
)
def test_frozen_stages(library, name, stage, frozen, trained, images):
    if library == "timm":
        pytest.importorskip("timm")
    backbone = build_backbone(cfg_of(library, name, "MODEL.BACKBONE.FREEZE_AT", stage))
    kept = frozen_names(backbone)
    names = [each for each, _ in backbone.named_parameters()]
    assert frozen in kept and trained not in kept
    assert kept == set(names[: names.index(frozen) + 1])  # all before, and nothing after
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    sum(each.sum() for each in backbone.train()(images).values()).backward()
    after = backbone.state_dict()
    owners = {each.rpartition(".")[0] for each in kept}
    changed = {k for k, v in before.items() if not torch.equal(v, after[k])}
    assert not {each for each in changed if each.rpartition(".")[0] in owners}
    if any(isinstance(each, nn.BatchNorm2d) for each in backbone.modules()):
        assert changed  # statistics of the stages that are trained


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_frozen_norm(library, images):
    if library == "timm":
        pytest.importorskip("timm")
    name = "tf_efficientnet_lite0" if library == "timm" else "resnet18"
    opts = (f"MODEL.{library.upper()}.FREEZE_NORM", True)
    backbone = build_backbone(cfg_of(library, name, *opts)).train()
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    assert torch.equal(backbone(images)["res5"], backbone.eval()(images)["res5"])
    assert all(torch.equal(v, backbone.state_dict()[k]) for k, v in before.items())
    kept = frozen_names(backbone)
    assert kept and all("bn" in each or "downsample.1" in each for each in kept)


def test_drop_path(images):
    pytest.importorskip("timm")
    backbone = build_backbone(cfg_of("timm", "convnext_atto", "MODEL.TIMM.DROP_PATH", 0.5))
    rates = {each.drop_prob for each in backbone.modules() if type(each).__name__ == "DropPath"}
    assert max(rates) == 0.5


@pytest.mark.parametrize("library", ["timm", "torchvision"])
@pytest.mark.parametrize(("image_format", "channels"), [("L", 1), ("RGBA", 4)])
def test_other_numbers_of_channels(library, image_format, channels):
    if library == "timm":
        pytest.importorskip("timm")
    opts = [
        *("INPUT.FORMAT", image_format, "MODEL.PIXEL_MEAN", str([1.0] * channels)),
        *("MODEL.PIXEL_STD", str([1.0] * channels)),
    ]
    for name in ("resnet18", "convnext_tiny"):
        backbone = build_backbone(cfg_of(library, name, *opts, fpn=True))
        assert backbone(torch.zeros(1, channels, 64, 64))["p2"].shape == (1, 256, 16, 16)


DEFAULTS = ([103.53, 116.28, 123.675], [1.0, 1.0, 1.0], "BGR")


def input_of(cfg):
    return list(cfg.MODEL.PIXEL_MEAN), list(cfg.MODEL.PIXEL_STD), cfg.INPUT.FORMAT


def test_the_input_of_the_weights_is_taken_over_and_said(caplog):
    imagenet = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375], "RGB")
    with caplog.at_level(logging.INFO):
        assert input_of(cfg_of("torchvision", "resnet18")) == imagenet
    (said,) = [each for each in caplog.messages if "expect" in each]
    assert said.startswith("Weights of resnet18 expect MODEL.PIXEL_MEAN [123.675, 116.28, 103.53]")
    assert said.endswith("INPUT.FORMAT RGB: the config now has these values.")


def test_values_of_the_user_are_kept_with_a_warning(caplog):
    cfg = cfg_of("torchvision", "resnet18", "MODEL.PIXEL_STD", "[57.0, 57.0, 57.0]")
    assert input_of(cfg) == (DEFAULTS[0], [57.0, 57.0, 57.0], "BGR")
    (said,) = [each for each in caplog.messages if "expect" in each]
    assert "which are kept: MODEL.PIXEL_MEAN [103.53, 116.28, 123.675]" in said
    assert "MODEL.TORCHVISION.INPUT_OF_WEIGHTS False" in said


def test_the_input_of_the_weights_can_be_left(caplog):
    cfg = cfg_of("torchvision", "resnet18", "MODEL.TORCHVISION.INPUT_OF_WEIGHTS", False)
    assert input_of(cfg) == DEFAULTS and not any("expect" in each for each in caplog.messages)


def test_the_input_of_timms_weights():
    pytest.importorskip("timm")
    half = [127.5, 127.5, 127.5]
    assert input_of(cfg_of("timm", "tf_efficientnet_lite0")) == (half, half, "RGB")


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("NAME", "resnet_18"), "is 'resnet_18', which is no model of timm .* Did you mean "),
        (("NAME", ""), "MODEL.TIMM.NAME is '', which is no model of timm"),
        (("OUT_FEATURES", "['res6']"), "names 'res6', which resnet18 of timm does not give"),
        (("OUT_FEATURES", "['res3', 'res3']"), "each feature map may be named once"),
        (("NAME", "hrnet_w18_small", "DROP_PATH", 0.1), "Set MODEL.TIMM.DROP_PATH to the default"),
        (("NAME", "hrnet_w18_small", "OUTPUT_STRIDE", 16), "MODEL.TIMM.OUTPUT_STRIDE to the"),
        (("NAME", "vit_tiny_patch16_224"), "does not give. .*It gives res4 "),
        (("NAME", "maxvit_nano_rw_256"), "takes images of one size only"),
        (("NAME", "vit_tiny_patch14_224"), "which is no model|powers of two"),
    ],
)
def test_mistakes_with_timm(opts, message):
    pytest.importorskip("timm")
    pairs = dict(zip(opts[::2], opts[1::2], strict=True))
    name = pairs.pop("NAME", "resnet18")
    more = [part for key, value in pairs.items() for part in (f"MODEL.TIMM.{key}", value)]
    with pytest.raises(InputError, match=message):
        build_backbone(cfg_of("timm", name, *more))


def test_stages_that_cannot_be_frozen():
    pytest.importorskip("timm")
    with pytest.raises(InputError, match="FREEZE_AT is 2, but the stages of hrnet_w18_small"):
        build_backbone(cfg_of("timm", "hrnet_w18_small", "MODEL.BACKBONE.FREEZE_AT", 2))


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("NAME", "resnet19"), "is no classification model of torchvision. Did you mean resnet18"),
        (("NAME", "vit_b_16"), "in no single sequence of modules"),
        (("NAME", "squeezenet1_0"), "does not give"),
        (("DROP_PATH", 0.1), "Set MODEL.TORCHVISION.DROP_PATH 0"),
        (("NAME", "vgg11", "OUTPUT_STRIDE", 16), "Set MODEL.TORCHVISION.OUTPUT_STRIDE 32"),
    ],
)
def test_mistakes_with_torchvision(opts, message):
    pairs = dict(zip(opts[::2], opts[1::2], strict=True))
    name = pairs.pop("NAME", "resnet18")
    more = [part for key, value in pairs.items() for part in (f"MODEL.TORCHVISION.{key}", value)]
    with pytest.raises(InputError, match=message):
        build_backbone(cfg_of("torchvision", name, *more))


def test_an_fpn_needs_successive_strides():
    for names, strides in ((["res2", "res4", "res5"], "4, 16, 32"), (["res2", "res3"], "4, 8")):
        cfg = cfg_of("torchvision", "resnet18", "MODEL.FPN.IN_FEATURES", str(names), fpn=True)
        with pytest.raises(InputError, match=rf"have the strides \[{strides}\]. An FPN needs"):
            build_backbone(cfg)


def test_without_timm(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    sentence = r'need the package timm: pip install timm \(or pip install -e "\.\[timm\]"\)\.'
    with pytest.raises(InputError, match=sentence):
        cfg_of("timm", "resnet18")
    for name in ("build_swin_fpn_backbone", "build_mvit_fpn_backbone", "build_vit_backbone"):
        cfg = load_config("", ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.NAME", name])
        with pytest.raises(InputError, match=sentence):
            Trainer.build_model(cfg)


def test_a_model_pads_images_to_whole_cells():
    """ConvNeXt cuts images into patches of 4 pixels and would lose the rest."""
    cfg = cfg_of("torchvision", "convnext_tiny", "MODEL.SEM_SEG_HEAD.IN_FEATURES", "['res4']")
    cfg.MODEL.META_ARCHITECTURE = "SemanticSegmentor"
    cfg.MODEL.SEM_SEG_HEAD.NAME = "PointRendSemanticHead"
    cfg.MODEL.SEM_SEG_HEAD.COMMON_STRIDE = 16
    cfg.MODEL.SEM_SEG_HEAD.NORM = ""
    cfg.MODEL.SEM_SEG_HEAD.ASPP_CHANNELS = cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM
    cfg.MODEL.SEM_SEG_POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME = "DeepLabV3Head"
    cfg.MODEL.SEM_SEG_POINT_HEAD.IN_FEATURES = ["res2"]
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 3
    cfg.MODEL.SEM_SEG_HEAD.LOSS_TYPE = "cross_entropy"
    model = build_model(cfg).eval()
    with torch.no_grad():
        (result,) = model([{"image": torch.zeros(3, 75, 101)}])
    assert result["sem_seg"].shape == (3, 75, 101)
