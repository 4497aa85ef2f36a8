"""What backbones of other libraries share: names of feature maps, frozen parts, the FPN.

Feature maps have the names of a ResNet's: ``res2`` has stride 4, ``res3`` 8, ``res4`` 16 and
``res5`` 32. Where the last stages are dilated they keep their names, at a smaller stride.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...errors import InputError, did_you_mean


class ImageBackbone(Backbone):
    """A network of another library that gives feature maps as Detectron2's backbones do.

    Args:
        shapes: channels and stride of each feature map, from the finest to the coarsest.
    """

    def __init__(self, shapes: Mapping[str, ShapeSpec]):
        super().__init__()
        self._out_features = list(shapes)
        self._out_feature_channels = {name: shape.channels for name, shape in shapes.items()}
        self._out_feature_strides = {name: shape.stride for name, shape in shapes.items()}
        self._always_evaluating: list[nn.Module] = []

    @property
    def size_divisibility(self) -> int:
        """The multiple that images are padded to: every stage then has a whole number of cells."""
        return max(self._out_feature_strides.values())

    def freeze(self, modules: Iterable[nn.Module]) -> None:
        """Freeze modules without their children: no gradients, and always in evaluation mode."""
        for module in modules:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad = False
            self._always_evaluating.append(module)
            module.training = False

    def freeze_norm(self) -> None:
        """Freeze the BatchNorm layers: they use the statistics and scales of the weights."""
        self.freeze(module for module in self.modules() if isinstance(module, _BatchNorm))

    def train(self, mode: bool = True) -> nn.Module:
        """Set the mode of all but what is frozen."""
        super().train(mode)
        for module in self._always_evaluating:
            module.training = False
        return self


def feature_names(strides: Sequence[int], *, dilated: bool = False) -> dict[str, int]:
    """Name the stages of a network.

    Args:
        strides: of the output of each stage; powers of two, in ascending order.
        dilated: whether stages of the same stride are several that were made so by dilation.
            Otherwise the last one of each stride has the name.

    Returns:
        the number of the stage by name.

    Example:
        >>> feature_names([2, 4, 8, 8])
        {'res1': 0, 'res2': 1, 'res3': 3}
        >>> feature_names([4, 8, 16, 16], dilated=True)
        {'res2': 0, 'res3': 1, 'res4': 2, 'res5': 3}
    """
    names: dict[str, int] = {}
    level = -1
    for number, stride in enumerate(strides):
        own = int(math.log2(stride))
        level = max(own, level + 1) if dilated else own
        names[f"res{level}"] = number
    return names


def chosen_features(
    wanted: Sequence[str], there: Mapping[str, int], *, key: str, model: str
) -> list[str]:
    """Return the names of the wanted feature maps from the finest to the coarsest.

    Raises:
        InputError: the model does not have one of them, or one is named twice.
    """
    for name in wanted:
        if name not in there:
            raise InputError(
                f"{key} names {name!r}, which {model} does not give.{did_you_mean(name, there)} It "
                f"gives {', '.join(there)} (res2 has stride 4, res5 stride 32)."
            )
    if len(set(wanted)) < len(wanted):
        raise InputError(f"{key} is {list(wanted)}: each feature map may be named once.")
    return sorted(wanted, key=lambda name: there[name])


def modules_through(net: nn.Module, last: Sequence[str]) -> list[nn.Module] | None:
    """Return the modules of a network up to the end of one of them, in the order of their names.

    Args:
        last: names that the last module may have; None is returned if the network has none.
    """
    named = list(net.named_modules())
    for name in last:
        ends = [
            number
            for number, (each, _) in enumerate(named)
            if each == name or each.startswith(f"{name}.")
        ]
        if ends:
            return [module for _, module in named[: ends[-1] + 1]]
    return None


def with_fpn(cfg: CfgNode, bottom_up: Backbone) -> FPN:
    """Put Detectron2's feature pyramid over a backbone, with the keys of ``MODEL.FPN``.

    Raises:
        InputError: the feature maps are no successive ones that end with stride 32.
    """
    wanted = list(cfg.MODEL.FPN.IN_FEATURES)
    shapes = bottom_up.output_shape()
    for name in wanted:
        if name not in shapes:
            raise InputError(
                f"MODEL.FPN.IN_FEATURES names {name!r}, which {cfg.MODEL.BACKBONE.NAME} does not "
                f"give. It gives {', '.join(shapes)}."
            )
    strides = [shapes[name].stride for name in wanted]
    if strides != [32 >> step for step in range(len(strides))][::-1]:
        raise InputError(
            f"MODEL.FPN.IN_FEATURES {wanted} have the strides {strides}. An FPN needs successive "
            "ones up to 32, each twice the one before: [4, 8, 16, 32], for example."
        )
    return FPN(
        bottom_up=bottom_up,
        in_features=wanted,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
