"""Groups by agreement on shares beside those in the clear: everything public that comes out has to be the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from secfpp.crypto.arithmetic import Computation, Pool, Shared, together
from secfpp.protocol.cohort import Assignment
from secfpp.secure.clustering import agreement
from secfpp.secure.clustering.agreed import Agreed
from secfpp.secure.clustering.found import Found
from secfpp.secure.clustering.search import Search
from support.shares import evaluate


@dataclass(frozen=True)
class Holders:
    """Who computes, and the circuit that they use."""

    holders: int
    threshold: int
    limit: int
    levels: int


SMALL, LARGE, HIGH = Holders(6, 1, 5, 1), Holders(16, 2, 5, 1), Holders(7, 2, 3, 2)


def plan(n: int, **changes: Any) -> Search:
    settings: dict[str, Any] = {
        "dimensions": 3, "radius": 6, "k": None, "k_max": 3, "restarts": 6, "finalists": 3, "iterations": 2,
        "min_size": 1, "pull": 1, "seed": 0, "round_": 0, "self_products": False,
    }  # fmt: skip
    return Search.plan(n=n, **{**settings, **changes})


@dataclass(frozen=True)
class Tally:
    """How often instances were what they were made to be."""

    instances: int = 0
    empty: int = 0
    tied: int = 0
    one: int = 0
    more: int = 0
    none: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


def compare(search: Search, points: np.ndarray, allowances: dict[int, int], found: Found) -> Tally:
    """Assert that what came out on shares is what comes out in the clear."""
    inner = agreement.products(points)
    runs = search.finished(inner)
    sizes = [np.bincount(labels, minlength=k).tolist() for (k, _), labels in runs.items()]
    assert [sorted(shown) for shown in found.sizes.values()] == [sorted(s) for s in sizes]
    costs = {
        run: agreement.cost(inner, labels, run[0], allowances)
        for (run, labels), s in zip(runs.items(), sizes, strict=True)
        if search.admits(s)
    }
    best = min(costs, key=costs.__getitem__, default=None)
    if best is None:
        assert found.labels is None
    else:
        names = [str(i) for i in range(len(points))]
        assert found.labels is not None and found.whole
        assert Assignment.from_labels(names, found.labels) == Assignment.from_labels(names, runs[best])
        assert found.k == len(set(runs[best].tolist()))
        assert found.plausible(len(points), search.radius)
    least = min(costs.values(), default=None)
    return Tally(
        len(runs),
        sum(0 in s for s in sizes),
        list(costs.values()).count(least) > 1,
        best is not None and best[0] == 1,
        best is not None and best[0] > 1,
        best is None,
    )


def check(parties: Holders, searches: list[Search], points: np.ndarray, spread: float, seed: object = 0) -> Tally:
    """Evaluate several searches side by side, `points` [searches, n, d], and compare each with the one in the clear."""
    allowances = [agreement.allowances(search, spread) for search in searches]
    circuits = [
        Agreed(search, parties.threshold, parties.limit, parties.levels, allowances=of)
        for search, of in zip(searches, allowances, strict=True)
    ]
    n = points.shape[1]

    def circuit(x: Shared, pool: Pool) -> Computation[list[Found]]:
        return together([c.run(x[i * n : (i + 1) * n], pool) for i, c in enumerate(circuits)])

    flat = points.reshape(-1, points.shape[2])
    evaluation = evaluate(
        circuit, flat, holders=parties.holders, threshold=parties.threshold, limit=parties.limit, seed=seed
    )
    tally = Tally()
    for number, (search, some, of) in enumerate(zip(searches, points, allowances, strict=True)):
        tally += compare(search, some, of, evaluation.result[number])
        for other in evaluation.results[1:]:
            np.testing.assert_equal(vars(other[number]), vars(evaluation.result[number]))
    return tally


def grids(rng: np.random.Generator, count: int, n: int) -> np.ndarray:
    """Instances [count, n, 3] on tiny grids, every other one of three places: ties and empty clusters are common."""
    instances = [rng.integers(-r, r + 1, (n, 3)) for r in rng.choice([1, 3], count).tolist()]
    return np.stack([p[rng.integers(0, 3, n)] if i % 2 else p for i, p in enumerate(instances)])


@pytest.mark.parametrize("parties", [SMALL, LARGE, HIGH])
def test_hundreds_of_tiny_instances_are_those_in_the_clear(parties: Holders) -> None:
    rng = np.random.default_rng(parties.holders)
    tally = Tally()
    for seed, (n, min_size, iterations, spread) in enumerate([(5, 1, 3, 0.01), (7, 2, 2, 0.5), (6, 1, 1, 0.1)]):
        search = plan(n, min_size=min_size, iterations=iterations, seed=seed)
        tally += check(
            parties,
            [search] * (5 if parties == SMALL else 3),
            grids(rng, 5, n)[: 3 if parties != SMALL else 5],
            spread,
            seed,
        )
    assert tally.instances >= 60
    assert min(tally.empty, tally.one, tally.more) > 0
