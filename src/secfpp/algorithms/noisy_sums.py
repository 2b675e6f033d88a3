"""What a client puts into sums that are differentially private for one image, and what is read from such sums.

Of each image x, shortened to length 1, everybody's vector holds x and 1 in the place of its class, and x times x; a
group's holds how x differs from everybody's noisy class mean, which is known by then, shortened, and 1. So all that one
image moves is bounded, whatever the others are: nothing is taken around a mean of the client's own. The vector is
rounded to the integers of the codec, and the client adds its part of the noise to these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from secfpp.algorithms.class_sums import EXPOSURE_PRIOR, SharedSums
from secfpp.algorithms.record_privacy import Privacy, Release, planned, release_size
from secfpp.errors import ConfigError, Problem
from secfpp.models.class_means import ClassSums, Scatter
from secfpp.privacy import skellam
from secfpp.seeding import Entropy

TAIL = 1e-12
"""Probability with which a client's noise is longer than the room that is left for it; it is shortened then."""


@dataclass(frozen=True)
class NoisySums:
    """Everybody's sum and groups' sums of a method.

    Args:
        privacy: how much noise.
        n_classes: number of classes.
        dim: numbers in a feature.
        step: what an encoded integer stands for, where an image adds a vector of norm 1 at most.
        groups: whether groups have sums.
        images: how many images of a client count fully.
        fewest: images that a shared class has at least.
    """

    privacy: Privacy
    n_classes: int
    dim: int
    step: float
    groups: bool
    images: int
    fewest: int

    def release(self, group: bool) -> Release:
        """Everybody's, or a group's."""
        return planned(self.privacy, self.n_classes, self.dim, self.step, self.groups)[group]

    def size(self, group: bool) -> int:
        """Numbers in a vector."""
        return release_size(self.n_classes, self.dim, group)

    def require_room(self, unknown: int, room: float) -> None:
        """Refuse noise that does not fit beside a client's images into what an average takes.

        Args:
            unknown: members whose parts of the noise stay unknown, at least.
            room: length to which an average shortens a vector, in images.

        Raises:
            ConfigError: it does not.
        """
        for group in (False, True)[: 1 + self.groups]:
            length = self.step * skellam.longest(self.release(group).part(unknown), self.size(group), TAIL)
            if self.images + length > room:
                allowed = f"more: a client's noise is as long as {length:.0f} images, {room - self.images:.0f} fit"
                raise ConfigError([Problem("privacy.epsilon", self.privacy.epsilon, allowed)])

    def for_everybody(self, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """A client's vector for everybody's sum: float64 [n_cls * (dim + 1) + dim (dim + 1) / 2 + 1].

        Args:
            features: of its images of shared classes, float [n, dim].
            labels: their classes, int64 [n].
        """
        release, images = self.release(False), _shortened(features, 1.0)
        sums = ClassSums.of(images, labels, self.n_classes)
        rows, columns = np.triu_indices(self.dim)
        products = (images.T @ images)[rows, columns] * np.where(rows == columns, 1, math.sqrt(2))
        exposure = (sums.counts / (sums.counts + EXPOSURE_PRIOR)).sum()
        return np.concatenate([_packed(sums, release), release.scatter * products, [release.exposure * exposure]])

    def for_group(self, features: np.ndarray, labels: np.ndarray, means: np.ndarray) -> np.ndarray:
        """A client's vector for its group's sum: float64 [n_cls * (dim + 1)].

        Args:
            features: of its images of shared classes, float [n, dim].
            labels: their classes, int64 [n].
            means: everybody's class means, as all know them, [n_cls, dim].
        """
        residuals = _shortened(features - means[labels], self.privacy.bound)
        return _packed(ClassSums.of(residuals, labels, self.n_classes), self.release(True))

    def with_noise(self, vector: np.ndarray, classes: np.ndarray, unknown: int, entropy: Entropy) -> np.ndarray:
        """`vector` in whole steps, with this client's part of the noise: int64.

        Args:
            vector: of `for_everybody` or `for_group`.
            classes: which are shared, bool [n_cls]; numbers of others stay zero.
            unknown: members whose parts of the noise stay unknown, at least.
            entropy: of the noise.
        """
        rest = len(vector) - self.n_classes * (self.dim + 1)
        shared = np.concatenate([np.repeat(classes, self.dim), classes, np.ones(rest, bool)])
        integers: np.ndarray = np.rint(_shortened(vector[None], self.images)[0] / self.step).astype(np.int64)
        part = self.release(group=not rest).part(unknown)
        integers[shared] += skellam.noise(part, (int(shared.sum()),), entropy)
        return integers

    def read_everybody(self, total: np.ndarray, members: int, unknown: int) -> SharedSums:
        """What the sum of the `members`' vectors says."""
        release, noise = self.release(False), self.release(False).noise(members, unknown)
        own, rest = np.split(total, [self.n_classes * (self.dim + 1)])
        sums = self._read(own, release, noise)
        rows, columns = np.triu_indices(self.dim)
        products = np.zeros((self.dim, self.dim))
        scaled = rest[:-1] / release.scatter * np.where(rows == columns, 1, math.sqrt(0.5))
        products[rows, columns] = products[columns, rows] = scaled
        known = sums.counts > 0
        means = sums.sums[known] / sums.counts[known, None]
        # squares of noisy sums are larger by the noise's variance
        between = means.T @ sums.sums[known] - np.eye(self.dim) * sums.noise**2 * (1 / sums.counts[known]).sum()
        freedom = float(sums.counts.sum() - known.sum())
        scatter = Scatter(products - between, freedom, noise / release.scatter)
        least = self.fewest * known.sum() / (1 + EXPOSURE_PRIOR)  # so many images, each of another client
        exposure = max(float(least), float(rest[-1]) / release.exposure) / members
        return SharedSums(sums, members, scatter, exposure)

    def read_group(self, total: np.ndarray, members: int, unknown: int, means: np.ndarray) -> SharedSums:
        """What the sum of the `members`' vectors says; `means` as for `for_group`."""
        release = self.release(True)
        residuals = self._read(total, release, release.noise(members, unknown))
        sums = residuals.sums + residuals.counts[:, None] * means
        return SharedSums(ClassSums(sums, residuals.counts, residuals.noise), members)

    def _read(self, total: np.ndarray, release: Release, noise: float) -> ClassSums:
        sums, counts = np.split(total, [self.n_classes * self.dim])
        counts = np.where(counts == 0, 0, np.maximum(counts / release.counts, self.fewest))
        return ClassSums(sums.reshape(self.n_classes, self.dim) / release.sums, counts, noise / release.sums)


def _packed(sums: ClassSums, release: Release) -> np.ndarray:
    return np.concatenate([release.sums * sums.sums.reshape(-1), release.counts * sums.counts])


def _shortened(vectors: np.ndarray, norm: float) -> np.ndarray:
    """Vectors [n, d] that are longer than `norm`, shortened to it; float64."""
    exact = vectors.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    shortened: np.ndarray = exact * np.minimum(1, norm / np.maximum(lengths, norm))
    return shortened
