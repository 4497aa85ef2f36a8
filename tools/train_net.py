#!/usr/bin/env python
r"""Train or evaluate the model of a config file.

    python tools/train_net.py --config-file configs/quick/pointrend_rcnn_R_18_FPN.yaml
    python tools/train_net.py --config-file configs/quick/pointrend_deeplabv3_R_18_OS16.yaml \
        --train-data images/train labels/train --val-data images/val labels/val \
        --classes-from-data OUTPUT_DIR output/run
    python tools/train_net.py --config-file output/run/config.yaml --resume
    python tools/train_net.py --config-file output/run/config.yaml --eval-only \
        MODEL.WEIGHTS output/run/model_final.pth
    python tools/train_net.py --config-file output/run/config.yaml --dry-run
    python tools/train_net.py --num-gpus 8 \
        --config-file configs/coco/pointrend_rcnn_R_50_FPN_1x_coco.yaml
    python tools/train_net.py --num-gpus 8 --num-machines 2 --machine-rank 0 \
        --dist-url tcp://10.0.0.1:29500 \
        --config-file configs/coco/pointrend_rcnn_R_50_FPN_1x_coco.yaml SOLVER.IMS_PER_BATCH 32
    torchrun --nproc-per-node 8 tools/train_net.py \
        --config-file configs/coco/pointrend_rcnn_R_50_FPN_1x_coco.yaml

The options include all of Detectron2's train_net.py. Without a CUDA device it runs on the CPU,
with ``--num-gpus N`` in N processes.
"""

import startup  # noqa: F401

import argparse
from functools import partial

from pointrend_seg.command_line.running import run_tool
from pointrend_seg.command_line.training import (
    check_start,
    launch_options,
    read_config,
    setup,
    train_parser,
)
from pointrend_seg.data.input_size import with_training_scales
from pointrend_seg.engine.distributed import check_counts, launch
from pointrend_seg.engine.dry_run import dry_run
from pointrend_seg.engine.places import find_place
from pointrend_seg.engine.rendezvous import Processes
from pointrend_seg.engine.trainer import Trainer, evaluate
from pointrend_seg.errors import printable


def parser() -> argparse.ArgumentParser:
    parser = train_parser()
    parser.description, parser.epilog = __doc__, None
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="build everything, run one image, print sizes, FLOPs and memory, and stop",
    )
    return parser


def main(args: argparse.Namespace, processes: Processes) -> dict | None:
    """Train or evaluate, in each process; return the scores of the last evaluation."""
    with setup(args, processes) as (cfg, folder):
        if args.eval_only:
            begin = partial(folder.begin, cfg, "eval_config.yaml")
            return evaluate(cfg, resume=args.resume, begin=begin)
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        folder.begin(with_training_scales(cfg, *trainer.trained_at), "config.yaml")
        return trainer.train()


def run(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    if not args.dry_run:
        launch(main, (args,), check=partial(check_start, args), **launch_options(args))
        return
    place = find_place()
    if place is None or place.rank == 0:
        num_processes = place.world_size if place else check_counts(**launch_options(args))
        found = dry_run(read_config(args, num_processes), num_processes=num_processes)
        print(printable(found, keep="\n"))


if __name__ == "__main__":
    run_tool(run, several_processes=True)
