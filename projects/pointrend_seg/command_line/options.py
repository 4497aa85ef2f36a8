"""Options of several tools."""

import argparse
import os
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from ..errors import InputError

N = TypeVar("N", int, float)


MOST_PROCESSES = 1024


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say "--num is 0; it must be …" instead of "argument --num: is 0; it must be …"."""
        super().error(re.sub(r"^argument (\S+): is ", r"\1 is ", message))


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return a `type` of argparse for whole numbers in a range, ends included.

    Example:
        >>> whole_number(1)("7")
        7
    """
    return _number(int, "a whole number, ", least, most)


def number(least: float, most: float | None = None) -> Callable[[str], float]:
    """Return a `type` of argparse for finite numbers in a range, ends included."""
    return _number(float, "", least, most)


def _number(kind: type[N], words: str, least: N, most: N | None) -> Callable[[str], N]:
    allowed = f"{least} or more" if most is None else f"from {least} to {most}"
    highest = sys.float_info.max if most is None else most

    def read(text: str) -> N:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"is {text!r}; it must be {words}{allowed}.") from None
        if not least <= value <= highest:  # NaN is not, either
            raise argparse.ArgumentTypeError(f"is {text}; it must be {allowed}.")
        return value

    return read


def tool_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help shows a tool's docstring as it is written."""
    return _Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_config_changes(parser: argparse.ArgumentParser) -> None:
    """Add the pairs of KEY VALUE, ``opts``, which take the rest of the command line."""
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="changes to the config"
    )


def add_workers_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--workers``, the number of processes; 0 does the work in this one."""
    parser.add_argument(
        "--workers",
        type=whole_number(0, MOST_PROCESSES),
        default=os.cpu_count(),
        help="number of processes",
    )


def add_no_labels_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--no-labels``, of tools that draw."""
    parser.add_argument(
        "--no-labels", action="store_true", help="leave class names and scores out of pictures"
    )


def add_remote_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--allow-remote-config``, for `load_config`."""
    parser.add_argument(
        "--allow-remote-config",
        action="store_true",
        help="fetch config files and _BASE_ files from addresses (https://…)",
    )


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every tool."""
    parser.add_argument("--debug", action="store_true", help="also show tracebacks of input errors")


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add options for the user's own data, without an entry in a config."""
    group = parser.add_argument_group("your own data (docs/custom-dataset.md)")
    for split, key in (("train", "TRAIN"), ("val", "TEST")):
        group.add_argument(
            f"--{split}-data",
            nargs=2,
            metavar=("IMAGES", "LABELS"),
            help=f"DATASETS.{key}: an image folder, and a COCO JSON file (of objects, or panoptic) "
            "or a folder of label images",
        )
    group.add_argument(
        "--classes", metavar="FILE", help="the class file, if it is not beside the labels"
    )
    group.add_argument(
        "--ignore-value", type=int, metavar="N", help="value of unlabelled pixels, default 255"
    )
    group.add_argument(
        "--classes-from-data",
        action="store_true",
        help="set the model's number of classes to that of the data set",
    )


def data_opts(args: argparse.Namespace) -> list:
    """Convert the options of `add_data_options` to config changes: [KEY, VALUE, KEY, VALUE, …].

    Raises:
        InputError: ``--classes`` or ``--ignore-value`` without a data set.
    """
    opts: list[Any] = []
    entries: list[dict] = []
    for name, key, data in (
        ("custom_train", "DATASETS.TRAIN", args.train_data),
        ("custom_val", "DATASETS.TEST", args.val_data),
    ):
        if data:
            entry: dict[str, Any] = {"name": name, "images": data[0], "annotations": data[1]}
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
            "--classes and --ignore-value need --train-data or --val-data. For data sets in a "
            "config, set these keys in DATASETS.CUSTOM."
        )
    return [*opts, "DATASETS.CLASSES_FROM_DATA", True] if args.classes_from_data else opts
