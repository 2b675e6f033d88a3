"""SecPC on shares beside k-means in the clear: everything public that it says has to be the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import stats

from secfpp.crypto.arithmetic import Computation, Pool, Shared, together
from secfpp.crypto.material import Estimate
from secfpp.protocol.cohort import Assignment
from secfpp.secure.clustering import kmeans
from secfpp.secure.clustering.found import Found
from secfpp.secure.clustering.search import Search
from secfpp.secure.clustering.secpc import SecPC
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
        "dimensions": 2, "radius": 127, "k": None, "k_max": 3, "restarts": 3, "finalists": 500, "iterations": 3,
        "min_size": 1, "pull": 2, "seed": 0, "round_": 0,
    }  # fmt: skip
    return Search.plan(n=n, **{**settings, **changes})


def going_on(search: Search, points: np.ndarray) -> set[tuple[int, int]]:
    """The runs (K, number) that go on after the first iteration."""
    inner = kmeans.inner_products(points)
    winners = search.winners({k: kmeans.seed_costs(inner, seeds) for k, seeds in search.seeds.items()})
    return {(k, number) for k, numbers in winners.items() for number in numbers.tolist()}


def in_clear(search: Search, points: np.ndarray) -> dict[tuple[int, int], list[np.ndarray]]:
    """The assignments of every iteration of every run, the first one only of those that do not go on."""
    kept, inner = going_on(search, points), kmeans.inner_products(points)
    found: dict[tuple[int, int], list[np.ndarray]] = {}
    for k, seeds in search.seeds.items():
        for iterations in range(1, search.iterations + 1):
            for r, labels in enumerate(kmeans.lloyd(inner, seeds, iterations, search.pull)):
                if iterations == 1 or (k, r) in kept:
                    found.setdefault((k, r), []).append(labels)
    return found


@dataclass(frozen=True)
class Tally:
    """How often instances were what they were made to be."""

    instances: int = 0
    empty: int = 0
    single: int = 0
    tied: int = 0
    none: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


def compare(search: Search, points: np.ndarray, found: Found) -> Tally:
    """Assert that what came out on shares is what comes out in the clear."""
    begun = in_clear(search, points)
    runs = {run: begun[run] for run in going_on(search, points)}
    sizes = {run: np.bincount(labels[-1], minlength=run[0]).tolist() for run, labels in runs.items()}
    assert {run: sorted(shown) for run, shown in found.sizes.items()} == {run: sorted(s) for run, s in sizes.items()}
    inner = kmeans.inner_products(points)
    inertia = {run: kmeans.inertia(inner, runs[run][-1]) for run in runs if search.admits(sizes[run])}
    assert found.inertia == inertia
    best = search.best({run: (sizes[run], inertia[run]) for run in inertia})
    if best is None:
        assert found.labels is None and found.k == 1
    else:
        assert found.labels is not None and found.k == best[0]
        names = [str(i) for i in range(len(points))]
        assert Assignment.from_labels(names, found.labels.tolist()) == Assignment.from_labels(
            names, runs[best][-1].tolist()
        )
    if found.assignments:
        for run, labels in begun.items():
            if run[0] > 1:
                assert [a.tolist() for a in found.assignments[run]] == [a.tolist() for a in labels]
    assert found.undecided == 0
    distances = ((points[:, None] - points[None]) ** 2).sum(-1)
    tied = sum(
        len({int(distances[i, seed]) for seed in row}) < len(row)
        for seeds in search.seeds.values()
        for row in seeds
        for i in range(len(points))
    )
    return Tally(
        len(runs), sum(0 in s for s in sizes.values()), sum(1 in s for s in sizes.values()), tied, best is None
    )


def check(parties: Holders, searches: list[Search], points: np.ndarray, seed: object = 0, **changes: Any) -> Tally:
    """Evaluate several searches side by side, `points` [searches, n, d], and compare each with k-means in the clear."""
    circuits = [SecPC(s, parties.threshold, parties.limit, parties.levels, **changes) for s in searches]
    n = points.shape[1]

    def circuit(x: Shared, pool: Pool) -> Computation[list[Found]]:
        return together([c.run(x[i * n : (i + 1) * n], Apart(pool)) for i, c in enumerate(circuits)])

    flat = points.reshape(-1, points.shape[2])
    evaluation = evaluate(
        circuit,
        flat,
        holders=parties.holders,
        threshold=parties.threshold,
        limit=parties.limit,
        seed=seed,
    )
    tally = Tally()
    for number, (search, some) in enumerate(zip(searches, points, strict=True)):
        tally += compare(search, some, evaluation.result[number])
        for other in evaluation.results[1:]:
            np.testing.assert_equal(vars(other[number]), vars(evaluation.result[number]))
    return tally


def grids(rng: np.random.Generator, count: int, n: int) -> np.ndarray:
    """Instances [count, n, 2] on tiny grids, every other one of three places: ties and empty clusters are common."""
    instances = [rng.integers(-r, r + 1, (n, 2)) for r in rng.choice([1, 2, 5], count).tolist()]
    return np.stack([p[rng.integers(0, 3, n)] if i % 2 else p for i, p in enumerate(instances)])


@pytest.mark.parametrize(
    ("parties", "reveal"),
    [(SMALL, "partition"), (SMALL, "assignments"), (LARGE, "assignments"), (HIGH, "partition")],
)
def test_hundreds_of_tiny_instances_are_those_of_k_means_in_the_clear(parties: Holders, reveal: str) -> None:
    rng = np.random.default_rng(parties.holders)
    tally = Tally()
    for seed, (n, min_size, pull, iterations) in enumerate([(5, 1, 2, 3), (7, 2, 1, 2), (6, 1, 4, 2)]):
        search = plan(n, min_size=min_size, pull=pull, iterations=iterations, seed=seed, restarts=6, finalists=4)
        count = 5 if parties == SMALL else 3
        tally += check(parties, [search] * count, grids(rng, count, n), (seed, reveal), reveal=reveal)
    assert tally.instances >= 80
    assert min(tally.empty, tally.single, tally.tied) > 5


@pytest.mark.slow
@pytest.mark.parametrize("part", range(5))
def test_ten_thousand_tiny_instances(part: int) -> None:
    rng = np.random.default_rng(100 + part)
    tally, seed = Tally(), 0
    while tally.instances < 2000:
        seed += 1
        n, k = int(rng.integers(4, 9)), int(rng.integers(2, 5))
        search = plan(
            n,
            k=min(k, n),
            seed=seed,
            restarts=int(rng.choice([16, 24])),
            finalists=16,
            min_size=1,
            iterations=int(rng.integers(1, 5)),
            pull=int(rng.choice([1, 2, 4])),
        )
        tally += check(SMALL, [search] * 12, grids(rng, 12, n), (part, seed))
    assert min(tally.empty, tally.single, tally.tied) > 100


@pytest.mark.slow
@pytest.mark.parametrize("parties", [SMALL, LARGE, HIGH])
def test_a_thousand_instances_of_long_points(parties: Holders) -> None:
    rng = np.random.default_rng(9)
    tally = Tally()
    for seed in range(12):
        points = rng.integers(-89, 90, (4, 12, 2))
        search = plan(12, seed=seed, k_max=4, restarts=20, finalists=8, iterations=2, min_size=2)
        tally += check(parties, [search] * 4, points, seed)
    assert tally.instances > 1000


@pytest.mark.parametrize("parties", [SMALL, LARGE, HIGH])
def test_extreme_points_are_exact(parties: Holders) -> None:
    rng = np.random.default_rng(3)
    points = np.stack([rng.choice([-63, 64, 0], (8, 4)), rng.choice([-63, 63], (8, 4))])
    check(parties, [plan(8, dimensions=4, pull=4, restarts=4, finalists=2)] * 2, points)


SPECIAL = {
    "all equal": [[3, 3]] * 6,
    "two places": [[0, 0], [9, 9]] * 3,
    "on a line, halfway": [[0, 0], [2, 0], [4, 0], [6, 0], [1, 0], [3, 0]],
    "one far away": [[0, 0]] * 5 + [[60, 60]],
    "all zero": [[0, 0]] * 6,
}


@pytest.mark.parametrize("points", SPECIAL.values(), ids=SPECIAL)
@pytest.mark.parametrize("min_size", [1, 3])
def test_special_points(points: list[list[int]], min_size: int) -> None:
    check(SMALL, [plan(6, min_size=min_size)], np.array([points]))
    check(SMALL, [plan(6, min_size=min_size, restarts=9, finalists=2)], np.array([points]))


def test_two_hundred_restarts_are_two_hundred_runs() -> None:
    rng = np.random.default_rng(1)
    assert check(SMALL, [plan(6, k=3, restarts=200, iterations=2)], grids(rng, 1, 6)).instances == 200


def test_without_an_admissible_run_there_is_no_winner() -> None:
    points = np.array([[[0, 0]] * 7 + [[60, 0]]])
    assert check(SMALL, [plan(8, k=2, min_size=4, restarts=2, seed=s) for s in (0,)], points).none == 1


def test_one_cluster_alone_takes_no_comparison() -> None:
    search = plan(6, k=1)
    check(SMALL, [search], grids(np.random.default_rng(0), 1, 6))


def test_one_iteration_goes_by_the_seeds() -> None:
    check(SMALL, [plan(6, iterations=1)], grids(np.random.default_rng(0), 1, 6))


def exchanges(parties: Holders, search: Search, bits: int | None = None) -> int:
    levels = parties.levels if bits is None else 0
    circuit = SecPC(search, parties.threshold, parties.limit, levels, bits)
    pool = Estimate(parties.threshold, parties.limit)
    computation = circuit.run(Shared(np.zeros((search.n, 2), np.uint64), 1), pool)
    count, wanted = 0, next(computation)
    try:
        while True:
            count += 1
            wanted = computation.send([np.zeros(value.shape, np.uint64) for value in wanted])
    except StopIteration:
        return count + 1  # zeros have no winner, whose pairs would be opened


def settings_of(parties: Holders) -> dict[str, int]:
    return {"holders": parties.holders, "threshold": parties.threshold, "limit": parties.limit}


@pytest.mark.parametrize("iterations", [1, 2, 4])
@pytest.mark.parametrize("k_max", [2, 6])
def test_exchanges_are_those_of_the_formula(iterations: int, k_max: int) -> None:
    all_, some = (plan(8, iterations=iterations, k_max=k_max, restarts=4, finalists=f) for f in (4, 2))
    assert exchanges(SMALL, all_) == exchanges(LARGE, all_) == 3 * iterations + 3
    assert exchanges(SMALL, some) == exchanges(LARGE, some) == 3 * iterations + 6
    assert exchanges(SMALL, all_, bits=20) == exchanges(LARGE, all_, bits=20) == 2 * iterations + 4
    assert exchanges(SMALL, some, bits=20) == exchanges(LARGE, some, bits=20) == 2 * iterations + 7


def test_a_high_threshold_takes_more_exchanges() -> None:
    counts = [exchanges(HIGH, plan(8, iterations=i, restarts=2)) for i in (1, 2, 3, 4)]
    assert {later - earlier for earlier, later in pairwise(counts)} == {5}


def test_no_opening_is_of_a_higher_degree_than_the_limit_and_products_stay_masked() -> None:
    search = plan(8, restarts=4, finalists=2)
    for parties in (SMALL, HIGH):
        evaluation = evaluate(
            SecPC(search, parties.threshold, parties.limit, parties.levels).run,
            grids(np.random.default_rng(0), 1, 8)[0],
            **settings_of(parties),
        )
        assert max(map(max, evaluation.degrees)) == parties.limit


def test_openings_before_the_outcome_are_uniform() -> None:
    """Everything opened but the sizes, the inertia and the winner's pairs; zeros of the minima apart."""
    search = plan(8, restarts=16, finalists=8, k_max=4, iterations=2)
    points = np.random.default_rng(0).integers(-80, 81, (8, 2))
    openings = evaluate(SecPC(search, 1, 5, 1).run, points, seed=5).openings
    for number, values in enumerate(openings[:-3]):
        public = np.concatenate([value.reshape(-1) for value in values])
        public = public[public != 0]
        for shift in (57, 20, 0):
            counts = np.bincount((public >> np.uint64(shift)).astype(np.int64) % 16, minlength=16)
            assert stats.chisquare(counts).pvalue > 1e-6, f"exchange {number}"


def test_sizes_come_in_an_order_that_says_nothing() -> None:
    """With one large and two small clusters, the large one is at each place about as often."""
    points = np.array([[0, 0]] * 6 + [[60, 0], [0, 60]])
    search = plan(8, k=3, restarts=120, iterations=1)
    chosen = [row for row in search.seeds[3].tolist() if {6, 7} < set(row)] * 60
    search = replace(search, seeds={3: np.array(chosen[:240])})
    found = evaluate(SecPC(search, 1, 5, 1).run, points).result
    places = [sizes.index(6) for sizes in found.sizes.values()]
    assert stats.chisquare(np.bincount(places, minlength=3)).pvalue > 1e-5
    shown = evaluate(SecPC(search, 1, 5, 1, reveal="assignments").run, points).result
    assert {sizes.index(6) for sizes in shown.sizes.values()} == {0}


@pytest.mark.parametrize("away", [{0: (0,)}, {4: (1, 7, 9, 12)}, {e: (e % 16, (e + 5) % 16) for e in range(15)}])
def test_other_survivors_open_the_same(away: dict[int, tuple[int, ...]]) -> None:
    points = grids(np.random.default_rng(2), 1, 8)[0]
    search = plan(8, restarts=5, finalists=2)
    found = evaluate(SecPC(search, 2, 5, 1).run, points, holders=16, threshold=2, away=away).result
    compare(search, points, found)


@pytest.mark.parametrize("radius", [127, 255, 32767])
def test_the_first_iteration_is_exact_with_fewer_bits_however_long_points_are(radius: int) -> None:
    points = np.random.default_rng(0).integers(-radius // 2, radius // 2, (8, 2))
    search = plan(8, radius=radius, iterations=1, k_max=4)
    found = evaluate(SecPC(search, 1, 5, 0, 20).run, points).result
    assert compare(search, points, found).instances == 10


@pytest.mark.parametrize("bits", [20, 24])
def test_fewer_bits_find_clear_groups_as_all_bits_do(bits: int) -> None:
    rng = np.random.default_rng(bits)
    points = np.repeat([[60, 0], [-60, 10], [0, -70]], 5, axis=0) + rng.integers(-6, 7, (15, 2))
    search = plan(15, min_size=4, k_max=3, restarts=6)
    found = evaluate(SecPC(search, 1, 5, 0, bits).run, points).result
    assert found.k == 3
    assert found.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
