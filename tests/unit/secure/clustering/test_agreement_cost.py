"""The formulas of secfpp.secure.clustering.cost for agreement and for newcomers against counts of real runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from secfpp.protocol import wire
from secfpp.protocol.cohort import Assignment
from secfpp.protocol.transcript import Transcript
from secfpp.secure.clustering.cost import AgreementCost, ClusteringCost, PlacingCost
from secfpp.secure.clustering.on_shares import OnShares
from secfpp.secure.clustering.secure_agreement import SecureAgreement, Size
from secfpp.secure.clustering.secure_kmeans import SecureKMeans
from support.agreement_runs import SECURE, AgreementRun, disagreeing
from support.clustering_runs import SECURE as K_MEANS
from support.counting import kept, openings, roles, texts


def run_of(n: int, settings: Any, dimensions: int = 24) -> AgreementRun:
    states = dict(sorted(disagreeing(2, n // 2 + 1, dimensions=dimensions, strength=1.0).items())[:n])
    return AgreementRun(states, settings, transcript=Transcript(keep_contents=kept))


def compare(cost: AgreementCost | PlacingCost, run: AgreementRun, n: int) -> None:
    assert cost.opened == openings(run.driver)
    assert cost.exchanges == run.driver.costs.exchanges
    assert cost.messages == run.driver.costs.messages
    by_role = roles(run.driver, list(run.states), cost.holders)
    assert Counter(by_role.values())["responder"] == cost.responders
    for client, role in by_role.items():
        assert run.driver.costs.up[client] == cost.sent(role)
        assert (
            0
            <= run.driver.costs.down[client] - cost.received(role)
            <= texts(n, cost.exchanges, cost.checks * cost.verifiers) + 8 * n
        )


@pytest.mark.parametrize(
    ("n", "dimensions", "settings"),
    [
        (9, 24, {}),
        (9, 24, {"k": 2, "iterations": 1}),
        (12, 7, {"k": 3, "iterations": 3, "restarts": 2}),
        (16, 24, {"k_max": 4, "min_cluster_size": 4, "restarts": 6}),
        (18, 100, {"k_max": 3, "min_cluster_size": 4, "largest": 2}),
        (12, 24, {"restarts": 5, "finalists": 1, "k": 2}),
        (12, 24, {"restarts": 1, "finalists": 1, "k": 2}),
        (8, 24, {"threshold": "high", "min_cluster_size": 4}),
        (16, 24, {"threshold": "high", "min_cluster_size": 7, "iterations": 3, "restarts": 40, "finalists": 2}),
        (11, 24, {"threshold": "high", "min_cluster_size": 5, "restarts": 2, "finalists": 2}),
        (9, 24, {"security": "active"}),
        (16, 24, {"security": "active", "min_cluster_size": 4, "restarts": 6}),
        (18, 24, {"security": "active", "min_cluster_size": 4, "restarts": 2}),
        (16, 24, {"security": "active", "threshold": "high", "min_cluster_size": 5, "restarts": 4}),
    ],
)
def test_grouping(n: int, dimensions: int, settings: dict[str, Any]) -> None:
    clusterer = replace(SECURE, **settings)
    run = run_of(n, clusterer, dimensions)
    run.find()
    cost = AgreementCost(clusterer, n, dimensions)
    compare(cost, run, n)
    plan = clusterer.plan(Size(n, dimensions, cost.threshold), cost.holders)
    assert cost.demand == dict(plan.deal.demand)
    largest = max(message.size for message in run.driver.transcript or ())
    assert 0 <= largest - cost.largest_message <= texts(n, 1)


@pytest.mark.parametrize(
    ("n", "settings"),
    [
        (10, SECURE),
        (19, replace(SECURE, min_cluster_size=4)),
        (14, replace(SECURE, threshold="high", min_cluster_size=6)),
        (12, replace(K_MEANS, dimensions=8)),
        (16, replace(SECURE, min_cluster_size=4, security="active")),
    ],
)
def test_placing(n: int, settings: OnShares) -> None:
    run = run_of(n, settings)
    clients = list(run.states)
    old = Assignment({client: number % 2 for number, client in enumerate(clients[:-2])})
    assert run.place(old, clients[-2:]).k == 2
    compare(PlacingCost(settings, n, 2, 2, 24), run, n)


def test_the_default_settings() -> None:
    cost = AgreementCost(SecureAgreement(), 30)
    assert (cost.holders, cost.threshold, cost.responders) == (16, 2, 11)
    assert cost.exchanges == 18
    assert len(cost.opened) == 3 * SecureAgreement().iterations + 9
    assert 45e6 < cost.sent("responder") < 55e6
    assert cost.sent("responder") < ClusteringCost(SecureKMeans(), 30).sent("responder")


def test_the_default_search_fits_messages_up_to_70_clients() -> None:
    assert AgreementCost(SecureAgreement(), 72).largest_message + texts(72, 1) < wire.MAX_MESSAGE
    assert AgreementCost(SecureAgreement(restarts=64), 100).largest_message < wire.MAX_MESSAGE


def test_one_group_costs_nothing() -> None:
    clusterer = replace(SECURE, k=1, k_max=1)
    run = run_of(8, clusterer)
    run.assign()
    cost = AgreementCost(clusterer, 8)
    assert (cost.exchanges, cost.messages, cost.sent("responder"), cost.received("client")) == (0, 0, 0, 0)
    assert run.driver.costs.messages == 0


def test_k_means_places_in_as_many_exchanges() -> None:
    assert PlacingCost(SecureKMeans(), 30, 6, 5).exchanges == PlacingCost(SecureAgreement(), 30, 6, 5).exchanges == 7
