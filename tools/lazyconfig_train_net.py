#!/usr/bin/env python
r"""Train or evaluate the model of a LazyConfig, Detectron2's configs in Python.

    python tools/lazyconfig_train_net.py \
        --config-file configs/lazy/quick/pointrend_rcnn_R_18_FPN.py \
        train.output_dir=output/run train.max_iter=1000 optimizer.lr=0.01
    python tools/lazyconfig_train_net.py --resume \
        --config-file configs/lazy/quick/pointrend_rcnn_R_18_FPN.py train.output_dir=output/run
    python tools/lazyconfig_train_net.py --eval-only \
        --config-file configs/lazy/quick/pointrend_rcnn_R_18_FPN.py \
        train.init_checkpoint=output/run/model_final.pth
    python tools/lazyconfig_train_net.py --num-gpus 8 \
        --config-file configs/lazy/coco/pointrend_rcnn_R_50_FPN_1x_coco.py

A LazyConfig is a program: this tool runs it, whatever it does. Run only files of people you trust.
Changes are written key=value. The other options are those of train_net.py; see
docs/lazy-configs.md.
"""

import startup  # noqa: F401

import argparse
from functools import partial

from pointrend_seg.command_line.running import run_tool
from pointrend_seg.command_line.training import (
    check_start,
    launch_options,
    read_lazy_config,
    setup,
    train_parser,
)
from pointrend_seg.engine.distributed import Processes, launch
from pointrend_seg.engine.lazy_settings import in_lazy_names
from pointrend_seg.engine.lazy_trainer import LazyTrainer
from pointrend_seg.engine.trainer import evaluate
from pointrend_seg.errors import InputError


def parser() -> argparse.ArgumentParser:
    parser = train_parser(lazy=True)
    parser.description, parser.epilog = __doc__, None
    return parser


def main(args: argparse.Namespace, processes: Processes) -> dict | None:
    """Train or evaluate, in each process; return the scores of the last evaluation."""
    with setup(args, processes, read=read_lazy_config) as (cfg, folder):
        try:
            if args.eval_only:
                begin = partial(folder.begin, cfg, "eval_lazy_config.yaml")
                return evaluate(cfg, resume=args.resume, begin=begin, trainer=LazyTrainer)
            trainer = LazyTrainer(cfg)
            trainer.resume_or_load(resume=args.resume)
            folder.begin(cfg, "lazy_config.yaml")
            return trainer.train()
        except InputError as error:
            raise in_lazy_names(error) from error


def run(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    check = partial(check_start, args, read=read_lazy_config)
    launch(main, (args,), check=check, **launch_options(args))


if __name__ == "__main__":
    run_tool(run, several_processes=True)
