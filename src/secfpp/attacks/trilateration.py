"""Everybody's descriptor from distances to centres that a server opened, as ``reveal = "distances"`` has it.

The first centres are clients. Whoever knows the descriptors of d + 1 of them, and everybody's squared distances to
these, has as many linear equations for each other client's d numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from secfpp.attacks.observed import MEASURE, Observed, content
from secfpp.attacks.properties import Property
from secfpp.secure.clustering.search import Search
from secfpp.secure.clustering.secure_kmeans import SecureKMeans


def trilaterate(distances: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Descriptors [n, d] from squared distances [colluders, n] to those [colluders, d] who tell theirs."""
    base, *others = points
    left = 2.0 * (np.array(others) - base)
    lengths = (points**2).sum(1)
    right = (distances[0] - distances[1:]) + (lengths[1:] - lengths[0])[:, None]
    found: np.ndarray = np.rint(np.linalg.lstsq(left, right.astype(np.float64), rcond=None)[0]).T
    return found


def exact(guess: np.ndarray, points: np.ndarray, colluders: Sequence[int]) -> float:
    """The share of those outside the collusion whose descriptor was found, every coordinate of it."""
    victims = [i for i in range(len(points)) if i not in colluders]
    return float((guess[victims] == points[victims]).all(1).mean())


def seed_rows(search: Search) -> np.ndarray:
    """Which client each centre of the first iteration is."""
    return np.concatenate([seeds.reshape(-1) for seeds in search.seeds.values()])


def by_distances(run: Observed, seed: int) -> Property | None:
    """What the server and d + 1 clients who tell their descriptors find of the others', in round 1.

    None if nobody sent distances to the server, or too few different clients are first centres.
    """
    clusterer = getattr(run.algorithm, "clusterer", None)
    answers = {name: run.sent(MEASURE, name) for name in run.contexts}
    sent = {name: [m for m in found if m.direction == "up" and m.round == 1] for name, found in answers.items()}
    holders = sorted(name for name, found in sent.items() if found)
    if not isinstance(clusterer, SecureKMeans) or not holders:
        return None
    names, n = list(run.contexts), len(run.contexts)
    points = np.stack([clusterer.described(run.states[0][c]["descriptor"], seed) for c in names]).astype(np.int64)
    numbered = {place: content(sent[holder][0])["evaluations"] for place, holder in enumerate(holders)}
    distances = clusterer.slices(len(holders), clusterer.collusion(n)).decode(numbered).reshape(-1, n)
    seeds = seed_rows(clusterer.search(n, seed, 1)).tolist()
    colluders = list(dict.fromkeys(seeds))[: points.shape[1] + 1]
    if len(colluders) <= points.shape[1] or len(colluders) == n:
        return None
    guess = trilaterate(distances[[seeds.index(client) for client in colluders]], points[colluders])
    usual = np.broadcast_to(np.rint(points[colluders].mean(0)), points.shape)
    name = f"whole descriptors, {len(colluders)} clients having told theirs"
    return Property(name, "share", exact(guess, points, colluders), exact(usual, points, colluders))
