"""Newcomers on shares beside newcomers in the clear."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secfpp.crypto.arithmetic import Computation, Pool, Shared, together
from secfpp.errors import LeakyProtocolWarning
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.secure.clustering.placed import Placed
from secfpp.secure.clustering.placing import Placing
from secfpp.secure.session import parties_in_memory
from support.agreement_runs import disagreeing
from support.clustering_runs import SECURE, plain
from support.shares import Apart, evaluate
from support.toy import Toy, toy_driver


def tiny(rng: np.random.Generator, n: int, groups: int) -> tuple[Placing, np.ndarray]:
    """Points on a tiny grid, so that ties are common; groups of any sizes, and who is in none is a newcomer or not."""
    labels = rng.permutation([*range(groups), *rng.integers(-1, groups, n - groups - 1).tolist(), -1])
    members = (labels == np.arange(groups)[:, None]).astype(np.int64)
    free = np.flatnonzero(labels < 0)
    new = np.sort(rng.permutation(free)[: int(rng.integers(1, len(free) + 1))])
    return Placing(tuple(range(groups)), members, new), rng.integers(-3, 4, (n, 2))


@pytest.mark.parametrize("self_products", [True, False])
@pytest.mark.parametrize(("holders", "threshold", "limit"), [(6, 1, 5), (16, 2, 5), (7, 2, 3)])
def test_hundreds_of_newcomers_come_where_they_come_in_the_clear(
    self_products: bool, holders: int, threshold: int, limit: int
) -> None:
    rng = np.random.default_rng(holders)
    instances = [tiny(rng, int(rng.integers(4, 9)), int(rng.integers(2, 4))) for _ in range(120)]
    starts = np.cumsum([0, *(len(points) for _, points in instances)])

    def circuit(x: Shared, pool: Pool) -> Computation[list[np.ndarray]]:
        parts = [
            Placed(placing, 5, self_products, threshold, limit).run(x[start : start + len(points)], Apart(pool))
            for (placing, points), start in zip(instances, starts, strict=False)
        ]
        return together(parts)

    every = np.concatenate([points for _, points in instances])
    found = evaluate(circuit, every, holders=holders, threshold=threshold, limit=limit).result
    expected = [placing.chosen(points, self_products) for placing, points in instances]
    assert [chosen.tolist() for chosen in found] == expected
    assert len({tuple(chosen) for chosen in expected}) > 3


@pytest.mark.parametrize("self_products", [True, False])
def test_newcomers_as_far_away_as_can_be(self_products: bool) -> None:
    rng = np.random.default_rng(0)
    for sizes in ((1, 7), (4, 4), (7, 1)):
        labels = np.repeat([0, 1, -1], (*sizes, 2))
        members = (labels == np.arange(2)[:, None]).astype(np.int64)
        placing, points = Placing((0, 1), members, np.array([8, 9])), rng.choice([-5, 5], (10, 1))
        found = evaluate(Placed(placing, 5, self_products, 1, 5).run, points).result
        assert found.tolist() == placing.chosen(points, self_products)


@pytest.mark.parametrize("changes", [{}, {"reveal": "assignments"}, {"reveal": "distances"}, {"compare_bits": 20}])
def test_k_means_on_shares_places_as_in_the_clear_whatever_it_reveals_of_groups(changes: dict[str, Any]) -> None:
    secure = replace(SECURE, dimensions=8, scale=3.0, **changes)
    states, new = disagreeing(2, 7, dimensions=8, strength=1.0), {"c03", "c09", "c12"}
    old = Assignment({c: 1 - int(state["domain"]) for c, state in states.items() if c not in new})
    cohort = Cohort(dict.fromkeys(states, 1), 0, 0)
    clear = plain(secure)
    expected = toy_driver(states, Toy(clusterer=clear)).run(clear.place(cohort, "z", old, new))
    driver = toy_driver(states, Toy(clusterer=secure), parties=parties_in_memory(states))
    with warnings.catch_warnings():
        warnings.simplefilter("error", LeakyProtocolWarning)  # placing leaks nothing
        assert driver.run(secure.place(cohort, "z", old, new)) == expected
    assert {expected.cluster_of[c] for c in new} == {0, 1}
