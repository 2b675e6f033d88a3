from __future__ import annotations

import os
import pickle
import pickletools
import subprocess
from collections import OrderedDict
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secfpp.data.plain_pickle import loads_plain, read_plain_pickle
from secfpp.errors import DataError

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
plain = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers() | st.binary(), inner)
    ),
)


@given(value=plain, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_data_of_any_protocol_comes_back(value: Any, protocol: int) -> None:
    found = loads_plain(pickle.dumps(value, protocol=protocol))
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["u1", "<i8", ">i4", "f4", "?", "S5", "U7"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_back(protocol: int, dtype: str, order: Any) -> None:
    array = np.array(np.arange(12).reshape(3, 4), dtype=dtype, order=order)
    twice = [array, {"again": array}]
    found = loads_plain(pickle.dumps(twice, protocol=protocol))
    np.testing.assert_array_equal(found[0], array)
    assert found[0].dtype == array.dtype and found[1]["again"] is found[0]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_texts_and_single_numbers_come_back(protocol: int) -> None:
    paths = np.array(["a/b.jpg", "c.jpg"], dtype=object)
    found = loads_plain(pickle.dumps((paths, np.int64(7), np.float32(0.5)), protocol=protocol))
    assert found[0].tolist() == ["a/b.jpg", "c.jpg"] and found[1:] == (7, 0.5)


@pytest.mark.parametrize("array", [np.arange(6).reshape(2, 3), np.array([["a", "b"]], dtype=object)])
def test_arrays_as_numpy_saves_them_come_back(array: np.ndarray) -> None:
    file = BytesIO()
    np.save(file, array, allow_pickle=True)
    np.testing.assert_array_equal(loads_plain(file.getvalue()), array)


def test_texts_of_python_2_are_texts() -> None:
    # {'data': 'ab\xff', 'labels': [3]} of protocol 2, as Python 2 writes it
    written = b"\x80\x02}q\x00(U\x04dataq\x01U\x03ab\xffq\x02U\x06labelsq\x03]q\x04K\x03au."
    assert loads_plain(written) == {"data": "ab\xff", "labels": [3]}


class Runs:
    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


class Stateful:
    def __init__(self) -> None:
        self.x = 1


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "value",
    [Runs(), [Runs()], Stateful(), OrderedDict(a=1), subprocess.Popen, print, {1, 2}, frozenset("a"), Path("x"),
     np.array([Runs()], dtype=object), np.dtype("u1"), np.array([(1, 2)], dtype=[("a", "u1"), ("b", "u1")]),
     {(1, 2): 3},
     np.array(["2020-01-01"], dtype="M8[D]")],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_whatever_else_is_refused_and_nothing_runs(
    value: Any, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.pkl").write_bytes(pickle.dumps(value, protocol=protocol))
    with pytest.raises(DataError, match=r"data\.pkl: holds .*only tuples, lists"):
        read_plain_pickle(tmp_path / "data.pkl")
    assert not (tmp_path / "ran").exists()


def test_the_pickle_that_is_refused_would_have_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Runs()))
    assert (tmp_path / "ran").exists()


def test_no_bytes_whatever_raise_anything_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = pickle.dumps({"data": np.arange(50, dtype="u1"), "labels": [1, 2], "names": ("a", b"b", 2.5)}, protocol=2)
    file = tmp_path / "data.pkl"
    refused = 0
    for _ in range(3000):
        content = bytearray(whole)
        for at in rng.integers(0, len(whole), rng.integers(1, 4)):
            content[at] = rng.integers(0, 256)
        file.write_bytes(bytes(content[: rng.integers(1, len(content) + 1)]))
        try:
            read_plain_pickle(file)
        except DataError:
            refused += 1
    assert refused > 1000


def test_missing_and_empty_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.pkl: No such file"):
        read_plain_pickle(tmp_path / "gone.pkl")
    (tmp_path / "empty.pkl").touch()
    with pytest.raises(DataError, match=r"empty\.pkl: not a pickle, or damaged"):
        read_plain_pickle(tmp_path / "empty.pkl")


def test_an_array_that_says_it_is_larger_than_its_bytes_is_refused(tmp_path: Path) -> None:
    written = pickle.dumps(np.zeros(4, dtype="u1"), protocol=2)
    assert b"K\x04\x85" in written
    (tmp_path / "data.pkl").write_bytes(written.replace(b"K\x04\x85", b"J\xff\xff\xff\x7f\x85"))
    with pytest.raises(DataError, match="4 bytes for an array of uint8 of shape"):
        read_plain_pickle(tmp_path / "data.pkl")


def test_every_opcode_is_known_or_refused(tmp_path: Path) -> None:
    """No opcode of this Python is skipped in silence but those without an effect."""
    from secfpp.data import plain_pickle

    for opcode in pickletools.opcodes:
        if opcode.name in plain_pickle._IGNORED | {"STOP"}:
            continue
        machine = plain_pickle._Machine()
        before = list(machine.stack)
        try:
            machine._step(opcode.name, 0 if opcode.arg else None)
        except Exception:
            continue
        assert machine.stack != before, opcode.name
