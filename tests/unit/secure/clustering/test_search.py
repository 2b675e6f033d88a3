from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from secfpp.secure.clustering import kmeans
from secfpp.secure.clustering.search import Search

SCALE = kmeans.INERTIA_SCALE


def plan(n: int = 24, **changes: Any) -> Search:
    settings: dict[str, Any] = {
        "dimensions": 4, "radius": 127, "k": None, "k_max": 4, "restarts": 6, "finalists": 6, "iterations": 2,
        "min_size": 4, "pull": 1, "seed": 0, "round_": 0,
    }  # fmt: skip
    return Search.plan(n=n, **{**settings, **changes})


def test_every_k_is_tried_with_every_restart_and_one_cluster_once() -> None:
    search = plan()
    assert {k: seeds.shape for k, seeds in search.seeds.items()} == {1: (1, 1), 2: (6, 2), 3: (6, 3), 4: (6, 4)}
    for seeds in search.seeds.values():
        assert np.all(np.diff(seeds, axis=1) > 0)
        assert seeds.min() >= 0 and seeds.max() < 24


def test_more_clusters_start_from_the_same_points_and_one_more() -> None:
    search = plan()
    for run in range(6):
        assert set(search.seeds[2][run]) < set(search.seeds[3][run]) < set(search.seeds[4][run])


@pytest.mark.parametrize(
    ("n", "changes", "tried"),
    [
        (24, {"k_max": 8}, [1, 2, 3, 4, 5, 6]),
        (11, {}, [1, 2]),
        (4, {}, [1]),
        (3, {}, []),
        (24, {"k": 3}, [3]),
        (24, {"k": 6}, [6]),
        (23, {"k": 6}, []),
        (24, {"k": 1, "min_size": 1}, [1]),
    ],
)
def test_k_is_tried_as_far_as_clusters_fit(n: int, changes: dict[str, Any], tried: list[int]) -> None:
    assert list(plan(n, **changes).seeds) == tried


def test_seeds_are_those_of_the_public_seed_and_round() -> None:
    assert np.array_equal(plan().seeds[3], plan(restarts=9).seeds[3][:6])
    for changes in ({"seed": 1}, {"round_": 1}):
        assert not np.array_equal(plan().seeds[3], plan(**changes).seeds[3])


def test_every_point_starts_a_cluster_now_and_then() -> None:
    assert set(plan(8, restarts=64, min_size=2).seeds[2].reshape(-1).tolist()) == set(range(8))


def test_the_bounds_hold_for_the_longest_points() -> None:
    rng = np.random.default_rng(0)
    search = plan(12, radius=9, pull=2)
    assert search.bound == kmeans.score_bound(12, 9, 2)
    reached = first = 0
    for _ in range(200):
        points = 9 * (2 * rng.integers(0, 2, (12, 1)) - 1)
        member = rng.integers(0, 2, 12) if rng.random() < 0.5 else np.repeat([0, 1], 6)
        one, other = rng.integers(0, 12, 2)
        weights = [2 * (member == s) + (np.arange(12) == seed) for s, seed in ((0, one), (1, other))]
        n = [int(w.sum()) for w in weights]
        sums = [int(w @ points[:, 0]) for w in weights]
        for z in points[:, 0].tolist():
            h = [sums[s] ** 2 - 2 * n[s] * z * sums[s] for s in (0, 1)]
            reached = max(reached, abs(n[0] ** 2 * h[1] - n[1] ** 2 * h[0]))
            first = max(first, abs((z - int(points[one, 0])) ** 2 - (z - int(points[other, 0])) ** 2))
    assert search.bound / 4 < reached <= search.bound
    assert first == search.first_bound == 4 * 81


def test_the_least_inertia_counts_and_the_first_of_several() -> None:
    search = plan(k=2)
    runs = {(2, 0): ((8, 16), 500 * SCALE), (2, 1): ((12, 12), 400 * SCALE), (2, 2): ((10, 14), 400 * SCALE)}
    assert search.best(runs) == (2, 1)
    assert search.best(dict(reversed(runs.items()))) == (2, 1)


@pytest.mark.parametrize(
    ("restarts", "finalists", "rows"),
    [
        (6, 2, [[0, 2, 4], [1, 3, 5]]),
        (5, 2, [[0, 2, 4], [1, 3, 1]]),
        (3, 3, [[0], [1], [2]]),
        (2, 8, [[0], [1]]),
        (4, 1, [[0, 1, 2, 3]]),
        (7, 3, [[0, 3, 6], [1, 4, 1], [2, 5, 2]]),
    ],
)
def test_groups_hold_every_run_once(restarts: int, finalists: int, rows: list[list[int]]) -> None:
    search = plan(restarts=restarts, finalists=finalists)
    assert search.groups(3).tolist() == rows
    assert search.groups(1).tolist() == [[0]]
    assert {number for row in rows for number in row} == set(range(restarts))


def test_of_each_group_the_run_of_least_cost_goes_on_the_first_of_several() -> None:
    search = plan(restarts=7, finalists=3, k=2)
    costs = np.array([5, 9, 4, 5, 9, 3, 6])
    assert search.winners({2: costs})[2].tolist() == [0, 1, 5]
    assert plan(restarts=7, finalists=7, k=2).winners({2: costs})[2].tolist() == list(range(7))


def test_small_clusters_do_not_count() -> None:
    search = plan(k=2)
    assert search.best({(2, 0): ((21, 3), 1), (2, 1): ((12, 12), 900 * SCALE)}) == (2, 1)
    assert search.best({(2, 0): ((21, 3), 1), (2, 1): ((24, 0), 2)}) is None
    assert search.best({}) is None
    assert search.admits((4, 20)) and not search.admits((3, 21))


def test_the_best_bic_wins() -> None:
    search = plan()
    near = {(1, 0): ((24,), 9000 * SCALE), (2, 0): ((12, 12), 8900 * SCALE)}
    clear = {(1, 0): ((24,), 90000 * SCALE), (2, 0): ((12, 12), 900 * SCALE), (3, 0): ((12, 6, 6), 890 * SCALE)}
    assert search.best(near) == (1, 0)
    assert search.best(clear) == (2, 0)
    for runs in (near, clear):
        scores = {run: kmeans.bic(inertia, sizes, 4) for run, (sizes, inertia) in runs.items()}
        assert search.best(runs) == max(scores, key=scores.__getitem__)


def test_of_equal_scores_the_smallest_k_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "bic", lambda inertia, sizes, dimensions: 1.0)
    runs = {(3, 0): ((8, 8, 8), 1), (1, 0): ((24,), 3), (2, 1): ((12, 12), 2)}
    assert plan().best(runs) == (1, 0)
