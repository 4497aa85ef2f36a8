"""Reading a checkpoint file without running code that it may contain."""

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import InputError
from .restricted_pickle import PickledArray, first_line, load_pickle, wanted_global

# How a file of torch.save begins: a zip archive, or a pickle whose first item is a magic number.
_ZIP = b"PK\x03\x04"
_LEGACY = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


@dataclass(frozen=True)
class CheckpointFile:
    """What a checkpoint file holds.

    Attributes:
        path: of the file.
        size: in bytes.
        kind: "pickle" or "torch.save".
        model: the weights by name, on the CPU, as they are spelled in the file; with PyTorch's
            ``_metadata``, the versions of the modules, where the file has it.
        details: what else is in it that is a text, a number or a truth value, e.g. ``__author__``,
            ``iteration``.
        others: the names of everything else, e.g. the optimizer's state.
    """

    path: Path
    size: int
    kind: str
    model: OrderedDict
    details: dict
    others: list[str]

    def for_checkpointer(self) -> dict:
        """As Detectron2's checkpointer takes it; the tensors are shared, the dicts are not."""
        model = OrderedDict(self.model)
        if hasattr(self.model, "_metadata"):
            model._metadata = self.model._metadata
        return {**self.details, "model": model}


def read_checkpoint(path: str | Path) -> CheckpointFile:
    """Read a checkpoint: a ``.pkl`` of Detectron2, Detectron or Caffe2, or a file of torch.save.

    Detectron2 takes a file for a pickle if its name ends in ``.pkl``, and for one of torch.save
    if not; what it would not read is refused here too.

    Raises:
        InputError: no such file, not a checkpoint, not all of it, one that holds more than weights
            and plain values, or one whose name does not say what it is.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file {path}. Give the path of a checkpoint.")
    size = path.stat().st_size
    if size == 0:
        raise InputError(f"{path} is empty. Fetch it again.")
    kind = _kind(path)
    content = load_pickle(path) if kind == "pickle" else _load_torch(path)
    if not isinstance(content, Mapping):
        raise InputError(
            f"{path} holds {_article(content)}, where a checkpoint is a dict with the weights by "
            "name under 'model'."
        )
    model, rest = _split(path, kind, content)
    plain = {k: v for k, v in rest.items() if isinstance(v, (str, bool, int, float))}
    others = [str(key) for key in rest if key not in plain]
    return CheckpointFile(path, size, kind, _weights(path, model), plain, others)


def _kind(path: Path) -> str:
    """By the first bytes, and only if the name agrees."""
    with open(path, "rb") as file:
        start = file.read(64)
    by_torch = start.startswith(_ZIP) or _LEGACY in start
    if by_torch and path.suffix == ".pkl":
        raise InputError(
            f"{path} begins as a file of torch.save does, but is named as a pickle, and Detectron2 "
            f"goes by the name. Rename it to {path.with_suffix('.pth').name}."
        )
    if by_torch:
        return "torch.save"
    if path.suffix == ".pkl":
        return "pickle"
    raise InputError(
        f"{path} does not begin as a file of torch.save does (it begins with {start[:8]!r}). If it "
        f"is a pickle, rename it to {path.with_suffix('.pkl').name}; if not, fetch it again."
    )


def _load_torch(path: Path):
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} was not read: it wants {wanted_global(error)}, which PyTorch does not allow "
            "in a file of weights (torch.load with weights_only=True), because it could run code. "
            "If the file may be cut off, fetch it again. If you trust where it comes from, save "
            "its weights alone: torch.save({'model': state_dict}, file)."
        ) from None
    except Exception as error:
        raise InputError(
            f"{path} is no file of torch.save, or not all of it ({first_line(error)}). Fetch it "
            "again and compare its size."
        ) from error


def _split(path: Path, kind: str, content: Mapping) -> tuple[Mapping, dict]:
    """The weights and the rest, found as Detectron2's checkpointer finds them."""
    if kind == "torch.save":
        model = content.get("model", content)
    elif "model" in content and "__author__" in content:
        model = content["model"]
    elif "model" in content:
        raise InputError(
            f"{path} has 'model' but not '__author__', and Detectron2 takes such a pickle for one "
            "of Detectron, without names that it knows. Add '__author__' (any text) beside "
            "'model'."
        )
    else:
        blobs = content.get("blobs", content)
        model = {k: v for k, v in blobs.items() if not str(k).endswith("_momentum")}
        return model, {"__author__": "Caffe2", "matching_heuristics": True}
    if not isinstance(model, Mapping):
        raise InputError(f"{path} holds {_article(model)} under 'model', not weights by name.")
    rest = {} if model is content else {k: v for k, v in content.items() if k != "model"}
    return model, rest


def _weights(path: Path, model: Mapping) -> OrderedDict:
    weights = OrderedDict()
    for name, value in model.items():
        value = value.tensor if isinstance(value, PickledArray) else value
        if not isinstance(value, torch.Tensor) or not isinstance(name, str):
            raise InputError(
                f"{path} is no checkpoint: '{name}' is {_article(value)}, where weights are arrays."
            )
        weights[name] = value
    if not weights:
        raise InputError(f"{path} holds no weights.")
    if hasattr(model, "_metadata"):
        weights._metadata = model._metadata
    return weights


def _article(value) -> str:
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
