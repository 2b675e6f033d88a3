"""Paired t tests over seeds: p-values, Holm's correction for several of them, and what so few seeds can see."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from functools import cache
from typing import TypeVar

import numpy as np

LEVEL = 0.05
"""Two-sided error rate of a test."""
POWER = 0.8
"""Probability with which a difference is to be seen."""
_Name = TypeVar("_Name", bound=Hashable)


def paired_p(gaps: Sequence[float]) -> float | None:
    """The two-sided p-value of a paired t test that the mean of `gaps` is 0; None for fewer than two of them.

    Args:
        gaps: one difference per seed. If all are equal, it is 1 where they are 0 and 0 elsewhere.
    """
    if len(gaps) < 2:
        return None
    from scipy.stats import t

    sample = np.asarray(gaps, dtype=np.float64)
    mean, spread = float(sample.mean()), float(sample.std(ddof=1))
    if _without_spread(spread, sample):
        return 1.0 if abs(mean) <= _rounding(sample) else 0.0
    return float(2 * t.sf(abs(mean) / spread * math.sqrt(len(sample)), len(sample) - 1))


def holm(p_values: Mapping[_Name, float | None]) -> dict[_Name, float | None]:
    """Adjusted p-values (Holm, 1979): rejecting those below a level errs anywhere with at most that probability.

    Args:
        p_values: of all tests that are looked at together; None is no test, and stays None.
    """
    tests = sorted((p, place) for place, p in enumerate(p_values.values()) if p is not None)
    adjusted: dict[int, float] = {}
    highest = 0.0
    for rank, (p, place) in enumerate(tests):
        highest = max(highest, min(1.0, (len(tests) - rank) * p))
        adjusted[place] = highest
    return {name: adjusted.get(place) for place, name in enumerate(p_values)}


def detectable(gaps: Sequence[float], power: float = POWER, level: float = LEVEL) -> float | None:
    """The smallest true mean difference that a paired t test on so many seeds sees with probability `power`.

    Args:
        gaps: one difference per seed, whose spread is taken for the true one; the result is in their unit.
        power: probability of a p-value below `level`.
        level: two-sided error rate.

    Returns:
        The difference; None for fewer than two gaps, or if they do not spread, as those of a method's twin.
    """
    if len(gaps) < 2:
        return None
    sample = np.asarray(gaps, dtype=np.float64)
    spread = float(sample.std(ddof=1))
    return None if _without_spread(spread, sample) else spread * _standardized(len(sample), power, level)


@cache
def _standardized(n: int, power: float, level: float) -> float:
    """`detectable` in units of the spread, by the noncentral t distribution."""
    from scipy.optimize import brentq
    from scipy.stats import nct, t

    critical, root = t.ppf(1 - level / 2, n - 1), math.sqrt(n)

    def missing(effect: float) -> float:
        # The lower tail is taken as an upper one: nct.cdf is nan at some points far down (findings/).
        return float(sum(nct.sf(critical, n - 1, sign * effect * root) for sign in (1, -1))) - power

    high = 1.0
    while missing(high) < 0:
        high *= 2
    return float(brentq(missing, 0.0, high, xtol=1e-10))


def _rounding(sample: np.ndarray) -> float:
    """What differences of percentages may be off by in double precision."""
    return 1e-9 * max(1.0, float(np.abs(sample).max()))


def _without_spread(spread: float, sample: np.ndarray) -> bool:
    return spread <= _rounding(sample)
