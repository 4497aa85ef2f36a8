"""Read a checkpoint file of any format without running code in it."""

import copy
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, first_line
from .restricted_pickle import PickledArray, load_pickle, refused_global
from .safe_tensors import SUFFIX, load_safetensors

# A torch.save file is a zip archive, or a pickle that begins with a magic number (old format).
_ZIP = b"PK\x03\x04"
# Where a torch.save file has its weights: Detectron2's, Lightning's or mmdetection's, and others'.
_CONTAINERS = ("model", "state_dict", "model_state_dict", "model_state", "net", "weights")
_LEGACY = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


@dataclass(frozen=True)
class CheckpointFile:
    """Contents of a checkpoint file.

    Attributes:
        path: path of the file.
        size: size of the file in bytes.
        kind: "pickle", "torch.save" or "safetensors".
        model: the weights by name, on the CPU, with the names in the file. It has PyTorch's
            ``_metadata`` (versions of the modules) if the file has it.
        rest: all other entries, e.g. ``__author__``, ``iteration`` or the optimizer's state.
    """

    path: Path
    size: int
    kind: str
    model: OrderedDict
    rest: dict

    @property
    def details(self) -> dict:
        """The entries besides the weights that are strings, numbers or booleans."""
        return {k: v for k, v in self.rest.items() if isinstance(v, (str, bool, int, float))}

    @property
    def others(self) -> list[str]:
        """The names of all other entries besides the weights."""
        return [str(key) for key in self.rest if key not in self.details]

    def for_checkpointer(self) -> dict:
        """Return a dict for Detectron2's checkpointer; it shares the tensors, not the dicts."""
        return {**self.rest, "model": copy.copy(self.model)}  # copies _metadata, too


def read_checkpoint(path: str | Path) -> CheckpointFile:
    """Read a checkpoint: a ``.pkl``, a ``.safetensors`` or a torch.save file.

    A ``.pkl`` is one of Detectron2, Detectron or Caffe2, a ``.pyth`` one of pycls. As in Detectron2
    the name decides how a file is read: all others are torch.save files. A file whose content is
    of another format than its name says is refused.

    Raises:
        InputError: the file does not exist, is not a complete checkpoint, needs more than weights
            and plain values, or has the wrong extension.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file {path}. Give the path of a checkpoint.")
    size = path.stat().st_size
    if size == 0:
        raise InputError(f"{path} is empty. Download it again.")
    kind = _kind(path)
    if kind == "safetensors":
        weights, texts = load_safetensors(path)
        return CheckpointFile(path, size, kind, _weights(path, weights), texts)
    content = load_pickle(path) if kind == "pickle" else load_torch(path)
    if not isinstance(content, Mapping):
        raise InputError(
            f"{path} contains {_article(content)}, but a checkpoint is a dict with weights by name "
            "under 'model'."
        )
    model, rest = _split(path, kind, content)
    return CheckpointFile(path, size, kind, _weights(path, model), rest)


def _kind(path: Path) -> str:
    """Return the kind according to the first bytes; it must agree with the extension."""
    if path.suffix == SUFFIX:
        return "safetensors"
    with open(path, "rb") as file:
        start = file.read(64)
    by_torch = start.startswith(_ZIP) or _LEGACY in start
    if by_torch and path.suffix == ".pkl":
        raise InputError(
            f"{path} was written by torch.save, but Detectron2 reads files named .pkl as pickles. "
            f"Rename it to {path.with_suffix('.pth').name}."
        )
    if by_torch:
        return "torch.save"
    if path.suffix == ".pkl":
        return "pickle"
    raise InputError(
        f"{path} is not a torch.save file (it begins with {start[:8]!r}). If it is a pickle, "
        f"rename it to {path.with_suffix('.pkl').name}; otherwise download it again."
    )


def load_torch(path: str | Path) -> Any:
    """Load a torch.save file of tensors and plain values.

    Raises:
        InputError: the file needs anything else, which the message names, or is incomplete.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} was not loaded: it needs {refused_global(error)}, which PyTorch refuses in "
            "weight files (torch.load with weights_only=True), because it could run code. If the "
            "file may be truncated, download it again. If you trust its source, save only its "
            "weights: torch.save({'model': state_dict}, file)."
        ) from None
    except Exception as error:
        raise InputError(
            f"{path} is not a valid torch.save file ({first_line(error)}). Download it again "
            "and compare its size."
        ) from error


def _split(path: Path, kind: str, content: Mapping) -> tuple[Mapping, dict]:
    """Return the weights and all other entries, with the rules of Detectron2's checkpointer."""
    if path.suffix == ".pyth":
        state = content.get("model_state")
        if not isinstance(state, Mapping):
            raise InputError(f"{path} has no weights under 'model_state', as files of pycls have.")
        model = {k: v for k, v in state.items() if not str(k).endswith("num_batches_tracked")}
        return model, {"__author__": "pycls", "matching_heuristics": True}
    key = "model"
    if kind == "torch.save":
        key = next((k for k in _CONTAINERS if isinstance(content.get(k), Mapping)), "model")
        model = content.get(key, content)
    elif "model" in content and "__author__" in content:
        model = content["model"]
    elif "model" in content:
        raise InputError(
            f"{path} has 'model' but not '__author__', so Detectron2 would read it as a file of "
            "Detectron and find no known names. Add '__author__' (any text) beside 'model'."
        )
    else:
        blobs = content.get("blobs", content)
        if not isinstance(blobs, Mapping):
            raise InputError(f"{path} has {_article(blobs)} under 'blobs', not weights by name.")
        model = {k: v for k, v in blobs.items() if not str(k).endswith("_momentum")}
        return model, {"__author__": "Caffe2", "matching_heuristics": True}
    if not isinstance(model, Mapping):
        raise InputError(f"{path} has {_article(model)} under 'model', not weights by name.")
    rest = {} if model is content else {k: v for k, v in content.items() if k != key}
    return model, rest


def _weights(path: Path, model: Mapping) -> OrderedDict:
    weights: OrderedDict[str, torch.Tensor] = OrderedDict()
    for name, value in model.items():
        value = value.tensor if isinstance(value, PickledArray) else value
        if not isinstance(value, torch.Tensor) or not isinstance(name, str):
            raise InputError(
                f"{path} is not a checkpoint: '{name}' is {_article(value)}, not an array."
            )
        weights[name] = value
    if not weights:
        raise InputError(f"{path} contains no weights.")
    if hasattr(model, "_metadata"):
        weights._metadata = model._metadata  # type: ignore[attr-defined]  # as PyTorch does
    return weights


def _article(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
