"""What the command-line tools share: options, exit statuses, how a mistake is shown."""

from .options import add_common_options, add_data_options, data_opts
from .running import Findings, run_tool

__all__ = ["Findings", "add_common_options", "add_data_options", "data_opts", "run_tool"]
