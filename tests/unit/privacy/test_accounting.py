from __future__ import annotations

import logging
import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld, rdp
from scipy.integrate import quad
from scipy.stats import norm

from secfpp.errors import ConfigError, MissingExtraError, UnsupportedMechanism
from secfpp.privacy import accounting
from secfpp.privacy.accounting import by_accountant, epsilon
from secfpp.privacy.events import Composed, Event, Gaussian, SampledGaussian, Skellam, Uncovered

DELTA = 1e-5


def gaussian(sd: float, adjacency: Any = "add_remove") -> Gaussian:
    return Gaussian(covers="sum", unit="client", adjacency=adjacency, norm=1.0, sd=sd)


def sampled(sd: float, rate: float) -> SampledGaussian:
    return SampledGaussian(covers="sum", unit="client", norm=1.0, sd=sd, rate=rate)


def repeated(event: Event, times: int) -> Composed:
    return Composed(covers="run", unit=event.unit, adjacency=event.adjacency, events=(event,), times=times)


def gaussian_delta(distance: float, eps: float) -> float:
    """Hockey-stick divergence at `eps` of two unit Gaussians so far apart."""
    upper = norm.cdf(distance / 2 - eps / distance)
    return float(upper - math.exp(eps + norm.logcdf(-distance / 2 - eps / distance)))


@pytest.mark.parametrize("sd", [0.3, 2.0, 50.0, 5000.0])
@pytest.mark.parametrize(("adjacency", "moved"), [("add_remove", 1), ("replace_one", 2)])
def test_gaussian_noise_is_accounted_exactly(sd: float, adjacency: str, moved: int) -> None:
    found = epsilon([gaussian(sd, adjacency)], DELTA)
    assert gaussian_delta(moved / sd, found) == pytest.approx(DELTA, rel=1e-6)


def test_gaussian_releases_compose_exactly_whatever_they_measure() -> None:
    events = [replace(gaussian(2.0), covers="means"), Gaussian(covers="counts", unit="client", norm=3.0, sd=12.0)]
    together = epsilon([repeated(events[0], 5), events[1]], DELTA)
    assert gaussian_delta(math.sqrt(5 / 4 + 1 / 16), together) == pytest.approx(DELTA, rel=1e-6)


def test_replace_one_is_not_mistaken_for_add_remove() -> None:
    """The library's RDP accountant says 2.17 for both; the truth is 1.99 and 4.38."""
    assert epsilon([gaussian(2.0)], DELTA) == pytest.approx(1.99309, abs=1e-4)
    assert epsilon([gaussian(2.0, "replace_one")], DELTA) == pytest.approx(4.37718, abs=1e-4)
    integers = Skellam(covers="sum", unit="client", adjacency="replace_one", l1=1e4, l2=1e4, variance=4e8)
    assert epsilon([integers], DELTA) > 4.377


def test_large_noise_costs_what_it_costs() -> None:
    """The orders of the library's RDP accountant end at 1024, and it says 14 times too much at sigma 5000."""
    library = rdp.RdpAccountant().compose(dp_accounting.GaussianDpEvent(5000.0)).get_epsilon(DELTA)
    truth = epsilon([gaussian(5000.0)], DELTA)
    assert truth == pytest.approx(2.5113e-4, rel=1e-3)
    assert library > 14 * truth
    integers = Skellam(covers="sum", unit="client", l1=1e6, l2=1e6, variance=2.5e19)
    assert epsilon([integers], DELTA) < 2.1 * truth


def test_sampling_at_half_is_accounted_at_all_orders(caplog: pytest.LogCaptureFixture) -> None:
    """The library's orders below 1.9 do not converge here: it leaves them out and says so on standard error."""
    with caplog.at_level(logging.WARNING, logger="absl"):
        lost = rdp.RdpAccountant().compose(dp_accounting.PoissonSampledDpEvent(0.5, dp_accounting.GaussianDpEvent(2.0)))
    assert np.isinf(lost.rdp).sum() >= 8
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="absl"):
        found = by_accountant([repeated(sampled(2.0, 0.5), 400)], DELTA)
    assert not caplog.records
    assert found["pld"] < found["rdp"] < math.inf
    assert found["rdp"] < 1.1 * lost.compose(lost.ledger, 399).get_epsilon(DELTA)


@pytest.mark.parametrize(("sd", "rate"), [(1.0, 0.01), (2.0, 0.5), (0.7, 0.9), (300.0, 0.2)])
def test_one_sampled_sum_is_bounded_tightly(sd: float, rate: float) -> None:
    """Against the hockey-stick divergence by numerical integration, in both directions."""
    found = epsilon([sampled(sd, rate)], 1e-4)

    def divergence(eps: float, added: bool) -> float:
        def excess(x: float) -> float:
            without, drawn = norm.pdf(x, 0, sd), norm.pdf(x, 1, sd)
            mixed = (1 - rate) * without + rate * drawn
            first, second = (mixed, without) if added else (without, mixed)
            return max(0.0, float(first - math.exp(eps) * second))

        edges = np.linspace(-12 * sd, 12 * sd + 1, 400)
        return sum(quad(excess, a, b)[0] for a, b in pairwise(edges))

    for added in (True, False):
        assert divergence(found, added) <= 1e-4 * (1 + 1e-4)
    assert max(divergence(found - 2e-3 * found - 1e-6, added) for added in (True, False)) > 0.99e-4


def test_small_losses_are_not_lost_in_the_steps_of_a_distribution() -> None:
    coarse = pld.PLDAccountant().compose(
        dp_accounting.PoissonSampledDpEvent(0.5, dp_accounting.GaussianDpEvent(2000.0)), 100
    )
    fine = epsilon([repeated(sampled(2000.0, 0.5), 100)], 1e-6)
    assert fine < coarse.get_epsilon(1e-6)
    unsampled = epsilon([repeated(gaussian(2000.0), 100)], 1e-6)
    assert 0.3 * unsampled < fine < unsampled


def test_what_is_not_covered_costs_everything_and_nothing_costs_nothing() -> None:
    assert epsilon([gaussian(9.0), Uncovered(covers="groups", unit="client")], DELTA) == math.inf
    assert epsilon([], DELTA) == 0.0 and by_accountant([], DELTA) == {}


def test_the_accountants_are_those_that_are_valid() -> None:
    skellam = Skellam(covers="mean", unit="client", l1=40.0, l2=10.0, variance=900.0)
    assert by_accountant([gaussian(2.0)], DELTA).keys() == {"gaussian"}
    assert by_accountant([gaussian(2.0), sampled(2.0, 0.1)], DELTA).keys() == {"rdp", "pld"}
    assert by_accountant([gaussian(2.0), sampled(2.0, 0.1), skellam], DELTA).keys() == {"rdp"}


def test_names_do_not_matter_and_order_does_not() -> None:
    events = [gaussian(2.0), sampled(1.0, 0.1), replace(gaussian(2.0), covers="again")]
    assert epsilon(events, DELTA) == epsilon(events[::-1], DELTA)


def test_what_does_not_add_up_is_refused() -> None:
    with pytest.raises(UnsupportedMechanism, match="clients by add_remove, records by add_remove do not add up"):
        epsilon([gaussian(2.0), replace(gaussian(2.0), unit="record")], DELTA)
    with pytest.raises(UnsupportedMechanism, match="do not add up"):
        epsilon([gaussian(2.0), gaussian(2.0, "replace_one")], DELTA)
    with pytest.raises(UnsupportedMechanism, match="Poisson sample by replace_one"):
        epsilon([replace(sampled(2.0, 0.1), adjacency="replace_one")], DELTA)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
def test_a_delta_out_of_range_is_refused(delta: float) -> None:
    with pytest.raises(ConfigError, match="delta"):
        epsilon([gaussian(2.0)], delta)


def test_a_missing_package_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(accounting.importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'secfpp\[privacy\]'"):
        epsilon([gaussian(2.0)], DELTA)
