"""The config of a run: a file, what the command line changes, a device that is there."""

import glob
import logging
import os
import re
from collections.abc import Sequence

import torch
import yaml
from detectron2.config import CfgNode, get_cfg

from ..config import add_pointrend_config, adopt_config
from ..config.checks import check_nodes
from ..config.errors import check_keys, check_pairs, config_error
from ..config.heads import check_branch
from ..config.reading import check_literals, is_remote, merge_config_file
from ..config.tree import value_of
from ..data.coco_records import use_own_reader
from ..data.custom.registration import register_custom
from ..data.input_size import AS_DETECTRON2
from ..data.point_sets import register_point_set
from ..data.synthetic.registration import register_synthetic
from ..errors import InputError, did_you_mean, printable
from ..modeling.backbones.input_of_weights import take_input_of_weights
from .tasks import find_task

logger = logging.getLogger(__name__)

register_synthetic()


def load_config(
    config_file: str, opts: list[str] | None = None, *, allow_remote: bool = False
) -> CfgNode:
    """Load a config file, apply the command line's changes, choose a device that is there.

    Configs that are written for Detectron2's PointRend are translated, see `adopt_config`. The data
    sets of ``DATASETS.CUSTOM`` are registered. The normalisation of images is set to that of a
    backbone of timm or torchvision, see `take_input_of_weights`.

    Args:
        config_file: path of a YAML file; "" for the defaults alone.
        opts: KEY VALUE KEY VALUE …
        allow_remote: also fetch config files and ``_BASE_`` files from addresses (``https://…``).

    Returns:
        the config, not frozen.

    Raises:
        InputError: no such file, a file that holds more than plain values or is not on this
            machine, a key that nobody knows, a value of another type, a data set that is not what
            ``DATASETS.CUSTOM`` says.

    Example:
        >>> cfg = load_config("", ["MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", 100])
        >>> cfg.SOLVER.MAX_ITER
        100
    """
    if config_file and not is_remote(config_file) and not os.path.isfile(config_file):
        raise InputError(
            f"The config file {printable(config_file)} does not exist."
            + did_you_mean(config_file, _config_files(config_file))
        )
    cfg, opts = get_cfg(), list(opts or [])
    add_pointrend_config(cfg)
    check_pairs(opts)
    try:
        if config_file:
            merge_config_file(cfg, config_file, allow_remote=allow_remote)
    except InputError:
        raise
    except (KeyError, ValueError, AssertionError, OSError, yaml.YAMLError) as error:
        raise config_error(error, cfg, config_file) from error
    merge_opts(cfg, opts)
    cfg = adopt_config(cfg)
    use_available_device(cfg)
    take_input_of_weights(cfg)
    register_custom(cfg)
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        register_point_set(name)
        use_own_reader(name)
    if cfg.DATASETS.CLASSES_FROM_DATA:
        find_task(cfg).take_classes_from_data(cfg)
    return cfg


def merge_opts(cfg: CfgNode, opts: Sequence) -> None:
    """Apply the command line's changes to a config that has all known keys.

    Args:
        opts: KEY VALUE KEY VALUE …

    Raises:
        InputError: no pairs, a key that nobody knows, a value of another type, or a key of a point
            head that the config does not use.
    """
    check_pairs(list(opts))
    check_literals(opts)
    check_nodes(cfg)
    check_keys(opts, cfg)
    try:
        cfg.merge_from_list(_with_fractions(opts, cfg))
    except (KeyError, ValueError, AssertionError) as error:
        raise config_error(error, cfg, "") from error
    names = set(opts[::2])
    check_branch(cfg, list(opts[::2]))
    sizes = {"INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST"}
    if cfg.INPUT.get("TRAINED_SCALES") and names & sizes and "INPUT.SCALE_TEST" not in names:
        cfg.INPUT.SCALE_TEST = AS_DETECTRON2  # sizes that are asked for count


def _with_fractions(opts: Sequence, cfg: CfgNode) -> list:
    """Return pairs of KEY VALUE in which whole numbers are floats where keys hold floats."""
    changed = list(opts)
    for place, (key, value) in enumerate(zip(opts[::2], opts[1::2], strict=True)):
        is_whole = type(value) is int or re.fullmatch(r"[+-]?\d{1,15}", str(value))
        if is_whole and isinstance(value_of(cfg, key), float):
            changed[2 * place + 1] = float(value)
    return changed


def _config_files(wanted: str) -> list[str]:
    """List the config files of the repository, and those that lie where one was looked for."""
    there = glob.glob(os.path.join(glob.escape(os.path.dirname(wanted)), "*.y*ml"))
    return [*there, *glob.glob("configs/**/*.yaml", recursive=True)]


def use_available_device(cfg: CfgNode) -> None:
    """Fall back to the CPU, and say so, where the config wants a kind of device that is not there.

    Raises:
        InputError: PyTorch knows no such device, or there are fewer of its kind.
    """
    try:
        device = torch.device(cfg.MODEL.DEVICE)
    except RuntimeError as error:
        raise InputError(
            f"MODEL.DEVICE is '{cfg.MODEL.DEVICE}', which PyTorch does not know. Set it to 'cpu', "
            "'cuda', 'cuda:1' or another device of PyTorch."
        ) from error
    count = _num_devices(device.type)
    if not count:
        logger.warning(
            "MODEL.DEVICE is '%s', but PyTorch finds no such device: running on the CPU.", device
        )
        cfg.MODEL.DEVICE = "cpu"
    elif (device.index or 0) >= count:
        raise InputError(
            f"MODEL.DEVICE is '{device}', but the last device that PyTorch finds is "
            f"'{device.type}:{count - 1}'."
        )
    if not cfg.MODEL.DEVICE.startswith("cuda") and cfg.SOLVER.AMP.ENABLED:
        logger.warning("SOLVER.AMP.ENABLED needs a CUDA device: training in float32.")
        cfg.SOLVER.AMP.ENABLED = False


def _num_devices(kind: str) -> int:
    """Count the devices of a kind, such as "mps"; 0 for a kind that does not compute ("meta")."""
    if kind == "cpu":
        return 1
    try:
        module = torch.get_device_module(kind)
        return module.device_count() if module.is_available() else 0
    except (RuntimeError, AttributeError):
        return 0
