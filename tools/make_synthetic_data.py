#!/usr/bin/env python
"""Write synthetic scenes with exact labels as a data set that Detectron2 knows.

python tools/make_synthetic_data.py --layout cityscapes --output datasets --train 200 --val 40
DETECTRON2_DATASETS=datasets python tools/train_net.py --config-file …
"""

import argparse
import os
from pathlib import Path

from tqdm import tqdm

from pointrend_seg.data.cityscapes_layout import TreeParameters, write_cityscapes
from pointrend_seg.engine import run_tool
from pointrend_seg.errors import InputError


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layout", choices=["cityscapes"], default="cityscapes")
    parser.add_argument("--output", type=Path, required=True, help="becomes DETECTRON2_DATASETS")
    parser.add_argument("--train", type=int, default=200, help="number of training images")
    parser.add_argument("--val", type=int, default=40, help="number of validation images")
    parser.add_argument("--height", type=int, default=256, help="in pixels")
    parser.add_argument("--width", type=int, default=512, help="in pixels")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    return parser.parse_args()


def main() -> None:
    args = parse()
    if min(args.train, args.val, args.seed) < 0 or min(args.height, args.width) < 32:
        raise InputError(
            "--train, --val and --seed are 0 or more, --height and --width 32 or more."
        )
    parameters = TreeParameters(args.train, args.val, args.height, args.width, args.seed)
    written = write_cityscapes(
        args.output,
        parameters,
        workers=args.workers,
        progress=lambda items, total: tqdm(items, total=total, unit="image"),
    )
    print(f"{args.output / 'cityscapes'}: {'written' if written else 'is there already'}")


if __name__ == "__main__":
    run_tool(main)
