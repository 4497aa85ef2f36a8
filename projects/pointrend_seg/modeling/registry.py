"""Look names up in registries, with an error that helps."""

import re
import traceback
from pathlib import Path
from typing import Any

from detectron2 import modeling
from detectron2.config import CfgNode
from detectron2.utils.registry import Registry

from ..config.tree import all_keys, value_of
from ..errors import InputError, did_you_mean, first_line

# What Detectron2's and PyTorch's constructors raise for values that do not fit together.
REFUSALS = (
    AssertionError,
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
_PACKAGE = Path(__file__).resolve().parents[1]


def look_up(registry: Registry, name: str, key: str) -> Any:
    """Return the object that is registered under a name.

    Args:
        registry: any fvcore registry.
        key: the config key that held the name, for the message.

    Raises:
        InputError: nothing has that name; the message lists what there is.
    """
    if name in registry:
        return registry.get(name)
    known = sorted(known_name for known_name, _ in registry)
    raise InputError(
        f"{key} is '{name}', which is not registered.{did_you_mean(name, known)} Known names: "
        f"{', '.join(known)}. If it is a class of yours, import the module that registers "
        "it before the model is built."
    )


def explain_missing(error: KeyError, cfg: CfgNode) -> InputError | None:
    """Explain the error of a Detectron2 registry for an unknown name, as `look_up` does.

    Returns:
        None where the error is another.
    """
    found = re.search(r"No object named '(.*)' found in '(.*)' registry", str(error))
    if found is None:
        return None
    name, which = found.groups()
    keys = [key for key in all_keys(cfg) if value_of(cfg, key) == name]
    registries = (each for each in vars(modeling).values() if isinstance(each, Registry))
    registry = next((each for each in registries if each._name == which), Registry(which))
    try:
        look_up(registry, name, " or ".join(keys) or f"A name of {which}")
    except InputError as better:
        return better
    return None


def explain_refusal(error: Exception, cfg: CfgNode) -> InputError | None:
    """Explain what a constructor of Detectron2 or PyTorch raised for values of a config.

    Returns:
        None where the error is one of this package's own code, or of memory.
    """
    missing = explain_missing(error, cfg) if isinstance(error, KeyError) else None
    if missing is not None:
        return missing
    place = traceback.extract_tb(error.__traceback__)[-1]
    if _PACKAGE in Path(place.filename).resolve().parents or "alloc" in str(error):
        return None
    if isinstance(error, KeyError) and error.args:
        names = [key for key in all_keys(cfg) if _names_feature(cfg, key, error.args[0])]
        if names:
            return InputError(
                f"{' or '.join(names)} names {error.args[0]!r}, which the backbone "
                f"{cfg.MODEL.BACKBONE.NAME} does not give. Name what it gives, or add it to the "
                "backbone's OUT_FEATURES."
            )
    what = first_line(error) if str(error).strip() else f"{first_line(error)}: {place.line}"
    return InputError(
        f"No model can be built from this config: {what} (in {place.name}, "
        f"{Path(place.filename).name}). Values below MODEL do not fit together: compare them with "
        "a config that works, such as those in configs/."
    )


def _names_feature(cfg: CfgNode, key: str, feature: Any) -> bool:
    value = value_of(cfg, key) if key.endswith("_FEATURES") else ()
    return isinstance(value, list | tuple) and feature in value
