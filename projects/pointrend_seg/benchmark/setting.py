"""Where and how cases are measured, and what they are made of."""

from dataclasses import dataclass

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_sem_seg_head
from detectron2.projects.point_rend import add_pointrend_config as add_builtin_config
from torch import Tensor, nn
from torch.nn import functional as F

from ..config.adopt import adopt_config


@dataclass(frozen=True)
class Setting:
    """
    Attributes:
        device: that everything is on.
        dtype: float32, or what autocast computes in.
        seed: of all random numbers.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    seed: int = 0

    def autocast(self):
        enabled = self.dtype != torch.float32
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=enabled)

    def generator(self) -> torch.Generator:
        """Of random numbers on the CPU, the same for every device."""
        return torch.Generator().manual_seed(self.seed)

    def randn(self, *shape: int, generator: torch.Generator) -> Tensor:
        return torch.randn(*shape, generator=generator).to(self.device)


def builtin_cfg(device: torch.device) -> CfgNode:
    """Detectron2's defaults with the keys of its PointRend."""
    cfg = get_cfg()
    add_builtin_config(cfg)
    cfg.MODEL.DEVICE = str(device)
    return cfg


def instance_cfg(device: torch.device, num_classes: int) -> CfgNode:
    """The published recipe: 7 x 7 refined to 224 x 224 by 28 x 28 points a step."""
    cfg = builtin_cfg(device)
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.POINT_HEAD.NUM_CLASSES = num_classes
    cfg.MODEL.ROI_MASK_HEAD.NAME = "PointRendMaskHead"
    cfg.MODEL.ROI_MASK_HEAD.POOLER_TYPE = ""
    cfg.MODEL.ROI_MASK_HEAD.POINT_HEAD_ON = True
    return cfg


def pair(build, cfg: CfgNode, setting: Setting) -> dict[str, nn.Module]:
    """The built-in's module and ours from its config, with the same weights.

    Args:
        build: makes a module from a config.
    """
    torch.manual_seed(setting.seed)
    builtin = build(cfg).to(setting.device)
    ours = build(adopt_config(cfg.clone())).to(setting.device)
    ours.load_state_dict(builtin.state_dict(), strict=True)
    return {"builtin": builtin, "ours": ours}


def semantic_pair(
    setting: Setting, num_classes: int, channels: int, num_points: int
) -> tuple[dict[str, nn.Module], dict[str, int]]:
    """Semantic FPN with PointRend at stride 4, and the strides of the maps that it reads."""
    cfg = builtin_cfg(setting.device)
    cfg.MODEL.SEM_SEG_HEAD.NAME = "PointRendSemSegHead"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = cfg.MODEL.POINT_HEAD.NUM_CLASSES = num_classes
    cfg.MODEL.POINT_HEAD.SUBDIVISION_STEPS = 2
    cfg.MODEL.POINT_HEAD.TRAIN_NUM_POINTS = num_points
    cfg.MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS = num_points
    strides = {f"p{k}": 2**k for k in range(2, 6)}
    shape = {name: ShapeSpec(channels=channels, stride=s) for name, s in strides.items()}
    return pair(lambda cfg: build_sem_seg_head(cfg, shape), cfg, setting), strides


def wake_up(mask_head: nn.Module) -> None:
    """Make predictions differ from 0, as a trained head's do; fresh weights are all but 0."""
    with torch.no_grad():
        mask_head.coarse_head.prediction.weight.mul_(100)
        mask_head.point_head.predictor.weight.mul_(100)


def smooth_noise(setting: Setting, channels: int, height: int, width: int) -> Tensor:
    """Logits (1, channels, height, width) with regions, edges and a little noise."""
    generator = setting.generator()
    coarse = torch.randn(1, channels, height // 8 + 2, width // 8 + 2, generator=generator) * 3
    smooth = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
    return (smooth + 0.1 * torch.randn(smooth.shape, generator=generator)).to(setting.device)


def random_boxes(
    number: int, size: tuple[int, int], generator: torch.Generator, smallest: int = 8
) -> Tensor:
    """(number, 4), of so many pixels or more, anywhere in an image of (height, width)."""
    corners = torch.rand(number, 2, 2, generator=generator).sort(dim=1).values
    room = torch.tensor([size[1] - smallest, size[0] - smallest])
    boxes = (corners * room).flatten(1)
    boxes[:, 2:] += smallest
    return boxes
