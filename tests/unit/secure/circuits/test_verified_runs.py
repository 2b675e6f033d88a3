"""Computations whose openings are verified: equal results, and no false alarm where holders go missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secfpp.errors import ConfigError, DropoutError
from secfpp.protocol.cohort import Assignment
from secfpp.protocol.program import Ask
from secfpp.secure.clustering.on_shares import OnShares
from secfpp.secure.clustering.secure_agreement import SecureAgreement
from secfpp.secure.clustering.secure_kmeans import SecureKMeans
from secfpp.secure.polls.secure_poll import SecurePoll
from support.agreement_runs import SECURE, AgreementRun
from support.clustering_runs import SECURE as K_MEANS
from support.clustering_runs import Run
from support.poll_runs import PollRun, gainers, in_the_clear, voters
from support.toy import Fate

ACTIVE = replace(SECURE, min_cluster_size=4, security="active")
FEW = replace(K_MEANS, security="active")
VOTES = np.random.default_rng(5).integers(0, 2, (16, 12))


class Away:
    """Holders that miss the how-manieth ask of a computation, from 0: numbers of clients."""

    def __init__(self, gone: dict[int, set[int]]) -> None:
        self.gone, self.number, self.steps = gone, -1, []  # type: ignore[var-annotated]
        self.missed = 0

    def on_ask(self, ask: Ask) -> Ask:
        if ask.step.split(".")[1] in ("begin", "verify", "proceed"):
            self.number += 1
            self.steps.append(ask.step.split(".")[1])
        return ask

    def __call__(self, round_: int, step: str, client: str) -> Fate:
        asked = step.split(".")[1] in ("begin", "verify", "proceed")
        if not asked or int(client[1:]) not in self.gone.get(self.number, ()):
            return None
        self.missed += 1
        return "after" if int(client[1:]) % 2 else "before"


def test_steps_of_a_poll() -> None:
    """Dealt shares; what was dealt is verified; three exchanges, the last verified; the end."""
    away = Away({})
    PollRun(voters(VOTES), SecurePoll(security="active"), away).at_least(3, None, away.on_ask)
    assert away.steps == ["begin", "verify", "proceed", "proceed", "verify", "proceed", "verify", "proceed"]


def test_steps_of_groupings() -> None:
    """Verified are, by number of the exchange that follows: what was dealt; then what the text says, and the end."""
    steps = {}
    for name, made in (("agreement", AgreementRun(8, replace(SECURE, security="active"))), ("k-means", Run(8, FEW))):
        away = Away({})
        made.assign(away.on_ask)  # type: ignore[attr-defined]
        verified = [i for i, step in enumerate(away.steps) if step == "verify"]
        steps[name] = [away.steps[:i].count("proceed") for i in verified]
    # choices of the first iteration, who goes on, choices of the second, masked sizes, the best run, the pairs
    assert steps["agreement"] == [0, 3, 5, 8, 9, 12, 13, 14]
    # choices of the first iteration, who goes on, choices of the second, sizes, inertias, the pairs
    assert steps["k-means"] == [0, 2, 4, 7, 8, 9, 10, 11]


@pytest.mark.parametrize("security", ["passive", "active"])
@pytest.mark.parametrize("clients", [8, 16, 18])
def test_results_are_those_in_the_clear(security: Any, clients: int) -> None:
    grouped = AgreementRun(clients, replace(ACTIVE, security=security))
    assert grouped.assign() == grouped.expected()
    assert not grouped.driver.refusals
    k_means = Run(clients, replace(K_MEANS, min_cluster_size=4, security=security))
    assert k_means.assign() == k_means.expected()
    states = voters(np.random.default_rng(clients).integers(0, 2, (clients, 12)))
    answer, _ = PollRun(states, SecurePoll(security=security)).at_least(3)
    assert answer.tolist() == in_the_clear(states).at_least(3)[0].tolist()
    states = gainers(np.linspace(-0.1, 0.3, clients))
    assert PollRun(states, SecurePoll(security=security)).favours()[0] == in_the_clear(states).favours()[0]
    placed = AgreementRun(clients, replace(ACTIVE, min_cluster_size=3 if clients < 15 else 4, security=security))
    old = Assignment({client: i % 2 for i, client in enumerate(list(placed.states)[:-1])})
    new = list(placed.states)[-1:]
    assert placed.place(old, new) == placed.expected_places(old, new)


@pytest.mark.parametrize("settings", [{"threshold": "high", "min_cluster_size": 5}, {"dropouts": 1}])
def test_other_thresholds(settings: dict[str, Any]) -> None:
    run = AgreementRun(16, replace(ACTIVE, **settings))
    assert run.assign() == run.expected()


@pytest.mark.parametrize("asked", range(8))
@pytest.mark.parametrize("gone", [{0, 1, 2}, {0, 7, 12}, {10, 11, 12}])
def test_three_of_sixteen_may_miss_any_ask_of_a_poll(asked: int, gone: set[int]) -> None:
    away = Away({asked: gone})
    run = PollRun(voters(VOTES), SecurePoll(security="active"), away)
    answer, _ = run.at_least(3, None, away.on_ask)
    assert answer[0].tolist() == (VOTES.sum(0) >= 3).tolist()
    assert away.missed


@pytest.mark.parametrize(
    "gone",
    [
        {0: {0}, 1: {1}, 4: {2}, 6: {0, 4}, 9: {3}, 12: {5, 6}, 15: {0, 1}, 18: {2}},
        {2: {3, 4, 5}, 5: {0, 1}, 8: {6, 7, 8}, 13: {9, 10}, 17: {11, 12, 13}},
        {3: {0, 1, 2}, 7: {12, 13, 14}, 11: {0, 1, 2}, 16: {3, 4}, 20: {0, 1, 2}},
    ],
)
def test_holders_come_and_go(gone: dict[int, set[int]]) -> None:
    """Those who stood by verify what they are told later, and are told what they missed."""
    away = Away(gone)
    run = AgreementRun(16, ACTIVE, away)
    assert run.assign(away.on_ask) == run.expected()
    assert away.missed > 6


def test_one_more_is_too_many() -> None:
    away = Away({4: {0, 1, 2, 3}})
    with pytest.raises(DropoutError, match="12 clients answered, at least 13 are needed"):
        PollRun(voters(VOTES), SecurePoll(security="active"), away).at_least(3, None, away.on_ask)


def test_numbers_of_holders() -> None:
    poll = SecurePoll(security="active")
    found = [(n, poll.limit(n), poll.collusion(n)) for n in (5, 6, 7, 14, 15, 16, 500)]
    assert found == [(5, 3, 1), (6, 3, 1), (7, 5, 1), (14, 5, 1), (15, 5, 2), (16, 5, 2), (500, 5, 2)]
    with pytest.raises(ConfigError, match="clients = 4: at least 5 to hold shares"):
        poll.require(4)
    assert SecureAgreement(security="active").collusion(16) == 2
    assert SecureAgreement(security="active", threshold="high", min_cluster_size=5).collusion(16) == 3
    with pytest.raises(ConfigError, match=r'clients = 6: at least 7 to hold shares, or clusterer.security = "passive"'):
        replace(SECURE, security="active").collusion(6)


def test_distances_are_never_verified() -> None:
    with pytest.raises(ConfigError, match=r"clusterer.security = 'active'"):
        SecureKMeans(reveal="distances", security="active")


@pytest.mark.parametrize("clusterer", [SECURE, K_MEANS])
def test_nobody_who_verifies_is_led_by_a_server_that_does_not_let_them(clusterer: OnShares) -> None:
    make: Callable[..., Any] = AgreementRun if isinstance(clusterer, SecureAgreement) else Run
    run = make(8, clusterer, theirs=replace(clusterer, security="active"))
    with pytest.raises(Exception, match=r"other settings than this client agreed to: \{'security'"):
        run.assign()
