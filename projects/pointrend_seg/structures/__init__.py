"""Mask types that sit in Detectron2's `Instances`, and class maps in the place of logits."""

from .box_masks import BoxMasks
from .class_map import ClassMap
from .rle_masks import RleMasks
from .shared_masks import SharedMasks, shared_masks

__all__ = ["BoxMasks", "ClassMap", "RleMasks", "SharedMasks", "shared_masks"]
