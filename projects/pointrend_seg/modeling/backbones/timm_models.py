"""Any model of timm that gives feature maps, as a Detectron2 backbone."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN
from torch import Tensor, nn

from ...config.keys import TIMM_NODE
from ...errors import InputError, did_you_mean, first_line
from .image_backbone import (
    ImageBackbone,
    chosen_features,
    feature_names,
    modules_through,
    with_fpn,
)

# What makes models of one image size take images of any: windows, position embeddings.
_ANY_SIZE: tuple[dict[str, bool], ...] = (
    {},
    {"strict_img_size": False},
    {"dynamic_img_size": True},
)
_PROBED_SIZE = (64, 96)


class TimmBackbone(ImageBackbone):
    """The feature maps of a model of timm, to the bit.

    Weights have the names of timm's ``features_only`` models, below ``net``.

    Args:
        net: what `timm.create_model` makes with ``features_only=True``.
        shapes: channels and stride of its feature maps, from the finest to the coarsest.
        channels_last: whether the maps are (N, h, w, C).
    """

    def __init__(self, net: nn.Module, shapes: dict[str, ShapeSpec], *, channels_last: bool):
        super().__init__(shapes)
        self.net = net
        self.channels_last = channels_last

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the feature maps (N, C, h, w) of normalised images (N, 3, H, W)."""
        maps = self.net(images)
        if self.channels_last:
            maps = [each.permute(0, 3, 1, 2).contiguous() for each in maps]
        return dict(zip(self._out_features, maps, strict=True))


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """Build ``MODEL.TIMM.NAME``, with the feature maps of ``MODEL.TIMM.OUT_FEATURES``."""
    wanted = cfg.MODEL.TIMM.OUT_FEATURES
    return _build(cfg, input_shape, wanted, key=f"{TIMM_NODE}.OUT_FEATURES")


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build ``MODEL.TIMM.NAME`` with an FPN over the maps of ``MODEL.FPN.IN_FEATURES``."""
    wanted = cfg.MODEL.FPN.IN_FEATURES
    return with_fpn(cfg, _build(cfg, input_shape, wanted, key="MODEL.FPN.IN_FEATURES"))


def import_timm() -> ModuleType:
    """Import timm.

    Raises:
        InputError: it is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise InputError(
            "Backbones of timm need the package timm: pip install timm (or pip install -e "
            '".[timm]").'
        ) from error
    return timm


def check_timm_name(name: str) -> None:
    """Raise `InputError` where timm has no model of a name.

    Args:
        name: with or without the tag of its weights, such as ``resnet50`` or ``resnet50.a1_in1k``.
    """
    timm = import_timm()
    if not name or not timm.is_model(name.partition(".")[0]):
        near = did_you_mean(name, timm.list_models())
        raise InputError(
            f"{TIMM_NODE}.NAME is {name!r}, which is no model of timm {timm.__version__}.{near} "
            "timm.list_models() lists all."
        )


def _build(
    cfg: CfgNode, input_shape: ShapeSpec, wanted: Sequence[str], *, key: str
) -> TimmBackbone:
    node = cfg.MODEL.TIMM
    check_timm_name(node.NAME)
    options: dict[str, Any] = {"in_chans": input_shape.channels}
    if node.DROP_PATH:
        options["drop_path_rate"] = node.DROP_PATH
    dilated = node.OUTPUT_STRIDE < 32
    if dilated:
        options["output_stride"] = node.OUTPUT_STRIDE
    features = _create(node.NAME, options).feature_info.info
    strides = [each["reduction"] for each in features]
    if any(stride & (stride - 1) for stride in strides):
        raise InputError(
            f"{node.NAME} has feature maps of the strides {strides}; a backbone needs powers of "
            "two. Choose another model of timm."
        )
    numbers = feature_names(strides, dilated=dilated)
    names = chosen_features(wanted, numbers, key=key, model=f"{node.NAME} of timm")
    out_indices = [numbers[name] for name in names]
    net, maps = _with_any_size(node.NAME, {**options, "out_indices": out_indices}, input_shape)
    channels = net.feature_info.channels()
    channels_last = str(getattr(net, "output_fmt", "NCHW")).endswith("NHWC")
    shapes = {
        name: ShapeSpec(channels=channels[place], stride=strides[numbers[name]])
        for place, name in enumerate(names)
    }
    for (name, shape), each in zip(shapes.items(), maps, strict=True):
        size = each.shape[1:3] if channels_last else each.shape[2:]
        if tuple(size) != tuple(side // shape.stride for side in _PROBED_SIZE):
            raise InputError(
                f"{node.NAME} gives a map of {tuple(size)} cells as {name} of an image of "
                f"{_PROBED_SIZE} pixels, which is not its stride, {shape.stride}. Choose another "
                "model of timm."
            )
    backbone = TimmBackbone(net, shapes, channels_last=channels_last)
    _freeze(backbone, features, numbers, cfg.MODEL.BACKBONE.FREEZE_AT, node.NAME)
    if node.FREEZE_NORM:
        backbone.freeze_norm()
    return backbone


def _create(name: str, options: dict[str, Any]) -> Any:
    """Build a model of feature maps with random weights.

    Raises:
        InputError: the model has no feature maps, or not the options that the config asks for.
    """
    timm = import_timm()
    try:
        return timm.create_model(name, pretrained=False, features_only=True, **options)
    except Exception as error:
        keys = {"drop_path_rate": "DROP_PATH", "output_stride": "OUTPUT_STRIDE"}
        used = [f"{TIMM_NODE}.{key}" for option, key in keys.items() if option in options]
        advice = f"Set {' and '.join(used)} to the default, or choose" if used else "Choose"
        raise InputError(
            f"{name} of timm cannot be built as a backbone: {first_line(error)}. {advice} another "
            "model."
        ) from error


def _with_any_size(
    name: str, options: dict[str, Any], input_shape: ShapeSpec
) -> tuple[Any, list[Tensor]]:
    """Build a model that takes images of any size, and return it with its maps of a blank one."""
    blank = torch.zeros(1, input_shape.channels, *_PROBED_SIZE)
    errors = []
    for more in _ANY_SIZE:
        try:
            net = _create(name, {**options, **more})
            with torch.no_grad():
                maps = net.eval()(blank)
        except Exception as error:
            errors.append(error)
            continue
        return net.train(), maps
    first = errors[0]
    if isinstance(first, InputError):
        raise first
    raise InputError(
        f"{name} of timm takes images of one size only ({first_line(first)}). Choose a model that "
        "takes any."
    )


def _freeze(
    backbone: TimmBackbone, features: list[dict], numbers: dict[str, int], stage: int, name: str
) -> None:
    """Freeze the stem and the stages up to ``res<stage>``; below 1 nothing."""
    if stage < 1:
        return
    levels = {int(each.removeprefix("res")): number for each, number in numbers.items()}
    known = [level for level in levels if level <= stage]
    if known:
        module = features[levels[max(known)]]["module"]
        modules = modules_through(backbone.net, _spellings(module))
    else:  # all that comes before the first stage
        first = features[0]["module"]
        modules = modules_through(backbone.net, _spellings(first))
        own = modules_in(backbone.net, _spellings(first))
        modules = modules and [each for each in modules if each not in own]
    if not modules:
        raise InputError(
            f"MODEL.BACKBONE.FREEZE_AT is {stage}, but the stages of {name} are not modules of its "
            "own that could be frozen. Set it to 0."
        )
    backbone.freeze(modules)


def _spellings(module: str) -> list[str]:
    """Return the names that a module of timm may have among those of feature maps."""
    return [module, module.replace(".", "_", 1), f"model.{module}"]


def modules_in(net: nn.Module, names: Sequence[str]) -> set[nn.Module]:
    """Return a module of a network, by one of its possible names, with all that it holds."""
    named = dict(net.named_modules())
    return next((set(named[name].modules()) for name in names if name in named), set())
