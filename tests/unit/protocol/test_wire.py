from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from secfpp.errors import WireError
from secfpp.protocol import wire

DTYPES = ("bool", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", ">i4", ">f8", ">u2")
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)


@st.composite
def any_array(draw: st.DrawFn) -> np.ndarray:
    if draw(st.booleans()):
        return np.array(draw(TEXT))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    array = draw(hnp.arrays(draw(st.sampled_from(DTYPES)), shape))
    return array.T if draw(st.booleans()) else array


MESSAGES = st.dictionaries(TEXT, any_array(), max_size=4)


def with_checksum(body: bytes) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body))


def message(*entries: bytes, count: int | None = None, version: int = 1, magic: bytes = b"SFPP") -> bytes:
    header = struct.pack("<4sBH", magic, version, len(entries) if count is None else count)
    return with_checksum(header + b"".join(entries))


def same(left: np.ndarray, right: np.ndarray) -> bool:
    """Equal in type, shape and every bit; byte order and length of the string type aside."""
    if left.dtype.kind == "U":
        return right.dtype.kind == "U" and left.item() == right.item() and right.shape == ()
    native = left.astype(left.dtype.newbyteorder("="))
    return native.dtype == right.dtype and native.shape == right.shape and native.tobytes() == right.tobytes()


@given(MESSAGES)
def test_round_trip_keeps_every_bit(arrays: dict[str, np.ndarray]) -> None:
    data = wire.encode(arrays)
    decoded = wire.decode(data)
    assert list(decoded) == sorted(arrays, key=str.encode)
    assert all(same(arrays[name], decoded[name]) for name in arrays)
    assert wire.encode(decoded) == data


@given(MESSAGES)
def test_measure_is_the_length(arrays: dict[str, np.ndarray]) -> None:
    assert wire.measure(arrays) == len(wire.encode(arrays))


@given(MESSAGES)
def test_detach_gives_what_the_wire_gives(arrays: dict[str, np.ndarray]) -> None:
    (detached, size), encoded = wire.detach(arrays), wire.encode(arrays)
    decoded = wire.decode(encoded)
    assert size == len(encoded)
    assert list(detached) == list(decoded)
    for name in arrays:
        assert detached[name].dtype == decoded[name].dtype
        assert same(detached[name], decoded[name])
        assert not np.shares_memory(detached[name], arrays[name])


@given(MESSAGES, st.randoms(use_true_random=False))
def test_order_of_the_arrays_does_not_matter(arrays: dict[str, np.ndarray], random: object) -> None:
    names = list(arrays)
    random.shuffle(names)  # type: ignore[attr-defined]
    assert wire.encode({name: arrays[name] for name in names}) == wire.encode(arrays)


@given(MESSAGES, st.data())
def test_truncation_is_refused(arrays: dict[str, np.ndarray], data: st.DataObject) -> None:
    encoded = wire.encode(arrays)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(WireError):
        wire.decode(encoded[:cut])
    if cut != len(encoded) - 4:  # there, the checksum just comes back
        with pytest.raises(WireError):
            wire.decode(with_checksum(encoded[:cut]))


@given(MESSAGES, st.data())
def test_a_flipped_bit_is_refused(arrays: dict[str, np.ndarray], data: st.DataObject) -> None:
    damaged = bytearray(wire.encode(arrays))
    position = data.draw(st.integers(0, 8 * len(damaged) - 1))
    damaged[position // 8] ^= 1 << position % 8
    with pytest.raises(WireError):
        wire.decode(bytes(damaged))


@given(MESSAGES, st.data())
def test_a_flipped_bit_under_a_good_checksum_is_refused_or_canonical(
    arrays: dict[str, np.ndarray], data: st.DataObject
) -> None:
    body = bytearray(wire.encode(arrays)[:-4])
    position = data.draw(st.integers(0, 8 * len(body) - 1))
    body[position // 8] ^= 1 << position % 8
    forged = with_checksum(bytes(body))
    try:
        decoded = wire.decode(forged)
    except WireError:
        return
    assert wire.encode(decoded) == forged


@given(st.binary(max_size=200))
@example(b"")
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(WireError):
        wire.decode(garbage)


@given(st.binary(max_size=60), st.integers(0, 3))
def test_garbage_behind_a_good_header_is_refused_or_canonical(garbage: bytes, count: int) -> None:
    forged = message(garbage, count=count)
    try:
        decoded = wire.decode(forged)
    except WireError:
        return
    assert wire.encode(decoded) == forged


def test_a_small_array_does_not_keep_its_message() -> None:
    message = wire.encode({"large": np.zeros(1 << 16), "small": np.arange(8)})
    kept = wire.decode(message)
    del kept["large"]
    message.clear()  # refused while an array is a part of it
    assert kept["small"].tolist() == list(range(8))


def test_decoded_arrays_are_fresh_and_writable() -> None:
    data = wire.encode({"x": np.arange(3)})
    first, second = wire.decode(data), wire.decode(data)
    first["x"][0] = 7
    assert second["x"].tolist() == [0, 1, 2]
    assert first["x"].flags.aligned


def test_the_bytes_are_those_of_the_documented_layout() -> None:
    body = b"SFPP\x01\x02\x00" + b"\x01a\x03\x01\x02\x00\x00\x00\x01\x00\xfe\xff" + b"\x01b\x0c\x00\x02\x00\x00\x00hi"
    assert wire.encode({"b": np.array("hi"), "a": np.array([1, -2], np.int16)}) == with_checksum(body)


X = b"\x01x"
REFUSED = {
    "other magic": (message(magic=b"PFSS"), "not a message"),
    "newer version": (message(version=2), "version 2"),
    "too many arrays": (message(count=1025), "1025 arrays"),
    "an array announced too much": (message(count=1), "ends early"),
    "bytes at the end": (message(b"junk", count=0), "4 bytes after"),
    "a name twice": (message(X + b"\x06\x00\x05", X + b"\x06\x00\x05"), "out of order"),
    "names descending": (message(b"\x01y\x06\x00\x05", X + b"\x06\x00\x05"), "out of order"),
    "a name that is not UTF-8": (message(b"\x01\xff\x06\x00\x05"), "UTF-8"),
    "type code 0": (message(X + b"\x00\x00"), "type code 0"),
    "type code 13": (message(X + b"\x0d\x00"), "type code 13"),
    "nine dimensions": (message(X + b"\x06\x09" + b"\x01\0\0\0" * 9 + b"\x05"), "9 dimensions"),
    "an array of strings": (message(X + b"\x0c\x01\x01\0\0\0a"), "type code 12 and 1"),
    "a boolean of 2": (message(X + b"\x01\x00\x02"), "0 and 1"),
    "a string with a NUL at its end": (message(X + b"\x0c\x00\x02\0\0\0a\0"), "NUL"),
    "a string that is not UTF-8": (message(X + b"\x0c\x00\x01\0\0\0\xff"), "UTF-8"),
    "a size that overflows": (message(X + b"\x09\x08" + b"\xff" * 32), "larger than a message"),
    "a huge side beside an empty one": (message(X + b"\x09\x02\0\0\0\0\xff\xff\xff\xff"), "larger than a message"),
    "data missing": (message(X + b"\x06\x01\x05\0\0\0abcd"), "5 bytes announced, 4 left"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_forged_messages_are_refused_with_the_reason(case: str) -> None:
    data, reason = REFUSED[case]
    with pytest.raises(WireError, match=reason):
        wire.decode(data)


UNFIT = {
    "a plain float": ({"x": 1.0}, "asarray"),
    "an object array": ({"x": np.array([None])}, "dtype object"),
    "bytes": ({"x": np.array(b"x")}, "dtype"),
    "dates": ({"x": np.array(["2020-01-01"], "M8[D]")}, "datetime64"),
    "half precision": ({"x": np.zeros(2, np.float16)}, "astype"),
    "complex": ({"x": np.zeros(2, complex)}, "complex128"),
    "a record": ({"x": np.zeros(2, [("a", "f4")])}, "dtype"),
    "several strings": ({"x": np.array(["a", "b"])}, "single string"),
    "a variable-width string": ({"x": np.array("a", np.dtypes.StringDType())}, "dtype"),
    "nine dimensions": ({"x": np.zeros((1,) * 9)}, "9 dimensions"),
    "a name that is no string": ({1: np.array(1)}, "array name 1"),
    "a long name": ({"é" * 128: np.array(1)}, "255"),
    "a surrogate in a string": ({"x": np.array("\ud800")}, "Unicode"),
    "a surrogate in a name": ({"\ud800": np.array(1)}, "Unicode"),
    "too many arrays": ({str(i): np.array(1) for i in range(1025)}, "1025 arrays"),
    "an empty array of absurd shape": ({"x": np.empty((0, 1 << 30))}, "larger"),
}


@pytest.mark.parametrize("act", [wire.encode, wire.measure, wire.detach])
@pytest.mark.parametrize("case", UNFIT)
def test_what_the_wire_cannot_hold_is_refused_when_sent(case: str, act: object) -> None:
    arrays, reason = UNFIT[case]
    with pytest.raises(WireError, match=reason):
        act(arrays)  # type: ignore[operator]


def test_the_size_limit_counts_the_whole_message(monkeypatch: pytest.MonkeyPatch) -> None:
    two = {"x": np.zeros(10), "y": np.zeros(10)}
    exact = wire.measure(two)
    monkeypatch.setattr(wire, "MAX_MESSAGE", exact)
    data = wire.encode(two)
    assert len(data) == exact
    monkeypatch.setattr(wire, "MAX_MESSAGE", exact - 1)
    with pytest.raises(WireError, match="several asks"):
        wire.encode(two)
    with pytest.raises(WireError, match="at most"):
        wire.decode(data)


def test_scalars_and_odd_booleans_travel_as_their_value() -> None:
    odd = np.array([2, 0], np.uint8).view(bool)
    decoded = wire.decode(wire.encode({"n": np.int64(3), "odd": odd}))
    assert decoded["n"].shape == () and decoded["n"] == 3
    assert decoded["odd"].tolist() == [True, False]


def test_bytes_that_stay_in_the_process_need_no_checksum() -> None:
    arrays = {"x": np.arange(3.0), "text": np.array("y")}
    whole, bare = wire.encode(arrays), wire.encode(arrays, checksum=False)
    assert bare == whole[:-4] + bytes(4)
    for data in (whole, bare):
        assert {name: array.tolist() for name, array in wire.decode(data, checksum=False).items()} == {
            "x": [0.0, 1.0, 2.0],
            "text": "y",
        }
    with pytest.raises(WireError, match="checksum does not match"):
        wire.decode(bare)
    with pytest.raises(WireError, match="not a message of this protocol"):
        wire.decode(b"x" + bytes(bare[1:]), checksum=False)
