"""Config keys, and configs that are written for Detectron2's PointRend."""

from .adopt import adopt_config
from .keys import add_pointrend_config

__all__ = ["add_pointrend_config", "adopt_config"]
