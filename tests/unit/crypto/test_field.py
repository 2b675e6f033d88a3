from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secfpp.crypto.field import PrimeField as F
from secfpp.errors import FieldRangeError

ELEMENTS = st.one_of(st.integers(0, F.p - 1), st.sampled_from([0, 1, F.half, F.half + 1, F.p - 1]))
SIGNED = st.one_of(st.integers(-F.half, F.half), st.sampled_from([0, 1, -1, F.half, -F.half]))


def elements(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


def test_the_modulus_is_the_mersenne_prime() -> None:
    assert F.p == 2305843009213693951 == 2**61 - 1
    # Lucas-Lehmer
    s = 4
    for _ in range(61 - 2):
        s = (s * s - 2) % F.p
    assert s == 0


@given(st.lists(st.tuples(ELEMENTS, ELEMENTS), min_size=1))
def test_addition_is_modular(pairs: list[tuple[int, int]]) -> None:
    left, right = elements(*(a for a, _ in pairs)), elements(*(b for _, b in pairs))
    total = F.add(left, right)
    assert total.dtype == np.uint64
    assert total.tolist() == [(a + b) % F.p for a, b in pairs]


@given(st.lists(SIGNED))
def test_lower_undoes_lift(values: list[int]) -> None:
    lifted = F.lift(np.array(values, np.int64))
    assert lifted.tolist() == [value % F.p for value in values]
    assert F.lower(lifted).tolist() == values


@given(st.lists(ELEMENTS))
def test_lift_undoes_lower(values: list[int]) -> None:
    assert F.lift(F.lower(elements(*values))).tolist() == values


@given(st.lists(st.lists(ELEMENTS, min_size=3, max_size=3), max_size=20))
def test_sums_of_any_number(rows: list[list[int]]) -> None:
    total = F.sum((elements(*row) for row in rows), (3,))
    assert total.tolist() == [sum(row[i] for row in rows) % F.p for i in range(3)]


@pytest.mark.parametrize("value", [F.half + 1, -F.half - 1, 2**63 - 1, -(2**63)])
def test_lift_refuses_what_does_not_fit(value: int) -> None:
    with pytest.raises(FieldRangeError, match=f"integer {value} does not fit.*{F.half}"):
        F.lift(np.array([0, value, 5], np.int64))


def test_operands_that_are_no_elements_are_refused() -> None:
    with pytest.raises(FieldRangeError, match="dtype uint64, not int64"):
        F.lower(np.array([1]))
    with pytest.raises(FieldRangeError, match=f"{F.p} is no field element"):
        F.sum([elements(3), elements(F.p)], (1,))
    assert F.checked(elements(F.p - 1)).tolist() == [F.p - 1]
