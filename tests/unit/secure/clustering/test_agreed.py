"""Groups by agreement on shares beside those in the clear: everything public that comes out has to be the same."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import stats

from secfpp.crypto.arithmetic import Computation, Pool, Shared, together
from secfpp.crypto.material import Estimate
from secfpp.protocol.cohort import Assignment
from secfpp.secure.clustering import agreement
from secfpp.secure.clustering.agreed import Agreed
from secfpp.secure.clustering.found import Found
from secfpp.secure.clustering.search import Search
from support.shares import Apart, evaluate


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
    assert found.sizes == {} and found.inertia == {}
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
        assert found.plausible(len(points), search.radius, search.min_size)
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
        return together([c.run(x[i * n : (i + 1) * n], Apart(pool)) for i, c in enumerate(circuits)])

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
    tally, count = Tally(), 5 if parties == SMALL else 3
    for seed, (n, min_size, iterations, spread) in enumerate([(5, 1, 3, 0.01), (7, 2, 2, 3.0), (6, 1, 1, 0.1)]):
        search = plan(n, min_size=min_size, iterations=iterations, seed=seed)
        tally += check(parties, [search] * count, grids(rng, count, n), spread, seed)
    assert tally.instances >= 60
    assert min(tally.empty, tally.one, tally.more) > 0


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_thousands_of_tiny_instances(part: int) -> None:
    rng = np.random.default_rng(100 + part)
    tally, seed = Tally(), 0
    while tally.instances < 1200:
        seed += 1
        n, min_size = int(rng.integers(4, 9)), int(rng.integers(1, 3))
        search = plan(
            n,
            k=None if seed % 3 else int(rng.integers(2, min(n // min_size, 3) + 1)),
            seed=seed,
            restarts=int(rng.choice([8, 12])),
            finalists=int(rng.choice([2, 4])),
            min_size=min_size,
            iterations=int(rng.integers(1, 4)),
        )
        tally += check(SMALL, [search] * 12, grids(rng, 12, n), float(rng.choice([0.01, 0.5, 2.0, 5.0])), (part, seed))
    assert min(tally.empty, tally.tied, tally.one, tally.more) > 20
    assert tally.none > 0


@pytest.mark.slow
@pytest.mark.parametrize("parties", [SMALL, LARGE, HIGH])
def test_hundreds_of_instances_of_longer_descriptors(parties: Holders) -> None:
    rng = np.random.default_rng(9)
    tally = Tally()
    for seed in range(4):
        points = np.clip(rng.integers(-2, 3, (3, 12, 40)) + rng.integers(-2, 3, (3, 3, 40)).repeat(4, 1), -3, 3)
        search = plan(12, seed=seed, restarts=20, finalists=8, min_size=2, dimensions=40, radius=16)
        tally += check(parties, [search] * 3, points, 9.0, seed)
    assert tally.instances > 100


@pytest.mark.parametrize("parties", [SMALL, LARGE, HIGH])
def test_extreme_descriptors_are_exact(parties: Holders) -> None:
    """As long as can be, all along one line: products are as large as can be, with either sign."""
    rng = np.random.default_rng(3)
    signs = 2 * rng.integers(0, 2, (3, 10, 1)) - 1
    points = np.stack([signs[0] * [60, 0, 0], signs[1] * [36, 48, 0], signs[2] * [0, 0, 60]])
    search = plan(10, radius=60, restarts=4, finalists=2)
    for spread in (0.001, 3600.0, 10.0**9):
        check(parties, [search] * 3, points, spread)


SPECIAL = {
    "all equal": [[3, 3, 0]] * 6,
    "two opposite places": [[3, 0, 0], [-3, 0, 0]] * 3,
    "three places at right angles": [[3, 0, 0], [0, 3, 0], [0, 0, 3]] * 2,
    "one alone": [[1, 1, 0]] * 5 + [[-3, 0, 3]],
    "all zero": [[0, 0, 0]] * 6,
}


@pytest.mark.parametrize("points", SPECIAL.values(), ids=SPECIAL)
@pytest.mark.parametrize("min_size", [1, 3])
def test_special_points(points: list[list[int]], min_size: int) -> None:
    for spread in (0.01, 4.0):
        check(SMALL, [plan(6, min_size=min_size)], np.array([points]), spread)


def test_of_several_runs_that_cost_the_same_the_first_wins() -> None:
    points = np.array([[[1, 0, 0], [-1, 0, 0]] * 3])
    assert check(SMALL, [plan(6, k=2, restarts=4, finalists=4)], points, 1.0).tied == 1


@pytest.mark.parametrize("changes", [{"restarts": 1}, {"restarts": 4, "finalists": 1}, {"restarts": 5, "finalists": 2}])
def test_few_runs(changes: dict[str, int]) -> None:
    for k in (2, 3):
        check(SMALL, [plan(6, k=k, **changes)], grids(np.random.default_rng(0), 1, 6), 1.0)


def test_without_an_admissible_run_nothing_is_opened_of_any() -> None:
    """As many exchanges as else, and of the pairs that everybody is together."""
    points = np.array([[[3, 0, 0]] * 7 + [[-3, 0, 0]]])
    search = plan(8, k=2, min_size=4, restarts=2)
    assert check(SMALL, [search], points, 1.0).none == 1
    shown = openings(search, points[0])
    assert len(shown) == exchanges(SMALL, search)
    assert set(shown[-1][0].tolist()) == {1}


def test_clusters_that_are_too_small_never_win_however_well_they_agree() -> None:
    """Alone, three that agree in all, beside two groups that hardly do."""
    apart = np.array([[6, 0, 0]] * 2 + [[0, 1, 0]] * 4 + [[0, -1, 0]] * 4)
    for min_size in (1, 3):
        search = plan(10, min_size=min_size, k_max=3, restarts=24, finalists=8)
        assert check(SMALL, [search], apart[None], 0.001).more == 1


def openings(search: Search, points: np.ndarray, seed: object = 0) -> list[list[np.ndarray]]:
    return evaluate(Agreed(search, 1, 5, 1).run, points, seed=seed).openings


def exchanges(parties: Holders, search: Search) -> int:
    circuit = Agreed(search, parties.threshold, parties.limit, parties.levels)
    pool = Estimate(parties.threshold, parties.limit)
    computation = circuit.run(Shared(np.zeros((search.n, 2), np.uint64), 1), pool)
    count, wanted = 0, next(computation)
    try:
        while True:
            count += 1
            wanted = computation.send([np.zeros(value.shape, np.uint64) for value in wanted])
    except StopIteration:
        return count


@pytest.mark.parametrize("iterations", [1, 2, 4])
@pytest.mark.parametrize("k_max", [2, 6])
def test_exchanges_are_those_of_the_formula(iterations: int, k_max: int) -> None:
    search = plan(30, iterations=iterations, k_max=k_max, restarts=4, finalists=2, radius=60)
    assert exchanges(SMALL, search) == exchanges(LARGE, search) == 3 * iterations + 9


def test_a_high_threshold_takes_more_exchanges() -> None:
    counts = [exchanges(HIGH, plan(8, iterations=i, restarts=2)) for i in (1, 2, 3, 4)]
    assert {later - earlier for earlier, later in pairwise(counts)} == {5}


def test_no_opening_is_of_a_higher_degree_than_the_limit() -> None:
    for parties in (SMALL, HIGH):
        evaluation = evaluate(
            Agreed(plan(8), parties.threshold, parties.limit, parties.levels).run,
            grids(np.random.default_rng(0), 1, 8)[0],
            holders=parties.holders,
            threshold=parties.threshold,
            limit=parties.limit,
        )
        assert max(map(max, evaluation.degrees)) == parties.limit


def test_openings_but_pairs_are_uniform() -> None:
    """Zeros of the rotated minima apart."""
    points = np.random.default_rng(0).integers(-3, 4, (8, 3))
    shown = openings(plan(8, restarts=16, finalists=8, k_max=4), points, seed=5)
    for number, values in enumerate(shown):
        if number == len(shown) - 1:
            continue
        public = np.concatenate([value.reshape(-1) for value in values])
        public = public[public != 0]
        top = 40 if number == len(shown) - 5 else 57  # masked sizes are sums: their top is not uniform
        for shift in (top, 20, 0):
            counts = np.bincount((public >> np.uint64(shift)).astype(np.int64) % 16, minlength=16)
            assert stats.chisquare(counts).pvalue > 1e-6, f"exchange {number}"


def test_zeros_of_contests_and_of_the_choice_are_anywhere() -> None:
    """Which run wins a contest, and which run is the best, is the same each time; where the zero is, is not."""
    points = np.array([[3, 0, 0], [-3, 0, 0]] * 4)
    search = plan(8, k=2, restarts=8, finalists=2)
    contests, choices = [], []
    for seed in range(60):
        shown = openings(search, points, seed)
        contests += [int((values == 0).argmax(0)[0]) for each in shown[2:] for values in each if values.shape == (4, 2)]
        choices += [int((values == 0).argmax(0)[0]) for values in shown[-2]]
    assert len(contests) == 60 and len(choices) == 60
    assert set(contests) == set(choices) == set(range(4))  # of two runs and one cluster, of two and two


@pytest.mark.parametrize("away", [{0: (0,)}, {4: (1, 7, 9, 12)}, {e: (e % 16, (e + 5) % 16) for e in range(15)}])
def test_other_survivors_open_the_same(away: dict[int, tuple[int, ...]]) -> None:
    points = grids(np.random.default_rng(2), 1, 8)[0]
    search = plan(8, restarts=5, finalists=2)
    found = evaluate(Agreed(search, 2, 5, 1).run, points, holders=16, threshold=2, away=away).result
    compare(search, points, {}.fromkeys(search.seeds, 0), found)
