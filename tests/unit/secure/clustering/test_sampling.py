"""Samples of clients, and groups of all that are found in one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secfpp.errors import ConfigError
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import ClientState
from secfpp.secure.clustering.placing import taking_part
from secfpp.secure.clustering.plain_agreement import PlainAgreement
from secfpp.secure.clustering.plain_kmeans import PlainKMeans
from secfpp.secure.clustering.sampling import drawn, least_seen, missed
from support.agreement_runs import disagreeing
from support.toy import Toy, dropping, toy_driver

NAMES = [f"c{number:02d}" for number in range(24)]


def test_everybody_is_in_as_many_samples_and_who_is_gone_is_replaced_by_the_next() -> None:
    counted = Counter(name for seed in range(600) for name in drawn(NAMES, 8, seed, 1))
    assert set(counted) == set(NAMES) and 150 < min(counted.values()) <= max(counted.values()) < 250
    before = drawn(NAMES, 8, 0, 1)
    assert list(before) == sorted(set(before)) and drawn(reversed(NAMES), 8, 0, 1) == before
    after = drawn([name for name in NAMES if name != before[3]], 8, 0, 1)
    assert len(set(after) - set(before)) == 1 and set(before) - set(after) == {before[3]}
    assert len({drawn(NAMES, 8, seed, round_) for seed in range(3) for round_ in range(3)}) == 9
    assert drawn(NAMES, 99, 0, 1) == tuple(NAMES)


def test_the_chance_to_miss_a_group_is_that_of_many_draws() -> None:
    rng = np.random.default_rng(0)
    for members, fewest in ((5, 2), (9, 4), (3, 4)):
        draws = [(rng.permutation(40)[:12] < members).sum() < fewest for _ in range(4000)]
        assert missed(members, 40, 12, fewest) == pytest.approx(np.mean(draws), abs=0.03)
    assert missed(3, 40, 12, 4) == 1 and missed(40, 40, 12, 4) == 0
    assert missed(4, 40, 40, 4) == pytest.approx(0)


def test_the_least_group_that_is_seen_is_the_least() -> None:
    for clients, size, fewest in ((1000, 128, 4), (1000, 100, 4), (40, 12, 3), (40, 40, 4)):
        least = least_seen(clients, size, fewest)
        assert missed(least, clients, size, fewest) <= 0.05
        assert least == fewest or missed(least - 1, clients, size, fewest) > 0.05
    assert least_seen(40, 40, 4) == 4
    with pytest.raises(ValueError, match="a sample of 3 of 40"):
        least_seen(40, 3, 4)


def assign(states: dict[str, ClientState], clusterer: Any, **settings: Any) -> Assignment:
    cohort = Cohort(dict.fromkeys(states, 1), 2, 5)
    found: Assignment = toy_driver(states, Toy(clusterer=clusterer), **settings).run(
        clusterer.assign(cohort, "z", None)
    )
    return found


@pytest.mark.parametrize(
    "clusterer", [PlainAgreement(sample=12, restarts=16), PlainKMeans(sample=12, dimensions=96, scale=3.0)]
)
def test_the_rest_comes_to_the_groups_that_the_sample_has_alone(clusterer: Any) -> None:
    states = disagreeing(2, 12, seed=3, strength=1.0)
    found = assign(states, clusterer)
    sample = drawn(states, 12, 5, 2)
    alone = assign({name: states[name] for name in sample}, replace(clusterer, sample=0))
    assert alone.k > 1 and found.extends(alone) and set(found.cluster_of) == set(states)
    assert found == Assignment.from_labels(list(states), [int(state["domain"]) for state in states.values()])
    others = [name for name in sorted(states) if name not in sample]
    placed = toy_driver(states, Toy(clusterer=clusterer)).run(
        clusterer.place(Cohort(dict.fromkeys(states, 1), 2, 5), "z", alone, others)
    )
    assert Assignment.from_labels(list(placed.cluster_of), placed.cluster_of.values()) == found


def test_a_sample_without_groups_leaves_one_group() -> None:
    states = disagreeing(2, 12, strength=0)
    assert assign(states, PlainAgreement(sample=12, k_max=2)).k == 1


def test_who_is_missing_is_replaced_in_the_sample() -> None:
    states, clusterer = disagreeing(2, 12, seed=3, strength=1.0), PlainAgreement(sample=12)
    gone = drawn(states, 12, 5, 2)[:2]
    lost = dropping(*[(0, "clusterer.describe", name, "before") for name in gone])
    rest = {name: state for name, state in states.items() if name not in gone}
    assert assign(states, clusterer, dropouts=lost) == assign(rest, clusterer)


def test_newcomers_are_compared_with_as_many_members_of_each_group() -> None:
    cohort = Cohort(dict.fromkeys(NAMES, 1), 1, 0)
    old = Assignment({name: int(number > 5) for number, name in enumerate(NAMES[:22])})
    few = taking_part(cohort, old, NAMES[22:], 10, 4)
    assert [sum(name in old.members(group) for name in few.clients) for group in range(2)] == [5, 5]
    assert set(NAMES[22:]) <= set(few.clients)
    for sample in (0, 22):
        assert taking_part(cohort, old, NAMES[22:], sample, 4).clients == tuple(NAMES)
    assert len(taking_part(cohort, old, NAMES[22:], 8, 6)) == 2 + 12


@pytest.mark.parametrize(("settings", "least"), [({"sample": 7}, 8), ({"sample": 11, "k": 3}, 12), ({"sample": -1}, 8)])
def test_a_sample_too_small_for_groups_is_refused(settings: dict[str, int], least: int) -> None:
    with pytest.raises(
        ConfigError, match=rf"clusterer\.sample = {settings['sample']}: 0, for all, or at least {least}"
    ):
        PlainAgreement(**settings)


def test_many_more_clients_than_arithmetic_allows_are_no_matter_with_a_sample() -> None:
    PlainAgreement().require_shape(100_000, 576)
    PlainKMeans().require(100_000)
