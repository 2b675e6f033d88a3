"""Class means of image features as a classifier, on up to three levels: everybody, the group, the client itself.

A class is a Gaussian of the features around its mean, with one covariance for all classes, so that the log-density is
linear in the features up to a term that all classes share (linear discriminant analysis, R. A. Fisher, 1936). Each
level's mean is pulled towards that of the level above as by so many images of it: a class of which a level has little
falls back by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class ClassSums:
    """What class means are made of.

    Attributes:
        sums: of the features of each class, float64 [n_cls, dim].
        counts: images of each class, float64 [n_cls].
        noise: standard deviation of the noise in each of the sums.
    """

    sums: np.ndarray
    counts: np.ndarray
    noise: float = 0.0

    @classmethod
    def of(cls, features: np.ndarray, labels: np.ndarray, n_classes: int) -> ClassSums:
        """The sums of `features` [n, dim] with `labels` [n]."""
        sums = np.zeros((n_classes, features.shape[1]))
        np.add.at(sums, labels, features.astype(np.float64))
        return cls(sums, np.bincount(labels, minlength=n_classes).astype(np.float64))

    def __sub__(self, other: ClassSums) -> ClassSums:
        return replace(self, sums=self.sums - other.sums, counts=self.counts - other.counts)

    def only(self, classes: np.ndarray) -> ClassSums:
        """The same with nothing of the other classes; `classes` is bool [n_cls]."""
        return replace(self, sums=np.where(classes[:, None], self.sums, 0), counts=np.where(classes, self.counts, 0))

    def positive(self) -> ClassSums:
        """The same with nothing of classes that have no image left, after a difference."""
        return self.only(self.counts > 0.5)

    @property
    def centre(self) -> np.ndarray:
        """Mean of all images [dim]; zero of none."""
        centre: np.ndarray = self.sums.sum(0) / max(self.counts.sum(), 1)
        return centre

    def means(self, towards: np.ndarray, pull: float, precision: np.ndarray | None = None) -> np.ndarray:
        """Class means [n_cls, dim] with `pull` images of `towards` ([n_cls, dim] or [dim]) added to each class.

        Noise pulls further, in each direction by as much as makes the mean likeliest if classes lie around `towards`
        as images lie around their class, a normal distribution of this `precision` [dim, dim]; without it noise is
        not regarded.
        """
        if not self.noise or precision is None:
            means: np.ndarray = (self.sums + pull * towards) / (self.counts + pull)[:, None]
            return means
        inverse_variances, directions = _directions(precision.tobytes())
        counts = np.where(self.counts > 0, self.counts, 1)[:, None]
        deviations = (self.sums - self.counts[:, None] * towards) @ directions
        pulls = pull + self.noise**2 * np.maximum(inverse_variances, 0) / counts
        noisy: np.ndarray = towards + deviations / (counts + pulls) @ directions.T
        return noisy

    def style(self, means: np.ndarray, pull: float) -> np.ndarray:
        """How images differ from `means` [n_cls, dim] whatever their class, held at 0 by `pull` images: [dim]."""
        style: np.ndarray = (self.sums - self.counts[:, None] * means).sum(0) / (self.counts.sum() + pull)
        return style


@dataclass(frozen=True)
class Scatter:
    """Spread of features within classes.

    Attributes:
        products: sum of outer products of residuals, float64 [dim, dim].
        freedom: images less classes that they are of.
        noise: standard deviation of the noise on the diagonal; off it that of a symmetric matrix, 1 / sqrt(2) of this.
    """

    products: np.ndarray
    freedom: float
    noise: float = 0.0

    @classmethod
    def of(cls, features: np.ndarray, labels: np.ndarray, sums: ClassSums) -> Scatter:
        """The scatter of `features` [n, dim] around their own class means."""
        means = sums.sums / np.maximum(sums.counts, 1)[:, None]
        residuals = features.astype(np.float64) - means[labels]
        return cls(residuals.T @ residuals, float(len(labels) - np.count_nonzero(sums.counts)))

    def precision(self, least: float) -> np.ndarray:
        """Inverse of the covariance [dim, dim].

        The covariance is shrunk towards a multiple of the identity (J. H. Friedman, Regularized discriminant analysis,
        1989), by the share that the dimensions have in dimensions and degrees of freedom together, at least `least`,
        or by that of the noise in noise and spread together: of the largest value that noise alone has in any
        direction (E. Wigner's semicircle, 1955). Where classes hardly spread, rounding or noise can leave directions
        of less than none; these count as none.
        """
        radius = self.noise * math.sqrt(2 * len(self.products))
        return _precision(self.products.tobytes(), self.freedom, least, radius)


@lru_cache(maxsize=4)  # clients that share a process share everybody's scatter
def _precision(products: bytes, freedom: float, least: float, radius: float) -> np.ndarray:
    scatter = np.frombuffer(products)
    dim = math.isqrt(len(scatter))
    scatter = scatter.reshape(dim, dim)
    spread = float(np.trace(scatter)) / dim
    if freedom < 1 or not spread > 0:
        return np.eye(dim) * dim
    share = max(least, dim / (dim + freedom), radius / (radius + spread))
    values, vectors = np.linalg.eigh(scatter)
    values = (1 - share) * np.maximum(values, 0) + share * spread
    precision: np.ndarray = (vectors * (freedom / values)) @ vectors.T
    precision.setflags(write=False)
    return precision


@lru_cache(maxsize=4)
def _directions(precision: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues [dim] and eigenvectors [dim, dim], in columns, of a symmetric matrix."""
    matrix = np.frombuffer(precision)
    dim = math.isqrt(len(matrix))
    values, vectors = np.linalg.eigh(matrix.reshape(dim, dim))
    return values, vectors


def linear(means: np.ndarray, precision: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights [n_cls, dim] and biases [n_cls] whose scores are log-densities, up to a term that classes share."""
    weights = means @ precision
    return weights, -0.5 * (weights * means).sum(1)
