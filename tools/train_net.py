#!/usr/bin/env python
r"""Train or evaluate the model of a config file.

    python tools/train_net.py --config-file configs/quick/pointrend_rcnn_R_18_FPN.yaml
    python tools/train_net.py --config-file … --num-gpus 8 SOLVER.IMS_PER_BATCH 16
    python tools/train_net.py --config-file … --num-machines 2 --machine-rank 0 --dist-url URL
    python tools/train_net.py --config-file … --eval-only MODEL.WEIGHTS output/model_final.pth
    python tools/train_net.py --config-file … --dry-run
    python tools/train_net.py --config-file … --train-data images/train labels/train \
        --val-data images/val labels/val --classes-from-data

The options include all of Detectron2's train_net.py. Without a CUDA device it runs on the CPU.
"""

import argparse

import torch
from detectron2.engine import launch

from pointrend_seg.command_line.options import data_opts
from pointrend_seg.command_line.running import run_tool
from pointrend_seg.command_line.training import setup, train_parser
from pointrend_seg.engine.config_loading import load_config
from pointrend_seg.engine.dry_run import dry_run
from pointrend_seg.engine.trainer import Trainer, evaluate
from pointrend_seg.errors import InputError


def parser() -> argparse.ArgumentParser:
    parser = train_parser()
    parser.description, parser.epilog = __doc__, None
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="build everything, run one image, print sizes, FLOPs and memory, and stop",
    )
    return parser


def main(args: argparse.Namespace) -> dict | None:
    """Train or evaluate, in each process; return the scores of the last evaluation."""
    cfg = setup(args)
    if args.eval_only:
        return evaluate(cfg, resume=args.resume)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def run(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    available = torch.cuda.device_count()
    if args.num_gpus > max(1, available):
        raise InputError(
            f"--num-gpus is {args.num_gpus}, but PyTorch finds {available} CUDA device(s). "
            f"Set it to {max(1, available)}" + ("." if available else ", which runs on the CPU.")
        )
    if args.dry_run:
        cfg = load_config(args.config_file, [*data_opts(args), *args.opts])
        print(dry_run(cfg, num_processes=args.num_gpus * args.num_machines))
        return
    launch(
        main,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )


if __name__ == "__main__":
    run_tool(run)
