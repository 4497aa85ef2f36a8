"""Load Detectron2's LazyConfigs, which are Python code, and check the calls that they describe.

A lazy config is a tree. A *call* in it is a node with a ``_target_``, the function or class, and
its arguments.
"""

import builtins
import inspect
import os
import traceback
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from detectron2.config import LazyConfig
from detectron2.utils.registry import locate
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..errors import InputError, did_you_mean, first_line, printable

PARTS = ("model", "dataloader", "optimizer", "lr_multiplier", "train")
_IN_CONFIGS = "detectron2._cfg_loader"  # the package of what Detectron2 loads as a config
_SHOWN = 300


def load_lazy_config(
    path: str, overrides: Sequence[str] = (), known: Collection[str] = ()
) -> DictConfig:
    """Run a Python config, apply the command line's changes, and check the calls in it.

    Args:
        path: of a ``.py`` file. It is code, which may do anything: run files of people you trust.
        overrides: "key=value" each, as `LazyConfig.apply_overrides` takes them.
        known: keys that are read where a config has them.

    Raises:
        InputError: there is no such file, its code fails, it lacks a part of a training, a change
            names a key that nothing reads, or a call has an argument that its target does not
            take.
    """
    cfg = _run(path)
    missing = [name for name in PARTS if name not in cfg]
    if missing:
        raise InputError(
            f"{printable(path)} is no config of a training: it has no {' and no '.join(missing)}. "
            f"Expected are {', '.join(PARTS)}, as in configs/lazy/."
        )
    apply_overrides(cfg, overrides, known)
    for part in PARTS:
        check_calls(cfg[part], part)
    return cfg


def _run(path: str) -> DictConfig:
    shown = printable(path)
    if path.endswith((".yaml", ".yml")):
        raise InputError(
            f"{shown} is a YAML config. tools/train_net.py trains and evaluates it; this tool "
            "takes Python configs, such as those in configs/lazy/."
        )
    if not path.endswith(".py"):
        raise InputError(f"{shown} is no Python config: its name does not end in .py.")
    if not os.path.isfile(path):
        raise InputError(f"The config file {shown} does not exist.")
    original_import = builtins.__import__
    try:
        return LazyConfig.load(path)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(_explain(error, shown)) from error
    finally:
        builtins.__import__ = original_import  # Detectron2 leaves its own where a config fails


def _explain(error: BaseException, shown: str) -> str:
    """Say which line of which config failed."""
    if isinstance(error, SyntaxError) and isinstance(error.__cause__, SyntaxError):
        return f"{error.msg} Line {error.__cause__.lineno}: {error.__cause__.msg}."
    frames = traceback.walk_tb(error.__traceback__)
    inside = [
        (frame.f_code.co_filename, line)
        for frame, line in frames
        if str(frame.f_globals.get("__package__")).startswith(_IN_CONFIGS)
        or frame.f_globals.get("__file__") == frame.f_code.co_filename == shown
    ]
    file, line = inside[-1] if inside else (shown, 0)
    place = f"{printable(file)}, line {line}" if line else printable(file)
    return f"The config fails in {place}: {printable(first_line(error))[:_SHOWN]}"


def apply_overrides(cfg: DictConfig, overrides: Sequence[str], known: Collection[str] = ()) -> None:
    """Change a config as `LazyConfig.apply_overrides` does, but only keys that something reads.

    These are the keys that it has, and arguments that the target of a call takes; a key that
    begins with "+" is added in any case.

    Args:
        overrides: "key=value" each.
        known: other keys that are read.

    Raises:
        InputError: a change is no "key=value", cannot be read, or names another key.
    """
    for text in overrides:
        shown = printable(text)
        if text.startswith("-"):
            raise InputError(
                f"{shown} stands among the changes key=value. Options go before them, right after "
                "--config-file FILE."
            )
        if "=" not in text:
            raise InputError(
                f"{shown} is no change to a lazy config. Write key=value, such as "
                "train.max_iter=1000 (YAML configs take KEY VALUE)."
            )
        try:
            (parsed,) = OverridesParser.create().parse_overrides([text])
            key = str(parsed.key_or_group)
            if not parsed.is_add():
                _check_key(cfg, key, known)
            LazyConfig.apply_overrides(cfg, [text])
        except InputError:
            raise
        except NotImplementedError as error:
            raise InputError(f"{shown}: a key cannot be deleted here.") from error
        except (HydraException, OmegaConfBaseException, KeyError, ValueError, TypeError) as error:
            raise InputError(f"{shown} cannot be applied: {first_line(error)[:_SHOWN]}") from error


def _check_key(cfg: DictConfig, key: str, read: Collection[str]) -> None:
    *path, name = key.split(".")
    node = OmegaConf.select(cfg, ".".join(path)) if path else cfg
    if isinstance(node, ListConfig) and name.isdigit() and int(name) < len(node):
        return
    if isinstance(node, DictConfig) and (name in node or name in arguments_of(node) or key in read):
        return
    known = [*_keys(cfg), *read]
    if isinstance(node, DictConfig):
        known += [".".join([*path, each]) for each in arguments_of(node)]
    raise InputError(
        f"The config has no key {printable(key)}.{did_you_mean(key, known)} A new key, which "
        f"something of yours reads, begins with a plus: +{printable(key)}=…"
    )


def _children(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield keys and values of a node; values that stand elsewhere (``${…}``) are None."""
    if isinstance(node, DictConfig | ListConfig):
        names: Any = node if isinstance(node, DictConfig) else range(len(node))
        for name in names:
            is_here = not (
                OmegaConf.is_interpolation(node, name) or OmegaConf.is_missing(node, name)
            )
            yield str(name), node[name] if is_here else None


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    for name, child in _children(node):
        yield prefix + name
        yield from _keys(child, f"{prefix}{name}.")


def target_of(node: DictConfig) -> Any:
    """Return the function or class that a call names; None for another node, or one of a call."""
    if "_target_" not in node or OmegaConf.is_config(node["_target_"]):
        return None
    target = node["_target_"]
    return locate(target) if isinstance(target, str) else target


def arguments_of(node: DictConfig) -> list[str]:
    """Return the names of the arguments that the target of a call takes, [] of another node."""
    parameters = _parameters(target_of(node))
    return [] if parameters is None else list(parameters)


def _parameters(target: Any) -> dict[str, inspect.Parameter] | None:
    """Return the parameters of a function or class, None if it takes any keyword."""
    if target is None:
        return None
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):  # written in C
        return None
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return None
    return dict(parameters)


def check_calls(node: Any, where: str) -> None:
    """Raise `InputError` for a call with an argument that its target does not take, or without one.

    Args:
        node: a part of a config.
        where: its key, for messages.
    """
    if isinstance(node, DictConfig):
        _check_call(node, where)
    for name, child in _children(node):
        check_calls(child, f"{where}.{name}")


def _check_call(node: DictConfig, where: str) -> None:
    parameters = _parameters(target_of(node))
    given = [str(name) for name in node if name != "_target_"]
    if parameters is None or "cfg" in given:
        return
    name = getattr(target_of(node), "__name__", target_of(node))
    for each in given:
        if each not in parameters:
            raise InputError(
                f"{where} gives {name} the argument {each}, which it does not take."
                f"{did_you_mean(each, parameters)} It takes: {', '.join(parameters)}."
            )
    missing = [
        key
        for key, each in parameters.items()
        if each.default is each.empty
        and each.kind is not each.VAR_POSITIONAL
        and key not in given
        and f"{where}.{key}" != "optimizer.params.model"  # which the trainer gives
    ]
    if missing:
        raise InputError(
            f"{where} does not give {name} the argument(s) {', '.join(missing)}, which it needs. "
            f"Set {where}.{missing[0]}."
        )
