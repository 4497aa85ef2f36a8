"""Add the config keys of this package, and adopt configs of Detectron2's PointRend."""

from .adopt import adopt_config
from .keys import add_pointrend_config

__all__ = ["add_pointrend_config", "adopt_config"]
