"""Symmetric Skellam noise: integers distributed as the difference of two Poisson variables of equal mean.

Sums of such noise are such noise, so parties can each add a part of what a sum needs. N. Agarwal, P. Kairouz, Z. Liu,
"The Skellam Mechanism for Differentially Private Federated Learning", arXiv 2110.04995.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ive

from secfpp.errors import ConfigError, Problem
from secfpp.seeding import Entropy

_LARGE = 1000.0
"""From this variance on, the expansion of `log_probability` is good to the last digits of float64."""
LARGEST_VARIANCE = 2.0**50
"""Noise of more would not be as exact as `noise` says: the digits of float64 are too few for so many integers."""


def renyi_divergence(orders: np.ndarray, l1: float, l2: float, variance: float) -> np.ndarray:
    """Upper bound of the Renyi divergence between the noise and the noise moved by an integer vector.

    Theorem 3.5 of the paper.

    Args:
        orders: whole numbers from 2, [n].
        l1: largest L1 norm of the vector.
        l2: largest L2 norm of the vector.
        variance: of the noise in each coordinate.

    Returns:
        Bounds, float64 [n].
    """
    gaussian = orders * l2**2 / (2 * variance)
    excess = np.minimum(((2 * orders - 1) * l2**2 + 6 * l1) / (4 * variance**2), 3 * l1 / (2 * variance))
    return np.asarray(gaussian + excess)


def log_probability(values: np.ndarray, variance: float) -> np.ndarray:
    """Logarithms of the probabilities of integers, to about 1e-12 of themselves; float64 in the shape of `values`.

    The probability of k is exp(-variance) times the modified Bessel function of order abs(k) at the variance. It comes
    from Debye's expansion, uniform in k, if the variance is large (DLMF 10.41.3), else from continued fractions of
    ratios of neighbouring orders (DLMF 10.33.1), begun far enough out.
    """
    k = np.abs(np.asarray(values, dtype=np.float64))
    if variance < _LARGE:
        return _log_table(int(k.max(initial=0)), variance)[k.astype(np.int64)]
    h = np.hypot(variance, k)
    t = (k / h) ** 2
    series = (3 - 5 * t) / (24 * h)
    series += (81 - 462 * t + 385 * t**2) / (1152 * h**2)
    series += (30375 - 369603 * t + 765765 * t**2 - 425425 * t**3) / (414720 * h**3)
    return np.asarray(
        k * k / (h + variance) - k * np.arcsinh(k / variance) - np.log(2 * np.pi * h) / 2 + np.log1p(series)
    )


def _log_table(last: int, variance: float) -> np.ndarray:
    """The same for 0, 1, ..., `last`."""
    start = last + 60 + int(2 * math.sqrt(variance))
    ratios, ratio = np.empty(start), 0.0
    for k in range(start, 0, -1):
        ratio = 1 / (2 * k / variance + ratio)
        ratios[k - 1] = ratio
    return math.log(ive(0, variance)) + np.concatenate([[0.0], np.cumsum(np.log(ratios[:last]))])


def noise(variance: float, shape: tuple[int, ...], entropy: Entropy) -> np.ndarray:
    """Independent Skellam noise of `variance`, int64 of `shape`.

    By rejection under a flat top with exponential tails, which are above every log-concave distribution (L. Devroye, "A
    simple generator for discrete log-concave distributions", Computing 39, 1987), from 64 random bits a decision. Every
    probability is met to within 1e-8 of itself within six standard deviations.

    Raises:
        ConfigError: a variance that is not positive, or above `LARGEST_VARIANCE`.
    """
    if not 0 < variance <= LARGEST_VARIANCE:
        allowed = f"above 0 and at most {LARGEST_VARIANCE:.3g}; with fewer bits of rounding less noise is needed"
        raise ConfigError([Problem("variance", variance, allowed)])
    needed, found, have = math.prod(shape), [np.empty(0, np.int64)], 0
    while have < needed:
        found.append(_accepted(variance, 5 * (needed - have) + 16, entropy))
        have += len(found[-1])
    return np.concatenate(found)[:needed].reshape(shape)


def _accepted(variance: float, tries: int, entropy: Entropy) -> np.ndarray:
    """What is kept of so many proposals, about a fifth."""
    top = math.exp(float(log_probability(np.zeros(1), variance)[0]))
    knee = 1 + top / 2
    place, way, accept, sign = np.frombuffer(entropy.random_bytes(32 * tries), np.uint64).reshape(4, tries)
    flat, tail = _uniform(way) * knee, knee - np.log(_uniform(way))
    distance = np.where(_uniform(place) * (1 + knee) <= knee, flat, tail) / top
    values = np.rint(distance).astype(np.int64)
    values[(sign >> np.uint64(63)).astype(bool)] *= -1
    hat = np.log(_uniform(accept)) + np.minimum(0.0, knee - top * distance)
    kept: np.ndarray = values[hat <= log_probability(values, variance) - math.log(top)]
    return kept


def _uniform(words: np.ndarray) -> np.ndarray:
    """Random 64-bit words as float64 in (0, 1], small ones with all their digits."""
    return (words.astype(np.float64) + 0.5) * 2.0**-64


def tail(variance: float, bound: float, size: int = 1) -> float:
    """Upper bound of the probability that one of `size` independent values is of magnitude `bound` or more.

    Chernoff's bound with the cumulant generating function variance * (cosh - 1), and the union bound.
    """
    exponent = bound**2 / (math.hypot(bound, variance) + variance) - bound * math.asinh(bound / variance)
    return min(1.0, 2 * size * math.exp(exponent))


def largest(variance: float, probability: float, size: int = 1) -> int:
    """The least whole number that one of `size` independent values reaches with at most `probability`, by `tail`."""
    if not 0 < probability < 1:
        raise ConfigError([Problem("probability", probability, "above 0 and below 1")])
    low, high = 0, 1
    while tail(variance, high, size) > probability:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if tail(variance, middle, size) > probability else (low, middle)
    return high


def longest(variance: float, size: int, probability: float) -> float:
    """A length that `size` independent values together, as a vector, exceed with at most `probability`.

    Half of it for a value beyond `largest`; the squares of what is left are bounded, of mean at most the variance V and
    second moment at most ``3 V^2 + V``: Bernstein's inequality for their sum.
    """
    most = largest(variance, probability / 2, size) ** 2
    log = math.log(2 / probability)
    above = most * log / 3 + math.sqrt((most * log / 3) ** 2 + 2 * size * (3 * variance**2 + variance) * log)
    return math.sqrt(size * variance + above)


def rounded_norms(clip: float, step: float, size: int) -> tuple[float, float]:
    """Bounds of the L1 and the L2 norm, in steps, of `size` numbers of L2 norm at most `clip`, each rounded to a step.

    Rounding moves a number by at most half a step. For an integer vector the L1 norm is at most the squared L2 norm.
    """
    l2 = clip / step + math.sqrt(size) / 2
    return min(math.sqrt(size) * l2, l2**2), l2
