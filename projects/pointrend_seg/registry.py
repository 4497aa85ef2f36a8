"""Looking names up in registries, with an error that helps."""

from detectron2.utils.registry import Registry

from .errors import InputError
from .suggestions import did_you_mean


def look_up(registry: Registry, name: str, key: str):
    """The object registered under ``name``.

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
