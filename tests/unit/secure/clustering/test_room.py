from __future__ import annotations

import re
import time
from typing import Any

import pytest

from secfpp.errors import ConfigError
from secfpp.secure.circuits import plan
from secfpp.secure.clustering import on_shares
from secfpp.secure.clustering.cost import AgreementCost, ClusteringCost
from secfpp.secure.clustering.plain_agreement import PlainAgreement
from secfpp.secure.clustering.room import cost_of, most_restarts
from secfpp.secure.clustering.secure_agreement import SecureAgreement
from secfpp.secure.clustering.secure_kmeans import SecureKMeans

MIB = 2**20


@pytest.mark.parametrize("clients", [100, 400, 1000])
@pytest.mark.parametrize("kind", [SecureAgreement, SecureKMeans])
def test_too_many_clients_are_refused_in_a_second_with_what_fits(
    kind: Any, clients: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("the circuit was worked out")

    monkeypatch.setattr(plan, "estimated", refuse)
    monkeypatch.setattr(f"{kind.__module__}.estimated", refuse)
    began = time.perf_counter()
    with pytest.raises(ConfigError) as refused:
        kind().require(clients)
    assert time.perf_counter() - began < 1
    told = re.search(
        r"clusterer.restarts = 192: fewer: with (\d+) clients a message to a holder would have (\d+) MiB and one "
        r"process that plays all parties (\d+) MiB of memory, at most 256 MiB in a message are allowed; (\d+) fit",
        str(refused.value),
    )
    assert told
    n, size, memory, least = map(int, told.groups())
    assert n == clients and 254 < size < memory and memory > 10_000
    kind(restarts=least).require(clients)
    with pytest.raises(ConfigError):
        kind(restarts=least + 1).require(clients)


def test_where_not_even_one_run_fits_another_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_shares.wire, "MAX_MESSAGE", 2 * MIB)
    with pytest.raises(ConfigError, match=r"not even one fits: lower clusterer\.k_max"):
        SecureAgreement().require(100)


@pytest.mark.parametrize(("settings", "fits"), [({}, 57), ({"k_max": 4}, 192), ({"restarts": 3}, 3)])
def test_most_restarts_are_the_most(settings: dict[str, int], fits: int) -> None:
    asked: list[int] = []

    def fit(clusterer: Any) -> bool:
        asked.append(clusterer.restarts)
        return bool(clusterer.restarts <= fits)

    clusterer = SecureAgreement(**settings)
    assert most_restarts(clusterer, fit) == min(fits, clusterer.restarts - 1)
    assert len(asked) < 20 and max(asked) < clusterer.restarts
    assert most_restarts(clusterer, lambda _: False) == 0


def test_only_what_is_computed_on_shares_has_a_cost() -> None:
    assert isinstance(cost_of(SecureAgreement(), 30, 576), AgreementCost)
    assert isinstance(cost_of(SecureKMeans(), 30, 0), ClusteringCost)
    for clusterer, clients in ((PlainAgreement(), 30), (SecureAgreement(), 7), (object(), 30)):
        assert cost_of(clusterer, clients, 576) is None
    assert cost_of(SecureKMeans(reveal="distances"), 30, 0) is None


@pytest.mark.parametrize(
    ("clusterer", "clients", "measured"),
    [
        (SecureAgreement(), 12, 269),
        (SecureAgreement(), 16, 329),
        (SecureAgreement(), 20, 672),
        (SecureAgreement(), 24, 1147),
        (SecureAgreement(), 30, 1978),
        (SecureAgreement(), 36, 3186),
        (SecureAgreement(), 40, 3747),
        (SecureAgreement(restarts=64), 40, 2714),
        (SecureAgreement(k=4), 40, 1196),
        (SecureAgreement(restarts=64, k_max=4), 40, 714),
        (SecureAgreement(committee=8), 30, 1079),
        (SecureAgreement(threshold="high", min_cluster_size=7), 30, 1024),
        (SecureKMeans(), 30, 2111),
    ],
)
def test_memory_is_near_the_peaks_that_were_measured(clusterer: Any, clients: int, measured: int) -> None:
    """Peaks in MiB of a process beyond its imports, see docs/costs.md."""
    cost = cost_of(clusterer, clients, 576)
    assert cost and cost.memory / MIB == pytest.approx(measured, rel=0.1, abs=48)
