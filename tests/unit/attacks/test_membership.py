"""Ratios of likelihoods tell images in a sum from others, the better the fewer they are; and nothing from nothing."""

from __future__ import annotations

import numpy as np
import pytest

from secfpp.attacks.membership import auc, in_mean, in_scatter
from secfpp.models.class_means import ClassSums, Scatter

DIM = 8


def told_apart(count: int, moved: float = 0.0, draws: int = 60) -> float:
    """AUC on means of `count` images, with a correlated covariance."""
    rng = np.random.default_rng(count)
    mixing = rng.normal(size=(DIM, DIM))
    precision = np.linalg.inv(mixing @ mixing.T)
    scores = []
    for _ in range(draws):
        inside, outside = rng.normal(size=(2, count, DIM)) @ mixing.T
        scores.append([in_mean(x, inside.mean(0), count, np.full(DIM, moved), precision) for x in (inside, outside)])
    both = np.array(scores)
    return auc(both.reshape(-1), np.broadcast_to([[True], [False]], both.shape).reshape(-1))


def test_the_fewer_images_the_better_one_is_told() -> None:
    assert told_apart(1) == 1.0
    assert told_apart(4) > told_apart(16) > told_apart(64) > 0.55


def test_the_ratio_is_one_of_likelihoods() -> None:
    """On average it multiplies to 1 over images that are in no mean."""
    rng = np.random.default_rng(0)
    mean = rng.normal(size=2) / np.sqrt(10)
    images = rng.normal(size=(200_000, 2))
    assert np.exp(in_mean(images, mean, 10, np.zeros(2), np.eye(2))).mean() == pytest.approx(1, abs=0.01)


def test_a_scatter_tells_of_few_images_only() -> None:
    def tell(count: int) -> float:
        rng = np.random.default_rng(count)
        inside, outside = rng.normal(size=(2, count, DIM))
        labels = np.zeros(count, np.int64)
        scatter = Scatter.of(inside, labels, ClassSums.of(inside, labels, 1))
        scores = [in_scatter(images, scatter, np.eye(DIM)) for images in (inside, outside)]
        return auc(np.concatenate(scores), np.repeat([True, False], count))

    few, many = np.mean([tell(count) for count in range(20, 40)]), np.mean([tell(c) for c in range(2000, 2020)])
    assert few > 0.6 > 0.55 > many


def test_area_under_the_curve() -> None:
    assert auc(np.array([1.0, 2, 3, 4]), np.array([False, False, True, True])) == 1
    assert auc(np.array([1.0, 1, 1, 1]), np.array([False, True, False, True])) == 0.5
    assert auc(np.array([3.0, 1, 2]), np.array([True, True, False])) == 0.5
