"""Backbones of timm, of torchvision and of Detectron2's transformers, registered by name.

Importing this package imports neither timm nor torchvision's models: building a backbone does.
"""

from .timm_models import build_timm_backbone, build_timm_fpn_backbone
from .torchvision_models import build_torchvision_backbone, build_torchvision_fpn_backbone
from .transformers import build_mvit_fpn_backbone, build_swin_fpn_backbone, build_vit_backbone

__all__ = [
    "build_mvit_fpn_backbone",
    "build_swin_fpn_backbone",
    "build_timm_backbone",
    "build_timm_fpn_backbone",
    "build_torchvision_backbone",
    "build_torchvision_fpn_backbone",
    "build_vit_backbone",
]
