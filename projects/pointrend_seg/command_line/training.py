"""Options and setup of a training run."""

import argparse
import contextlib
import logging
from collections.abc import Callable, Iterator

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng

from ..engine import load_config
from ..engine.lazy_settings import in_lazy_names, load_settings
from ..engine.rendezvous import START_TIMEOUT, Processes
from ..engine.run_folder import RunFolder
from ..engine.run_weights import weights_of_run
from ..engine.stopping import stoppable
from ..engine.trainer import check_batch_size
from ..errors import InputError, versions
from ..files.names import path_inside
from .options import add_common_options, add_data_options, add_remote_option, data_opts
from .running import escape_log_messages, hide_explained_errors
from .terminal import shown_on_terminal

logger = logging.getLogger(__name__)

ReadConfig = Callable[[argparse.Namespace, int], CfgNode]  # with the number of processes

# What a run appends to, or would find out late: they must be no links.
_WRITTEN = (
    *("log.txt", "config.yaml", "lazy_config.yaml", "metrics.json", "last_checkpoint"),
    "training.lock",
    "inference",
)
_HELP = {
    "num_gpus": "GPUs, and so processes, on each machine; processes on the CPU if it has no GPU",
    "dist_url": "tcp://HOST:PORT of machine 0, with --num-machines",
}


def train_parser(*, lazy: bool = False) -> argparse.ArgumentParser:
    """Return a parser with Detectron2's training options and those of this package.

    Args:
        lazy: for Python configs, which are not fetched from addresses.
    """
    parser = default_argument_parser()
    add_common_options(parser)
    add_data_options(parser)
    if not lazy:
        add_remote_option(parser)
    parser.set_defaults(dist_url="auto")
    for action in parser._actions:
        action.help = _HELP.get(action.dest, action.help)
    parser.add_argument(
        "--start-timeout",
        type=float,
        default=START_TIMEOUT,
        metavar="SECONDS",
        help=f"how long to wait for all processes to start, default {START_TIMEOUT:g}",
    )
    return parser


def launch_options(args: argparse.Namespace) -> dict:
    """Return the options of `train_parser` that are for `launch`, as its keywords."""
    return {
        "num_processes": args.num_gpus,
        "num_machines": args.num_machines,
        "machine_rank": args.machine_rank,
        "dist_url": args.dist_url,
        "start_timeout": args.start_timeout,
    }


def read_config(args: argparse.Namespace, num_processes: int) -> CfgNode:
    """Load the config of a run, and check that so many processes can share its batch.

    Raises:
        InputError: there is no ``--config-file``, or the config or its data sets are wrong.
    """
    if not args.config_file:
        given = next((each for each in args.opts if each.endswith((".yaml", ".yml"))), "")
        raise InputError(
            f"There is no --config-file. Write --config-file {given}."
            if given
            else "There is no --config-file, which names the model to train or evaluate. Use for "
            "example configs/quick/pointrend_rcnn_R_18_FPN.yaml (instances), "
            "configs/quick/pointrend_deeplabv3_R_18_OS16.yaml (semantic), or the config.yaml of a "
            "training."
        )
    cfg = load_config(
        args.config_file,
        [*data_opts(args), *args.opts],
        allow_remote=args.allow_remote_config,
    )
    cfg.freeze()
    if not args.eval_only:
        check_batch_size(cfg, num_processes)
    return cfg


def read_lazy_config(args: argparse.Namespace, num_processes: int) -> CfgNode:
    """Load the Python config of a run, as `read_config` loads a YAML one.

    Returns:
        `LazySettings`, frozen.
    """
    if not args.config_file:
        given = next((each for each in args.opts if each.endswith(".py")), "")
        raise InputError(
            f"There is no --config-file. Write --config-file {given}."
            if given
            else "There is no --config-file, which names the Python config to train or evaluate, "
            "for example configs/lazy/quick/pointrend_rcnn_R_18_FPN.py."
        )
    settings = load_settings(args.config_file, args.opts, data_opts(args))
    settings.freeze()
    if not args.eval_only:
        try:
            check_batch_size(settings, num_processes)
        except InputError as error:
            raise in_lazy_names(error) from error
    return settings


def check_start(
    args: argparse.Namespace, num_processes: int, *, read: ReadConfig = read_config
) -> str:
    """Look at the config before processes are started, which report it themselves.

    Args:
        read: loads the config.

    Returns:
        ``MODEL.DEVICE``.

    Raises:
        InputError: as `read_config`.
    """
    logging.disable()
    try:
        return read(args, num_processes).MODEL.DEVICE
    finally:
        logging.disable(logging.NOTSET)


def _take_weights_of_run(cfg: CfgNode, config_file: str) -> None:
    """Evaluate what a training wrote, where the config is its own and no weights are given."""
    weights = weights_of_run(config_file)
    if weights:
        cfg.defrost()
        cfg.MODEL.WEIGHTS = weights
        cfg.freeze()


@contextlib.contextmanager
def setup(
    args: argparse.Namespace,
    processes: Processes | None = None,
    *,
    read: ReadConfig = read_config,
) -> Iterator[tuple[CfgNode, RunFolder]]:
    """Load the config, set up logs and seed as Detectron2's tools do, and hold the output folder.

    Args:
        args: parsed by `train_parser`.
        processes: of the run, which this one joins; None for one process.
        read: loads the config.

    Yields:
        the frozen config, and the output folder, whose ``begin`` the run calls when all is checked.
    """
    processes = processes or Processes()
    hide_explained_errors()
    escape_log_messages()
    with stoppable(), RunFolder() as folder, shown_on_terminal(rank=processes.rank):
        cfg = read(args, processes.count)
        if args.eval_only and not args.resume and "MODEL.WEIGHTS" not in args.opts:
            _take_weights_of_run(cfg, args.config_file)
        for name in (*_WRITTEN, f"log.txt.rank{processes.rank}"):
            path_inside(cfg.OUTPUT_DIR, name)
        processes.join(cfg.MODEL.DEVICE)
        if not args.eval_only:
            folder.lock(cfg)
        _log_details(cfg, args)
        seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + processes.rank)
        if not args.eval_only:
            torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
        yield cfg, folder


def _log_details(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Log what a bug report needs: one line for the terminal, the rest for log.txt."""
    logger.info("Versions: %s", versions())
    logger.info("Config: %s", args.config_file or "Detectron2's defaults")
    logger.debug("Environment:\n%s", collect_env_info())
    logger.debug("Command line arguments: %s", args)
    logger.debug("Full config:\n%s", cfg.dump())
