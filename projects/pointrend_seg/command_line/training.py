"""Options and setup of a training run."""

import argparse

from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser, default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from ..engine import load_config
from .options import add_common_options, add_data_options, data_opts


def train_parser() -> argparse.ArgumentParser:
    """Return a parser with Detectron2's training options and those of this package."""
    parser = default_argument_parser()
    add_common_options(parser)
    add_data_options(parser)
    return parser


def setup(args: argparse.Namespace) -> CfgNode:
    """Load the config, and set up log files, seed and output folder as Detectron2's tools do.

    Args:
        args: parsed by `train_parser`.

    Returns:
        the frozen config.
    """
    setup_logger(distributed_rank=comm.get_rank(), name="pointrend_seg")
    cfg = load_config(args.config_file, [*data_opts(args), *args.opts])
    cfg.freeze()
    default_setup(cfg, args)
    return cfg
