"""Reading a pickle of weights without running code that it may contain.

A pickle is a program: it names functions, and calls them. Here it can name those few alone that
arrays, tensors and plain containers need, and it never gets the functions themselves: each name
stands for a function of this module, which checks what it is given and makes the array. Whatever
else a pickle names, it is refused before anything is called.
"""

import io
import math
import mmap
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..errors import InputError


def load_pickle(path: str | Path):
    """The content of a pickle that holds nothing but plain containers, numbers, texts and arrays.

    Args:
        path: a pickle of any protocol, of Python 2 as well, whose texts are read as Latin-1.

    Returns:
        what was pickled; arrays and tensors in it are `PickledArray`.

    Raises:
        InputError: it needs anything else, which the message names, or it is no whole pickle.
    """
    try:
        # Mapped, so that a length that the file claims and does not have allocates nothing.
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            # Cut off within a name, it would be refused for what is left of the name.
            if data[-1:] != pickle.STOP:
                raise EOFError("the end of the pickle is missing")
            return _Unpickler(data, encoding="latin1").load()
    except _Refused as refused:
        raise InputError(
            f"{path} was not read: it wants {refused}, which weights do not need, and a pickle "
            "that has its way can run any code. Get the weights from a source that you trust, as "
            "a file of torch.save with nothing but tensors."
        ) from None
    except Exception as error:
        raise InputError(
            f"{path} is no pickle of weights, or not all of it: it begins with {_start(path)!r} "
            f"and ends in {first_line(error)}. Fetch it again and compare its size."
        ) from error


def _start(path: str | Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(8)


class PickledArray:
    """An array as the pickle describes it; ``tensor`` is its content once that is there."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: torch.Tensor | None = None):
        self.tensor = tensor

    def __setstate__(self, state: tuple) -> None:
        """NumPy's own: (version,) shape, dtype, whether in Fortran's order, bytes."""
        shape, dtype, fortran, data = state[-4:]
        self.tensor = _tensor(data, dtype, shape, "F" if fortran else "C")


class _Refused(Exception):
    """The name that is not allowed."""


class _Dtype:
    """A NumPy dtype of numbers."""

    __slots__ = ("dtype",)

    def __init__(self, code: str, align: bool = False, copy: bool = False):
        if not re.fullmatch(r"b1|[iu][1248]|f[248]", code):
            raise _Refused(f"an array of dtype '{code}'")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        """NumPy's own: version, byte order, …; the rest is of dtypes that are not allowed."""
        if state[1] not in ("<", ">", "=", "|"):
            raise ValueError(f"byte order {state[1]!r}")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Metadata(OrderedDict):
    """An ordered dict that can carry PyTorch's ``_metadata``, and no other attribute."""

    def __setstate__(self, state: dict) -> None:
        if list(state) != ["_metadata"]:
            raise _Refused(f"an OrderedDict with the attributes {sorted(state)}")
        self._metadata = state["_metadata"]


class _Name:
    """What the pickle gets for a global: it can be called and nothing else."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable):
        self._function = function

    def __call__(self, *args):
        return self._function(*args)

    def __setstate__(self, state) -> None:
        raise _Refused("to change a global")


def _tensor(data, dtype: _Dtype, shape: tuple, order: str) -> torch.Tensor:
    data = data.encode("latin1") if isinstance(data, str) else data
    size = math.prod(shape) * dtype.dtype.itemsize
    if size != len(data) or min(shape, default=0) < 0:
        raise ValueError(f"{len(data)} bytes for an array of shape {shape}")
    array = np.ndarray(shape, dtype.dtype, buffer=bytearray(data), order=order)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"the encoding '{encoding}'")
    return str.encode(text, "latin1")


def _no_bytes() -> bytes:
    return b""


def _reconstruct(kind, shape, typecode) -> PickledArray:
    if kind is not _NDARRAY:
        raise _Refused("an array of a class of its own")
    return PickledArray()


def _frombuffer(data, dtype: _Dtype, shape: tuple, order: str, axis_order=None) -> PickledArray:
    return PickledArray(_tensor(data, dtype, shape, order))


def _scalar(dtype: _Dtype, data) -> bool | int | float:
    return _tensor(data, dtype, (), "C").item()


class _Storage:
    """The memory of PyTorch tensors, which they pickle as a file of torch.save within the file."""

    __slots__ = ("values",)

    def __init__(self, data: bytes):
        try:
            storage = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise _Refused(f"a tensor that holds {wanted_global(error)}") from None
        if not isinstance(storage, torch.storage.TypedStorage):
            raise ValueError("a tensor without a storage")
        self.values = torch.tensor([], dtype=storage.dtype).set_(storage)


def _rebuild_tensor(storage: _Storage, offset: int, size: tuple, stride: tuple, *_) -> PickledArray:
    # PyTorch refuses what lies outside of the storage.
    return PickledArray(torch.as_strided(storage.values, size, stride, offset))


def _rebuild_parameter(array: PickledArray, *_) -> PickledArray:
    return array


def wanted_global(error: Exception) -> str:
    """The name that PyTorch's error of ``weights_only`` complains about, or its first line."""
    named = re.search(r"(?:GLOBAL|class|global) [`'\"]?([\w.]+\.\w+)", str(error))
    return named.group(1) if named else first_line(error)


def first_line(error: Exception) -> str:
    """An error's type and the first line of its message, if it has one."""
    lines = str(error).strip().splitlines()
    return ": ".join([type(error).__name__, *lines[:1]])


def _ndarray(*_):
    raise _Refused("to call numpy.ndarray")


_NDARRAY = _Name(_ndarray)
_ALLOWED = {
    "collections.OrderedDict": _Name(_Metadata),
    "_codecs.encode": _Name(_encode),
    "builtins.bytes": _Name(_no_bytes),
    "__builtin__.bytes": _Name(_no_bytes),
    "numpy.ndarray": _NDARRAY,
    "numpy.dtype": _Name(_Dtype),
    "torch._utils._rebuild_tensor_v2": _Name(_rebuild_tensor),
    "torch._utils._rebuild_parameter": _Name(_rebuild_parameter),
    "torch.storage._load_from_bytes": _Name(_Storage),
}
for core in ("numpy.core", "numpy._core"):  # NumPy 1 and 2
    _ALLOWED[f"{core}.multiarray._reconstruct"] = _Name(_reconstruct)
    _ALLOWED[f"{core}.multiarray.scalar"] = _Name(_scalar)
    _ALLOWED[f"{core}.numeric._frombuffer"] = _Name(_frombuffer)


# The one that is written in Python: the memo of the other is an array, which a pickle of a few
# bytes can make as large as the machine's memory.
class _Unpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> _Name:
        if not name:
            raise EOFError("the pickle ends within a name")
        wanted = f"{module}.{name}"
        if wanted not in _ALLOWED:
            raise _Refused(wanted)
        return _ALLOWED[wanted]

    def get_extension(self, code: int):
        raise _Refused(f"the extension {code}")
