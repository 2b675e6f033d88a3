"""Views of groups by agreement, and of places for newcomers, tell no more than what becomes public."""

from __future__ import annotations

from itertools import product
from typing import Any
from unittest import mock

import numpy as np
import pytest

from secfpp.crypto.arithmetic import Shared
from secfpp.crypto.material import Material
from secfpp.secure.clustering import agreement
from secfpp.secure.clustering.agreed import Agreed
from secfpp.secure.clustering.placed import Placed
from secfpp.secure.clustering.placing import Placing
from secfpp.secure.clustering.search import Search
from support.telling_apart import distinguish, told_apart
from support.views import real_view

N, RADIUS = 6, 3
SEARCH = Search.plan(
    n=N,
    dimensions=1,
    radius=RADIUS,
    k=None,
    k_max=2,
    restarts=4,
    finalists=2,
    iterations=2,
    min_size=3,
    pull=1,
    seed=1,
    round_=0,
    self_products=False,
)
ALLOWANCES = {1: 0, 2: 1 << 20}
GROUPS = Agreed(SEARCH, threshold=1, limit=5, levels=1, allowances=ALLOWANCES)
PLACES = Placed(
    Placing((0, 1), np.array([[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0]]), np.array([4, 5])), RADIUS, False, 1, 5
)


def groups(points: np.ndarray) -> tuple[int, Any]:
    """What becomes public of points [n, 1]: how many groups, and who is together."""
    inner = agreement.products(points)
    runs = SEARCH.finished(inner)
    sizes = {run: np.bincount(labels, minlength=run[0]).tolist() for run, labels in runs.items()}
    costs = {r: agreement.cost(inner, runs[r], r[0], ALLOWANCES) for r in runs if SEARCH.admits(sizes[r])}
    best = runs[min(costs, key=costs.__getitem__)]
    return len(set(best.tolist())), (best == best[0]).tolist()


def places(points: np.ndarray) -> tuple[int, Any]:
    """What becomes public of points [n, 1]: how many groups newcomers get, and which."""
    chosen = PLACES.placing.chosen(points, False)
    return len(set(chosen)), chosen


def twins(public: Any) -> tuple[np.ndarray, np.ndarray]:
    """Two inputs of which the same becomes public; nothing else is equal but the point of the corrupt client."""
    seen: dict[str, np.ndarray] = {}
    for rest in product((-3, -1, 2, 3), repeat=N - 1):
        points = np.array([1, *rest])[:, None]
        how_many, what = public(points)[0], repr(public(points))
        other = seen.setdefault(what, points)
        if (
            how_many == 2
            and (other[1:] != points[1:]).all()
            and (np.triu(other @ other.T != points @ points.T, 1)).sum() > N
        ):
            return other, points
    raise AssertionError("there are none")


CIRCUITS = {"groups": (GROUPS, groups), "places": (PLACES, places)}


def sample(circuit: Any, points: np.ndarray, runs: int, name: str) -> np.ndarray:
    """Each number's bits from the top and from further down, [runs, features]."""
    views = np.stack([real_view(circuit, points, (name, run))[0].numbers() for run in range(runs)])
    turned = [(views << np.uint64(k) & np.uint64((1 << 61) - 1)) / 2.0**61 for k in (0, 6, 20, 40)]
    return np.concatenate(turned, axis=1)


@pytest.mark.parametrize("what", CIRCUITS)
def test_what_becomes_public_is_the_same_for_twins_on_shares_too(what: str) -> None:
    circuit, public = CIRCUITS[what]
    found = [real_view(circuit, points, 0)[1] for points in twins(public)]
    if what == "places":
        assert found[0].tolist() == found[1].tolist() == places(twins(public)[0])[1]
        return
    assert np.array_equal(found[0].labels, found[1].labels)
    assert not found[0].sizes and not found[0].inertia


@pytest.mark.parametrize("what", CIRCUITS)
def test_views_of_twins_are_not_told_apart(what: str) -> None:
    circuit, public = CIRCUITS[what]
    one, other = twins(public)
    assert not told_apart(sample(circuit, one, 40, "one"), sample(circuit, other, 40, "other"))


@pytest.mark.parametrize("what", CIRCUITS)
@pytest.mark.parametrize("mask", ["uniform", "integers"])
def test_views_without_a_mask_are_told_apart(what: str, mask: str) -> None:
    circuit, public = CIRCUITS[what]
    one, other = twins(public)
    known = lambda self, *about: Shared(np.full(about[-1], 1, np.uint64), 1)  # noqa: E731
    with mock.patch.object(Material, mask, known):
        right, p = distinguish(sample(circuit, one, 24, "one"), sample(circuit, other, 24, "other"))
    assert right >= 0.9, (right, p)
