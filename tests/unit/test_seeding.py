from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secfpp.seeding import Seed, SystemEntropy, derive

PATHS = st.lists(st.one_of(st.text(max_size=4), st.integers()), max_size=4).map(tuple)


@given(st.integers(), PATHS, st.integers(), PATHS)
def test_seeds_agree_exactly_when_root_and_path_do(
    left: int, left_path: tuple[str | int, ...], right: int, right_path: tuple[str | int, ...]
) -> None:
    equal = derive(left, *left_path) == derive(right, *right_path)
    assert equal == ((left, left_path) == (right, right_path))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "b"), ("ab",)),
        (("1",), (1,)),
        ((), ("",)),
        (("a", "b"), ("b", "a")),
        ((1, 2), (12,)),
        (("', '",), ("", "")),
    ],
)
def test_similar_paths_are_not_confused(one: tuple[str | int, ...], other: tuple[str | int, ...]) -> None:
    assert derive(7, *one) != derive(7, *other)


def test_a_seed_stands_for_its_value() -> None:
    assert derive(Seed(7), "x") == derive(7, "x")


@given(st.integers(), PATHS)
def test_seeds_have_63_bits(root: int, path: tuple[str | int, ...]) -> None:
    assert 0 <= derive(root, *path).value < 1 << 63


def test_values_never_change_between_releases() -> None:
    assert derive(7, "client-3", 12, "batch").value == 7924029706463225552


def test_generators_start_afresh_each_time() -> None:
    seed = derive(1, "x")
    first, second = seed.numpy(), seed.numpy()
    first.random(10)
    np.testing.assert_array_equal(seed.numpy().random(3), second.random(3))


def test_system_entropy_gives_fresh_bytes_of_the_asked_length() -> None:
    entropy = SystemEntropy()
    assert [len(entropy.random_bytes(count)) for count in (0, 1, 33)] == [0, 1, 33]
    assert entropy.random_bytes(16) != entropy.random_bytes(16)
