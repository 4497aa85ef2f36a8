"""Pickles of weights are read in any protocol; no code in a pickle runs."""

import copyreg
import io
import os
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from pointrend_seg.checkpoint.restricted_pickle import PickledArray, load_pickle
from pointrend_seg.errors import InputError

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
ARRAYS = {
    "two dimensions": np.arange(6, dtype="f4").reshape(2, 3),
    "in Fortran's order": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "not contiguous": np.arange(8.0)[::2],
    "big-endian": np.arange(4, dtype=">f4"),
    "empty": np.zeros((0, 3), "i8"),
    "no dimension": np.array(3, "u1"),
    "truth values": np.array([True, False]),
    "half": np.array([0.5], "f2"),
}
TENSORS = {
    "float32": torch.arange(6.0).reshape(2, 3),
    "a view": torch.arange(6).reshape(2, 3).t()[1:],
    "empty": torch.zeros(0, 2),
    "no dimension": torch.tensor(3.0),
    "bfloat16": torch.ones(2).bfloat16(),
    "a parameter": nn.Parameter(torch.rand(3)),
}


def load(tmp_path, data: bytes):
    path = tmp_path / "weights.pkl"
    path.write_bytes(data)
    return load_pickle(path)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(tmp_path, name, protocol):
    loaded = load(tmp_path, pickle.dumps({"w": ARRAYS[name]}, protocol))["w"]
    assert isinstance(loaded, PickledArray)
    native = ARRAYS[name].astype(ARRAYS[name].dtype.newbyteorder("="))
    assert loaded.tensor.dtype == torch.from_numpy(native).dtype
    np.testing.assert_array_equal(loaded.tensor.numpy(), native, strict=True)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", TENSORS)
def test_tensors(tmp_path, name, protocol):
    loaded = load(tmp_path, pickle.dumps({"w": TENSORS[name]}, protocol))["w"].tensor
    assert loaded.dtype == TENSORS[name].dtype and torch.equal(loaded, TENSORS[name].detach())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values(tmp_path, protocol):
    values = {"a": [1, 2.5, None, True], "b": ("x", {"y": 10**20}), "é": "\n"}
    assert load(tmp_path, pickle.dumps(values, protocol)) == values
    assert load(tmp_path, pickle.dumps(np.float32(2.5), protocol)) == 2.5


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_numpy_1_and_2(tmp_path, core):
    data = pickle.dumps(ARRAYS["two dimensions"], 0)
    for other in (b"numpy._core", b"numpy.core"):
        data = data.replace(other, core.encode())
    assert core.encode() in data
    assert load(tmp_path, data).tensor.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_python_2(tmp_path):
    """Arrays contain their bytes as a string, which is read as Latin-1."""
    data = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x08" + struct.pack("<2f", -1.5, 300.0) + b"tb."
    )
    assert pickle.loads(data, encoding="latin1").tolist() == [-1.5, 300.0]
    assert load(tmp_path, data).tensor.tolist() == [-1.5, 300.0]


def test_the_versions_of_modules_are_kept(tmp_path):
    state = nn.BatchNorm1d(2).state_dict()
    loaded = load(tmp_path, pickle.dumps(state, 2))
    assert isinstance(loaded, OrderedDict) and loaded._metadata == state._metadata


class Call:
    """An object whose pickle calls a function when it is loaded."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """Return a file that the attacks below write to the current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "marker"


COMMAND = "touch marker"
PYTHON = "open('marker', 'w').close()"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def attacks() -> dict[str, bytes]:
    system, command = b"cposix\nsystem\n", text(COMMAND)
    torch_file = io.BytesIO()
    torch.save(Call(os.system, COMMAND), torch_file, _use_new_zipfile_serialization=False)
    objects = np.empty(1, dtype=object)
    objects[0] = Call(os.system, COMMAND)
    parts = text("posix") + text("system")
    attribute = "OrderedDict.popitem.__self__"
    return {
        "a call": pickle.dumps(Call(os.system, COMMAND)),
        "eval": pickle.dumps(Call(eval, PYTHON)),
        "exec, the oldest protocol": pickle.dumps(Call(exec, PYTHON), 0),
        "getattr of Python 2": b"c__builtin__\ngetattr\n.",
        "among weights": pickle.dumps({"model": {"w": np.ones(2)}, "x": [Call(eval, PYTHON)]}),
        "an argument of an allowed call": pickle.dumps(Call(OrderedDict, [Call(eval, PYTHON)])),
        "an array of objects": pickle.dumps(objects),
        "out of the memo": b"\x80\x02" + system + b"q\x000" + command + b"q\x010h\x00h\x01\x85R.",
        "a name from texts": b"\x80\x04" + parts + b"\x93" + command + b"\x85R.",
        "an instance": b"(" + command + b"iposix\nsystem\n.",
        "an object": b"(" + system + command + b"o.",
        "a new object": b"\x80\x02" + system + command + b"\x85\x81.",
        "an attribute": b"\x80\x04" + text("collections") + text(attribute) + b"\x93.",
        "in a tensor": pickle.dumps(Call(torch.storage._load_from_bytes, torch_file.getvalue())),
    }  # fmt: skip


@pytest.mark.parametrize("name", attacks())
def test_code_does_not_run(marker, tmp_path, name):
    with pytest.raises(InputError, match="was not loaded: it needs "):
        load(tmp_path, attacks()[name])
    assert not marker.exists()


@pytest.mark.parametrize(
    "name", ["a call", "eval", "out of the memo", "a name from texts", "an instance", "in a tensor"]
)
def test_the_attacks_are_real(marker, name):
    pickle.loads(attacks()[name])
    assert marker.exists()


@pytest.mark.parametrize(
    ("function", "args", "named"),
    [
        (os.system, ("true",), "posix.system"),
        (eval, ("1",), "builtins.eval"),
        (np.load, ("x.npy",), "numpy.load"),
        (np.zeros, (3,), "numpy.zeros"),
        (torch.load, ("x.pth",), "torch.serialization.load"),
        (nn.Linear, (1, 2), "torch.nn.modules.linear.Linear"),
        (np.dtype, ("O",), "an array of dtype 'O'"),
        (np.ndarray, ((3,),), "to call numpy.ndarray"),
    ],
)
def test_the_refused_name_is_in_the_message(tmp_path, function, args, named):
    with pytest.raises(InputError, match=f"weights.pkl was not loaded: it needs {named}, which"):
        load(tmp_path, pickle.dumps(Call(function, *args), 4))


def test_globals_cannot_be_changed(tmp_path):
    """BUILD sets attributes of the object on the stack, even of an allowed global."""
    with pytest.raises(InputError, match="to change a global"):
        load(tmp_path, b"\x80\x02ccollections\nOrderedDict\nN}X\x01\x00\x00\x00aK\x01s\x86b.")
    with pytest.raises(InputError, match=r"an OrderedDict with the attributes \['keys'\]"):
        load(tmp_path, b"\x80\x02ccollections\nOrderedDict\n)R}X\x04\x00\x00\x00keysK\x01sb.")


def test_extensions_are_refused(marker, tmp_path):
    """A used extension is in a cache and does not pass through `find_class`."""
    copyreg.add_extension("posix", "system", 99)
    try:
        data = pickle.dumps(Call(os.system, COMMAND), 2)
        assert b"\x82\x63" in data
        pickle.loads(data)
        marker.unlink()
        with pytest.raises(InputError, match="it needs the extension 99"):
            load(tmp_path, data)
        assert not marker.exists()
    finally:
        copyreg.remove_extension("posix", "system", 99)


def array_of(shape) -> bytes:
    """Return a pickle of a float32 array with this shape and 8 bytes."""
    state = pickle.dumps((1, shape, np.dtype("f4"), False, b"\0" * 8), 3)
    make = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    return b"\x80\x03" + make + state[2:-1] + b"b."


@pytest.mark.parametrize("shape", [(3,), (-2, -1), (2**62, 4), (1,)])
def test_arrays_with_wrong_shapes(tmp_path, shape):
    assert load(tmp_path, array_of((2,))).tensor.tolist() == [0, 0]
    with pytest.raises(InputError, match="is not a valid pickle of weights"):
        load(tmp_path, array_of(shape))


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (9,), (1,)),
        (5, (2,), (1,)),
        (0, (2,), (9,)),
        (-1, (2,), (1,)),
        (1, (2,), (-1,)),
    ],
)
def test_tensors_outside_their_storage(tmp_path, offset, size, stride):
    rebuild, (storage, *_) = torch.ones(6).__reduce_ex__(2)
    good = load(tmp_path, pickle.dumps(Call(rebuild, storage, 1, (2,), (3,), False, {}), 2))
    assert good.tensor.shape == (2,)
    with pytest.raises(InputError, match="is not a valid pickle of weights"):
        load(tmp_path, pickle.dumps(Call(rebuild, storage, offset, size, stride, False, {}), 2))


@pytest.mark.parametrize(
    "data",
    [
        b"a text\n",
        b"<!DOCTYPE html>",
        b"\x80\x02.",
        b"\x80\x02}q\x00(X\x05\x00\x00\x00mod",
        b"\x80\x02X\xff\xff\xff\x7fab.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fab.",
        b"\x80\x02K\x01r\xff\xff\xff\xff0h\x00.",
        b"\x80\x02X\x01\x00\x00\x00aQ.",
        b"\x80\x09.",
    ],
)
def test_damaged_pickles(tmp_path, data):
    """Wrong lengths and memo indices do not allocate memory either."""
    with pytest.raises(InputError, match="weights.pkl is not a valid pickle of weights"):
        load(tmp_path, data)


def test_truncated_pickles(tmp_path):
    data = pickle.dumps({"model": {"w": np.ones(3)}, "__author__": "x"}, 2)
    for length in range(1, len(data)):
        with pytest.raises(InputError, match="not a valid pickle of weights"):
            load(tmp_path, data[:length])
