from __future__ import annotations

from itertools import permutations

import numpy as np

from secfpp.crypto.field import PrimeField
from secfpp.crypto.randomness import Stream
from secfpp.seeding import SystemEntropy

KEY = bytes(range(32))


class Fixed:
    """The same bytes every time, and how many were asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def random_bytes(self, count: int) -> bytes:
        self.asked.append(count)
        return KEY[:count]


def test_the_keystream_is_aes_256_in_counter_mode() -> None:
    """The first block is the zero block enciphered with the key 00 01 ... 1f."""
    words = Stream(KEY).words((2,))
    assert words.tobytes().hex() == "f29000b62a499fd0a9f39a6add2e7780"


def test_a_stream_is_read_once_from_front_to_back() -> None:
    whole = Stream(KEY).words((10,))
    stream = Stream(KEY)
    parts = [stream.words((3,)), stream.words((0,)), stream.words((1, 2)).reshape(-1), stream.words((5,))]
    assert np.array_equal(np.concatenate(parts), whole)
    assert len(set(whole.tolist())) == 10


def test_elements_are_the_top_bits_and_always_in_the_field() -> None:
    words, found = Stream(KEY).words((1000,)), Stream(KEY).elements((1000,))
    assert np.array_equal(found, words >> np.uint64(3))
    assert PrimeField.checked(found) is found


def test_the_one_word_that_is_no_element_becomes_zero() -> None:
    stream = Stream(KEY)
    stream.words = lambda shape: np.full(shape, (1 << 64) - 1, np.uint64)  # type: ignore[method-assign]
    assert stream.elements((2,)).tolist() == [0, 0]


def test_fresh_streams_take_32_bytes_and_differ() -> None:
    source = Fixed()
    assert np.array_equal(Stream.fresh(source).words((4,)), Stream(KEY).words((4,)))
    assert source.asked == [32]
    first, second = (Stream.fresh(SystemEntropy()).words((4,)) for _ in range(2))
    assert not np.array_equal(first, second)


def test_elements_look_uniform() -> None:
    top = Stream(KEY).elements((64_000,)) >> np.uint64(PrimeField.bits - 6)
    counts = np.bincount(top.astype(np.int64), minlength=64)
    assert ((counts - 1000) ** 2 / 1000).sum() < 110  # chi-square of 63 degrees of freedom: 0.9998 quantile


def test_integers_of_some_bits() -> None:
    for bits in (1, 7, 64):
        found = Stream(KEY).integers(bits, (5000,))
        assert int(found.max()).bit_length() == bits
        assert found.dtype == np.uint64
    assert Stream(KEY).integers(0, (3,)).tolist() == [0, 0, 0]
    assert abs(Stream(KEY).integers(1, (10_000,)).mean() - 0.5) < 0.025


def test_permutations_are_uniform() -> None:
    found = Stream(KEY).permutations(6000, 3)
    counts = dict.fromkeys(permutations(range(3)), 0)
    for row in found.tolist():
        counts[tuple(row)] += 1
    assert all(abs(count - 1000) < 150 for count in counts.values())


def test_a_stream_shows_nothing_of_its_key() -> None:
    assert repr(Stream(KEY)) == "Stream(...)"
