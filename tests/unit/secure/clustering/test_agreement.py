from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secfpp.errors import CacheWarning
from secfpp.secure.clustering import agreement, kmeans
from secfpp.secure.clustering.search import Search

SCALE = kmeans.INERTIA_SCALE


def plan(n: int = 24, **changes: Any) -> Search:
    settings: dict[str, Any] = {
        "dimensions": 400, "radius": 6, "k": None, "k_max": 4, "restarts": 6, "finalists": 6, "iterations": 2,
        "min_size": 4, "pull": 1, "seed": 0, "round_": 0, "self_products": False,
    }  # fmt: skip
    return Search.plan(n=n, **{**settings, **changes})


def slow_iterations(inner: list[list[int]], seeds: list[int], iterations: int) -> list[int]:
    """In rational numbers: each point with the cluster that it is nearest to, from products alone."""
    n, labels = len(inner), list[int]()
    members: list[list[int]] = [[seed] for seed in seeds]  # a point may be there twice: as the seed, and as a member
    for _ in range(iterations):
        labels = []
        for i in range(n):
            scores = []
            for m in members:
                within = Fraction(sum(inner[a][b] for a in m for b in m), len(m) ** 2)
                scores.append(within - 2 * Fraction(sum(inner[i][a] for a in m), len(m)))
            labels.append(scores.index(min(scores)))
        members = [[seed, *[i for i in range(n) if labels[i] == s]] for s, seed in enumerate(seeds)]
    return labels


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=3, max_size=7),
    st.integers(2, 4),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
def test_it_is_k_means_without_self_products(points: list[tuple[int, int]], k: int, iterations: int, draw: Any) -> None:
    inner = agreement.products(np.array(points))
    seeds = [draw.randrange(len(points)) for _ in range(k)]
    labels = kmeans.lloyd(inner, np.array([seeds]), iterations, 1)[0]
    assert labels.tolist() == slow_iterations(inner.tolist(), seeds, iterations)


def test_products_are_those_of_different_points() -> None:
    points = np.array([[1, 2], [3, -1], [0, 3]], np.int16)
    assert agreement.products(points).tolist() == [[0, 1, 6], [1, 0, -3], [6, -3, 0]]


def test_the_first_iteration_takes_the_largest_product_and_a_seed_has_none_with_itself() -> None:
    inner = agreement.products(np.array([[3, 0], [1, 0], [3, 1], [-1, 0]]))
    assert kmeans.lloyd(inner, np.array([[0, 2]]), 1, 1)[0].tolist() == [1, 0, 0, 0]  # 3 and 3 are a tie; -3 and -3 too
    costs = kmeans.seed_costs(inner, np.array([[0, 2], [1, 3]]))
    assert costs.tolist() == [-2 * (9 + 3 + 9 - 3), -2 * (3 + 0 + 3 + 0)]


def test_the_cost_is_the_objective_turned_round_and_an_allowance() -> None:
    rng = np.random.default_rng(0)
    points, labels = rng.integers(-3, 4, (12, 5)), rng.integers(0, 3, 12)
    objective = Fraction(0)
    for label in range(3):
        members = points[labels == label]
        within = sum(int(a @ b) for i, a in enumerate(members) for j, b in enumerate(members) if i != j)
        objective += Fraction(within, len(members))
    inner = agreement.products(points)
    cost = agreement.cost(inner, labels, 3, {3: 7})
    assert abs(cost - 7 + objective * SCALE) <= Fraction(sum(abs(int(x)) for x in inner.reshape(-1)), 2)
    assert agreement.cost(inner, np.zeros(12, np.int64), 1, {1: 0}) == 0


def test_the_bounds_hold_for_points_as_long_as_can_be() -> None:
    rng = np.random.default_rng(1)
    search = plan(12, radius=9)
    reached = first = contest = cost = 0
    for _ in range(300):
        signs = 2 * rng.integers(0, 2, 12) - 1
        points = 9 * signs[:, None]
        inner = agreement.products(points)
        one, other = rng.permutation(12)[:2]
        member = np.where(signs > 0, 0, 1) if rng.random() < 0.5 else rng.integers(0, 2, 12)
        weights = np.stack([(member == s) + (np.arange(12) == seed) for s, seed in ((0, one), (1, other))]).astype(int)
        n, inward = weights.sum(1), weights @ inner
        h = (weights * inward).sum(1)[:, None] - 2 * n[:, None] * inward
        reached = max(reached, int(np.abs(n[0] ** 2 * h[1] - n[1] ** 2 * h[0]).max()))
        first = max(first, int(np.abs(2 * (inner[one] - inner[other])).max()))
        costs = kmeans.seed_costs(inner, np.array([[one, other], rng.permutation(12)[:2]]))
        contest = max(contest, abs(int(costs[0] - costs[1])))
        found = [agreement.cost(inner, labels, 2, {2: 5}) for labels in (member, rng.integers(0, 2, 12))]
        cost = max(cost, abs(found[0] - found[1]))
    assert search.bound == 6 * 81 * 14**4 // 16
    assert search.bound / 8 < reached <= search.bound
    assert first == search.first_bound == 4 * 81
    assert search.cost_bound / 4 < contest <= search.cost_bound
    assert agreement.objective_bound(search) / 2 < cost - 5 <= agreement.cost_bound(search)


def test_scores_without_self_products_may_pass_the_bound_with_them() -> None:
    """Two clusters that fall apart into opposite halves: h is as low as -2 n^2 R^2 and as high as 3 n^2 R^2."""
    n, radius = 400, 3
    inner = radius**2 * (np.ones((n, n), np.int64) - np.eye(n, dtype=np.int64))
    inner[:200, 200:] *= -1
    inner[200:, :200] *= -1
    weights = np.stack([np.arange(n) < 200, np.arange(n) >= 200]).astype(np.int64)
    inward = weights @ inner
    h = (weights * inward).sum(1)[:, None] - 2 * 200 * inward
    difference = int(np.abs(200**2 * (h[0] - h[1])).max())
    assert difference <= kmeans.score_bound(n, radius, 1, self_products=False)
    assert kmeans.score_bound(n, radius, 1, self_products=False) * 2 == 3 * kmeans.score_bound(n, radius, 1)


def test_noise_allows_more_for_more_clusters_and_in_proportion_to_the_spread() -> None:
    search = plan(30, k_max=7, restarts=96, finalists=8)
    once = agreement.allowances(search, 1.0)
    values = [once[k] / SCALE for k in range(2, 8)]
    assert once[1] == 0 and 5 < values[0] < 12 and values[-1] < 25
    assert all(larger > smaller for smaller, larger in pairwise(values))
    twice = agreement.allowances(search, 20.5)
    assert all(abs(twice[k] - 20.5 * value) < 22 for k, value in once.items())


def test_a_single_number_of_clusters_needs_no_allowance() -> None:
    assert agreement.allowances(plan(k=3), 9.0) == {3: 0}
    assert agreement.allowances(plan(k_max=1), 9.0) == {1: 0}


def test_noise_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = agreement.allowances(plan(16, restarts=5), 3.0)
    monkeypatch.setattr(kmeans, "lloyd", None)
    assert agreement.allowances(plan(16, restarts=5, seed=4, round_=9), 3.0) == first
    agreement._noise.cache_clear()  # as in another process
    assert agreement.allowances(plan(16, restarts=5), 3.0) == first


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SECFPP_CACHE", str(tmp_path))
    monkeypatch.setattr(agreement, "DRAWS", 3)
    return tmp_path / "noise"


def noise(k_max: int = 3, **changes: int) -> dict[int, int]:
    """As another process finds it."""
    agreement._noise.cache_clear()
    settings = {"n": 9, "dimensions": 5, "k_max": k_max, "restarts": 4, "finalists": 2, "iterations": 2} | changes
    return agreement._noise(**settings)


def test_what_is_kept_of_noise_is_for_the_same_settings_only(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = noise()
    assert list(first) == [2, 3] and len(list(cache.iterdir())) == 1
    variants = [{"n": 10}, {"dimensions": 6}, {"k_max": 4}, {"restarts": 5}, {"finalists": 3}, {"iterations": 3}]
    for number, changes in enumerate(variants, 2):
        noise(**changes)
        assert len(list(cache.iterdir())) == number
    monkeypatch.setattr(agreement, "REVISION", agreement.REVISION + 1)
    monkeypatch.setattr(agreement, "_searched_noise", lambda *_: [1, 2])
    assert noise() == {2: 1, 3: 2}


@pytest.mark.parametrize("content", [b"", b"something else", None])
def test_damaged_noise_is_searched_again(cache: Path, content: bytes | None) -> None:
    first = noise()
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if content is None else content)
    assert noise() == first
    assert path.read_bytes() == whole


def test_noise_that_cannot_be_kept_is_searched_each_time(cache: Path) -> None:
    cache.write_bytes(b"a file where the folder should be")
    with pytest.warns(CacheWarning, match="nothing is cached"):
        first = noise()
    cache.unlink()
    assert noise() == first


@pytest.mark.slow
@pytest.mark.parametrize("dimensions", [24, 576])
def test_noise_is_rarely_taken_for_groups(dimensions: int) -> None:
    search = plan(30, k_max=7, restarts=192, finalists=8, dimensions=dimensions)
    allowances, wrong = agreement.allowances(search, dimensions**0.5), 0
    for draw in range(200):
        points = np.random.default_rng(draw).standard_normal((30, dimensions))
        inner = agreement.products(np.rint(16 * points))
        costs = [
            agreement.cost(inner, labels, k, {k: 256 * allowance for k, allowance in allowances.items()})
            for (k, _), labels in search.finished(inner).items()
            if search.admits(np.bincount(labels, minlength=k).tolist())
        ]
        wrong += min(costs) < 0
    assert wrong <= 20  # 6 % of 300
