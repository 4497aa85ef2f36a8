"""Read and write weights as safetensors files, which hold tensors and short texts, and no code."""

import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import torch

from ..errors import InputError, first_line
from ..files.atomic import replaces

SUFFIX = ".safetensors"
_VERSIONS = "module_versions"  # of a state dict's ``_metadata``, as JSON


def load_safetensors(path: Path) -> tuple[OrderedDict, dict]:
    """Load a safetensors file.

    Returns:
        the weights by name, on the CPU, and the texts of the file by name, of which
        ``matching_heuristics`` is a boolean.

    Raises:
        InputError: the file is not valid, or the package safetensors is not installed.
    """
    library = _library(path)
    try:
        with library.safe_open(path, framework="pt", device="cpu") as file:
            weights = OrderedDict((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118
            texts = dict(file.metadata() or {})
        versions = json.loads(texts.pop(_VERSIONS, "null"))
        texts.pop("format", None)  # the library that wrote it
    except Exception as error:
        raise InputError(
            f"{path} is not a valid safetensors file ({first_line(error)}). Download it again and "
            "compare its size."
        ) from error
    if isinstance(versions, dict):
        metadata = OrderedDict((name, {"version": version}) for name, version in versions.items())
        weights._metadata = metadata  # type: ignore[attr-defined]  # as PyTorch does
    heuristics = {"matching_heuristics": texts.get("matching_heuristics") == "True"}
    return weights, texts | (heuristics if "matching_heuristics" in texts else {})


def save_safetensors(path: Path, weights: Mapping[str, torch.Tensor], details: dict) -> None:
    """Write weights to a safetensors file, whole or not at all.

    Args:
        path: ends in ``.safetensors``.
        weights: tensors by name; with the ``_metadata`` of PyTorch's state dicts, or without.
        details: ``__author__`` and ``matching_heuristics`` are written, if they are there.

    Raises:
        InputError: the name has another ending, the package safetensors is not installed, or a
            weight is of a kind that the format does not have.
    """
    if path.suffix != SUFFIX:
        raise InputError(f"{path} does not end in {SUFFIX}.")
    _library(path)
    from safetensors.torch import save_file

    texts = {"format": "pt"}
    texts |= {
        name: str(details[name])
        for name in ("__author__", "matching_heuristics")
        if name in details
    }
    metadata = getattr(weights, "_metadata", None)
    if metadata:
        versions = {name: entry.get("version") for name, entry in metadata.items()}
        texts[_VERSIONS] = json.dumps(versions)
    # Tensors of their own: the format has neither views nor shared memory.
    try:
        copies = {
            name: weight.clone(memory_format=torch.contiguous_format)
            for name, weight in weights.items()
        }
        with replaces(path) as part:
            mode = part.stat().st_mode
            save_file(copies, part, metadata=texts)  # makes a file that only its owner can read
            part.chmod(mode)
    except (OSError, InputError):
        raise
    except Exception as error:
        raise InputError(f"{path} cannot be written ({first_line(error)}).") from error


def _library(path: Path) -> ModuleType:
    try:
        import safetensors
    except ImportError as error:
        raise InputError(
            f"{path} needs the package safetensors: pip install safetensors (or "
            'pip install -e ".[safetensors]").'
        ) from error
    return safetensors
