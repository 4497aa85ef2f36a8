"""Say what is wrong with a key or a value of a config."""

import re

from detectron2.config import CfgNode

from ..errors import InputError, did_you_mean
from .tree import all_keys, value_of


def check_pairs(opts: list[str]) -> None:
    """Raise `InputError` unless these words can be KEY VALUE KEY VALUE …"""
    for word in opts[::2]:
        if str(word).startswith("-"):
            raise InputError(
                f"{word} stands among the pairs of KEY VALUE. Options go before them, right after "
                "--config-file FILE, and each KEY has one VALUE (a list needs quotes)."
            )
        if "=" in str(word):
            key, _, value = str(word).partition("=")
            raise InputError(f"Write {key} {value} instead of {word}: KEY VALUE with a space.")
    if len(opts) % 2:
        raise InputError(
            f"{opts[-1]} has no value: pairs of KEY VALUE follow the options. A list needs "
            "quotes, as in DATASETS.TRAIN \"('coco_2017_train',)\"."
        )


def config_error(error: Exception, cfg: CfgNode, config_file: str) -> InputError:
    """Turn what `merge_from_file` or `merge_from_list` raised into an error that users understand.

    Args:
        error: what was raised.
        cfg: a config with all known keys.
        config_file: the file that was being read, or "" for pairs of KEY VALUE.
    """
    text = str(error).strip("'\"")
    where = config_file or "the pairs of KEY VALUE"
    missing = re.search(r"Non-existent (?:config )?key: (\S+)", text)
    if missing:
        key = missing.group(1)
        near = did_you_mean(key, all_keys(cfg))
        return InputError(
            f"There is no config key {key} (in {where}).{near} docs/configuration.md lists the "
            "keys of this package; keys of another package must be added first, by its function."
        )
    mismatch = re.search(r"with values \((.*?) vs\. (.*)\) for config key: (\S+)", text, re.DOTALL)
    if mismatch:
        key = mismatch.group(3)
        had = value_of(cfg, key)
        kind = type(had).__name__
        return InputError(
            f"{key} must be of type {kind}, as its default {had!r} is, but in {where} it is "
            f"{mismatch.group(2)}. Correct the value (in YAML, 1e-4 is a string: write 0.0001)."
        )
    return InputError(f"The config does not load: {text} (in {where}). Correct it.")
