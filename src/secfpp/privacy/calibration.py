"""How much noise a budget needs: the accountants of `secfpp.privacy.accounting`, turned round by bisection."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from secfpp.errors import ConfigError, PrivacyError, Problem
from secfpp.privacy.accounting import epsilon
from secfpp.privacy.events import Adjacency, Composed, Event, Gaussian, SampledGaussian, Skellam, Unit
from secfpp.privacy.skellam import LARGEST_VARIANCE, rounded_norms

_PRECISION = 1e-4
_LEAST, _MOST = 2.0**-10, 2.0**40


@dataclass(frozen=True)
class Calibrated:
    """Noise that a budget just allows.

    Attributes:
        multiplier: standard deviation of the noise over the norm bound of one contribution.
        epsilon: what all releases cost together with it, at most the target.
        event: all releases, for the ledger.
    """

    multiplier: float
    epsilon: float
    event: Event


def calibrate_gaussian(
    target: float, delta: float, releases: int, *, unit: Unit, adjacency: Adjacency = "add_remove", rate: float = 1.0
) -> Calibrated:
    """The least Gaussian noise, at a norm bound of 1, with which `releases` cost at most the `target` epsilon.

    Args:
        target: epsilon, positive and finite.
        delta: above 0 and below 1.
        releases: how many sums, from 1.
        unit: whose contribution has the norm bound.
        adjacency: which neighbours the guarantee is for.
        rate: probability of a unit to be in a sum, if drawn by Poisson sampling; 1 if all are.

    Raises:
        ConfigError: values out of range.
        UnsupportedMechanism: samples by replace_one.
        MissingExtraError: dp-accounting is not installed.
    """

    def release(multiplier: float) -> Event:
        if rate == 1:
            return Gaussian(covers="sum", unit=unit, adjacency=adjacency, norm=1.0, sd=multiplier)
        return SampledGaussian(covers="sum", unit=unit, adjacency=adjacency, norm=1.0, sd=multiplier, rate=rate)

    return least_noise(release, target, delta, releases)


def least_noise(release: Callable[[float], Event], target: float, delta: float, releases: int) -> Calibrated:
    """The least multiplier with which `releases` of ``release(multiplier)`` cost at most `target`, to 1 in 10,000.

    Args and errors as for `calibrate_gaussian`; more noise must not cost more.

    Raises:
        PrivacyError: no noise that can be made is enough.
    """
    if not (math.isfinite(target) and target > 0):
        raise ConfigError([Problem("epsilon", target, "a positive finite number")])
    if releases < 1:
        raise ConfigError([Problem("releases", releases, "a whole number from 1")])

    def all_of(multiplier: float) -> Event:
        one = release(multiplier)
        return Composed(covers=one.covers, unit=one.unit, adjacency=one.adjacency, events=(one,), times=releases)

    def cost(multiplier: float) -> float:
        return epsilon([all_of(multiplier)], delta)

    low = high = 1.0
    while cost(high) > target:
        low, high = high, 2 * high
        if high > _MOST:
            raise PrivacyError(f"no noise is enough for epsilon {target:g}, delta {delta:g}: allow more of them")
    while low == high or cost(low) <= target:
        low, high = low / 2, low
        if low < _LEAST:
            break
    while high > low * (1 + _PRECISION):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if cost(middle) <= target else (middle, high)
    return Calibrated(high, cost(high), all_of(high))


@dataclass(frozen=True)
class SharedNoise:
    """Skellam noise that the members of a sum make together, each a part, so that nobody knows all of it.

    Args:
        members: how many give to the sum.
        least: fewest of them with whom a sum is released, at most `members`.
        colluding: how many of those may put together what they know of their own parts; the one who looks at the sum
            is one of them.

    Raises:
        ConfigError: nobody would be left whose part is unknown.
    """

    members: int
    least: int
    colluding: int

    def __post_init__(self) -> None:
        if not 0 <= self.colluding < self.least <= self.members:
            values, names = (self.members, self.least, self.colluding), "members, least, colluding"
            allowed = "colluding from 0, below least, and that at most members: someone's noise must stay unknown"
            raise ConfigError([Problem(names, values, allowed)])

    @property
    def parts(self) -> int:
        """How many parts of the noise are there and unknown, at least; together they are what is accounted for."""
        return self.least - self.colluding

    @property
    def price(self) -> float:
        """Standard deviation of the noise with all members, over that of noise from one who is trusted."""
        return math.sqrt(self.members / self.parts)


@dataclass(frozen=True)
class Encoding:
    """What a member gives: `size` numbers of L2 norm at most `clip`, rounded to the nearest multiples of 2^-bits."""

    clip: float
    bits: int
    size: int

    def __post_init__(self) -> None:
        problems = [Problem("clip", self.clip, "a positive finite number")] * (not 0 < self.clip < math.inf)
        problems += [Problem("bits", self.bits, "0 to 52")] * (not 0 <= self.bits <= 52)
        problems += [Problem("size", self.size, "a whole number from 1")] * (self.size < 1)
        if problems:
            raise ConfigError(problems)

    @property
    def norms(self) -> tuple[float, float]:
        """Bounds of its L1 and L2 norm in steps, see `secfpp.privacy.skellam.rounded_norms`."""
        return rounded_norms(self.clip, 2.0**-self.bits, self.size)


@dataclass(frozen=True)
class CalibratedSkellam(Calibrated):
    """Skellam noise that a budget just allows; `multiplier` is before others' parts are counted, over the `clip`.

    Attributes:
        variance: of the noise that is accounted for, in squared steps.
        part: variance of each member's part, in squared steps.
        mean_sd: standard deviation of a coordinate of the mean of all members, in the measure of the clip.
    """

    variance: float
    part: float
    mean_sd: float


def calibrate_skellam(
    target: float,
    delta: float,
    releases: int,
    encoding: Encoding,
    shared: SharedNoise,
    *,
    unit: Unit = "client",
    adjacency: Adjacency = "add_remove",
) -> CalibratedSkellam:
    """The least Skellam noise with which `releases` of a sum cost at most the `target` epsilon.

    Args:
        target: epsilon, positive and finite.
        delta: above 0 and below 1.
        releases: how many sums, from 1.
        encoding: what each member gives.
        shared: who makes the noise.
        unit: whose contribution has the norm bound.
        adjacency: which neighbours the guarantee is for.

    Raises:
        ConfigError: values out of range; among them bits for which the noise cannot be drawn exactly.
        PrivacyError: no noise that can be made is enough.
        MissingExtraError: dp-accounting is not installed.
    """
    l1, l2 = encoding.norms
    scale = encoding.clip * 2.0**encoding.bits

    def release(multiplier: float) -> Event:
        variance = (multiplier * scale) ** 2
        return Skellam(covers="sum", unit=unit, adjacency=adjacency, l1=l1, l2=l2, variance=variance)

    found = least_noise(release, target, delta, releases)
    variance = (found.multiplier * scale) ** 2
    part = variance / shared.parts
    if part > LARGEST_VARIANCE:
        bits = encoding.bits - math.ceil(math.log2(part / LARGEST_VARIANCE) / 2)
        raise ConfigError([Problem("bits", encoding.bits, f"at most {bits} with this much noise")])
    mean_sd = found.multiplier * encoding.clip * shared.price / shared.members
    return CalibratedSkellam(found.multiplier, found.epsilon, found.event, variance, part, mean_sd)
