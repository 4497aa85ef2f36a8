"""Recognise the backbones of other libraries by the names and shapes of their weights."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from .weight_shapes import DEPTHS

_WRAPPERS = ("module.", "model.", "_orig_mod.", "net.", "backbone.", "encoder.")
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "relative_position_index")
_MOST_BUILT = 40  # models of timm that are built, without memory, to compare names and shapes
# Some layers of timm's families.
_FAMILIES = {
    "conv_stem.weight": ("tf_efficientnet*", "efficientnet*", "mobilenet*", "mnasnet*", "fbnet*"),
    "stem.0.weight": ("convnext*",),
    "patch_embed.proj.weight": ("vit*", "deit*", "swin*"),
    "conv1.weight": ("resnet*", "resnext*", "wide_resnet*", "seresnet*", "ecaresnet*"),
    "conv1.0.weight": ("resnet*d", "resnet*s", "resnet*t", "ecaresnet*", "seresnet*"),
    "stem.conv.weight": ("regnet*", "mobilevit*"),
}


# (blocks, channels of the last convolution) -> number of an EfficientNet, and of a Lite one
_SIZES = {
    (16, 1280): 0,
    (23, 1280): 1,
    (23, 1408): 2,
    (26, 1536): 3,
    (32, 1792): 4,
    (39, 2048): 5,
    (45, 2304): 6,
    (55, 2560): 7,
}
_LITES = {(16, 1280): 0, (26, 1280): 3, (32, 1280): 4}


@dataclass(frozen=True)
class Architecture:
    """A backbone, and what a config says to be built from it.

    Attributes:
        name: in words, with the library.
        settings: values of config keys.
        configs: files in configs/ that are for it.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    configs: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The rest of a sentence "It looks like …"."""
        values = ", ".join(f"{key} {value}" for key, value in self.settings.items())
        files = f" (as in {' or '.join(self.configs)})" if self.configs else ""
        return f"{self.name}: set {values}{files}." if values else f"{self.name}."


def recognise(weights: Mapping[str, Any], path: str = "") -> Architecture | None:
    """Recognise a backbone of torchvision, timm, or one that Detectron2 has too.

    Args:
        weights: tensors or arrays by name, in the names of the file.
        path: of the file, whose name may tell which of several models it is.

    Returns:
        None where it is unknown, and for models of Detectron2.
    """
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    while shapes:
        found = _efficientnet(shapes) or _resnet(shapes) or _swin(shapes) or _vit(shapes)
        found = found or _torchvision_model(shapes) or _timm_model(shapes, path)
        if found is not None:
            return found
        inner = next((_inside(shapes, w) for w in _WRAPPERS if _inside(shapes, w)), None)
        if inner is None:
            break
        shapes = inner
    return None


def _inside(shapes: dict[str, tuple], prefix: str) -> dict[str, tuple]:
    return {n.removeprefix(prefix): s for n, s in shapes.items() if n.startswith(prefix)}


def _resnet(shapes: dict[str, tuple]) -> Architecture | None:
    """Recognise a ResNet or ResNeXt with the stem and shortcuts that Detectron2's has."""
    names = [
        m for name in shapes if (m := re.fullmatch(r"layer(\d)\.(\d+)\.conv(\d)\.weight", name))
    ]
    if not names or "conv1.weight" not in shapes:
        return None
    blocks = {stage: 1 + max(int(m[2]) for m in names if m[1] == stage) for stage in "1234"
              if any(m[1] == stage for m in names)}  # fmt: skip
    convs = max(int(m[3]) for m in names)
    depth = next((d for k, d in DEPTHS.items() if k == (tuple(blocks.values()), convs)), None)
    plain = not any(re.search(r"\.(se|attn|aa)\.|downsample\.2|\.bn4", name) for name in shapes)
    if depth is None or not plain:
        return None
    width, per_group = shapes["layer1.0.conv2.weight"][:2]
    groups = width // per_group
    settings: dict[str, Any] = {
        "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
        "MODEL.RESNETS.DEPTH": depth,
        "MODEL.RESNETS.STRIDE_IN_1X1": False,
        "INPUT.FORMAT": "RGB",
        "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
        "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
    }
    if convs == 2:
        settings["MODEL.RESNETS.RES2_OUT_CHANNELS"] = 64
    elif (groups, per_group) != (1, 64):
        settings |= {"MODEL.RESNETS.NUM_GROUPS": groups, "MODEL.RESNETS.WIDTH_PER_GROUP": per_group}
    kind = f"ResNeXt-{depth} {groups}x{per_group}d" if groups > 1 else f"ResNet-{depth}"
    kind = f"Wide {kind}" if groups == 1 and convs == 3 and width > 64 else kind
    configs = {
        18: ("configs/quick/pointrend_rcnn_R_18_FPN.yaml",),
        50: ("configs/coco/pointrend_rcnn_R_50_FPN_3x_coco.yaml",),
        101: ("configs/coco/pointrend_rcnn_R_101_FPN_3x_coco.yaml",),
    }.get(depth, ())
    return Architecture(
        f"{kind} of torchvision, timm or mmdetection", settings, configs if groups == 1 else ()
    )


def _efficientnet(shapes: dict[str, tuple]) -> Architecture | None:
    """Recognise a model of efficientnet-pytorch."""
    stem = shapes.get("_conv_stem.weight")
    if stem is None:
        return None
    blocks = 1 + max(int(n.split(".")[1]) for n in shapes if re.match(r"_blocks\.\d+\.", n))
    lite = not any("_se_reduce" in name for name in shapes)
    # The kinds differ in depth and in the width of the head.
    head = shapes.get("_conv_head.weight", (0,))[0]
    number = (_LITES if lite else _SIZES).get((blocks, 1280 if lite else head))
    if number is None:
        return Architecture("an EfficientNet of efficientnet-pytorch")
    name = f"tf_efficientnet_{'lite' if lite else 'b'}{number}"
    configs = (
        ("configs/quick/pointrend_rcnn_lite0_FPN.yaml",
         "configs/quick/pointrend_deeplabv3_lite0_OS16.yaml")
        if lite and number == 0 else ()
    )  # fmt: skip
    settings = {"MODEL.BACKBONE.NAME": "build_timm_fpn_backbone", "MODEL.TIMM.NAME": name}
    return Architecture(f"{name[3:]} of efficientnet-pytorch", settings, configs)


def _swin(shapes: dict[str, tuple]) -> Architecture | None:
    """Recognise Swin in the names of its publication, of mmdetection and of timm."""
    table = re.compile(r"layers\.(\d)\.blocks\.(\d+)\.attn\.relative_position_bias_table")
    found = {(int(m[1]), int(m[2])): s for n, s in shapes.items() if (m := table.fullmatch(n))}
    width = shapes.get("patch_embed.proj.weight", (0,))[0]
    if not found or not width:
        return None
    stages = sorted({stage for stage, _ in found})
    window = round((math.sqrt(found[0, 0][0]) + 1) / 2)
    settings = {
        "MODEL.BACKBONE.NAME": "build_swin_fpn_backbone",
        "MODEL.SWIN.EMBED_DIM": width,
        "MODEL.SWIN.DEPTHS": [sum(s == stage for s, _ in found) for stage in stages],
        "MODEL.SWIN.NUM_HEADS": [found[stage, 0][1] for stage in stages],
        "MODEL.SWIN.WINDOW_SIZE": window,
    }
    return Architecture(
        "a Swin transformer",
        settings,
        (
            "configs/coco/pointrend_rcnn_swin_T_FPN_3x_coco.yaml",
            "configs/cityscapes/pointrend_semantic_swin_T_FPN_1x_cityscapes.yaml",
        ),
    )


def _vit(shapes: dict[str, tuple]) -> Architecture | None:
    """Recognise a plain ViT in the names of timm and MAE."""
    patches, positions = shapes.get("patch_embed.proj.weight"), shapes.get("pos_embed")
    if patches is None or positions is None or "blocks.0.attn.qkv.weight" not in shapes:
        return None
    depth = 1 + max(int(n.split(".")[1]) for n in shapes if re.match(r"blocks\.\d+\.", n))
    if patches[2:] != (16, 16):
        return Architecture(
            f"a ViT with patches of {patches[2]} pixels, which ViTDet does not take"
        )
    settings = {
        "MODEL.BACKBONE.NAME": "build_vit_backbone",
        "MODEL.VIT.EMBED_DIM": patches[0],
        "MODEL.VIT.DEPTH": depth,
        "MODEL.VIT.NUM_HEADS": max(1, patches[0] // 64),
    }
    return Architecture(
        "a plain ViT", settings, ("configs/coco/pointrend_rcnn_vitdet_B_3x_coco.yaml",)
    )


def _torchvision_model(shapes: dict[str, tuple]) -> Architecture | None:
    """Recognise a published model of torchvision by its number of parameters."""
    from torchvision import models

    if not any(name.startswith(("features.", "trunk_output.", "layers.")) for name in shapes):
        return None
    count = sum(math.prod(s) for name, s in shapes.items() if not name.endswith(_BUFFERS))
    for name in models.list_models(module=models):
        weights = getattr(models.get_model_weights(name), "DEFAULT", None)
        if weights is not None and weights.meta.get("num_params") == count:
            node = "MODEL.TORCHVISION.NAME"
            return Architecture(
                f"{name} of torchvision",
                {"MODEL.BACKBONE.NAME": "build_torchvision_fpn_backbone", node: name},
                ("configs/quick/pointrend_rcnn_mobilenet_v3_FPN.yaml",)
                if name == "mobilenet_v3_small"
                else (),
            )
    return None


def _timm_model(shapes: dict[str, tuple], path: str) -> Architecture | None:
    """Recognise a model of timm: of the file's name, or of a family with such layers."""
    patterns = [p for layer, names in _FAMILIES.items() if layer in shapes for p in names]
    if not patterns or find_spec("timm") is None:
        return None
    import timm

    known = timm.list_models()
    stem = Path(path).stem
    named = sorted((n for n in known if stem.startswith(n)), key=len, reverse=True)
    family = [name for pattern in patterns for name in timm.list_models(pattern)]
    wanted = {n: s for n, s in shapes.items() if not n.endswith(_BUFFERS) and len(s) > 1}
    for name in list(dict.fromkeys([*named, *family]))[:_MOST_BUILT]:
        try:
            with torch.device("meta"):
                model: Any = timm.create_model(name, pretrained=False)
        except Exception:  # some models need real tensors to be built
            continue
        there = {n: tuple(p.shape) for n, p in model.named_parameters() if p.dim() > 1}
        classifier = model.pretrained_cfg.get("classifier") or ""
        heads = {f"{classifier}.weight"} if isinstance(classifier, str) else set()
        if {n: s for n, s in there.items() if n not in heads} == {
            n: s for n, s in wanted.items() if n not in heads
        }:
            settings = {"MODEL.BACKBONE.NAME": "build_timm_fpn_backbone", "MODEL.TIMM.NAME": name}
            return Architecture(f"{name} of timm", settings)
    return None
