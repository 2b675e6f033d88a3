"""Which of many known images are in a sum, where the noise on the sum is known: a matched filter.

The attacker has every image that may be in the sum, as the game says. All other images' part of the sum, and the noise,
are taken for normal: then the log-ratio of likelihoods, with an image in the sum and without it, is what the sum has of
that image after whitening (D. O. North, 1943). Where there is no noise, and there are no more images than numbers in
the sum, that leaves nothing open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from secfpp.algorithms.noisy_sums import NoisySums
from secfpp.algorithms.sharing import EVERYBODY, GROUP, SharesClassSums
from secfpp.attacks.gathering import Victim
from secfpp.attacks.views import offered_classes
from secfpp.models.class_means import ClassSums

ROUNDING = 1e-6
"""Variance of what rounding leaves in a sum of features of length 1."""


@dataclass(frozen=True)
class Known:
    """Images that may be in a sum.

    Attributes:
        features: float64 [n, dim].
        labels: int64 [n].
        chance: how likely each is in it, before anything is seen, float64 [n].
        owners: whose each is.
    """

    features: np.ndarray
    labels: np.ndarray
    chance: np.ndarray
    owners: np.ndarray

    @classmethod
    def of(cls, victims: Sequence[Victim]) -> Known:
        """All images of these clients."""
        pools = [victim.pool for victim in victims]
        sizes = [len(pool.images) for pool in pools]
        return cls(
            np.concatenate([pool.features.double().cpu().numpy() for pool in pools]),
            np.concatenate([pool.images.labels for pool in pools]),
            np.repeat([size // 2 / size for size in sizes], sizes),
            np.repeat([victim.client for victim in victims], sizes),
        )


def ratios(kernel: np.ndarray, seen: np.ndarray, chance: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Log-ratios of likelihoods of what was seen with and without each image that is asked about, float64 [asked].

    With Q the variances ``p (1 - p)`` of whether images are in, and K the kernel, all follows from
    ``inverse(inverse(Q) + K)``: the matrix inversion lemma, each image left out of its own covariance.

    Args:
        kernel: inner products of what the images add, over the variance of the noise, float64 [n, n].
        seen: inner products of that with what was seen, over the same, float64 [n].
        chance: that each is in, within 0..1, neither included, float64 [n].
        asked: places of images, int64.
    """
    variance = chance * (1 - chance)
    factor = cho_factor(kernel + np.diag(1 / variance), overwrite_a=True)
    columns = np.zeros((len(seen), len(asked) + 1))
    columns[:, 0] = seen - kernel @ chance
    columns[asked, np.arange(1, len(asked) + 1)] = 1
    solved = cho_solve(factor, columns, overwrite_b=True)[asked]
    own = np.diagonal(solved[:, 1:])
    found: np.ndarray = solved[:, 0] / own + (chance[asked] - 0.5) * (1 / own - 1 / variance[asked])
    return found


def in_sums(known: Known, sums: ClassSums, shared: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Log-ratios for images that are asked about, of class sums without noise; 0 of classes that are not shared.

    Args:
        known: every image that may be in them.
        sums: what was seen, of features and counts.
        shared: of which classes, bool [n_cls].
        asked: which images, bool [n].
    """
    found = np.zeros(len(known.labels))
    for label in np.flatnonzero(shared & (np.bincount(known.labels[asked], minlength=len(shared)) > 0)):
        of = np.flatnonzero(known.labels == label)
        features: np.ndarray = np.column_stack([known.features[of], np.ones(len(of))])
        seen = features @ np.append(sums.sums[label], sums.counts[label])
        places = np.flatnonzero(asked[of])
        kernel = features @ features.T / ROUNDING
        found[of[places]] = ratios(kernel, seen / ROUNDING, known.chance[of], places)
    chosen: np.ndarray = found[asked]
    return chosen


def in_noisy_sums(victim: Victim, attacker: str) -> np.ndarray | None:
    """Log-ratios for a client's images of all sums under noise that another member has, its own part taken away.

    Returns:
        float64 [n]; None if it has none.
    """
    run, algorithm = victim.run, victim.run.algorithm
    assert isinstance(algorithm, SharesClassSums)
    context, state = run.contexts[attacker], run.states[-1][attacker]
    group = next(group for group in run.groups if attacker in group)
    known = Known.of(
        [Victim(run, victim.game, name, victim.seed, victim.shadows) for name in run.contexts if name != attacker]
    )
    noisy, kernel, seen = algorithm.noisy_sums(context), np.zeros(()), np.zeros(())
    for slot in (EVERYBODY, GROUP):
        bits, members = offered_classes(run, attacker, slot), int(state[f"{slot}.members"])
        own = run.memory.of(slot, attacker)
        if not members or bits is None or not own:
            continue
        total = (state[f"{slot}.base"] * members - own[max(own)]) * algorithm.sums_scale
        release, unknown = noisy.release(slot == GROUP), members - algorithm.aggregator.colluding
        variance = release.part(unknown) * (members - 1) * release.step**2
        those = bits[known.labels] & (np.isin(known.owners, group) if slot == GROUP else True)
        if slot == EVERYBODY:
            products, projected = _everybody(noisy, known, total)
        else:
            everybody = algorithm.shared_sums(context, state, EVERYBODY)
            assert everybody is not None and everybody.scatter is not None
            precision = everybody.scatter.precision(algorithm.class_means.shrinkage)
            means = algorithm.class_means.shared_means(everybody.classes, None, precision)
            products, projected = _group(noisy, known, total, means)
        kernel = kernel + np.where(those[:, None] & those, products, 0) / variance
        seen = seen + np.where(those, projected, 0) / variance
    if not kernel.ndim:
        return None
    return ratios(kernel, seen, known.chance, np.flatnonzero(known.owners == victim.client))


def _everybody(noisy: NoisySums, known: Known, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inner products of what images add to everybody's sum, with each other and with the sum; see `NoisySums`."""
    release = noisy.release(False)
    images = known.features / np.maximum(1, np.linalg.norm(known.features, axis=1, keepdims=True))
    classes, rest = np.split(total, [noisy.n_classes * (noisy.dim + 1)])
    products, projected = _by_class(images, known.labels, classes, noisy, release.sums, release.counts)
    upper = np.zeros((noisy.dim, noisy.dim))
    upper[np.triu_indices(noisy.dim)] = rest[:-1]
    symmetric = (upper + upper.T) * np.where(np.eye(noisy.dim) > 0, 0.5, np.sqrt(0.5))
    products += (release.scatter * (images @ images.T)) ** 2
    return products, projected + release.scatter * np.einsum("nd,nd->n", images @ symmetric, images)


def _group(noisy: NoisySums, known: Known, total: np.ndarray, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same of a group's sum."""
    release, bound = noisy.release(True), noisy.privacy.bound
    residuals = known.features - means[known.labels]
    residuals *= bound / np.maximum(bound, np.linalg.norm(residuals, axis=1, keepdims=True))
    return _by_class(residuals, known.labels, total, noisy, release.sums, release.counts)


def _by_class(
    vectors: np.ndarray, labels: np.ndarray, total: np.ndarray, noisy: NoisySums, scale: float, count: float
) -> tuple[np.ndarray, np.ndarray]:
    sums, counts = np.split(total, [noisy.n_classes * noisy.dim])
    alike = labels[:, None] == labels
    products = np.where(alike, scale**2 * (vectors @ vectors.T) + count**2, 0.0)
    of_class = sums.reshape(noisy.n_classes, noisy.dim)[labels]
    return products, scale * np.einsum("nd,nd->n", vectors, of_class) + count * counts[labels]
