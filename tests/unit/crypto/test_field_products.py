from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secfpp.crypto.field import PrimeField as F

EDGES = [
    0,
    1,
    2,
    F.p - 1,
    F.p - 2,
    F.half,
    F.half + 1,
    1 << 32,
    (1 << 32) - 1,
    1 << 60,
    (1 << 21) - 1,
    1 << 29,
    1 << 42,
]
ELEMENTS = st.one_of(st.integers(0, F.p - 1), st.sampled_from(EDGES))
LARGE = (1 << 14) + 5  # more than one block


def elements(values: Any) -> np.ndarray:
    return np.array(values, np.uint64)


def random_elements(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).integers(0, F.p, shape, np.uint64)
    flat = found.reshape(-1)
    flat[: min(len(EDGES), flat.size)] = elements(EDGES)[: flat.size]
    return found


def exact(array: np.ndarray) -> np.ndarray:
    return array.astype(object)


def test_all_pairs_of_edges() -> None:
    left, right = elements(EDGES)[:, None], elements(EDGES)[None]
    assert F.mul(left, right).tolist() == [[a * b % F.p for b in EDGES] for a in EDGES]
    assert F.sub(left, right).tolist() == [[(a - b) % F.p for b in EDGES] for a in EDGES]
    assert F.neg(elements(EDGES)).tolist() == [-a % F.p for a in EDGES]


@given(st.lists(st.tuples(ELEMENTS, ELEMENTS), min_size=1))
def test_products_and_differences_are_modular(pairs: list[tuple[int, int]]) -> None:
    left, right = elements([a for a, _ in pairs]), elements([b for _, b in pairs])
    assert F.mul(left, right).tolist() == [a * b % F.p for a, b in pairs]
    assert F.sub(left, right).tolist() == [(a - b) % F.p for a, b in pairs]
    assert F.neg(left).tolist() == [-a % F.p for a, _ in pairs]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((), ()),
        ((3,), ()),
        ((), (LARGE,)),
        ((LARGE,), (LARGE,)),
        ((LARGE,), ()),
        ((3, LARGE), (LARGE,)),
        ((LARGE, 3), (3,)),
        ((3, 1, 6000), (1, 7, 6000)),
        ((3, 7, 6000), (3, 1, 1)),
        ((0, 4), (4,)),
    ],
)
def test_products_broadcast_whatever_the_size(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    a, b = random_elements(left, 1), random_elements(right, 2)
    product = F.mul(a, b)
    assert product.shape == np.broadcast_shapes(left, right)
    assert product.dtype == np.uint64
    assert np.array_equal(exact(product), exact(a) * exact(b) % F.p)


def test_products_of_views_that_are_not_contiguous() -> None:
    a, b = random_elements((300, 200)), random_elements((200, 300))
    assert np.array_equal(F.mul(a.T, b), F.mul(np.ascontiguousarray(a.T), b))


@given(ELEMENTS, st.integers(-200, 200))
def test_turning_bits_multiplies_by_a_power_of_two(value: int, power: int) -> None:
    factor = pow(2, power, F.p)
    assert F.turn(elements([value]), power).tolist() == [value * factor % F.p]
    assert F.turn(elements([value]), power).max() < F.p


@given(ELEMENTS, st.integers(0, 5000))
def test_powers(value: int, exponent: int) -> None:
    assert F.power(elements([value]), exponent).tolist() == [pow(value, exponent, F.p)]


@given(st.lists(ELEMENTS.filter(bool), min_size=1))
def test_inverses(values: list[int]) -> None:
    assert F.mul(elements(values), F.inverse(elements(values))).tolist() == [1] * len(values)


def test_zero_has_no_inverse() -> None:
    with pytest.raises(ZeroDivisionError):
        F.inverse(elements([1, 0]))


@pytest.mark.parametrize("inner", [1, 2, 681, 682, 683, 1400])
def test_matrix_products_are_exact_at_the_largest_elements(inner: int) -> None:
    """Every limb at its maximum: one more summand in a block would not fit float64's 53 bits."""
    left, right = np.full((2, inner), F.p - 1, np.uint64), np.full((inner, 3), F.p - 1, np.uint64)
    assert F.matmul(left, right).tolist() == [[inner % F.p] * 3] * 2
    mixed = random_elements((2, inner), 3)
    expected = (exact(mixed) @ exact(right)) % F.p
    assert np.array_equal(exact(F.matmul(mixed, right)), expected)


def test_limbs_at_their_maximum_are_exact() -> None:
    worst = sum(((1 << 21) - 1) << shift for shift in (0, 21)) | (((1 << 19) - 2) << 42)
    inner = 682
    left, right = np.full((1, inner), worst, np.uint64), np.full((inner, 1), worst, np.uint64)
    assert F.matmul(left, right).tolist() == [[inner * worst * worst % F.p]]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((4, 5), (5, 6)),
        ((3, 4, 5), (5, 6)),
        ((4, 5), (3, 5, 6)),
        ((2, 1, 4, 5), (3, 5, 2)),
        ((0, 5), (5, 2)),
        ((2, 0), (0, 3)),
    ],
)
def test_stacks_of_matrices(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    a, b = random_elements(left, 4), random_elements(right, 5)
    found = F.matmul(a, b)
    assert found.shape == np.matmul(np.zeros(left), np.zeros(right)).shape
    assert np.array_equal(exact(found), exact(a) @ exact(b) % F.p if found.size and left[-1] else exact(found) * 0)


def test_products_distribute_over_sums() -> None:
    a, b, c = (random_elements((20, 30), seed) for seed in (1, 2, 3))
    assert np.array_equal(F.mul(a, F.add(b, c)), F.add(F.mul(a, b), F.mul(a, c)))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_sums_along_an_axis(axis: int) -> None:
    values = random_elements((37, 41), 6)
    assert np.array_equal(exact(F.sum_axis(values, axis)), exact(values).sum(axis) % F.p)
    many = np.full((5000, 2), F.p - 1, np.uint64)
    assert F.sum_axis(many, 0).tolist() == [-5000 % F.p] * 2
    assert F.sum_axis(np.zeros((0, 3), np.uint64), 0).tolist() == [0, 0, 0]
