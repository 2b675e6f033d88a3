from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import mpmath
import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution
from scipy import stats

from secfpp.errors import ConfigError
from secfpp.privacy import skellam
from secfpp.privacy.accounting import epsilon
from secfpp.privacy.events import Gaussian, Skellam
from secfpp.seeding import SystemEntropy

DELTA = 1e-5


def exact_epsilon(moves: Sequence[int], variance: float, delta: float = DELTA) -> float:
    """Epsilon of the noise moved by an integer vector: privacy losses of the exact probabilities, convolved."""
    reach = skellam.largest(variance, 1e-18) + max(moves)
    values = np.arange(-reach, reach + 1)
    logs = dict(zip(values.tolist(), skellam.log_probability(values, variance).tolist(), strict=True))
    distributions = [
        privacy_loss_distribution.from_two_probability_mass_functions(
            logs, {value + move: log for value, log in logs.items()}, pessimistic_estimate=False
        )
        for move in moves
    ]
    return float(reduce(lambda all_, one: all_.compose(one), distributions).get_epsilon_for_delta(delta))


def bound(moves: Sequence[int], variance: float, delta: float = DELTA) -> float:
    l1, l2 = float(sum(map(abs, moves))), math.sqrt(sum(move**2 for move in moves))
    return epsilon([Skellam(covers="sum", unit="client", l1=l1, l2=l2, variance=variance)], delta)


@pytest.mark.parametrize("variance", [1e-3, 0.5, 30.0, 999.0, 1001.0, 1e4])
def test_probabilities_are_those_of_bessel_functions(variance: float) -> None:
    deviation = math.sqrt(variance)
    values = sorted({0, 1, 2, round(3 * deviation), -round(7 * deviation), round(20 * deviation)})
    with mpmath.workdps(30):
        expected = [float(mpmath.log(mpmath.besseli(abs(k), variance)) - variance) for k in values]
    np.testing.assert_allclose(skellam.log_probability(np.array(values), variance), expected, rtol=2e-13, atol=2e-13)


@pytest.mark.parametrize("variance", [0.2, 40.0, 1e6])
def test_probabilities_add_up_to_one_and_have_the_variance(variance: float) -> None:
    reach = skellam.largest(variance, 1e-18)
    values = np.arange(-reach, reach + 1)
    mass = np.exp(skellam.log_probability(values, variance))
    assert mass.sum() == pytest.approx(1, abs=1e-12)
    assert (mass * values.astype(float) ** 2).sum() == pytest.approx(variance, rel=1e-12)


@pytest.mark.parametrize("variance", [0.3, 4.0, 100.0, 900.0, 2500.0])
@pytest.mark.parametrize("moves", [[1], [3], [1, 1, 1, 1], [5, -2, 1]])
def test_the_bound_is_above_what_convolution_gives(variance: float, moves: list[int]) -> None:
    limit, truth = bound(moves, variance), exact_epsilon([abs(move) for move in moves], variance)
    assert truth <= limit
    if variance >= 900:
        assert limit < 1.3 * truth


@pytest.mark.parametrize("order", [2, 3, 8, 40, 400])
@pytest.mark.parametrize(("variance", "move"), [(0.5, 1), (0.5, 9), (20.0, 3), (3000.0, 50), (1e5, 4)])
def test_the_bound_is_above_the_renyi_divergence_itself(order: int, variance: float, move: int) -> None:
    centre = variance * math.sinh(order * move / variance) if order * move < 20 * variance else 0.0
    reach = int(4 * order * move + 2 * centre + 40 * math.sqrt(variance + centre) + 200)
    values = np.arange(-reach, reach + 1)
    moved, still = (skellam.log_probability(values - shift, variance) for shift in (move, 0))
    terms = order * moved + (1 - order) * still
    assert terms[[0, -1]].max() < terms.max() - 40
    divergence = np.logaddexp.reduce(terms) / (order - 1)
    limit = skellam.renyi_divergence(np.array([order]), move, move, variance)[0]
    assert divergence <= limit
    if variance == 1e5:
        assert limit < 1.001 * divergence


def test_large_noise_is_as_good_as_gaussian_noise() -> None:
    """Both the truth, and the bound but for what any bound by Renyi divergences loses."""
    gaussian = epsilon([Gaussian(covers="sum", unit="client", norm=20.0, sd=40.0)], DELTA)
    assert exact_epsilon([20], 1600.0) == pytest.approx(gaussian, rel=5e-3)
    renyi = np.arange(2, 100)
    by_renyi = min(a * 0.125 + math.log1p(-1 / a) - math.log(DELTA * a) / (a - 1) for a in renyi)
    assert bound([20_000], 1.6e9) == pytest.approx(by_renyi, rel=1e-3)
    assert gaussian < bound([20_000], 1.6e9) < 1.09 * gaussian


@pytest.mark.parametrize("variance", [1e-2, 1.0, 37.5, 990.0, 1010.0])
def test_noise_is_distributed_as_it_should_be(variance: float) -> None:
    count = 200_000
    drawn = skellam.noise(variance, (count,), SystemEntropy())
    reach = next(k for k in range(1000) if count * math.exp(skellam.log_probability(np.array([k]), variance)[0]) < 10)
    inner = np.arange(-reach + 1, reach)
    expected = count * np.exp(skellam.log_probability(inner, variance))
    observed = np.array([(drawn == value).sum() for value in inner])
    expected, observed = np.append(expected, count - expected.sum()), np.append(observed, count - observed.sum())
    assert stats.chisquare(observed, expected).pvalue > 1e-6


@pytest.mark.parametrize("variance", [1e4, 1.4e10, skellam.LARGEST_VARIANCE])
def test_large_noise_is_distributed_as_it_should_be(variance: float) -> None:
    drawn = skellam.noise(variance, (100, 2000), SystemEntropy())
    assert drawn.shape == (100, 2000) and drawn.dtype == np.int64
    spread = np.random.default_rng(0).uniform(-0.5, 0.5, drawn.shape)
    assert stats.kstest(((drawn + spread) / math.sqrt(variance)).ravel(), "norm").pvalue > 1e-6
    if variance > 1e9:
        assert (drawn % 2).mean() == pytest.approx(0.5, abs=0.006)


class Counting:
    """Entropy that repeats itself."""

    def random_bytes(self, count: int) -> bytes:
        return np.arange(count, dtype=np.uint64).tobytes()[:count]


def test_noise_comes_from_the_entropy_that_is_given_and_from_nothing_else() -> None:
    first, second = (skellam.noise(50.0, (40,), Counting()) for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, skellam.noise(50.0, (40,), SystemEntropy()))
    assert skellam.noise(50.0, (0, 3), SystemEntropy()).shape == (0, 3)


@pytest.mark.parametrize("variance", [0.0, -1.0, math.nan, 2.0**51])
def test_noise_that_cannot_be_made_exactly_is_refused(variance: float) -> None:
    with pytest.raises(ConfigError, match="fewer bits"):
        skellam.noise(variance, (1,), SystemEntropy())


@pytest.mark.parametrize("variance", [0.5, 30.0, 1e4])
def test_the_tail_bound_is_above_the_tail(variance: float) -> None:
    for deviations in (2, 4, 6):
        limit = math.ceil(deviations * math.sqrt(variance))
        beyond = np.arange(limit, limit + 40 * limit)
        true = 2 * np.exp(skellam.log_probability(beyond, variance)).sum()
        assert true <= skellam.tail(variance, limit) <= 20 * true
    many = skellam.tail(variance, skellam.largest(variance, 1e-9, 8192), 8192)
    assert many <= 1e-9 < skellam.tail(variance, skellam.largest(variance, 1e-9, 8192) - 1, 8192)


def test_noise_stays_within_its_tail_bound() -> None:
    limit = skellam.largest(1e6, 1e-6, 100_000)
    assert np.abs(skellam.noise(1e6, (100_000,), SystemEntropy())).max() < limit < 8e3
    with pytest.raises(ConfigError, match="probability"):
        skellam.largest(1e6, 0.0)


@pytest.mark.parametrize(("variance", "size"), [(0.5, 3), (4.0, 50), (1e6, 2000)])
def test_noise_is_no_longer_than_its_bound_and_the_bound_is_near(variance: float, size: int) -> None:
    lengths = np.linalg.norm(skellam.noise(variance, (400_000 // size, size), SystemEntropy()).astype(float), axis=1)
    for probability in (0.5, 0.05, 1e-3):
        limit = skellam.longest(variance, size, probability)
        assert (lengths > limit).mean() <= probability
        assert size < 50 or limit < 2.5 * np.sqrt(size * variance)


def test_parts_of_noise_add_up_to_noise_of_the_summed_variance() -> None:
    parts = skellam.noise(3.0, (7, 100_000), SystemEntropy()).sum(axis=0)
    inner = np.arange(-12, 13)
    expected = len(parts) * np.exp(skellam.log_probability(inner, 21.0))
    observed = np.array([(parts == value).sum() for value in inner])
    assert (
        stats.chisquare(
            np.append(observed, len(parts) - observed.sum()), np.append(expected, len(parts) - expected.sum())
        ).pvalue
        > 1e-6
    )


@pytest.mark.parametrize(("clip", "step", "size"), [(0.5, 2.0**-8, 64), (1.0, 0.25, 100), (1.0, 2.0, 5)])
def test_rounded_vectors_are_within_the_norms(clip: float, step: float, size: int) -> None:
    l1, l2 = skellam.rounded_norms(clip, step, size)
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(2000, size)) * rng.integers(0, 2, (2000, size))
    vectors[0], vectors[1] = 1.0, np.eye(size)[0]
    vectors *= clip / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)
    rounded = np.rint(vectors / step)
    assert np.linalg.norm(rounded, axis=1).max() <= l2
    assert np.abs(rounded).sum(axis=1).max() <= l1
