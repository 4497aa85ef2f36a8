"""Whether a checkpoint fits a model, and what to set in a config that it does not fit."""

from dataclasses import dataclass

from detectron2.config import CfgNode
from torch import nn

from .contents import Contents
from .files import CheckpointFile
from .loading import Checkpointer


@dataclass(frozen=True)
class Fit:
    """How the weights of a file and of a model go together.

    Attributes:
        missing: names of the model's weights that are not in the file.
        unexpected: names in the file that the model does not have.
        wrong: (name, shape in the file, shape in the model) where both have it.
        loaded: how many of the model's weights come from the file.
    """

    missing: list[str]
    unexpected: list[str]
    wrong: list[tuple[str, tuple, tuple]]
    loaded: int

    def __bool__(self) -> bool:
        return not (self.missing or self.unexpected or self.wrong)


def fit(file: CheckpointFile, model: nn.Module) -> Fit:
    """Load a checkpoint into a model, whose weights it changes, and say what did not go.

    It is loaded as in training and evaluation: names of older formats are converted, those of
    Caffe2 are matched. Anchors, ``pixel_mean`` and ``pixel_std`` count neither as missing nor as
    unexpected: some versions of Detectron2 saved them, but they come from the config.
    """
    incompatible = Checkpointer(model)._load_model(file.for_checkpointer())
    wrong = [
        (name, tuple(there), tuple(here)) for name, there, here in incompatible.incorrect_shapes
    ]
    # A weight of another shape is not loaded, and PyTorch calls it missing.
    missing = sorted(set(incompatible.missing_keys) - {name for name, *_ in wrong})
    loaded = len(model.state_dict()) - len(missing) - len(wrong)
    unexpected = sorted(set(incompatible.unexpected_keys) - {"pixel_mean", "pixel_std"})
    return Fit(missing, unexpected, wrong, loaded)


def settings_that_differ(contents: Contents, cfg: CfgNode) -> dict[str, tuple[object, object]]:
    """The config keys that have another value than the checkpoint's shapes tell.

    Returns:
        (value in the config, value that the checkpoint needs) by key.
    """
    differing = {}
    for key, needed in contents.settings.items():
        value = cfg
        for part in key.split("."):
            value = value[part]
        if value != needed:
            differing[key] = (value, needed)
    return differing
