"""How unlike a client's training images an image is, and from where on a label for it means little.

A classifier must name one of its classes, whatever it is shown. The features of the client's training images are taken
as one Gaussian with independent components; an image's novelty is its distance from their mean in standard deviations
(K. Lee et al., arXiv 1807.03888, with one Gaussian for all classes and a diagonal covariance: a client may have a few
images only, and none of classes that it is to recognise all the same). It is about 1 for
the training images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

SHARE = 0.05
"""The share of images like the client's own that lie above the threshold."""
ROUND = 0.1
"""Share of the variance that is the same in all components."""
ENOUGH = 19
"""Validation images, from which on their own quantile is a threshold."""


@dataclass(frozen=True, eq=False)
class Novelty:
    """What is kept of a client's images; as private as their mean.

    Attributes:
        mean: of the features, float32 [projection].
        spread: their standard deviation in each component, float32 [projection], positive.
        threshold: the novelty above which an image is unlike the client's.
    """

    mean: np.ndarray
    spread: np.ndarray
    threshold: float

    @classmethod
    def of(cls, train: np.ndarray, validation: np.ndarray) -> Novelty | None:
        """That of features of training images [n, projection], the threshold from validation images [m, projection].

        The threshold is the quantile above which a new image of the same kind lies with a probability of `SHARE`
        (split conformal prediction, H. Papadopoulos et al., 2002). With fewer than `ENOUGH` validation images the
        training images are counted too, each as if it had no part in the mean.

        Returns:
            None where fewer than two training images, or equal ones, say nothing of how images differ.
        """
        if len(train) < 2:
            return None
        mean, variance = train.mean(0, dtype=np.float64), train.var(0, dtype=np.float64)
        if not variance.mean() > 0:
            return None
        spread = np.sqrt((1 - ROUND) * variance + ROUND * variance.mean())
        scores = novelty(validation, mean, spread)
        if len(scores) < ENOUGH:
            left_out = len(train) / (len(train) - 1)
            scores = np.concatenate([scores, left_out * novelty(train, mean, spread)])
        rank = min(len(scores), math.ceil((1 - SHARE) * (len(scores) + 1)))
        return cls(mean.astype(np.float32), spread.astype(np.float32), float(np.sort(scores)[rank - 1]))


def novelty(features: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """The distance of features [n, projection] from `mean` in standard deviations `spread`, root mean square, [n]."""
    scores: np.ndarray = np.sqrt(np.square((features - mean) / spread).mean(1))
    return scores
