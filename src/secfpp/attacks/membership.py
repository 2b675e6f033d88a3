"""Whether one image is among those of a sum that is known: ratios of likelihoods, under normal distributions."""

from __future__ import annotations

import numpy as np

from secfpp.models.class_means import Scatter


def in_mean(
    images: np.ndarray, mean: np.ndarray, count: float, expected: np.ndarray, precision: np.ndarray
) -> np.ndarray:
    """Log-ratio of likelihoods of a mean with and without each image in it, [n].

    Images of the class are taken for normal. Such a mean of `count` images, one of them given, is normal around a point
    1 / count of the way to it, and less spread.

    Args:
        images: features [n, dim].
        mean: of the images of one class in a part [dim].
        count: how many they are.
        expected: what images of the class look like otherwise, their mean [dim].
        precision: and the inverse of their covariance [dim, dim].
    """
    others = max(count - 1, 1e-3)
    apart = mean - expected
    without = count * _length(apart, precision)
    within = count**2 / others * _length(apart - (images - expected) / count, precision)
    ratio: np.ndarray = (without - within - len(mean) * np.log(others / count)) / 2
    return ratio


def in_scatter(residuals: np.ndarray, scatter: Scatter, precision: np.ndarray) -> np.ndarray:
    """How much more a scatter has in the directions of each image's residual [n, dim] than is expected, [n].

    Args:
        residuals: images less the mean of their client's and class's images.
        scatter: everybody's.
        precision: inverse of the covariance that is expected.
    """
    whitened = residuals @ precision
    excess = scatter.products - scatter.freedom * np.linalg.inv(precision)
    found: np.ndarray = ((whitened @ excess) * whitened).sum(1) / (whitened * residuals).sum(1)
    return found


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive one of `scores` is above a negative one, ties counting half."""
    from scipy.stats import rankdata

    n = int(positive.sum())
    ranks = rankdata(scores)[positive].sum()
    return float((ranks - n * (n + 1) / 2) / (n * (len(scores) - n)))


def _length(points: np.ndarray, precision: np.ndarray) -> np.ndarray:
    length: np.ndarray = ((points @ precision) * points).sum(-1)
    return length
