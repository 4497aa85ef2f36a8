"""Options that several tools share."""

import argparse

from ..errors import InputError


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Options that every tool has."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of a mistake, too")


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Options for data sets of the user's own, which need no entry in a config."""
    group = parser.add_argument_group("your own data (docs/custom-dataset.md)")
    for split, key in (("train", "TRAIN"), ("val", "TEST")):
        group.add_argument(
            f"--{split}-data",
            nargs=2,
            metavar=("IMAGES", "LABELS"),
            help=f"DATASETS.{key}: an image folder, and a JSON in COCO's format or a folder of "
            "label images",
        )
    group.add_argument(
        "--classes", metavar="FILE", help="their names, where classes.txt is not beside the labels"
    )
    group.add_argument(
        "--ignore-value", type=int, metavar="N", help="of pixels without a class, default 255"
    )
    group.add_argument(
        "--classes-from-data",
        action="store_true",
        help="set the model's class counts to those of the data set",
    )


def data_opts(args: argparse.Namespace) -> list:
    """What the options of `add_data_options` say, as pairs of config keys and values."""
    opts, entries = [], []
    for name, key, data in (
        ("custom_train", "DATASETS.TRAIN", args.train_data),
        ("custom_val", "DATASETS.TEST", args.val_data),
    ):
        if data:
            entry = {"name": name, "images": data[0], "annotations": data[1]}
            entry |= {"classes": args.classes} if args.classes else {}
            entry |= {"ignore_value": args.ignore_value} if args.ignore_value is not None else {}
            entries.append(entry)
            opts += [key, (name,)]
        elif args.train_data or args.val_data:
            opts += [key, ()]
    if entries:
        opts += ["DATASETS.CUSTOM", entries]
    elif args.classes or args.ignore_value is not None:
        raise InputError(
            "--classes and --ignore-value go with --train-data or --val-data. For data sets in a "
            "config they are keys of DATASETS.CUSTOM."
        )
    return [*opts, "DATASETS.CLASSES_FROM_DATA", True] if args.classes_from_data else opts
