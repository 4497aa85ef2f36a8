"""Weights of other libraries load: names are translated, and what they mean is kept."""

import logging

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn
from torchvision import models

from pointrend_seg.checkpoint.adapting import adapt_shapes
from pointrend_seg.checkpoint.architectures import recognise
from pointrend_seg.checkpoint.loading import Checkpointer, load_weights
from pointrend_seg.checkpoint.translation import find_translation
from pointrend_seg.engine import load_config
from pointrend_seg.errors import InputError
from small_configs import small_instance_cfg, small_semantic_cfg
from tool_runs import REPOSITORY

IMAGENET = (
    *("INPUT.FORMAT", "RGB", "MODEL.PIXEL_MEAN", [123.675, 116.28, 103.53]),
    *("MODEL.PIXEL_STD", [58.395, 57.12, 57.375]),
    *("MODEL.RESNETS.NORM", "BN", "MODEL.RESNETS.STRIDE_IN_1X1", False),
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(1)


def strange(model):
    """The state of a model whose statistics are not those of a new one."""
    for name, value in model.state_dict().items():
        if "running" in name or "norm" in name or "bn" in name:
            value.copy_(value + 0.1 * torch.rand_like(value.float()))
    return model.eval(), model.state_dict()


def saved(tmp_path, content, name="weights.pth"):
    torch.save(content, tmp_path / name)
    return str(tmp_path / name)


def start(model, path):
    load_weights(Checkpointer(model), path, resume=False, complete=False)
    return model.eval()


def logged(caplog):
    return [r.getMessage() for r in caplog.records if r.name == "pointrend_seg.checkpoint.loading"]


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": {f"module.{k}": v for k, v in state.items()}, "epoch": 3},
        lambda state: {"state_dict": {f"model.backbone.{k}": v for k, v in state.items()}},
        lambda state: {"state_dict": {f"backbone.{k}": v for k, v in state.items()}, "meta": {}},
        lambda state: {f"_orig_mod.{k}": v for k, v in state.items()},
    ],
    ids=["plain", "parallel", "Lightning", "mmdetection", "compiled"],
)
def test_a_resnet_of_torchvision_computes_what_it_did(depth, wrap, tmp_path, caplog):
    theirs, state = strange(models.get_model(f"resnet{depth}"))
    wide = (
        "MODEL.RESNETS.DEPTH",
        depth,
        "MODEL.RESNETS.RES2_OUT_CHANNELS",
        64 if depth < 50 else 256,
    )
    model = build_model(small_semantic_cfg(3, (*IMAGENET, *wide)))
    with caplog.at_level(logging.INFO):
        start(model, saved(tmp_path, wrap(state)))
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        found = model.backbone.bottom_up(images)
        for number in (1, 2, 3, 4):
            x = getattr(theirs, f"layer{number}")(x)
            assert torch.allclose(found[f"res{number + 1}"], x, atol=1e-4, rtol=1e-4)
    weights = {18: 100, 50: 265}[depth]
    total = len([n for n in model.state_dict() if not n.endswith("num_batches_tracked")])
    (names, counts) = logged(caplog)[-2:]
    assert "they are those of a ResNet of torchvision, timm or mmdetection" in names
    assert "expect" not in names
    assert counts.startswith(f"Weights: {weights} of {total} loaded, {total - weights} new: ")
    assert "; not used: " in counts and "num_batches" not in counts


def test_what_such_weights_expect_is_said(tmp_path, caplog):
    path = saved(tmp_path, models.resnet50().state_dict())
    wide = ("MODEL.RESNETS.DEPTH", 50, "MODEL.RESNETS.RES2_OUT_CHANNELS", 256)
    with caplog.at_level(logging.INFO):
        start(build_model(small_semantic_cfg(3, (*wide, "MODEL.PIXEL_STD", [1.0] * 3))), path)
    assert (
        "Most such weights expect INPUT.FORMAT RGB, MODEL.PIXEL_MEAN [123.675, 116.28, 103.53], "
        "MODEL.PIXEL_STD [58.395, 57.12, 57.375], MODEL.RESNETS.STRIDE_IN_1X1 False: set them."
    ) in logged(caplog)[-2]


def test_a_resnet_with_three_convolutions_at_its_begin():
    """The stem of timm's resnet…d and of mmsegmentation's ResNetV1c is DeepLab's."""
    stems = {
        "timm": ["conv1.0", "conv1.1", "conv1.3", "conv1.4", "conv1.6", "bn1"],
        "mmsegmentation": ["stem.0", "stem.1", "stem.3", "stem.4", "stem.6", "stem.7"],
    }
    ours = [f"stem.conv{n}{norm}.weight" for n in (1, 2, 3) for norm in ("", ".norm")]
    shapes = [(32, 3, 3, 3), (32,), (32, 32, 3, 3), (32,), (64, 32, 3, 3), (64,)]
    model = {f"backbone.{name}": torch.zeros(s) for name, s in zip(ours, shapes, strict=True)}
    for names in stems.values():
        file = {f"{name}.weight": torch.zeros(s) for name, s in zip(names, shapes, strict=True)}
        found = find_translation(file, model)
        assert list(found.names.values()) == list(model)


def test_the_pyramid_of_mmdetection_and_torchvision():
    model = build_model(small_instance_cfg(2))
    state = model.state_dict()
    lateral, output = (f"backbone.fpn_{kind}4.weight" for kind in ("lateral", "output"))
    backbone = {f"backbone.{k}": v for k, v in models.resnet18().state_dict().items()}
    neck = {
        "neck.lateral_convs.2.conv.weight": torch.ones_like(state[lateral]),
        "neck.fpn_convs.2.conv.weight": torch.full_like(state[output], 2),
    }
    body = {k.replace("backbone.", "backbone.body."): v for k, v in backbone.items()}
    fpn = dict(
        zip(
            ("backbone.fpn.inner_blocks.2.0.weight", "backbone.fpn.layer_blocks.2.0.weight"),
            neck.values(),
            strict=True,
        )
    )
    for file in (backbone | neck, body | fpn):
        model = build_model(small_instance_cfg(2))
        Checkpointer(model)._load_model({"model": file})
        state = model.state_dict()
        assert state[lateral].eq(1).all() and state[output].eq(2).all()
        assert torch.equal(
            state["backbone.bottom_up.res5.1.conv2.weight"],
            backbone["backbone.layer4.1.conv2.weight"],
        )


def quick(name, *opts):
    return load_config(
        str(REPOSITORY / f"configs/quick/{name}.yaml"),
        ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", *opts],
    )


def test_a_model_of_torchvision_in_its_own_backbone(tmp_path):
    theirs, state = strange(models.mobilenet_v3_small())
    for name in ("pointrend_deeplabv3_mobilenet_v3_OS16", "pointrend_rcnn_mobilenet_v3_FPN"):
        model = start(build_model(quick(name)), saved(tmp_path, state))
        own = getattr(model.backbone, "bottom_up", model.backbone).state_dict()
        assert all(torch.equal(value, state[key]) for key, value in own.items())


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("convnext_atto", "pth"),
        ("resnet18", "safetensors"),
        ("tf_efficientnet_lite0", "pth"),
        ("swin_tiny_patch4_window7_224", "pth"),
    ],
)
def test_a_model_of_timm_in_its_own_backbone(name, suffix, tmp_path):
    timm = pytest.importorskip("timm")
    theirs, state = strange(timm.create_model(name))
    path = str(tmp_path / f"{name}.{suffix}")
    if suffix == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(state, path)
    else:
        torch.save(state, path)
    cfg = quick("pointrend_rcnn_lite0_FPN", "MODEL.TIMM.NAME", name)
    model = start(build_model(cfg), path)
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        maps = list(model.backbone.bottom_up(images).values())
        expected = theirs.forward_intermediates(images, intermediates_only=True)
    if name != "convnext_atto":
        expected = expected[-4:]
    for found, right in zip(maps, expected, strict=True):
        assert torch.allclose(found, right, atol=1e-4, rtol=1e-4)


def test_timms_swin_in_detectron2s(tmp_path):
    timm = pytest.importorskip("timm")
    theirs, state = strange(timm.create_model("swin_tiny_patch4_window7_224", depths=(1, 1, 2, 1)))
    opts = [
        *("MODEL.BACKBONE.NAME", "build_swin_fpn_backbone", "MODEL.SWIN.DEPTHS", [1, 1, 2, 1]),
        *("MODEL.FPN.IN_FEATURES", ["p0", "p1", "p2", "p3"], "MODEL.BACKBONE.FREEZE_AT", 0),
    ]
    model = start(build_model(small_semantic_cfg(3, tuple(opts))), saved(tmp_path, state))
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        found = model.backbone.bottom_up(images)
        right = theirs.forward_intermediates(images, intermediates_only=True)
    for number, each in enumerate(right):
        # Detectron2 has a norm after each map, which is new
        normed = nn.functional.layer_norm(each.permute(0, 2, 3, 1), each.shape[1:2])
        assert torch.allclose(found[f"p{number}"].permute(0, 2, 3, 1), normed, atol=1e-3, rtol=1e-3)


def test_a_backbone_as_mask2former_has_it(tmp_path):
    """Names of a whole model whose backbone stands in no pyramid, with Detectron2's matching."""
    pytest.importorskip("timm")
    opts = [
        *("MODEL.BACKBONE.NAME", "build_swin_fpn_backbone", "MODEL.SWIN.DEPTHS", [1, 1, 1, 1]),
        *("MODEL.FPN.IN_FEATURES", ["p0", "p1", "p2", "p3"], "MODEL.BACKBONE.FREEZE_AT", 0),
        *("MODEL.SWIN.EMBED_DIM", 24),
    ]
    cfg = small_semantic_cfg(3, tuple(opts))
    source = build_model(cfg).backbone.bottom_up.state_dict()
    file = {f"backbone.{k}": v for k, v in source.items()}
    file["sem_seg_head.predictor.query_feat.weight"] = torch.ones(4)
    content = {"model": file, "__author__": "third_party", "matching_heuristics": True}
    model = start(build_model(cfg), saved(tmp_path, content))
    own = model.backbone.bottom_up.state_dict()
    assert all(torch.equal(own[key], value) for key, value in source.items())


def of_efficientnet_pytorch(state):
    """The names of efficientnet-pytorch for those of timm's Lite0."""
    parts_of_blocks = (key.split(".") for key in state if key.startswith("blocks."))
    blocks = list(dict.fromkeys(tuple(parts[1:3]) for parts in parts_of_blocks))
    layers = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv",
              "bn2": "_bn1", "conv_pwl": "_project_conv", "bn3": "_bn2"}  # fmt: skip
    first = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    around = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1",
              "classifier": "_fc"}  # fmt: skip
    renamed = {}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] == "blocks":
            number = blocks.index(tuple(parts[1:3]))
            layer = (layers if number else first)[parts[3]]
            renamed[".".join(["_blocks", str(number), layer, *parts[4:]])] = value
        else:
            renamed[".".join([around[parts[0]], *parts[1:]])] = value
    return renamed


def test_efficientnet_pytorch_in_timms_backbone(tmp_path, caplog):
    timm = pytest.importorskip("timm")
    theirs, state = strange(timm.create_model("tf_efficientnet_lite0"))
    path = saved(tmp_path, of_efficientnet_pytorch(state))
    with caplog.at_level(logging.INFO):
        model = start(build_model(quick("pointrend_deeplabv3_lite0_OS16")), path)
    assert any("those of efficientnet-pytorch" in each for each in logged(caplog))
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = theirs.forward_intermediates(images, intermediates_only=True)
        assert torch.equal(model.backbone(images)["res4"], expected[3])


def test_names_of_the_model_stay(tmp_path):
    model = build_model(small_semantic_cfg(3))
    assert find_translation(model.state_dict(), model.state_dict()) is None
    assert find_translation({"a.weight": torch.ones(2)}, model.state_dict()) is None


@pytest.mark.parametrize(("channels", "image_format"), [(1, "L"), (4, "RGBA")])
def test_other_channels(channels, image_format, tmp_path, caplog):
    """A grey image and its three equal channels give the same, and so does a fourth of the same."""
    state = models.resnet18().state_dict()
    opts = ("INPUT.FORMAT", image_format, "MODEL.PIXEL_MEAN", [1.0] * channels,
            "MODEL.PIXEL_STD", [2.0] * channels)  # fmt: skip
    cfg = small_semantic_cfg(3, opts)
    with caplog.at_level(logging.INFO):
        model = start(build_model(cfg), saved(tmp_path, state))
    name = "backbone.bottom_up.stem.conv1.weight"
    assert f"Adapted: {name} from 3 to {channels} channels" in logged(caplog)
    found = model.state_dict()[name]
    grey = torch.rand(1, 1, 9, 9)
    conv = nn.functional.conv2d
    expected = conv(grey.expand(-1, 3, -1, -1), state["conv1.weight"])
    if channels == 1:
        assert torch.allclose(conv(grey, found), expected, atol=1e-5)
    else:
        first = state["conv1.weight"]
        assert torch.allclose(found, torch.cat((first, first[:, :1]), 1) * 0.75)


@pytest.mark.parametrize("make", [small_semantic_cfg, small_instance_cfg])
def test_another_number_of_classes(make, tmp_path, caplog):
    old = build_model(make(7)).state_dict()
    model = build_model(make(3))
    new = {k: v.clone() for k, v in model.state_dict().items()}
    with caplog.at_level(logging.INFO):
        start(model, saved(tmp_path, {"model": old}))
    head = "sem_seg_head" if make is small_semantic_cfg else "roi_heads.mask_head"
    now = model.state_dict()
    for layer in ("fc1", "fc2", "fc3"):
        name = f"{head}.point_head.{layer}.weight"
        assert torch.equal(now[name][:, :32], old[name][:, :32])  # fine features, or the layer
        assert torch.equal(now[name][:, 32:], new[name][:, 32:])  # coarse prediction
    assert torch.equal(
        now[f"{head}.point_head.predictor.weight"], new[f"{head}.point_head.predictor.weight"]
    )
    said = logged(caplog)
    assert f"3 layers of {head}.point_head (other number of classes)" in said[-2]
    assert "new because of another shape in the file: " in said[-1]


def test_evaluation_adapts_nothing(tmp_path):
    path = saved(tmp_path, {"model": build_model(small_semantic_cfg(7)).state_dict()})
    model = build_model(small_semantic_cfg(3))
    with pytest.raises(InputError, match="point_head.fc1.weight has shape"):
        load_weights(Checkpointer(model), path, resume=False, complete=True)


def test_shapes_that_mean_something_else_stay():
    model = {"point_head.fc1.weight": torch.zeros(8, 12, 1), "a.weight": torch.zeros(8, 16, 3, 3)}
    weights = {"point_head.fc1.weight": torch.ones(8, 14, 1), "a.weight": torch.ones(8, 3, 3, 3)}
    assert adapt_shapes(dict(weights), model) == []  # no predictor tells how many classes there are


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: models.resnet50(), "ResNet-50 of torchvision, timm or mmdetection: set "
         "MODEL.BACKBONE.NAME build_resnet_fpn_backbone, MODEL.RESNETS.DEPTH 50"),
        (lambda: models.resnext50_32x4d(), "ResNeXt-50 32x4d of .*NUM_GROUPS 32, MODEL.RESNETS"),
        (lambda: models.mobilenet_v3_small(), "mobilenet_v3_small of torchvision: set .*"
         "MODEL.TORCHVISION.NAME mobilenet_v3_small .as in configs/quick/pointrend_rcnn_mobilenet"),
    ],
)  # fmt: skip
def test_weights_of_another_architecture(make, expected, tmp_path):
    model = build_model(small_semantic_cfg(3))
    with pytest.raises(InputError, match=f"does not fit this model: .*It looks like {expected}"):
        start(model, saved(tmp_path, make().state_dict()))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("convnext_atto", "convnext_atto of timm"),
        ("swin_tiny_patch4_window7_224", "a Swin transformer"),
        ("vit_tiny_patch16_224", "a plain ViT"),
        ("mobilenetv3_small_050", "mobilenetv3_small_050 of timm"),
        ("resnet18d", "resnet18d of timm"),
    ],
)
def test_recognising_models_of_timm(name, expected):
    timm = pytest.importorskip("timm")
    state = timm.create_model(name).state_dict()
    for prefix in ("", "model.backbone."):
        found = recognise({prefix + k: v for k, v in state.items()}, f"{name}.bin")
        assert found.name == expected
    swin = recognise(timm.create_model("swin_small_patch4_window7_224").state_dict())
    assert swin.settings["MODEL.SWIN.DEPTHS"] == [2, 2, 18, 2]


def test_what_is_unknown():
    assert recognise({"encoder.w": torch.ones(2), "decoder.w": torch.ones(3)}) is None
    assert recognise(build_model(small_instance_cfg()).state_dict()) is None
