"""Look names up in registries, with an error that helps."""

import re
from typing import Any

from detectron2 import modeling
from detectron2.config import CfgNode
from detectron2.utils.registry import Registry

from ..config.tree import all_keys, value_of
from ..errors import InputError, did_you_mean


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
