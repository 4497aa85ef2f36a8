"""Read a pickle of weights without running code in it.

A pickle is a program that imports functions by name ("globals") and calls them. Here only the few
globals are allowed that arrays, tensors and plain containers need. The pickle does not get these
functions themselves: each global stands for a function of this module, which checks its arguments
and creates the array. Any other global is refused before anything is called.
"""

import io
import math
import mmap
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ..errors import InputError, first_line


def load_pickle(path: str | Path) -> Any:
    """Load a pickle of plain containers, numbers, strings and arrays.

    Args:
        path: a pickle of any protocol, also of Python 2, whose strings are read as Latin-1.

    Returns:
        the pickled object, with each array and tensor as a `PickledArray`.

    Raises:
        InputError: the pickle needs anything else, which the message names, or is incomplete.
    """
    try:
        # Memory-mapped, so that a wrong length in the file does not allocate memory.
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            # A pickle that is truncated within a name would be refused for the rest of the name.
            if data[-1:] != pickle.STOP:
                raise EOFError("the end of the pickle is missing")
            return _Unpickler(data, encoding="latin1").load()
    except _Refused as refused:
        raise InputError(
            f"{path} was not loaded: it needs {refused}, which weights do not, and loading it "
            "could run any code. Get the weights from a source that you trust, as a torch.save "
            "file that contains only tensors."
        ) from None
    except Exception as error:
        raise InputError(
            f"{path} is not a valid pickle of weights: it begins with {_start(path)!r} and "
            f"fails with {first_line(error)}. Download it again and compare its size."
        ) from error


def _start(path: str | Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(8)


class PickledArray:
    """An array in a pickle; ``tensor`` is its content, None until the pickle sets its state."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: torch.Tensor | None = None):
        self.tensor = tensor

    def __setstate__(self, state: tuple) -> None:
        """Set the content from NumPy's state: (version,) shape, dtype, Fortran order, bytes."""
        shape, dtype, fortran, data = state[-4:]
        self.tensor = _tensor(data, dtype, shape, "F" if fortran else "C")


class _Refused(Exception):
    """A pickle needs something that is not allowed; the message completes "it needs …"."""


class _Dtype:
    """A NumPy dtype of numbers or booleans."""

    __slots__ = ("dtype",)

    def __init__(self, code: str, align: bool = False, copy: bool = False):
        if not re.fullmatch(r"b1|[iu][1248]|f[248]", code):
            raise _Refused(f"an array of dtype '{code}'")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        """Set the byte order from NumPy's state: version, byte order, …."""
        if state[1] not in ("<", ">", "=", "|"):
            raise ValueError(f"byte order {state[1]!r}")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Metadata(OrderedDict):
    """An ordered dict that can have PyTorch's ``_metadata``, but no other attribute."""

    def __setstate__(self, state: dict) -> None:
        if list(state) != ["_metadata"]:
            raise _Refused(f"an OrderedDict with the attributes {sorted(state)}")
        self._metadata = state["_metadata"]


class _Global:
    """A pickle's global: it can only be called."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable):
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise _Refused("to change a global")


def _tensor(
    data: bytes | str, dtype: _Dtype, shape: tuple, order: Literal["C", "F"]
) -> torch.Tensor:
    data = data.encode("latin1") if isinstance(data, str) else data
    size = math.prod(shape) * dtype.dtype.itemsize
    if size != len(data) or min(shape, default=0) < 0:
        raise ValueError(f"{len(data)} bytes for an array of shape {shape}")
    array: np.ndarray = np.ndarray(shape, dtype.dtype, buffer=bytearray(data), order=order)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"the encoding '{encoding}'")
    return str.encode(text, "latin1")


def _no_bytes() -> bytes:
    return b""


def _reconstruct(kind: _Global, shape: tuple, typecode: bytes | str) -> PickledArray:
    if kind is not _NDARRAY:
        raise _Refused("a subclass of numpy.ndarray")
    return PickledArray()


def _frombuffer(
    data: bytes, dtype: _Dtype, shape: tuple, order: Literal["C", "F"], axis_order: Any = None
) -> PickledArray:
    return PickledArray(_tensor(data, dtype, shape, order))


def _scalar(dtype: _Dtype, data: bytes | str) -> bool | int | float:
    return _tensor(data, dtype, (), "C").item()


class _Storage:
    """The memory of PyTorch tensors, pickled as a torch.save file within the file."""

    __slots__ = ("values",)

    def __init__(self, data: bytes):
        try:
            storage = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise _Refused(f"a tensor with {refused_global(error)}") from None
        if not isinstance(storage, torch.storage.TypedStorage):
            raise ValueError("a tensor without a storage")
        self.values = torch.tensor([], dtype=storage.dtype).set_(storage)


def _rebuild_tensor(
    storage: _Storage, offset: int, size: tuple, stride: tuple, *_: Any
) -> PickledArray:
    # PyTorch checks that the tensor lies within the storage.
    return PickledArray(torch.as_strided(storage.values, size, stride, offset))


def _rebuild_parameter(array: PickledArray, *_: Any) -> PickledArray:
    return array


def refused_global(error: Exception) -> str:
    """Return the global that torch.load refused with ``weights_only``, or the error's first line.

    Args:
        error: the error that torch.load raised.
    """
    match = re.search(r"(?:GLOBAL|class|global) [`'\"]?([\w.]+\.\w+)", str(error))
    return match.group(1) if match else first_line(error)


def _ndarray(*_: Any) -> None:
    raise _Refused("to call numpy.ndarray")


_NDARRAY = _Global(_ndarray)
_ALLOWED = {
    "collections.OrderedDict": _Global(_Metadata),
    "_codecs.encode": _Global(_encode),
    "builtins.bytes": _Global(_no_bytes),
    "__builtin__.bytes": _Global(_no_bytes),
    "numpy.ndarray": _NDARRAY,
    "numpy.dtype": _Global(_Dtype),
    "torch._utils._rebuild_tensor_v2": _Global(_rebuild_tensor),
    "torch._utils._rebuild_parameter": _Global(_rebuild_parameter),
    "torch.storage._load_from_bytes": _Global(_Storage),
}
for core in ("numpy.core", "numpy._core"):  # NumPy 1 and 2
    _ALLOWED[f"{core}.multiarray._reconstruct"] = _Global(_reconstruct)
    _ALLOWED[f"{core}.multiarray.scalar"] = _Global(_scalar)
    _ALLOWED[f"{core}.numeric._frombuffer"] = _Global(_frombuffer)


# The unpickler written in Python. The memo of the one in C is an array, which a pickle of a few
# bytes can make as large as the machine's memory.
class _Unpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> _Global:
        if not name:
            raise EOFError("the pickle ends within a name")
        path = f"{module}.{name}"
        if path not in _ALLOWED:
            raise _Refused(path)
        return _ALLOWED[path]

    def get_extension(self, code: int) -> None:
        raise _Refused(f"the extension {code}")
