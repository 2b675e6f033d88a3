"""Newcomers and the groups that they get, for all ways to group clients but those on shares."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from secfpp.errors import ConfigError, DropoutError, ProtocolError
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import ClientState
from secfpp.runtime.in_process import InProcessDriver
from secfpp.secure.clustering.clusterer import Clusterer, OneCluster, OracleClusters, RandomClusters
from secfpp.secure.clustering.plain_agreement import PlainAgreement
from secfpp.secure.clustering.plain_kmeans import PlainKMeans
from support.agreement_runs import disagreeing
from support.toy import Toy, dropping, toy_driver


def old(states: dict[str, ClientState], without: set[str]) -> Assignment:
    """The true groups of all but some, numbered the other way round."""
    return Assignment({c: 2 - int(state["domain"]) for c, state in states.items() if c not in without})


def place(
    states: dict[str, ClientState], clusterer: Clusterer, assignment: Assignment, new: set[str], **settings: Any
) -> tuple[Assignment, InProcessDriver]:
    driver = toy_driver(states, Toy(clusterer=clusterer), **settings)
    cohort = Cohort(dict.fromkeys(states, 1), 0, 0)
    return driver.run(clusterer.place(cohort, "z", assignment, new)), driver


@pytest.mark.parametrize("clusterer", [PlainAgreement(), PlainKMeans(), OracleClusters()], ids=lambda c: c.kind)
def test_newcomers_come_to_those_they_belong_to_and_nobody_moves(clusterer: Clusterer) -> None:
    for seed in range(4):
        states, new = disagreeing(seed=seed, strength=1.5), {"c02", "c11", "c19", "c23"}
        before = old(states, new)
        after, driver = place(states, clusterer, before, new)
        assert after == old(states, set())
        assert driver.costs.exchanges == 1


@pytest.mark.parametrize("clusterer", [PlainAgreement(), PlainKMeans(), OneCluster(), RandomClusters(k=1)])
def test_for_one_group_nothing_is_sent(clusterer: Clusterer) -> None:
    states = disagreeing()
    after, driver = place(states, clusterer, Assignment({"c00": 0, "away": 0}), {"c01", "c02"})
    assert after == Assignment({"c00": 0, "c01": 0, "c02": 0, "away": 0})
    assert driver.costs.messages == 0


def test_groups_of_which_too_few_are_there_cannot_be_joined() -> None:
    states, new = disagreeing(), {"c02", "c11", "c19", "c23"}
    domains = {c: 2 - int(state["domain"]) for c, state in states.items()}
    full = old(states, new)
    there = {c: state for c, state in states.items() if c in new or domains[c] != 1}
    after, _ = place(there, PlainAgreement(), full, new)
    assert all(after.cluster_of[c] in (0, 2) for c in new)
    assert {c: after.cluster_of[c] for c in full.cluster_of} == full.cluster_of
    assert all(after.cluster_of[c] == domains[c] for c in new if domains[c] != 1)
    only = {c: state for c, state in states.items() if c in new or domains[c] == 2}
    after, driver = place(only, PlainAgreement(), full, new)
    assert {after.cluster_of[c] for c in new} == {2} and driver.costs.messages == 0
    nobody = {c: state for c, state in states.items() if c in new}
    with pytest.raises(DropoutError, match="0 clients answered, at least 4") as caught:
        place(nobody, PlainAgreement(), full, new)
    assert set(caught.value.missing) == set(full.cluster_of)


def test_who_drops_out_is_not_placed_and_does_not_count() -> None:
    states, new = disagreeing(), {"c02", "c11"}
    gone = dropping((0, "clusterer.describe", "c02", "after"), (0, "clusterer.describe", "c03", "before"))
    after, _ = place(states, PlainAgreement(), old(states, new), new, dropouts=gone)
    assert after == old(states, {"c02"})


def test_a_tie_goes_to_the_first_group() -> None:
    states = disagreeing()
    states["c00"] = states["c00"].replace(z=np.zeros(96))
    after, _ = place(states, PlainAgreement(), old(states, {"c00"}), {"c00"})
    assert after.cluster_of["c00"] == 0


def test_means_are_compared_not_sums() -> None:
    """Twelve who agree a little are more than four who agree much, but not nearer."""
    z = (
        {f"a{i:02}": [1, 0, 0, 1] for i in range(12)}
        | {f"b{i}": [0, 2, 0, 1] for i in range(4)}
        | {"new": [1, 1, 0, 0]}
    )
    states = {c: ClientState({"z": np.array(v), "z.spread": np.array(2.0)}) for c, v in z.items()}
    before = Assignment({c: int(c[0] == "b") for c in states if c != "new"})
    assert place(states, PlainAgreement(), before, {"new"})[0].cluster_of["new"] == 1


def test_random_places_are_spread_and_stay() -> None:
    states = disagreeing(3, 30)
    new = set(list(states)[10:])
    before = Assignment({c: i % 3 for i, c in enumerate(list(states)[:10])})
    after, driver = place(states, RandomClusters(k=3), before, new)
    assert driver.costs.messages == 0
    assert min(Counter(after.cluster_of[c] for c in new).values()) > 15
    some = {c for c in new if c[-1] in "13"}
    again, _ = place(states, RandomClusters(k=3), before, some)
    assert all(again.cluster_of[c] == after.cluster_of[c] for c in some)


def test_a_domain_that_no_group_has_goes_to_the_first() -> None:
    states = disagreeing()
    states["c00"] = states["c00"].replace(domain=np.array(9))
    assert place(states, OracleClusters(), old(states, {"c00"}), {"c00"})[0].cluster_of["c00"] == 0


def test_only_clients_without_a_group_are_newcomers() -> None:
    states = disagreeing()
    with pytest.raises(ProtocolError, match="c05: in a group already"):
        place(states, PlainAgreement(), old(states, {"c00"}), {"c00", "c05"})
    with pytest.raises(ProtocolError, match="stranger: not in this cohort"):
        place(states, PlainAgreement(), old(states, {"c00"}), {"stranger"})


def test_a_way_without_a_rule_says_so() -> None:
    class Own(OneCluster):
        kind = "own"
        place = Clusterer.place

    with pytest.raises(ConfigError, match=r"clusterer\.kind = 'own': a kind that has a rule for newcomers"):
        place(disagreeing(), Own(), Assignment({"c00": 0}), {"c01"})
