"""Make what cases consist of: heads with equal weights, features, boxes and masks."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_mask_head, build_sem_seg_head
from detectron2.projects.point_rend import add_pointrend_config as add_builtin_config
from torch import Tensor, nn
from torch.nn import functional as F

from ..config.adopt import adopt_config

CHANNELS = 256  # of all feature maps
Pair = tuple[nn.Module, nn.Module]  # ours, the built-in's


@dataclass(frozen=True)
class Setting:
    """Where and how cases are measured.

    Attributes:
        device: the device of all models and tensors.
        dtype: float32, or the dtype of autocast.
        seed: the seed of all random numbers.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    seed: int = 0

    def autocast(self) -> torch.autocast:
        """Return a context in which ``dtype`` is computed in."""
        enabled = self.dtype != torch.float32
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=enabled)

    def generator(self) -> torch.Generator:
        """Return a seeded generator on the CPU, so that all devices get the same numbers."""
        return torch.Generator().manual_seed(self.seed)

    def features(
        self,
        strides: dict[str, int],
        size: tuple[int, int],
        generator: torch.Generator,
        num_images: int = 1,
    ) -> dict[str, Tensor]:
        """Draw normal feature maps of images of (height, width), by the names of their strides."""
        shapes = {n: (num_images, CHANNELS, size[0] // s, size[1] // s) for n, s in strides.items()}
        return {
            name: torch.randn(shape, generator=generator).to(self.device)
            for name, shape in shapes.items()
        }


def builtin_cfg(device: torch.device) -> CfgNode:
    """Return Detectron2's defaults with the keys of its PointRend."""
    cfg = get_cfg()
    add_builtin_config(cfg)
    cfg.MODEL.DEVICE = str(device)
    return cfg


def instance_cfg(device: torch.device, num_classes: int) -> CfgNode:
    """Return the published recipe: 7 x 7 refined to 224 x 224 by 28 x 28 points a step."""
    cfg = builtin_cfg(device)
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.POINT_HEAD.NUM_CLASSES = num_classes
    cfg.MODEL.ROI_MASK_HEAD.NAME = "PointRendMaskHead"
    cfg.MODEL.ROI_MASK_HEAD.POOLER_TYPE = ""
    cfg.MODEL.ROI_MASK_HEAD.POINT_HEAD_ON = True
    return cfg


def pair(build: Callable[[CfgNode], nn.Module], cfg: CfgNode, setting: Setting) -> Pair:
    """Build our module, and the built-in's from the same config with the same weights.

    Args:
        build: makes a module from a config.
        cfg: written for Detectron2's PointRend.
    """
    torch.manual_seed(setting.seed)
    builtin = build(cfg).to(setting.device)
    ours = build(adopt_config(cfg.clone())).to(setting.device)
    ours.load_state_dict(builtin.state_dict(), strict=True)
    return ours, builtin


def instance_pair(setting: Setting, num_classes: int) -> tuple[Pair, dict[str, int]]:
    """Build mask heads of the published recipe; return them with the strides of their features."""
    cfg = instance_cfg(setting.device, num_classes)
    input_shape = {"p2": ShapeSpec(channels=CHANNELS, stride=4)}
    heads = pair(lambda cfg: build_mask_head(cfg, input_shape), cfg, setting)
    for head in heads:
        wake_up(head)
    return heads, {"p2": 4}


def semantic_pair(
    setting: Setting, num_classes: int, num_points: int
) -> tuple[Pair, dict[str, int]]:
    """Build Semantic FPN with PointRend at stride 4; return it with the strides of its features."""
    cfg = builtin_cfg(setting.device)
    cfg.MODEL.SEM_SEG_HEAD.NAME = "PointRendSemSegHead"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = cfg.MODEL.POINT_HEAD.NUM_CLASSES = num_classes
    cfg.MODEL.POINT_HEAD.SUBDIVISION_STEPS = 2
    cfg.MODEL.POINT_HEAD.TRAIN_NUM_POINTS = num_points
    cfg.MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS = num_points
    strides = {f"p{k}": 2**k for k in range(2, 6)}
    input_shape = {name: ShapeSpec(channels=CHANNELS, stride=s) for name, s in strides.items()}
    return pair(lambda cfg: build_sem_seg_head(cfg, input_shape), cfg, setting), strides


def wake_up(mask_head: nn.Module) -> None:
    """Scale the predictors' weights: fresh ones predict almost 0, unlike those of trained heads."""
    with torch.no_grad():
        for name in ("coarse_head.prediction.weight", "point_head.predictor.weight"):
            mask_head.get_parameter(name).mul_(100)


def smooth_noise(setting: Setting, channels: int, height: int, width: int) -> Tensor:
    """Draw logits (1, channels, height, width) with regions, edges and a little noise."""
    generator = setting.generator()
    coarse = torch.randn(1, channels, height // 8 + 2, width // 8 + 2, generator=generator) * 3
    smooth = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
    return (smooth + 0.1 * torch.randn(smooth.shape, generator=generator)).to(setting.device)


def random_boxes(
    number: int, size: tuple[int, int], generator: torch.Generator, smallest: int = 8
) -> Tensor:
    """Draw boxes (number, 4) in an image of (height, width), each side ``smallest`` or more."""
    corners = torch.rand(number, 2, 2, generator=generator).sort(dim=1).values
    room = torch.tensor([size[1] - smallest, size[0] - smallest])
    boxes = (corners * room).flatten(1)
    boxes[:, 2:] += smallest
    return boxes
