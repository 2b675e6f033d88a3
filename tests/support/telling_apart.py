"""Whether samples of what an adversary sees can be told apart."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression


def distinguish(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """How well samples [runs, features] are told apart.

    Returns:
        The share of right answers of a logistic regression about runs that it was not fitted to, on the twenty features
        whose means differ most among those that it was; and the least p-value of a Kolmogorov-Smirnov test of any
        feature, times their number.
    """
    half = len(one) // 2
    centre, scale = one[:half].mean(0), one[:half].std(0) + other[:half].std(0) + 1e-6
    apart = np.argsort(-abs(one[:half].mean(0) - other[:half].mean(0)) / scale)[:20]
    fitted, asked = (
        np.concatenate([one[part], other[part]])[:, apart] for part in (slice(half), slice(half, len(one)))
    )
    truth = np.repeat([0, 1], half)
    model = LogisticRegression(max_iter=1000).fit((fitted - centre[apart]) / scale[apart], truth)
    right = float((model.predict((asked - centre[apart]) / scale[apart]) == truth).mean())
    jitter = np.random.default_rng(0).random((2 * len(one), one.shape[1])) * 1e-9  # breaks ties at random
    first = np.argsort(np.concatenate([one, other]) + jitter, axis=0) < len(one)
    gap = abs(np.where(first, 1, -1).cumsum(0)).max(0) / len(one)
    return right, float(min(1.0, 2 * np.exp(-len(one) * gap.max() ** 2) * one.shape[1]))


def told_apart(one: np.ndarray, other: np.ndarray) -> bool:
    """By more than four standard deviations, or at a level of 0.1 %."""
    right, p = distinguish(one, other)
    return right > 0.5 + 2 / np.sqrt(2 * (len(one) // 2)) or p < 1e-3
