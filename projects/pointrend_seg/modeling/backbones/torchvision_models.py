"""Classification models of torchvision as Detectron2 backbones.

A model can be one where a part computes one map after the other: ``features`` (ConvNeXt, Swin,
EfficientNet, MobileNet, DenseNet, VGG, MNASNet and others), ResNet's stem and layers, or RegNet's.
"""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN
from torch import Tensor, nn
from torchvision import models

from ...config.keys import TORCHVISION_NODE
from ...errors import InputError, did_you_mean, first_line
from .image_backbone import ImageBackbone, chosen_features, feature_names, with_fpn

_PROBED_SIZE = (64, 96)
_RESNET = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
_SEQUENCES = ("features", "trunk_output", "layers")


class TorchvisionBackbone(ImageBackbone):
    """The maps of a sequence of modules; weights have the names of torchvision's model.

    Args:
        stages: the modules in their order, by name; ``features.0`` is in the module ``features``.
        outputs: the name of the last module of each feature map, by the name of the map.
        shapes: channels and stride of each map.
        channels_last: whether the maps are (N, h, w, C).
    """

    def __init__(
        self,
        stages: dict[str, nn.Module],
        outputs: dict[str, str],
        shapes: dict[str, ShapeSpec],
        *,
        channels_last: bool,
    ):
        super().__init__(shapes)
        for name, module in stages.items():
            parent, _, leaf = name.rpartition(".")
            if parent and not hasattr(self, parent):
                self.add_module(parent, nn.Module())
            (getattr(self, parent) if parent else self).add_module(leaf, module)
        self._stages = tuple(stages)
        self._map_names = {module: name for name, module in outputs.items()}
        self.channels_last = channels_last

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the feature maps (N, C, h, w) of normalised images (N, 3, H, W)."""
        maps, x = {}, images
        for name in self._stages:
            x = self.get_submodule(name)(x)
            if name in self._map_names:
                maps[self._map_names[name]] = x.permute(0, 3, 1, 2) if self.channels_last else x
        return maps


@BACKBONE_REGISTRY.register()
def build_torchvision_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TorchvisionBackbone:
    """Build ``MODEL.TORCHVISION.NAME``, with the maps of ``MODEL.TORCHVISION.OUT_FEATURES``."""
    wanted = cfg.MODEL.TORCHVISION.OUT_FEATURES
    return _build(cfg, input_shape, wanted, key=f"{TORCHVISION_NODE}.OUT_FEATURES")


@BACKBONE_REGISTRY.register()
def build_torchvision_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build ``MODEL.TORCHVISION.NAME`` with an FPN over the maps of ``MODEL.FPN.IN_FEATURES``."""
    wanted = cfg.MODEL.FPN.IN_FEATURES
    return with_fpn(cfg, _build(cfg, input_shape, wanted, key="MODEL.FPN.IN_FEATURES"))


def check_torchvision_name(name: str) -> None:
    """Raise `InputError` where torchvision has no classification model of a name."""
    known = models.list_models(module=models)
    if name not in known:
        raise InputError(
            f"{TORCHVISION_NODE}.NAME is {name!r}, which is no classification model of torchvision."
            f"{did_you_mean(name, known)} Known: {', '.join(known)}."
        )


def _build(
    cfg: CfgNode, input_shape: ShapeSpec, wanted: Sequence[str], *, key: str
) -> TorchvisionBackbone:
    node = cfg.MODEL.TORCHVISION
    check_torchvision_name(node.NAME)
    net = _create(node)
    stages = _sequence(net)
    if stages is None:
        raise InputError(
            f"{node.NAME} of torchvision computes its maps in no single sequence of modules. "
            "Choose another, such as resnet50 or convnext_tiny, or a model of timm."
        )
    _adapt_channels(stages, input_shape.channels)
    channels_last = isinstance(net, models.SwinTransformer)
    shapes = _probe(net, stages, input_shape.channels, channels_last)
    names = list(stages)
    strides = [shape.stride or 1 for shape in shapes]
    dilated = node.OUTPUT_STRIDE < 32
    if dilated:  # only ResNets are: their layers are the stages
        layers = [names.index(f"layer{number}") for number in (1, 2, 3, 4)]
        numbers = {f"res{level}": place for level, place in enumerate(layers, start=2)}
    else:
        numbers = feature_names(strides)
    chosen = chosen_features(wanted, numbers, key=key, model=f"{node.NAME} of torchvision")
    for name in chosen:
        if not shapes[numbers[name]].stride:
            raise InputError(
                f"{name} of {node.NAME} of torchvision is no whole fraction of the image. Choose "
                "another model, such as resnet50, or one of timm."
            )
    last = numbers[chosen[-1]]
    backbone = TorchvisionBackbone(
        {name: stages[name] for name in names[: last + 1]},
        {name: names[numbers[name]] for name in chosen},
        {name: shapes[numbers[name]] for name in chosen},
        channels_last=channels_last,
    )
    frozen = [n for name, n in numbers.items() if int(name[3:]) <= cfg.MODEL.BACKBONE.FREEZE_AT]
    if frozen:
        kept = [stages[name] for name in names[: max(frozen) + 1]]
        backbone.freeze(module for stage in kept for module in stage.modules())
    if node.FREEZE_NORM:
        backbone.freeze_norm()
    return backbone


def _create(node: CfgNode) -> nn.Module:
    """Build the model with random weights.

    Raises:
        InputError: it does not have the options that the config asks for.
    """
    options: dict[str, Any] = {}
    if node.DROP_PATH:
        options["stochastic_depth_prob"] = node.DROP_PATH
    if node.OUTPUT_STRIDE < 32:
        options["replace_stride_with_dilation"] = [
            False,
            node.OUTPUT_STRIDE < 16,
            True,
        ]
    try:
        return models.get_model(node.NAME, weights=None, **options)
    except (TypeError, ValueError, NotImplementedError) as error:
        keys = {"stochastic_depth_prob": "DROP_PATH 0", "replace_stride": "OUTPUT_STRIDE 32"}
        wanted = [
            key for option, key in keys.items() if any(name.startswith(option) for name in options)
        ]
        raise InputError(
            f"{node.NAME} of torchvision cannot be built so: {first_line(error)}. Set "
            f"{' and '.join(f'{TORCHVISION_NODE}.{key}' for key in wanted) or 'another NAME'}."
        ) from error


def _sequence(net: nn.Module) -> dict[str, nn.Module] | None:
    """Return the modules that compute the maps in their order, by name; None if unknown."""
    children = dict(net.named_children())
    if isinstance(net, models.ResNet):
        return {name: children[name] for name in _RESNET}
    for name in _SEQUENCES:
        trunk = children.get(name)
        if isinstance(trunk, nn.Sequential):
            stem = {"stem": children["stem"]} if "stem" in children else {}
            return stem | {f"{name}.{leaf}": module for leaf, module in trunk.named_children()}
    return None


def _adapt_channels(stages: dict[str, nn.Module], channels: int) -> None:
    """Replace the first convolution by one for images of another number of channels."""
    if channels == 3:
        return
    name, first = next(iter(stages.items()))
    path = next(path for path, each in first.named_modules() if isinstance(each, nn.Conv2d))
    new = _convolution_like(first.get_submodule(path), channels)
    if not path:
        stages[name] = new
        return
    parent, _, leaf = path.rpartition(".")
    setattr(first.get_submodule(parent), leaf, new)


def _convolution_like(conv: nn.Module, channels: int) -> nn.Conv2d:
    options = {
        name: getattr(conv, name)
        for name in ("kernel_size", "stride", "padding", "dilation", "padding_mode")
    }
    assert isinstance(conv, nn.Conv2d)
    return nn.Conv2d(channels, conv.out_channels, bias=conv.bias is not None, **options)


def _probe(
    net: nn.Module, stages: dict[str, nn.Module], channels: int, channels_last: bool
) -> list[ShapeSpec]:
    """Return channels and stride of the output of each stage, measured on a blank image.

    The stride is 0 where the map is no whole fraction of the image.
    """
    height, width = _PROBED_SIZE
    x = torch.zeros(1, channels, height, width)
    shapes = []
    net.eval()
    with torch.no_grad():
        for stage in stages.values():
            x = stage.eval()(x)
            depth, h, w = (x.shape[dim] for dim in ((3, 1, 2) if channels_last else (1, 2, 3)))
            is_whole = height * w == width * h and height % h == 0
            shapes.append(ShapeSpec(channels=depth, stride=height // h if is_whole else 0))
    net.train()
    for stage in stages.values():
        stage.train()
    return shapes
