"""The matched filter says what normal distributions say, leaves nothing open of exact sums, and knows of noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from secfpp.attacks.matched_filter import Known, in_sums, ratios
from secfpp.attacks.membership import auc
from secfpp.models.class_means import ClassSums


def test_ratios_are_those_of_normal_distributions() -> None:
    rng = np.random.default_rng(0)
    adds, chance, noise = rng.standard_normal((6, 3)), rng.uniform(0.2, 0.8, 6), 0.7
    seen = adds[[0, 3, 4]].sum(0) + 0.8 * rng.standard_normal(3)
    variance, expected = chance * (1 - chance), []
    for place in (1, 4):
        rest = np.arange(6) != place
        mean = chance[rest] @ adds[rest]
        spread = (adds[rest].T * variance[rest]) @ adds[rest] + noise * np.eye(3)
        inside, outside = (multivariate_normal(mean + part, spread).logpdf(seen) for part in (adds[place], 0 * mean))
        expected.append(inside - outside)
    found = ratios(adds @ adds.T / noise, adds @ seen / noise, chance, np.array([1, 4]))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def images(count: int, rng: np.random.Generator) -> tuple[Known, np.ndarray]:
    features = rng.standard_normal((count, 20))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    inside = rng.permutation(count) % 2 == 0
    return Known(features, np.arange(count) % 3, np.full(count, 0.5), np.full(count, "a")), inside


@pytest.mark.parametrize("noise", [0.0, 5.0])
def test_exact_sums_leave_nothing_open_and_noisy_ones_do(noise: float) -> None:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(8):
        known, inside = images(45, rng)
        sums = ClassSums.of(known.features[inside], known.labels[inside], 3)
        noisy = ClassSums(sums.sums + noise * rng.standard_normal(sums.sums.shape), sums.counts)
        scores = in_sums(known, noisy, np.array([True, True, False]), np.ones(45, bool))
        assert (scores[known.labels == 2] == 0).all()
        shared = known.labels < 2
        found.append(auc(scores[shared], inside[shared]))
    assert np.mean(found) == 1.0 if noise == 0 else abs(np.mean(found) - 0.5) < 0.12
