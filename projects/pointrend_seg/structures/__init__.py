"""Mask types that sit in Detectron2's `Instances`."""

from .box_masks import BoxMasks
from .shared_masks import SharedMasks, shared_masks

__all__ = ["BoxMasks", "SharedMasks", "shared_masks"]
