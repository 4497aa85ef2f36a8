"""Check whether a checkpoint fits a model, and find the config keys to change."""

from dataclasses import dataclass

from detectron2.config import CfgNode
from torch import nn

from ..config.tree import value_of
from .contents import Contents
from .files import CheckpointFile
from .loading import Checkpointer

# Heads whose weights are those of another.
_SAME_WEIGHTS = {"PointSupMaskRCNNHead": "MaskRCNNConvUpsampleHead"}


@dataclass(frozen=True)
class Fit:
    """Comparison of the weights in a file and in a model; true if they fit.

    Attributes:
        missing: names in the model that are not in the file.
        unexpected: names in the file that are not in the model.
        wrong_shapes: (name, shape in the file, shape in the model) where the shapes differ.
        loaded: number of the model's weights that come from the file.
        is_start: whether a training may start from the file.
    """

    missing: list[str]
    unexpected: list[str]
    wrong_shapes: list[tuple[str, tuple, tuple]]
    loaded: int
    is_start: bool = False

    def __bool__(self) -> bool:
        return not (self.missing or self.unexpected or self.wrong_shapes)


def fit(file: CheckpointFile, model: nn.Module) -> Fit:
    """Load a checkpoint into a model, modifying its weights, and compare their names and shapes.

    As in training and evaluation, names of older formats are converted, and names of Caffe2 are
    matched. Anchors, ``pixel_mean`` and ``pixel_std`` are neither missing nor unexpected: some
    versions of Detectron2 save them, but they come from the config.
    """
    checkpointer = Checkpointer(model)
    incompatible = checkpointer._load_model(file.for_checkpointer())
    wrong = [
        (name, tuple(in_file), tuple(in_model))
        for name, in_file, in_model in incompatible.incorrect_shapes
    ]
    # PyTorch also reports a weight of another shape as missing.
    missing = sorted(set(incompatible.missing_keys) - {name for name, *_ in wrong})
    loaded = len(model.state_dict()) - len(missing) - len(wrong)
    unexpected = sorted(set(incompatible.unexpected_keys) - {"pixel_mean", "pixel_std"})
    is_start = checkpointer.translation is not None and not any(
        name.startswith("backbone.") for name, *_ in wrong
    )
    return Fit(missing, unexpected, wrong, loaded, is_start)


def settings_that_differ(contents: Contents, cfg: CfgNode) -> dict[str, tuple[object, object]]:
    """Return the config keys whose values do not fit the shapes in a checkpoint.

    Returns:
        (value in the config, value that the checkpoint needs) by key.
    """
    differing = {}
    for key, needed in contents.settings.items():
        value = value_of(cfg, key)
        if value != needed and _SAME_WEIGHTS.get(str(value)) != needed:
            differing[key] = (value, needed)
    return differing
