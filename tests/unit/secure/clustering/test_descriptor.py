from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secfpp.errors import FieldRangeError
from secfpp.secure.clustering.descriptor import projection, quantise, radius


@pytest.mark.parametrize(("bits", "longest"), [(2, 1), (8, 127), (16, 32767)])
def test_the_radius_of_some_bits(bits: int, longest: int) -> None:
    assert radius(bits) == longest


def test_the_projection_is_public_and_seeded() -> None:
    one = projection(7, 128, 16)
    np.testing.assert_array_equal(one, projection(7, 128, 16))
    assert not np.array_equal(one, projection(8, 128, 16))
    assert set(np.abs(one).ravel().tolist()) == {0.25}


def test_the_projection_keeps_squared_lengths_on_average() -> None:
    rng = np.random.default_rng(0)
    vector = rng.normal(size=128)
    lengths = [float(np.sum((vector @ projection(seed, 128, 16)) ** 2)) for seed in range(400)]
    assert np.mean(lengths) == pytest.approx(float(vector @ vector), rel=0.06)


@pytest.mark.parametrize("dimension", [3, 16])
def test_few_dimensions_stay_as_they_are(dimension: int) -> None:
    np.testing.assert_array_equal(projection(7, dimension, 16), np.eye(dimension))


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=24).map(np.array),
    st.floats(1e-3, 1e3),
    st.sampled_from([3, 7, 127, 32767]),
)
def test_no_rounding_leaves_the_ball(vector: np.ndarray, scale: float, longest: int) -> None:
    quantised = quantise(vector, scale, longest).astype(np.int64)
    assert int(quantised @ quantised) <= longest**2


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=24).map(np.array))
def test_a_vector_that_fits_is_only_rounded(vector: np.ndarray) -> None:
    quantised = quantise(vector, 1.0, 127)
    assert quantised.dtype == np.int16
    np.testing.assert_array_equal(quantised, np.rint(vector))


def test_a_long_vector_keeps_its_direction() -> None:
    vector = np.random.default_rng(1).normal(size=16)
    quantised = quantise(vector, 1e4, 127).astype(float)
    cosine = quantised @ vector / np.linalg.norm(quantised) / np.linalg.norm(vector)
    assert cosine > 0.999
    assert np.linalg.norm(quantised) > 122


def test_a_vector_just_beyond_is_shortened() -> None:
    assert quantise(np.array([127.0]), 1.0, 127).tolist() == [127]
    assert quantise(np.array([128.0]), 1.0, 127).tolist() == [126]


def test_what_cannot_be_quantised_is_refused() -> None:
    with pytest.raises(FieldRangeError, match="not finite"):
        quantise(np.array([1.0, np.nan]), 1.0, 127)
    with pytest.raises(FieldRangeError, match="16 dimensions do not fit a norm of 2"):
        quantise(np.ones(16), 1.0, 2)
