from __future__ import annotations

import itertools
import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from secfpp.errors import FieldRangeError
from secfpp.secure.clustering import kmeans

Point = tuple[int, ...]


def products(points: object) -> np.ndarray:
    return kmeans.inner_products(np.array(points))


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
    labels = kmeans.lloyd(products(points), np.array(seeds), iterations, pull)
    assert labels.tolist() == [slow_lloyd(points, run, iterations, pull) for run in seeds]


def test_thousands_of_instances_with_ties_and_empty_clusters() -> None:
    rng = np.random.default_rng(5)
    tied = emptied = 0
    for _ in range(1500):
        n, k = int(rng.integers(2, 7)), int(rng.integers(2, 5))
        points = rng.integers(-2, 3, size=(n, 2))
        seeds = rng.integers(0, n, size=(1, k))
        labels = kmeans.lloyd(products(points), seeds, 3, 1)[0].tolist()
        plain = [tuple(map(int, point)) for point in points]
        assert labels == slow_lloyd(plain, seeds[0].tolist(), 3, 1)
        tied += len({plain[seed] for seed in seeds[0]}) < k
        emptied += len(set(labels)) < k
    assert tied > 300
    assert emptied > 300


@given(instances())
def test_runs_do_not_influence_each_other(instance: tuple[list[Point], list[list[int]], int, int]) -> None:
    points, seeds, iterations, pull = instance
    together = kmeans.lloyd(products(points), np.array(seeds), iterations, pull)
    for run, labels in zip(seeds, together, strict=True):
        alone = kmeans.lloyd(products(points), np.array([run]), iterations, pull)
        assert alone[0].tolist() == labels.tolist()


def test_extreme_values_are_exact_up_to_the_proven_range() -> None:
    n, k, pull = 60, 3, 4
    rng = np.random.default_rng(0)
    points = rng.choice([-1500, 1500], size=(n, 4))
    kmeans.require_range(n, 3001, pull)
    seeds = np.stack([rng.permutation(n)[:k] for _ in range(2)])
    labels = kmeans.lloyd(products(points), seeds, 3, pull)
    plain = [tuple(map(int, point)) for point in points]
    assert labels.tolist() == [slow_lloyd(plain, run.tolist(), 3, pull) for run in seeds]


def test_the_range_is_refused_where_the_bound_says() -> None:
    fitting = max(n for n in range(1, 3000) if 4 * 127**2 * (4 * n + 2) ** 4 // 16 < 1 << 60)
    kmeans.require_range(fitting, 127, 4)
    with pytest.raises(FieldRangeError, match=f"{fitting + 1} points of length up to 127 with pull 4"):
        kmeans.require_range(fitting + 1, 127, 4)
    assert fitting > 1000
    with pytest.raises(FieldRangeError, match="smaller pull"):
        kmeans.lloyd(np.full((4, 4), 1 << 60), np.array([[0]]), 1, 4)


def partitions(n: int, k: int) -> list[tuple[int, ...]]:
    return [labels for labels in itertools.product(range(k), repeat=n) if len(set(labels)) == k]


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=3, max_size=6), st.integers(1, 3))
def test_all_seeds_reach_no_less_than_the_optimum_of_all_partitions(points: list[Point], k: int) -> None:
    inner = products(points)
    optimum = min(kmeans.inertia(inner, np.array(labels)) for labels in partitions(len(points), k))
    seeds = np.array(list(itertools.combinations(range(len(points)), k)))
    for labels in kmeans.lloyd(inner, seeds, 6, 8):
        assert len(set(labels.tolist())) < k or kmeans.inertia(inner, labels) >= optimum


def test_separated_groups_are_the_optimum() -> None:
    points = np.array([(0, 0), (1, 0), (0, 1), (50, 50), (51, 50), (99, 0), (99, 1)])
    (labels,) = kmeans.lloyd(products(points), np.array([[0, 3, 5]]), 4, 4)
    assert labels.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert kmeans.inertia(products(points), labels) == min(
        kmeans.inertia(products(points), np.array(labels)) for labels in partitions(7, 3)
    )


def clear_groups(seed: int, k: int = 4, members: int = 8) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.permutation(np.array(list(itertools.product([-60, 60], repeat=4))))[:k]
    return np.repeat(centres, members, axis=0) + rng.integers(-12, 13, size=(k * members, 4))


def test_it_finds_what_scikit_learn_finds_from_many_seeds() -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    for seed in range(5):
        points = clear_groups(seed)
        seeds = np.stack([np.random.default_rng(run).permutation(32)[:4] for run in range(20)])
        found = kmeans.lloyd(products(points), seeds, 10, 4)
        best = min(found, key=lambda labels: kmeans.inertia(products(points), labels))
        theirs = cluster.KMeans(4, n_init=20, random_state=seed).fit(points)
        assert same_partition(best, theirs.labels_)
        assert kmeans.inertia(products(points), best) / kmeans.INERTIA_SCALE == pytest.approx(theirs.inertia_, rel=1e-4)


def test_scikit_learn_goes_the_same_way_from_the_same_seeds() -> None:
    """Its centres have no seed beside their members: with a heavy pull the steps are the same where nothing is near."""
    cluster = pytest.importorskip("sklearn.cluster")
    agreed = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        points = rng.integers(-60, 61, size=(30, 3))
        start = rng.permutation(30)[:4]
        for iterations in (1, 2, 4):
            theirs = cluster.KMeans(4, init=points[start].astype(float), n_init=1, max_iter=iterations, tol=0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it warns where it has not converged
                theirs.fit(points.astype(float))
            # Its labels are those to the centres after the last step: one assignment more than we make.
            ours = kmeans.lloyd(products(points), start[None], iterations + 1, 100)[0]
            agreed += ours.tolist() == theirs.labels_.tolist()
    assert agreed >= 170  # of 180: a heavy pull is no infinite one


def same_partition(one: np.ndarray, other: np.ndarray) -> bool:
    pairs = set(zip(one.tolist(), other.tolist(), strict=True))
    return len(pairs) == len(set(one.tolist())) == len(set(other.tolist()))


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9), st.integers(0, 2)), min_size=1, max_size=8))
def test_inertia_is_the_sum_of_squared_distances(rows: list[tuple[int, int, int]]) -> None:
    points, labels = np.array([row[:2] for row in rows]), np.array([row[2] for row in rows])
    expected, rounding = Fraction(0), Fraction(0)
    for label in set(labels.tolist()):
        members = [[int(x) for x in point] for point in points[labels == label]]
        for axis in range(2):
            mean = Fraction(sum(member[axis] for member in members), len(members))
            expected += sum((member[axis] - mean) ** 2 for member in members)
            rounding += Fraction(sum(member[axis] for member in members) ** 2, 2)
    found = kmeans.inertia(products(points), labels)
    assert isinstance(found, int)
    assert abs(found - expected * kmeans.INERTIA_SCALE) <= rounding


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 1000, (1 << 20) + 1, 1 << 22])
def test_reciprocals_are_rounded_half_up(size: int) -> None:
    assert kmeans.reciprocal(size) == math.floor(Fraction(kmeans.INERTIA_SCALE, size) + Fraction(1, 2))


def test_an_empty_cluster_adds_nothing() -> None:
    assert kmeans.reciprocal(0) == 0


def test_bic_is_the_formula_of_x_means() -> None:
    inertia, sizes, d = 120, (4, 6), 3
    n, k = 10, 2
    variance = inertia / (d * (n - k))
    likelihood = 4 * math.log(0.4) + 6 * math.log(0.6) - n * d / 2 * math.log(2 * math.pi * variance) - d * (n - k) / 2
    found = kmeans.bic(inertia * kmeans.INERTIA_SCALE, sizes, d)
    assert found == pytest.approx(likelihood - (1 + 2 * 3 + 1) / 2 * math.log(10))
    assert found == kmeans.bic(inertia * kmeans.INERTIA_SCALE, sizes[::-1], d)


def test_bic_prefers_one_cluster_for_equal_points() -> None:
    assert kmeans.bic(0, (10,), 4) > kmeans.bic(0, (5, 5), 4)
    assert math.isfinite(kmeans.bic(0, (1, 1), 4))


def test_bic_prefers_groups_that_are_there() -> None:
    points = clear_groups(0)
    one = kmeans.inertia(products(points), np.zeros(32, np.int64))
    four = kmeans.inertia(products(points), np.repeat(np.arange(4), 8))
    assert kmeans.bic(four, (8,) * 4, 4) > kmeans.bic(one, (32,), 4)


def test_a_runs_cost_is_that_of_its_seeds() -> None:
    rng = np.random.default_rng(4)
    points = rng.integers(-127, 128, (9, 3)).astype(np.int16)
    seeds = np.array([[0, 4], [2, 2], [7, 8]])
    expected = [sum(min(int(((p.astype(int) - points[s]) ** 2).sum()) for s in row) for p in points) for row in seeds]
    assert kmeans.seed_costs(products(points), seeds).tolist() == expected


@pytest.mark.parametrize("longest", [1 << 10, 1 << 50])
def test_products_of_weights_are_exact_however_large(longest: int) -> None:
    rng = np.random.default_rng(0)
    inner = rng.integers(-longest, longest, (9, 9), endpoint=True)
    weights = rng.integers(0, 50, (4, 3, 9))
    exact = weights.astype(object) @ inner.astype(object)
    assert (kmeans.exact_product(weights, inner) == exact).all()


def test_inertias_are_those_of_each_partition_alone() -> None:
    points = np.random.default_rng(1).integers(-9, 10, (12, 5))
    labels = np.random.default_rng(2).integers(0, 4, (6, 12))
    found = kmeans.inertias(products(points), labels)
    assert found == [kmeans.inertia(products(points), one) for one in labels]
    for value, one in zip(found, labels, strict=True):
        centres = np.stack(
            [points[one == label].mean(0) if (one == label).any() else np.zeros(5) for label in range(4)]
        )
        assert value / kmeans.INERTIA_SCALE == pytest.approx(((points - centres[one]) ** 2).sum(), rel=1e-4)
