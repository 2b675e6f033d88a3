"""One image moves what a client shares by no more than the ledger is told, and what is read is what was shared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secfpp.algorithms.noisy_sums import NoisySums
from secfpp.algorithms.record_privacy import Privacy
from secfpp.errors import ConfigError
from secfpp.models.class_means import ClassSums, Scatter
from secfpp.privacy.accounting import epsilon
from secfpp.privacy.events import Gaussian
from secfpp.seeding import SystemEntropy

N_CLASSES, DIM, STEP = 4, 6, 2.0**-14
ALL = np.ones(N_CLASSES, bool)


def noisy(**settings: Any) -> NoisySums:
    settings = {"mechanism": "class_means", **settings}
    return NoisySums(Privacy(**settings), N_CLASSES, DIM, STEP, True, 500, 1)


def images(seed: int, n: int, length: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n, DIM))
    features *= length / np.linalg.norm(features, axis=1, keepdims=True)
    return features, rng.integers(N_CLASSES, size=n)


def vectors(sums: NoisySums, features: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    means = images(99, N_CLASSES)[0]
    return [sums.for_everybody(features, labels), sums.for_group(features, labels, means)]


@given(st.integers(0, 10**6), st.integers(1, 40), st.floats(0, 5), st.integers(0, N_CLASSES - 1))
def test_an_image_more_moves_a_vector_by_no_more_than_the_event_says(seed, n, length, label):
    features, labels = images(seed, n)
    odd, _ = images(seed + 1, 1, length)
    sums = noisy(clip=0.5 + seed % 3 / 2, count=0.1 + seed % 7 / 4)
    before = vectors(sums, features, labels)
    after = vectors(sums, np.concatenate([features, odd]), np.append(labels, label))
    for group, (one, other) in enumerate(zip(before, after, strict=True)):
        assert np.linalg.norm(other - one) <= 1 + 1e-9
        release = sums.release(bool(group))
        moved = np.rint(other / STEP) - np.rint(one / STEP)
        assert np.linalg.norm(moved) <= release.event.l2 and np.abs(moved).sum() <= release.event.l1


def test_the_first_image_of_a_client_comes_near_to_the_bound():
    features, labels = images(0, 1)
    sums = noisy()
    nothing = vectors(sums, features[:0], labels[:0])
    everybody, group = (np.linalg.norm(a - b) for a, b in zip(vectors(sums, features, labels), nothing, strict=True))
    assert everybody > 1 - 1e-9
    assert group > 1 - 1e-9  # the difference from a mean elsewhere is longer than what it is shortened to


def test_a_scatter_around_the_clients_own_means_would_break_the_bound():
    near = np.zeros((400, DIM)) + np.eye(DIM)[0]
    odd = -np.eye(DIM)[:1]
    labels = np.zeros(400, np.int64)

    def scatter(features: np.ndarray) -> np.ndarray:
        own = np.zeros(len(features), np.int64)
        return Scatter.of(features, own, ClassSums.of(features, own, 1)).products

    assert np.linalg.norm(scatter(np.concatenate([near, odd])) - scatter(near)) > 3.9
    one = noisy().for_everybody(near, labels)
    other = noisy().for_everybody(np.concatenate([near, odd]), np.append(labels, 0))
    assert np.linalg.norm(one - other) <= 1 + 1e-9


def test_shortening_a_client_with_many_images_moves_nothing_further():
    features, labels = images(3, 600)
    sums = noisy()
    one, other = (sums.for_everybody(features[:n], labels[:n]) for n in (599, 600))
    few = NoisySums(sums.privacy, N_CLASSES, DIM, STEP, True, 50, 1)
    silent = [few.with_noise(v, np.zeros(N_CLASSES, bool), 1, SystemEntropy()) for v in (one, other)]
    own = slice(0, N_CLASSES * (DIM + 1))
    assert np.linalg.norm(silent[0][own]) * STEP < 51
    assert np.linalg.norm(silent[0][own] - silent[1][own]) * STEP <= 1.01


@pytest.mark.parametrize("target", [8.0, 2.0])
@pytest.mark.parametrize("groups", [True, False])
def test_the_releases_of_a_run_cost_what_was_asked_for(target, groups):
    sums = NoisySums(Privacy(mechanism="class_means", epsilon=target), N_CLASSES, DIM, STEP, groups, 500, 1)
    events = [sums.release(group).event for group in (False, True)[: 1 + groups]]
    assert 0.99 * target < epsilon(events, 1e-5) <= target


def test_noise_is_on_shared_classes_alone_and_as_large_as_the_members_left_need():
    sums = NoisySums(Privacy(mechanism="class_means"), N_CLASSES, 40, STEP, True, 500, 1)
    vector = np.zeros(sums.size(False))
    shared = np.array([True, False, True, True])
    found = sums.with_noise(vector, shared, 3, SystemEntropy())
    hidden = np.concatenate([np.repeat(~shared, 40), ~shared])
    assert not found[: N_CLASSES * 41][hidden].any()
    noise = np.concatenate([found[: N_CLASSES * 41][~hidden], found[N_CLASSES * 41 :]])
    assert noise.var() == pytest.approx(sums.release(False).event.variance / 3, rel=0.25)
    assert sums.release(False).noise(5, 3) == pytest.approx(STEP * (5 / 3 * sums.release(False).event.variance) ** 0.5)


@pytest.mark.parametrize("members", [4, 9])
def test_the_best_guess_at_an_image_from_both_sums_is_as_good_as_epsilon_allows_and_no_better(members):
    """By those who know all else, their own parts of the noise, and in which direction the image moves the sums."""
    sums, colluding = noisy(epsilon=8.0), 2
    features, labels = images(0, 1)
    squared = 0.0
    for group, vector in enumerate(vectors(sums, features, labels)):
        moved = np.rint(vector / STEP)
        unknown = members - colluding
        noise = np.zeros((2000, len(vector)))
        for _ in range(unknown):
            draws = [sums.with_noise(np.zeros(len(vector)), ALL, unknown, SystemEntropy()) for _ in range(len(noise))]
            noise += np.stack(draws)
        found = noise @ moved / np.linalg.norm(moved)
        squared += (np.linalg.norm(moved) / found.std()) ** 2
        assert found.std() == pytest.approx(sums.release(bool(group)).event.variance ** 0.5, rel=0.1)
    seen = epsilon([Gaussian(covers="guess", unit="record", norm=squared**0.5, sd=1.0)], 1e-5)
    assert 0.85 * 8.0 < seen < 8.0


def test_what_is_read_from_a_sum_without_noise_is_what_went_in():
    sums, means = noisy(clip=2.0), images(99, N_CLASSES)[0]
    clients = [images(seed, 30) for seed in range(5)]
    features, labels = (np.concatenate(part) for part in zip(*clients, strict=True))
    exact = ClassSums.of(features, labels, N_CLASSES)
    everybody = sums.read_everybody(sum(sums.for_everybody(*own) for own in clients), 5, 10**12)
    assert everybody.classes.sums == pytest.approx(exact.sums, abs=1e-4)
    assert everybody.classes.counts == pytest.approx(exact.counts)
    scatter = Scatter.of(features, labels, exact)
    assert everybody.scatter is not None
    assert everybody.scatter.products == pytest.approx(scatter.products, abs=1e-4)
    assert everybody.scatter.freedom == scatter.freedom
    counts = [np.bincount(own, minlength=N_CLASSES) for _, own in clients]
    assert everybody.exposure == pytest.approx(np.mean([(n / (n + 2)).sum() for n in counts]))
    group = sums.read_group(sum(sums.for_group(*own, means) for own in clients), 5, 10**12, means)
    assert group.classes.sums == pytest.approx(exact.sums, abs=1e-4)


def test_squares_of_noise_do_not_count_as_scatter():
    sums = NoisySums(Privacy(mechanism="class_means", epsilon=2.0), N_CLASSES, DIM, STEP, True, 500, 1)
    features, labels = images(1, 400)
    exact = Scatter.of(features, labels, ClassSums.of(features, labels, N_CLASSES))
    vector, spreads = sums.for_everybody(features, labels), []
    for _ in range(60):
        total = STEP * sums.with_noise(vector, ALL, 1, SystemEntropy()).astype(float)
        scatter = sums.read_everybody(total, 1, 1).scatter
        assert scatter is not None
        spreads.append(np.trace(scatter.products))
    assert np.mean(spreads) == pytest.approx(np.trace(exact.products), rel=0.1)


def test_a_class_that_is_not_shared_stays_unknown():
    sums = noisy()
    features, labels = images(0, 30)
    shared = np.array([True, True, False, True])
    kept = shared[labels]
    vector = sums.for_everybody(features[kept], labels[kept])
    found = sums.read_everybody(STEP * sums.with_noise(vector, shared, 2, SystemEntropy()).astype(float), 4, 2)
    assert (found.classes.counts > 0).tolist() == shared.tolist()
    assert not found.classes.sums[2].any()


def test_noise_that_does_not_fit_beside_the_images_is_refused():
    noisy().require_room(2, 1000.0)
    with pytest.raises(ConfigError, match=r"privacy\.epsilon = 0\.01"):
        noisy(epsilon=0.01).require_room(2, 1000.0)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"epsilon": 0.0}, r"privacy\.epsilon = 0"),
        ({"delta": 1.0}, r"privacy\.delta = 1"),
        ({"epsilon": 4.0, "epsilon_budget": 2.0}, r"privacy\.epsilon_budget = 2"),
        ({"everybody": 0.9, "scatter": 0.1}, r"privacy\.everybody, scatter"),
        ({"mechanism": "class_means", "clip": 2.5}, r"privacy\.clip"),
        ({"count": 0.0}, r"privacy\.count"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, named):
    with pytest.raises(ConfigError, match=named):
        Privacy(**settings)
