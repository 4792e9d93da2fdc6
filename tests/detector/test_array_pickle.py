"""Pickles of arrays come back as they were; a pickle that asks for anything else is refused before it acts."""

import pickle
import struct
import subprocess
import sys
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitmalis.detector.array_pickle import PickledArray, read_array_pickle
from vitmalis.errors import UserError

PROTOCOLS = (0, 1, 2, 3, 4)
ARRAYS = {
    "float": np.arange(6, dtype=np.float32).reshape(2, 3),
    "half": np.array([1.5, -2], np.float16),
    "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big-endian": np.array([1, 2, 3], ">i4"),
    "bool": np.array([True, False]),
    "empty": np.zeros((0, 4), np.float32),
    "scalar": np.array(7, np.int64),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_come_back_as_they_were(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "w.pkl"
    given = {"model": OrderedDict(ARRAYS), "__author__": "Detectron2", "matching_heuristics": True, "steps": [1, 2.5]}
    path.write_bytes(pickle.dumps(given, protocol))
    read = read_array_pickle(path)
    arrays = read.pop("model")
    assert read == {"__author__": "Detectron2", "matching_heuristics": True, "steps": [1, 2.5]}
    assert list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert isinstance(arrays[name], PickledArray)
        values = arrays[name].values
        assert values.dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(values, array)


def test_a_python_2_pickle_is_read(tmp_path: Path) -> None:
    """Older published files are of Python 2, where an array's data are a text: protocol 2, `SHORT_BINSTRING`."""
    data = np.array([1.0, 2.0], "<f4").tobytes()
    path = tmp_path / "w.pkl"
    path.write_bytes(
        b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x08" + data + b"tbs."
    )
    np.testing.assert_array_equal(read_array_pickle(path)["a"].values, [1, 2])


def test_attributes_of_a_state_dict_are_left_out(tmp_path: Path) -> None:
    state: Any = OrderedDict(a=np.zeros(2, np.float32))
    state._metadata = OrderedDict({"": {"version": 1}})
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"model": state}, 2))
    read = read_array_pickle(tmp_path / "w.pkl")["model"]
    assert type(read) is dict
    assert list(read) == ["a"]


def call(module: str, name: str, *arguments: bytes) -> bytes:
    """Instructions that call a function of the file's choice."""
    return f"c{module}\n{name}\n(".encode() + b"".join(arguments) + b"tR"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def dtype(name: str) -> bytes:
    return call("numpy", "dtype", text(name), b"I0\n", b"I1\n")


def ndarray(state: bytes) -> bytes:
    """An array with a state of the file's choice."""
    return call("numpy.core.multiarray", "_reconstruct", b"cnumpy\nndarray\n", b"(I0\nt", b"C\x01b") + state + b"b"


def state(shape: bytes, kind: bytes, data: bytes) -> bytes:
    return b"(I1\n(" + shape + b"t" + kind + b"I00\n" + b"B" + struct.pack("<I", len(data)) + data + b"t"


POINTERS = b"\x41" * 16
OBJECTS = call("numpy", "ndarray", b"(I2\nt", dtype("O"), b"C\x10" + POINTERS)
NESTED = b"N\x85q\x00" + b"h\x00h\x00\x86q\x00" * 60
"""A tuple of two tuples of two tuples ... of None: 2^60 things to hash or to print, in 300 bytes."""

GADGETS = {
    "objects at addresses of the file's choice": OBJECTS,
    "an OrderedDict of them": call("collections", "OrderedDict", OBJECTS),
    "an array of an array's call": call("numpy", "ndarray", b"(I2\nt"),
    "strides and an offset": call("numpy", "ndarray", b"(I2\nt", dtype("f4"), b"C\x04abcd", b"I-4000\n", b"(I9999\nt"),
    "an object dtype": dtype("O"),
    "a void dtype": dtype("V8"),
    "a structured dtype": call("numpy", "dtype", b"]((" + text("a") + text("O") + b"te"),
    "a subarray dtype": dtype("(2,)f4"),
    "a text dtype": dtype("U4"),
    "a complex dtype": dtype("c8"),
    "a long double": dtype("f16"),
    "a dtype's own state with an item size": dtype("f4") + b"(I3\nX\x01\0\0\0<NN(I8\nI8\nI0\ntI1000000\nI1\nI0\ntb",
    "a dtype's state with a subarray": dtype("f4") + b"(I3\nX\x01\0\0\0<(" + dtype("O") + b"(I2\nttNNI8\nI8\nI63\ntb",
    "an array of objects by its state": ndarray(state(b"I2\n", dtype("O"), POINTERS)),
    "an array's state with a list": ndarray(b"(I1\n(I1\nt" + dtype("f4") + b"I00\n]t"),
    "less data than the shape": ndarray(state(b"I1000000\n", dtype("f4"), b"abcd")),
    "a huge shape": ndarray(state(b"I1099511627776\nI1099511627776\n", dtype("f4"), b"abcd")),
    "a shape that wraps around to 4 bytes": ndarray(state(b"I4611686018427387905\n", dtype("f4"), b"abcd")),
    "a negative length": ndarray(state(b"I-1\n", dtype("f4"), b"abcd")),
    "a length that is no number": ndarray(state(b"N", dtype("f4"), b"abcd")),
    "nested tuples as shape": ndarray(state(NESTED, dtype("f4"), b"abcd")),
    "a numpy scalar": call("numpy.core.multiarray", "scalar", dtype("O"), b"C\x08" + POINTERS[:8]),
    "an array over a buffer": call("numpy.core.numeric", "_frombuffer", b"C\x04abcd", dtype("f4"), b"I1\n", text("C")),
    "os.system": call("os", "system", text("touch proof")),
    "posix.system": call("posix", "system", text("touch proof")),
    "builtins.eval": call("builtins", "eval", text("1")),
    "numpy.load": call("numpy", "load", text("proof")),
    "numpy's runstring": call("numpy.testing._private.utils", "runstring", text("1"), b"}"),
    "torch.load": call("torch", "load", text("proof")),
    "a torch storage": call("torch", "FloatStorage", b"I1000000000000\n"),
    "a dotted name": b"\x80\x04" + text("numpy") + text("dtype.__class__.__base__") + b"\x93)R",
    "bytes in another encoding": call("_codecs", "encode", text("print"), text("rot13")),
    "an instance by INST": b"(ios\nsystem\n",
    "an instance by OBJ": b"(cos\nsystem\n" + text("touch proof") + b"o",
    "an instance by NEWOBJ": b"cnumpy\nndarray\n(I2\nt\x85\x81",
    "an instance by NEWOBJ_EX": b"cnumpy\nndarray\n)}\x92",
    "an extension code": b"\x82\x01",
    "a persistent id": b"Pname\n",
    "a binary persistent id": text("storage") + b"Q",
    "an out-of-band buffer": b"\x97",
    "a state for a name": b"cnumpy\nndarray\n}" + text("__call__") + b"Nsb",
    "a state for a number": b"I1\nN}b",
    "a value that was never stored": b"h\x07",
    "a memo of a thousand million": b"Nr\xff\xff\xff\x3f" + b"Q",
    "nested tuples as key": b"}" + NESTED + b"Ns",
    "nested tuples as name": b"\x80\x04" + NESTED + text("a") + b"\x93)R",
    "nested tuples as dtype": call("numpy", "dtype", NESTED),
    "more text than the file": b"X\xff\xff\xff\xffabc",
    "more bytes than the file": b"\x8e" + struct.pack("<Q", 2**62) + b"abc",
    "a negative length of text": b"T\xff\xff\xff\xffabc",
    "an empty stack": b"0",
    "two values": b"NN",
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("gadget", GADGETS)
def test_a_crafted_pickle_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gadget: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pkl"
    path.write_bytes(b"\x80\x02" + GADGETS[gadget] + b".")
    with pytest.raises(UserError, match=r"w\.pkl' are refused: a pickle may hold numeric arrays alone \(") as caught:
        read_array_pickle(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert not (tmp_path / "proof").exists()


BYTES = b"B" + struct.pack("<I", 4000) + b"x" * 4000 + b"q\x01"
TEXT = text("x" * 4000) + b"q\x01"
ARRAY = ndarray(b"(I1\n(I1000\nt" + dtype("f4") + b"I00\nh\x01t")


@pytest.mark.parametrize(
    ("stored", "use"), [(BYTES, ARRAY), (TEXT, ARRAY), (TEXT, call("_codecs", "encode", b"h\x01", text("latin1")))]
)
def test_data_that_are_used_very_often_take_no_more_than_the_file(tmp_path: Path, stored: bytes, use: bytes) -> None:
    path = tmp_path / "w.pkl"
    path.write_bytes(b"\x80\x03(" + stored + use * 200 + b"t.")
    with pytest.raises(UserError, match="more data than the file has"):
        read_array_pickle(path)


def test_nothing_that_a_pickle_names_is_imported(tmp_path: Path) -> None:
    path = tmp_path / "w.pkl"
    path.write_bytes(b"\x80\x02" + call("antigravity", "geohash", b"I1\n") + b".")
    with pytest.raises(UserError, match=r"antigravity\.geohash"):
        read_array_pickle(path)
    assert "antigravity" not in sys.modules


READER = """
import resource, sys
from pathlib import Path
from vitmalis.detector.array_pickle import read_array_pickle
from vitmalis.errors import UserError
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000,) * 2)
for path in sorted(Path(sys.argv[1]).glob("*.pkl")):
    try:
        read_array_pickle(path)
    except UserError:
        continue
    raise SystemExit(f"{path} was read")
"""
"""Reads the pickles in a folder with 300 MB more than the process has after its imports."""


def test_a_crafted_pickle_needs_little_memory(tmp_path: Path) -> None:
    for number, gadget in enumerate(GADGETS.values()):
        (tmp_path / f"{number}.pkl").write_bytes(b"\x80\x02" + gadget + b".")
    done = subprocess.run([sys.executable, "-c", READER, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_damage_anywhere_is_a_user_error(tmp_path: Path) -> None:
    whole = pickle.dumps({"model": OrderedDict(ARRAYS)}, 2)
    path, random = tmp_path / "w.pkl", np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 3):
            damaged[place] = random.integers(0, 256)
        path.write_bytes(damaged[: random.integers(1, len(whole) + 1)] if random.random() < 0.3 else damaged)
        with suppress(UserError):
            read_array_pickle(path)
