"""The formulas of secfpp.secure.clustering.cost and secfpp.secure.means.cost against counts of real runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secfpp.errors import ConfigError
from secfpp.protocol import wire
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientState
from secfpp.protocol.transcript import Transcript
from secfpp.runtime.in_process import InProcessDriver
from secfpp.secure import committee
from secfpp.secure.clustering.cost import ClusteringCost
from secfpp.secure.clustering.found import Found
from secfpp.secure.clustering.secure_kmeans import SecureKMeans
from secfpp.secure.means.cost import MeanCost
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.means.updates import with_base
from secfpp.secure.session import parties_in_memory
from support.counting import kept, openings, roles, texts
from support.toy import Toy, toy_driver

SMALL: dict[str, Any] = {"dimensions": 4, "restarts": 2, "iterations": 2}


def clustered(settings: SecureKMeans, n: int, apart: int | None = None) -> tuple[Found, InProcessDriver]:
    """Of two groups: as many in each, or so few in one of them."""
    rng = np.random.default_rng(0)
    centres = np.eye(4)[np.arange(n) % 2 if apart is None else (np.arange(n) < apart).astype(int)] * 0.8
    names = [f"c{i:02d}" for i in range(n)]
    states = {c: ClientState({"d": z + 0.02 * rng.normal(size=4)}) for c, z in zip(names, centres, strict=True)}
    driver = toy_driver(
        states, Toy(clusterer=settings), parties=parties_in_memory(names), transcript=Transcript(keep_contents=kept)
    )
    found, _ = driver.run(settings.find(Cohort(dict.fromkeys(names, 1), 0, 0), "d"))
    return found, driver


@pytest.mark.parametrize(
    ("n", "settings"),
    [
        (9, {"k": 2, "iterations": 1}),
        (12, {"k": 3, "iterations": 3}),
        (16, {"k_max": 4}),
        (18, {"k_max": 3}),
        (12, {"reveal": "assignments", "iterations": 3}),
        (16, {"compare_bits": 20, "iterations": 3}),
        (9, {"compare_bits": 24}),
        (9, {"compare_bits": 20, "k": 2, "bits": 10}),
        (8, {"threshold": "high"}),
        (16, {"threshold": "high", "min_cluster_size": 7, "iterations": 3}),
        (11, {"threshold": "high", "min_cluster_size": 5, "reveal": "assignments", "iterations": 3}),
        (10, {"threshold": "high", "min_cluster_size": 5, "k_max": 2, "pull": 3, "bits": 6}),
        (16, {"k_max": 3, "restarts": 7, "finalists": 3}),
        (18, {"k": 2, "restarts": 6, "finalists": 1, "iterations": 1}),
        (9, {"compare_bits": 20, "restarts": 5, "finalists": 2}),
        (12, {"reveal": "assignments", "restarts": 4, "finalists": 2}),
        (16, {"threshold": "high", "min_cluster_size": 7, "restarts": 5, "finalists": 2, "k": 2}),
        (22, {"committee": 22, "dropouts": 1, "min_cluster_size": 6, "k_max": 2}),
        (16, {"k_max": 3, "restarts": 7, "finalists": 3, "security": "active"}),
        (12, {"reveal": "assignments", "restarts": 4, "finalists": 2, "security": "active"}),
    ],
)
def test_clustering(n: int, settings: dict[str, Any]) -> None:
    clusterer = SecureKMeans(**SMALL | settings)
    found, driver = clustered(clusterer, n)
    cost = ClusteringCost(clusterer, n, admitted=len(found.inertia))
    assert cost.opened == openings(driver)
    assert cost.exchanges == driver.costs.exchanges
    assert cost.messages == driver.costs.messages
    assert cost.demand == dict(clusterer.plan(n, cost.holders, cost.threshold, 0, 0).deal.demand)
    largest = max(message.size for message in driver.transcript or ())
    assert 0 <= largest - cost.largest_message <= texts(n, 1)
    clients = list(driver.states)
    by_role = roles(driver, clients, cost.holders)
    assert Counter(by_role.values())["responder"] == cost.responders
    for client, role in by_role.items():
        assert driver.costs.up[client] == cost.sent(role)
        assert (
            0
            <= driver.costs.down[client] - cost.received(role)
            <= texts(n, cost.exchanges, cost.checks * cost.verifiers)
        )


def test_nothing_found_saves_the_last_exchange() -> None:
    for security in ("passive", "active"):
        clusterer = SecureKMeans(**SMALL, k=2, security=security)
        found, driver = clustered(clusterer, 9, apart=2)
        assert not found.inertia and found.labels is None
        cost = ClusteringCost(clusterer, 9, admitted=0)
        assert cost.exchanges == driver.costs.exchanges
        assert cost.demand == dict(clusterer.plan(9, cost.holders, cost.threshold, 0, 0).deal.demand)


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize(("n", "size", "threshold"), [(4, 7, 2), (6, 100, 1), (16, 1000, 2), (24, 333, 3)])
def test_mean(n: int, size: int, threshold: int, bounded: bool) -> None:
    names = [f"c{i:02d}" for i in range(n)]
    least = max(4, threshold + 2) if n > 4 else 4
    aggregator = SecureMean(threshold=threshold, min_responders=least, bounded=bounded, clip=20.0, bits=20)
    base = np.zeros(size, np.float32)
    states = {c: with_base(ClientState(), "p", base).replace(p=base + np.float32(0.5)) for c in names}
    driver = toy_driver(states, Toy(aggregator=aggregator), parties=parties_in_memory(names))
    assert driver.run(aggregator.mean(Cohort(dict.fromkeys(names, 1), 0, 0), "p")).members == tuple(names)
    cost = MeanCost(n, size, aggregator)
    assert cost.exchanges == driver.costs.exchanges
    assert cost.messages == driver.costs.messages
    holders = {m.client for m in driver.transcript or () if m.step == "aggregator.sum"}
    assert len(holders) == cost.holders
    for client in names:
        assert driver.costs.up[client] == cost.sent(client in holders)
        assert 0 <= driver.costs.down[client] - cost.received(client in holders) <= texts(n, cost.exchanges)


def test_other_variants_are_refused() -> None:
    with pytest.raises(ConfigError, match="distances"):
        ClusteringCost(SecureKMeans(reveal="distances"), 9)


def test_one_cluster_costs_nothing() -> None:
    cost = ClusteringCost(SecureKMeans(**SMALL, k=1), 8)
    _, driver = clustered(cost.settings, 8)
    assert (cost.exchanges, cost.messages, cost.sent("responder"), cost.received("client")) == (0, 0, 0, 0)
    assert driver.costs.messages == 0


def test_the_default_search_fits_messages() -> None:
    assert ClusteringCost(SecureKMeans(), 128).largest_message + texts(128, 1) < wire.MAX_MESSAGE
    assert ClusteringCost(SecureKMeans(sample=0), 150).largest_message > wire.MAX_MESSAGE
    assert ClusteringCost(SecureKMeans(sample=0, restarts=64), 150).largest_message < wire.MAX_MESSAGE
    assert ClusteringCost(SecureKMeans(sample=0, k=8, restarts=1), 1000).largest_message < wire.MAX_MESSAGE


def test_the_default_settings() -> None:
    cost = ClusteringCost(SecureKMeans(), 30)
    assert (cost.holders, cost.threshold, cost.responders) == (16, 2, 11)
    assert len(cost.opened) == 3 * SecureKMeans().iterations + 6


def test_the_documented_risks() -> None:
    text = (Path(__file__).parents[3] / "docs" / "costs.md").read_text()
    rows = [row.strip("| ").split(" | ") for row in text.partition("20 % |\n")[2].partition("\n\n")[0].splitlines()[1:]]
    assert len(rows) >= 6
    for n, t, *shown in rows:
        risks = [committee.corruption_risk(int(n.replace(",", "")), 16, int(t), rate) for rate in (0.05, 0.1, 0.2)]
        assert shown == [f"{100 * risk:.2g} %" for risk in risks]
