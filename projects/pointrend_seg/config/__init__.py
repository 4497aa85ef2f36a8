"""The config keys of this package, and configs of Detectron2's PointRend, there and back."""

from .adopt import adopt_config
from .keys import add_pointrend_config
from .revert import builtin_config

__all__ = ["add_pointrend_config", "adopt_config", "builtin_config"]
