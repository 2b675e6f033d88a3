from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from secfpp.errors import FieldRangeError
from secfpp.secure import kmeans

Point = tuple[int, ...]


def slow_lloyd(points: list[Point], seeds: list[int], iterations: int, pull: int) -> list[int]:
    """Lloyd's iteration as in a textbook, in rational numbers."""
    dimensions = range(len(points[0]))
    centres = [[Fraction(x) for x in points[seed]] for seed in seeds]
    labels: list[int] = []
    for _ in range(iterations):
        labels = []
        for point in points:
            distances = [sum((x - c) ** 2 for x, c in zip(point, centre, strict=True)) for centre in centres]
            labels.append(distances.index(min(distances)))
        for s, seed in enumerate(seeds):
            members = [point for point, label in zip(points, labels, strict=True) if label == s]
            weight = pull * len(members) + 1
            centres[s] = [
                Fraction(pull * sum(member[d] for member in members) + points[seed][d], weight) for d in dimensions
            ]
    return labels


@st.composite
def instances(draw: st.DrawFn) -> tuple[list[Point], list[list[int]], int, int]:
    """Few points on a tiny grid, so that ties, duplicates and empty clusters are common."""
    d, n = draw(st.integers(1, 3)), draw(st.integers(1, 7))
    reach = draw(st.sampled_from([1, 2, 5]))
    points = draw(st.lists(st.tuples(*[st.integers(-reach, reach)] * d), min_size=n, max_size=n))
    k = draw(st.integers(1, 5))
    runs = draw(st.integers(1, 3))
    seeds = draw(st.lists(st.lists(st.integers(0, n - 1), min_size=k, max_size=k), min_size=runs, max_size=runs))
    return points, seeds, draw(st.integers(1, 4)), draw(st.sampled_from([1, 2, 4]))


@settings(max_examples=250)
@given(instances())
@example(([(0,), (2,), (1,)], [[0, 1]], 2, 1))  # the last point is as near to either seed
@example(([(3,), (3,), (3,)], [[0, 1, 2]], 3, 4))  # all equal: two clusters stay empty
@example(([(0, 0), (0, 1), (9, 9)], [[0, 0, 2]], 3, 4))  # one seed twice
def test_lloyd_equals_the_textbook_in_rational_numbers(
    instance: tuple[list[Point], list[list[int]], int, int],
) -> None:
    points, seeds, iterations, pull = instance
    labels = kmeans.lloyd(np.array(points), np.array(seeds), iterations, pull)
    assert labels.tolist() == [slow_lloyd(points, run, iterations, pull) for run in seeds]


def test_thousands_of_instances_with_ties_and_empty_clusters() -> None:
    rng = np.random.default_rng(5)
    tied = emptied = 0
    for _ in range(1500):
        n, k = int(rng.integers(2, 7)), int(rng.integers(2, 5))
        points = rng.integers(-2, 3, size=(n, 2))
        seeds = rng.integers(0, n, size=(1, k))
        labels = kmeans.lloyd(points, seeds, 3, 1)[0].tolist()
        plain = [tuple(map(int, point)) for point in points]
        assert labels == slow_lloyd(plain, seeds[0].tolist(), 3, 1)
        tied += len({plain[seed] for seed in seeds[0]}) < k
        emptied += len(set(labels)) < k
    assert tied > 300
    assert emptied > 300


@given(instances())
def test_runs_do_not_influence_each_other(instance: tuple[list[Point], list[list[int]], int, int]) -> None:
    points, seeds, iterations, pull = instance
    together = kmeans.lloyd(np.array(points), np.array(seeds), iterations, pull)
    for run, labels in zip(seeds, together, strict=True):
        alone = kmeans.lloyd(np.array(points), np.array([run]), iterations, pull)
        assert alone[0].tolist() == labels.tolist()


def test_extreme_values_are_exact_up_to_the_proven_range() -> None:
    n, k, pull = 60, 3, 4
    rng = np.random.default_rng(0)
    points = rng.choice([-1500, 1500], size=(n, 4))
    kmeans.require_range(n, 3001, pull)
    seeds = np.stack([rng.permutation(n)[:k] for _ in range(2)])
    labels = kmeans.lloyd(points, seeds, 3, pull)
    plain = [tuple(map(int, point)) for point in points]
    assert labels.tolist() == [slow_lloyd(plain, run.tolist(), 3, pull) for run in seeds]


def test_the_range_is_refused_where_the_bound_says() -> None:
    fitting = max(n for n in range(1, 3000) if 4 * 127**2 * (4 * n + 2) ** 4 // 16 < 1 << 60)
    kmeans.require_range(fitting, 127, 4)
    with pytest.raises(FieldRangeError, match=f"{fitting + 1} points of length up to 127 with pull 4"):
        kmeans.require_range(fitting + 1, 127, 4)
    assert fitting > 1000
    with pytest.raises(FieldRangeError, match="smaller pull"):
        kmeans.lloyd(np.full((4, 1), 1 << 30), np.array([[0]]), 1, 4)


def partitions(n: int, k: int) -> list[tuple[int, ...]]:
    return [labels for labels in itertools.product(range(k), repeat=n) if len(set(labels)) == k]


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=3, max_size=6), st.integers(1, 3))
def test_all_seeds_reach_no_less_than_the_optimum_of_all_partitions(points: list[Point], k: int) -> None:
    array = np.array(points)
    optimum = min(kmeans.inertia(array, np.array(labels)) for labels in partitions(len(points), k))
    seeds = np.array(list(itertools.combinations(range(len(points)), k)))
    best = kmeans.best_of(array, kmeans.lloyd(array, seeds, 6, 8), k, 1)
    assert best is None or best.inertia >= optimum


def test_separated_groups_are_the_optimum() -> None:
    points = np.array([(0, 0), (1, 0), (0, 1), (50, 50), (51, 50), (99, 0), (99, 1)])
    best = kmeans.best_of(points, kmeans.lloyd(points, np.array([[0, 3, 5], [0, 1, 2]]), 4, 4), 3, 1)
    assert best is not None
    assert best.labels.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert best.inertia == min(kmeans.inertia(points, np.array(labels)) for labels in partitions(7, 3))


def test_it_finds_what_scikit_learn_finds() -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    for seed in range(10):
        rng = np.random.default_rng(seed)
        centres = rng.integers(-80, 81, size=(4, 8))
        points = np.repeat(centres, 8, axis=0) + rng.integers(-12, 13, size=(32, 8))
        seeds = np.stack([rng.permutation(32)[:4] for _ in range(20)])
        ours = kmeans.best_of(points, kmeans.lloyd(points, seeds, 10, 4), 4, 1)
        theirs = cluster.KMeans(4, n_init=20, random_state=seed).fit(points)
        assert ours is not None
        assert float(ours.inertia) == pytest.approx(theirs.inertia_, rel=1e-9)
        assert len(set(zip(ours.labels.tolist(), theirs.labels_.tolist(), strict=True))) == 4


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9), st.integers(0, 2)), min_size=1, max_size=8))
def test_inertia_is_the_sum_of_squared_distances(rows: list[tuple[int, int, int]]) -> None:
    points, labels = np.array([row[:2] for row in rows]), np.array([row[2] for row in rows])
    expected = Fraction(0)
    for label in set(labels.tolist()):
        members = [[int(x) for x in point] for point in points[labels == label]]
        for axis in range(2):
            mean = Fraction(sum(member[axis] for member in members), len(members))
            expected += sum((member[axis] - mean) ** 2 for member in members)
    assert kmeans.inertia(points, labels) == expected


def test_bic_is_the_formula_of_x_means() -> None:
    inertia, sizes, d = 120.0, (4, 6), 3
    n, k = 10, 2
    variance = inertia / (d * (n - k))
    likelihood = 4 * math.log(0.4) + 6 * math.log(0.6) - n * d / 2 * math.log(2 * math.pi * variance) - d * (n - k) / 2
    assert kmeans.bic(inertia, sizes, d) == pytest.approx(likelihood - (1 + 2 * 3 + 1) / 2 * math.log(10))


def test_bic_prefers_one_cluster_for_equal_points() -> None:
    assert kmeans.bic(0.0, (10,), 4) > kmeans.bic(0.0, (5, 5), 4)
    assert math.isfinite(kmeans.bic(0.0, (1, 1), 4))


def test_small_clusters_are_rejected_and_the_next_run_counts() -> None:
    points = np.array([[0], [1], [2], [3], [4], [90]])
    runs = np.array([[0, 0, 0, 0, 0, 1], [0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
    best = kmeans.best_of(points, runs, 2, 2)
    assert best is not None
    assert best.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert best.sizes == (3, 3)
    assert kmeans.best_of(points, runs, 2, 1).sizes == (5, 1)  # type: ignore[union-attr]
    assert kmeans.best_of(points, runs, 2, 4) is None
