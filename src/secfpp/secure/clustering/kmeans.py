"""Exact k-means on the inner products of integer points: Lloyd's iteration without division, and the choice of K.

Everything that decides is an integer computation, so the same partition comes out on shares, on any
machine, in any order of evaluation. Writing n_s for the weight of cluster s, q_is for the sum of inner products
of point i with its members, and Q_s for that sum over the members,

    h_is = Q_s - 2 n_s q_is = n_s^2 (|z_i - c_s|^2 - |z_i|^2),

so centre t is nearer to i than centre s if and only if ``n_s^2 h_it - n_t^2 h_is < 0``. Ties go to the lowest
index.

Nothing but inner products is used, so they need not be those of any points: `secfpp.secure.clustering.agreement`
takes 0 for a point's product with itself.

So that no cluster is without a centre, a cluster's seed point stays in it as a pseudo-member of weight 1, next to
real members of weight M (`pull`): a centre is ``(M sum of members + seed) / (M members + 1)``.

Sources: S. Lloyd, Least squares quantization in PCM (1982); E. Forgy (1965), seeds; D. Pelleg, A. Moore,
X-means (2000), the choice of K.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from secfpp.errors import FieldRangeError


def score_bound(n: int, radius: int, pull: int, self_products: bool = True) -> int:
    """Largest magnitude of a difference of scores of points no longer than `radius`.

    Two cluster weights add up to at most ``pull n + 2``, so their product is at most
    ``((pull n + 2) / 2)^2``. A squared distance is at most ``4 radius^2``, so a difference of scores is at most
    that times the square of the product.

    Without products of points with themselves, scores are no distances, and all that is left is that products lie
    within ``radius^2``. Then q_is lies within ``n_s radius^2`` and Q_s within ``n_s^2 radius^2``, so that h_is lies
    within ``3 n_s^2 radius^2``, and a difference of scores within ``6 radius^2`` times the square of the product.
    """
    return (4 if self_products else 6) * radius**2 * (pull * n + 2) ** 4 // 16


def require_range(n: int, radius: int, pull: int, self_products: bool = True) -> None:
    """Prove that no intermediate result of `lloyd` leaves int64: each term of a difference is below its bound.

    Raises:
        FieldRangeError: too many points, too long or too strongly weighted.
    """
    worst = score_bound(n, radius, pull, self_products)
    if worst >= 1 << 60:
        raise FieldRangeError(
            f"{n} points of length up to {radius} with pull {pull} need {worst.bit_length()} bits, 60 are there: "
            "use fewer bits or a smaller pull, or cluster a sample of the clients"
        )


def inner_products(points: np.ndarray) -> np.ndarray:
    """The inner products of integer `points` [n, d], int64 [n, n]."""
    points = points.astype(np.int64)
    products: np.ndarray = points @ points.T
    return products


def exact_product(weights: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """``weights @ inner`` of integers, int64 [..., n]: by BLAS, in floating point, if all sums are exact in it.

    Args:
        weights: at least 0, [..., n].
        inner: [n, n].
    """
    if int(weights.sum(-1).max(initial=0)) * int(np.abs(inner).max(initial=0)) < 1 << 53:
        product: np.ndarray = (weights.astype(np.float64) @ inner.astype(np.float64)).astype(np.int64)
        return product
    return weights.astype(np.int64) @ inner.astype(np.int64)


def lloyd(inner: np.ndarray, seeds: np.ndarray, iterations: int, pull: int) -> np.ndarray:
    """Assignments after `iterations` of Lloyd, for several runs at once.

    Args:
        inner: inner products of all points, integers [n, n].
        seeds: indices of the points that start the clusters of each run [runs, k]; they may repeat.
        iterations: how often points are assigned, at least once; the first time to the seeds.
        pull: weight M of a member beside its cluster's seed, at least 1.

    Returns:
        Clusters 0..k-1 of the points, int64 [runs, n].

    Raises:
        FieldRangeError: see `require_range`.
    """
    n, (runs, k) = len(inner), seeds.shape
    longest = math.isqrt(int(np.abs(inner).max(initial=0))) + 1
    require_range(n, longest, pull, self_products=False)
    start = (seeds[..., None] == np.arange(n)).astype(np.int64)
    member = start  # who is in a cluster, with which weight [runs, k, n]
    labels = np.zeros((runs, n), np.int64)
    for _ in range(iterations):
        weights = member.sum(-1)
        inward = exact_product(member, inner)
        norms = (member * inward).sum(-1)
        labels = nearest(norms[..., None] - 2 * weights[..., None] * inward, weights)
        member = pull * (labels[:, None, :] == np.arange(k)[:, None]) + start
    return labels


def seed_costs(inner: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """How far points are from the nearest seed of a run: sums of squared distances, int64 [runs].

    Args:
        inner: inner products of all points, integers [n, n].
        seeds: indices of points [runs, k].
    """
    squares = inner.diagonal()
    distances = squares[:, None] + squares - 2 * inner
    costs: np.ndarray = distances[seeds].min(1).sum(1)
    return costs


def nearest(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The cluster of smallest ``scores / weights^2`` for each point, the lowest of several, int64 [runs, n].

    Args:
        scores: h_is [runs, k, n].
        weights: n_s [runs, k].
    """
    runs, k, n = scores.shape
    best = np.zeros((runs, n), np.int64)
    best_score, best_weight = scores[:, 0], np.broadcast_to(weights[:, :1], (runs, n))
    for t in range(1, k):
        weight = weights[:, t : t + 1]
        wins = best_weight**2 * scores[:, t] < weight**2 * best_score
        best = np.where(wins, t, best)
        best_score = np.where(wins, scores[:, t], best_score)
        best_weight = np.where(wins, weight, best_weight)
    return best


INERTIA_SCALE = 1 << 20
"""Inertia is computed in multiples of its inverse."""


def inertia(inner: np.ndarray, labels: np.ndarray) -> int:
    """Sum of squared distances of points from the mean of their cluster, times `INERTIA_SCALE`.

    It is the sum of squares minus |sum of members|^2 / size for each cluster, the quotients rounded as `reciprocal`
    rounds, so that the same number comes out on shares.

    Args:
        inner: inner products of all points, integers [n, n].
        labels: clusters of the points [n].
    """
    return inertias(inner, labels[None])[0]


def inertias(inner: np.ndarray, labels: np.ndarray) -> list[int]:
    """`inertia` of several partitions `labels` [runs, n], whose clusters are numbered from 0."""
    members = (labels[:, None] == np.arange(labels.max(initial=0) + 1)[:, None]).astype(np.int64)  # [runs, k, n]
    within = (exact_product(members, inner) * members).sum(-1)
    total = INERTIA_SCALE * int(inner.trace())
    return [
        total - sum(reciprocal(size) * part for size, part in zip(sizes, parts, strict=True))
        for sizes, parts in zip(members.sum(-1).tolist(), within.tolist(), strict=True)
    ]


def reciprocal(size: int) -> int:
    """`INERTIA_SCALE` divided by the size of a cluster, rounded half up; 0 for an empty one."""
    return (2 * INERTIA_SCALE + size) // (2 * size) if size else 0


def bic(inertia_: int, sizes: Sequence[int], dimensions: int) -> float:
    """Bayesian information criterion of a partition, the larger the better (X-means).

    The model is a mixture of spherical Gaussians of one variance, estimated from the inertia and not taken below
    1/12, the variance that rounding to integers adds to a coordinate.

    Args:
        inertia_: see `inertia`.
        sizes: points per cluster, all positive, in any order.
        dimensions: coordinates of a point.
    """
    n, k = sum(sizes), len(sizes)
    distances = inertia_ / INERTIA_SCALE
    variance = max(distances / (dimensions * max(n - k, 1)), 1 / 12)
    likelihood = (
        sum(size * math.log(size / n) for size in sorted(sizes))
        - n * dimensions / 2 * math.log(2 * math.pi * variance)
        - distances / (2 * variance)
    )
    parameters = (k - 1) + k * dimensions + 1
    return likelihood - parameters / 2 * math.log(n)
