"""The command line of a training: its options, and what stands before it."""

import argparse

from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser, default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from ..engine import load_config
from .options import add_common_options, add_data_options, data_opts


def train_parser() -> argparse.ArgumentParser:
    """The options of Detectron2's train_net.py, those for data of one's own, and ``--debug``."""
    parser = default_argument_parser()
    add_common_options(parser)
    add_data_options(parser)
    return parser


def setup(args: argparse.Namespace) -> CfgNode:
    """Config, log files, seed and output folder of a run, as Detectron2's tools have them.

    Args:
        args: of `train_parser`.
    """
    setup_logger(distributed_rank=comm.get_rank(), name="pointrend_seg")
    cfg = load_config(args.config_file, [*data_opts(args), *args.opts])
    cfg.freeze()
    default_setup(cfg, args)
    return cfg
