from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from secfpp.crypto.field import PrimeField
from secfpp.crypto.fixed_point import FixedPoint
from secfpp.errors import FieldRangeError

CODECS = st.one_of(
    st.builds(FixedPoint, st.floats(0.6, 100), st.integers(0, 30)),
    st.builds(FixedPoint, st.floats(1e-6, 0.6), st.integers(20, 40)),
)


def reals(codec: FixedPoint) -> st.SearchStrategy[float]:
    return st.one_of(st.floats(-codec.bound, codec.bound), st.sampled_from([codec.bound, -codec.bound, 0.0]))


@given(CODECS, st.data())
def test_one_number_comes_back_within_half_a_step(codec: FixedPoint, data: st.DataObject) -> None:
    value = data.draw(reals(codec))
    decoded = float(codec.decode(codec.encode(np.array([value])))[0])
    assert abs(Fraction(decoded) - Fraction(value)) <= Fraction(codec.step) / 2


@given(CODECS, st.data())
def test_a_weighted_sum_is_exact_and_its_mean_within_half_a_step(codec: FixedPoint, data: st.DataObject) -> None:
    summands = data.draw(st.lists(st.tuples(reals(codec), st.integers(1, 10**6)), min_size=1, max_size=6))
    weight = sum(w for _, w in summands)
    assume(weight <= codec.capacity)
    total = PrimeField.sum((codec.encode(np.array([x]), w) for x, w in summands), (1,))
    exact = sum(w * round(Fraction(x) * 2**codec.bits) for x, w in summands)
    assert int(PrimeField.lower(total)[0]) == exact
    mean = sum(w * Fraction(x) for x, w in summands) / weight
    decoded = Fraction(float(codec.decode(total, weight)[0]))
    float64 = abs(mean) * Fraction(1, 2**51)
    assert abs(decoded - mean) <= Fraction(codec.step) / 2 + float64


@given(CODECS, st.data())
def test_full_capacity_does_not_wrap_and_one_more_is_refused(codec: FixedPoint, data: st.DataObject) -> None:
    sign = data.draw(st.sampled_from([1, -1]))
    capacity = codec.capacity
    codec.require_capacity(capacity)
    full = codec.encode(np.array([sign * codec.bound]), capacity)
    assert int(PrimeField.lower(full)[0]) == sign * codec.largest * capacity
    assert codec.largest * (capacity + 1) > PrimeField.half
    for refused in (codec.require_capacity, lambda weight: codec.encode(np.zeros(1), weight)):
        with pytest.raises(FieldRangeError, match=f"total weight {capacity + 1}.*at most {capacity};"):
            refused(capacity + 1)


@given(CODECS, st.sampled_from([1.0, -1.0]))
def test_the_bound_is_the_last_number_that_fits(codec: FixedPoint, sign: float) -> None:
    assert abs(int(PrimeField.lower(codec.encode(np.array(sign * codec.bound))))) == codec.largest
    beyond = np.nextafter(sign * codec.bound, sign * np.inf)
    with pytest.raises(FieldRangeError, match="clip first"):
        codec.encode(np.array([0.0, beyond]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(FieldRangeError, match="finite ones up to"):
        FixedPoint(1.0, 8).encode(np.array([0.5, value]))


def test_halves_round_to_even() -> None:
    encoded = FixedPoint(4.0, 1).encode(np.array([0.25, 0.75, -0.25, -0.75, 1.25]))
    assert PrimeField.lower(encoded).tolist() == [0, 2, 0, -2, 2]


@pytest.mark.parametrize(
    ("bound", "bits"),
    [
        (0.0, 8),
        (-1.0, 8),
        (np.inf, 8),
        (np.nan, 8),
        (1.0, -1),
        (1.0, 53),
        (2.0**9, 52),
        (1e300, 0),
        (0.5, 0),
        (1e-09, 20),
    ],
)
def test_impossible_settings_are_refused(bound: float, bits: int) -> None:
    with pytest.raises(FieldRangeError):
        FixedPoint(bound, bits)


def test_the_largest_possible_setting_holds_one_number() -> None:
    codec = FixedPoint(2.0**8 - 2.0**-30, 52)
    assert codec.capacity == 1
    encoded = codec.encode(np.array([codec.bound, -codec.bound]))
    assert codec.decode(encoded).tolist() == [codec.bound, -codec.bound]


@pytest.mark.parametrize("weight", [0, -1])
def test_weights_below_one_are_refused(weight: int) -> None:
    with pytest.raises(FieldRangeError, match=f"weight {weight}"):
        FixedPoint(1.0, 8).encode(np.zeros(2), weight)


def test_shapes_stay() -> None:
    codec = FixedPoint(1.0, 8)
    assert codec.encode(np.zeros((2, 0, 3), np.float32)).shape == (2, 0, 3)
    assert codec.decode(codec.encode(np.full((2, 3), 0.5))).tolist() == [[0.5] * 3] * 2
