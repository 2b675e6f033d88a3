"""k-means by agreement: without products of points with themselves, and with K chosen against what noise would give.

In hundreds of noisy dimensions a point's product with itself is larger than all of its others together, and holds it
wherever it was put first. So it is taken to be 0, for every point; all else is as in `secfpp.secure.clustering.kmeans`.
Inertia then is -J, for

    J = sum over clusters of the products of different members / members,

the larger the more members agree.

J grows with K also if nobody agrees with anybody. So a partition into K > 1 clusters counts J - (m_K + 2 s_K) sigma,
and one cluster counts 0. Here sigma is the spread of a product of two points that have nothing in common, which is
public, and m_K and s_K are mean and standard deviation of the largest J that the same search finds, whatever the sizes
of clusters, among as many points whose coordinates, of which there are as many, are independent normal noise with
products of spread 1. They are simulated, with public seeds.

All of this is integers, in units of 1 / `INERTIA_SCALE`, with what counts turned round: the *cost* of a partition is
its inertia plus the rounded `allowance` of its K, and the least cost wins. With clusters that are too small it costs so
much more that it cannot.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256

import numpy as np

from secfpp.cachedir import sub_cache
from secfpp.secure.clustering import kmeans
from secfpp.secure.clustering.search import STARTS, Search
from secfpp.seeding import derive
from secfpp.storage import cached_arrays

REVISION = 1
"""Of how noise is searched: raise it with every change of what that finds, here, in `Search` or in `kmeans`."""
DRAWS = 100
"""How often noise is searched: from 24 draws, deviations are so uncertain that noise is taken for groups too often."""
_COORDINATES = 2000
"""Most coordinates of noise; more of them make hardly a difference."""
_NOISE = 16
"""Coordinates of noise are rounded to multiples of its inverse."""


def products(points: np.ndarray) -> np.ndarray:
    """Inner products of integer `points` [n, d] with each other but not with themselves, int64 [n, n]."""
    inner = kmeans.inner_products(points)
    np.fill_diagonal(inner, 0)
    return inner


def allowances(search: Search, spread: float) -> dict[int, int]:
    """What partitions into K clusters have to exceed, for each K of the search: (m_K + 2 s_K) sigma, rounded.

    Args:
        search: the runs for one cohort.
        spread: sigma.

    Returns:
        At most 1 above what J can be: one cluster costs less then, so that more is of no use.
    """
    if len(search.seeds) < 2:
        return dict.fromkeys(search.seeds, 0)
    runs = max(len(seeds) for seeds in search.seeds.values())
    dimensions = min(search.dimensions, _COORDINATES)
    noise = _noise(search.n, dimensions, max(search.seeds), runs, search.finalists, search.iterations)
    unit = _NOISE**2 * math.sqrt(dimensions)
    most = objective_bound(search) + 1
    return {k: min(round(noise[k] * spread / unit), most) if k > 1 else 0 for k in search.seeds}


def cost(inner: np.ndarray, labels: np.ndarray, k: int, allowances: Mapping[int, int]) -> int:
    """What a partition into `k` clusters costs.

    Args:
        inner: see `products`.
        labels: clusters of the points [n].
        k: how many there are.
        allowances: see `allowances`.
    """
    return kmeans.inertia(inner, labels) + allowances[k] if k > 1 else 0


def objective_bound(search: Search) -> int:
    """Largest magnitude of J, in units.

    A cluster of m members has fewer than m^2 products of up to ``radius^2``, so that J lies within ``n radius^2``;
    rounding 1 / m adds at most ``m^2 radius^2 / 2`` units.
    """
    square = search.radius**2
    return kmeans.INERTIA_SCALE * search.n * square + search.n**2 * square // 2 + 1


def nothing_found(search: Search) -> int:
    """What one cluster costs where it is not tried itself: more than any partition that counts."""
    return 2 * objective_bound(search) + 2


def too_small(search: Search) -> int:
    """What each cluster with too few members adds to a partition's cost: with it, it costs more than one cluster."""
    return 4 * objective_bound(search) + 4


def cost_bound(search: Search) -> int:
    """Largest difference of two costs."""
    return max(search.seeds, default=1) * too_small(search) + nothing_found(search)


@lru_cache(maxsize=64)
def _noise(n: int, dimensions: int, k_max: int, restarts: int, finalists: int, iterations: int) -> dict[int, int]:
    """What `_searched_noise` finds, also for later processes: it is public, and takes longer than some searches."""
    numbers = n, dimensions, k_max, restarts, finalists, iterations
    key = [REVISION, np.__version__, DRAWS, _NOISE, kmeans.INERTIA_SCALE, STARTS, *numbers]
    path = sub_cache("noise") / f"{sha256(json.dumps(key).encode()).hexdigest()[:24]}.safetensors"
    kept = cached_arrays(path, lambda: {"reached": np.array(_searched_noise(*numbers), np.int64)})
    return dict(enumerate(kept["reached"].tolist(), 2))


def _searched_noise(n: int, dimensions: int, k_max: int, restarts: int, finalists: int, iterations: int) -> list[int]:
    """m_K + 2 s_K for each K from 2 to `k_max`, of coordinates of spread `_NOISE`, in units of 1 / `INERTIA_SCALE`."""
    found: dict[int, list[int]] = {k: [] for k in range(2, k_max + 1)}
    for draw in range(DRAWS):
        search = Search.plan(
            n=n,
            dimensions=dimensions,
            radius=1,
            k=None,
            k_max=k_max,
            restarts=restarts,
            finalists=finalists,
            iterations=iterations,
            min_size=1,
            pull=1,
            seed=draw,
            round_=0,
            self_products=False,
        )
        inner = products(np.rint(_NOISE * derive(draw, "noise").numpy().standard_normal((n, dimensions))))
        finished = search.finished(inner)
        for k, objectives in found.items():
            runs = np.stack([labels for (clusters, _), labels in finished.items() if clusters == k])
            objectives.append(-min(kmeans.inertias(inner, runs)))
    return [_mean_and_twice_deviation(values) for values in found.values()]


def _mean_and_twice_deviation(values: list[int]) -> int:
    """In integers, so that all parties have the same."""
    total, count = sum(values), len(values)
    variance = count * sum(value**2 for value in values) - total**2  # times count^2
    return (total + 2 * math.isqrt(variance)) // count
