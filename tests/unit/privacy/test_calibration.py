from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from secfpp.errors import ConfigError, PrivacyError
from secfpp.privacy.accounting import epsilon
from secfpp.privacy.calibration import (
    Encoding,
    SharedNoise,
    calibrate_gaussian,
    calibrate_skellam,
    least_noise,
)
from secfpp.privacy.events import Composed, Gaussian, Uncovered
from secfpp.privacy.skellam import noise
from secfpp.seeding import SystemEntropy

DELTA = 1e-5


@pytest.mark.parametrize(("target", "releases"), [(0.001, 1), (1.0, 10), (4.0, 10), (200.0, 1)])
@pytest.mark.parametrize("adjacency", ["add_remove", "replace_one"])
def test_noise_is_enough_and_hardly_more(target: float, releases: int, adjacency: Any) -> None:
    found = calibrate_gaussian(target, DELTA, releases, unit="client", adjacency=adjacency)
    assert found.epsilon == epsilon([found.event], DELTA) <= target
    less = Gaussian(covers="", unit="client", adjacency=adjacency, norm=1.0, sd=found.multiplier * 0.9995)
    all_less = Composed(covers="", unit="client", adjacency=adjacency, events=(less,), times=releases)
    assert epsilon([all_less], DELTA) > target


def test_noise_grows_with_the_root_of_releases_and_falls_with_sampling() -> None:
    one, hundred = (calibrate_gaussian(2.0, DELTA, times, unit="record").multiplier for times in (1, 100))
    assert hundred == pytest.approx(10 * one, rel=2e-4)
    assert calibrate_gaussian(2.0, DELTA, 100, unit="record", rate=0.1).multiplier < 0.3 * hundred


@pytest.mark.parametrize(("bits", "extra"), [(16, 1.08), (8, 1.30)])
def test_rounding_costs_and_is_paid(bits: int, extra: float) -> None:
    """A fine encoding needs what Gaussian noise does, but for what the bound by Renyi divergences loses."""
    trusted = calibrate_gaussian(4.0, DELTA, 10, unit="client").multiplier
    shared = SharedNoise(members=20, least=20, colluding=0)
    found = calibrate_skellam(4.0, DELTA, 10, Encoding(0.5, bits, 2048), shared)
    assert found.epsilon == epsilon([found.event], DELTA) <= 4.0
    assert trusted < found.multiplier < extra * trusted
    assert found.mean_sd == pytest.approx(found.multiplier * 0.5 / 20, rel=1e-9)


@pytest.mark.parametrize(
    ("members", "least", "colluding", "price"), [(5, 4, 2, 1.5811), (20, 16, 2, 1.1952), (50, 50, 2, 1.0206)]
)
def test_the_price_of_making_noise_together(members: int, least: int, colluding: int, price: float) -> None:
    shared = SharedNoise(members, least, colluding)
    assert shared.price == pytest.approx(price, abs=1e-4)
    alone = calibrate_skellam(4.0, DELTA, 10, Encoding(0.5, 16, 512), SharedNoise(1, 1, 0))
    found = calibrate_skellam(4.0, DELTA, 10, Encoding(0.5, 16, 512), shared)
    assert found.variance == alone.variance
    assert found.part * shared.parts == pytest.approx(found.variance)
    assert found.mean_sd == pytest.approx(price * alone.mean_sd / members, rel=1e-4)


def test_what_honest_members_add_is_what_is_accounted_for() -> None:
    encoding, shared = Encoding(0.5, 12, 3), SharedNoise(members=5, least=4, colluding=2)
    found = calibrate_skellam(4.0, DELTA, 10, encoding, shared)
    unknown = sum(noise(found.part, (200_000,), SystemEntropy()) for _ in range(4 - 2))
    assert np.var(unknown) == pytest.approx(found.variance, rel=0.02)
    whole = sum(noise(found.part, (200_000,), SystemEntropy()) for _ in range(5))
    assert np.std(whole) * 2.0**-12 / 5 == pytest.approx(found.mean_sd, rel=0.02)


def test_nobody_may_know_all_of_the_noise() -> None:
    for members, least, colluding in ((3, 3, 3), (3, 4, 1), (3, 2, -1)):
        with pytest.raises(ConfigError, match="unknown"):
            SharedNoise(members, least, colluding)


def test_what_cannot_be_is_refused() -> None:
    shared = SharedNoise(20, 20, 2)
    with pytest.raises(ConfigError, match="epsilon"):
        calibrate_gaussian(math.inf, DELTA, 1, unit="client")
    with pytest.raises(ConfigError, match="releases"):
        calibrate_gaussian(1.0, DELTA, 0, unit="client")
    with pytest.raises(ConfigError, match=r"clip = 0\.0"):
        Encoding(0.0, 99, 0)
    with pytest.raises(ConfigError, match=r"bits = 40: at most \d+ with this much noise") as caught:
        calibrate_skellam(4.0, DELTA, 10, Encoding(0.5, 40, 512), shared)
    allowed = int(str(caught.value).split("at most ")[1].split()[0])
    assert calibrate_skellam(4.0, DELTA, 10, Encoding(0.5, allowed, 512), shared).epsilon <= 4.0
    with pytest.raises(PrivacyError, match="no noise is enough"):
        least_noise(lambda _: Uncovered(covers="groups", unit="client"), 1.0, DELTA, 1)
