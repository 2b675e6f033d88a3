"""Figures of attacks are right where they are known, and the bound of epsilon refutes claims that are false only."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from secfpp.attacks.statistics import (
    LEAST_BEYOND,
    Scores,
    auc_interval,
    epsilon_lower_bound,
    tpr_interval,
    worst_client,
)
from secfpp.seeding import derive

DELTA = 1e-5


def scores(gap: float, clients: int = 30, images: int = 40, seed: int = 0) -> Scores:
    """Half of each client's images are members, whose scores are `gap` standard deviations higher."""
    rng = np.random.default_rng(seed)
    inside = np.tile(np.arange(images) % 2 == 0, clients)
    return Scores(rng.normal(size=len(inside)) + gap * inside, inside, np.repeat(np.arange(clients), images))


def gaussian_epsilon(sigma: float) -> float:
    """Of the Gaussian mechanism at sensitivity 1 (Balle and Wang, arXiv 1805.06530, theorem 8)."""

    def excess(epsilon: float) -> float:
        above, below = (norm.cdf(sign / (2 * sigma) - epsilon * sigma) for sign in (1, -1))
        return float(above - math.exp(epsilon) * below - DELTA)

    return float(brentq(excess, 0, 100))


def released(sigma: float, trials: int, seed: int) -> Scores:
    """A sum to which one image adds 1 or not, under noise, as often as there are trials."""
    rng = np.random.default_rng(seed)
    inside = rng.random(trials) < 0.5
    return Scores(inside + sigma * rng.normal(size=trials), inside, np.arange(trials))


def test_area_and_rates_are_those_of_two_normal_distributions() -> None:
    found = scores(1.0, clients=500)
    assert found.auc == pytest.approx(norm.cdf(1 / math.sqrt(2)), abs=0.01)
    assert found.tpr(0.01) == pytest.approx(norm.sf(norm.isf(0.01) - 1), abs=0.015)


def test_a_threshold_lets_no_more_others_pass_than_asked_also_among_ties() -> None:
    inside = np.arange(4000) % 2 == 0
    tied = Scores(np.where(np.arange(4000) < 400, 1.0, 0.0), inside, np.zeros(4000, int))
    assert tied.tpr(0.01) == 0.0  # a tenth of the others is at the threshold itself


def test_a_rate_needs_enough_others_beyond_it() -> None:
    few = scores(1.0, clients=10, images=2 * LEAST_BEYOND)
    assert few.tpr(0.1) is not None
    assert few.tpr(0.01) is None and tpr_interval(few, 0.01, derive(0)) is None


def test_a_curve_begins_at_nothing_ends_at_all_and_takes_ties_together() -> None:
    false, true = Scores(np.array([2.0, 1, 1, 0]), np.array([True, True, False, False]), np.zeros(4, int)).roc()
    assert false.tolist() == [0, 0, 0.5, 1] and true.tolist() == [0, 0.5, 1, 1]


def test_intervals_hold_chance_where_nothing_is_told() -> None:
    held = 0
    for seed in range(60):
        low, high = auc_interval(scores(0.0, seed=seed), derive(seed))
        held += low <= 0.5 <= high
    assert held >= 50  # 57 expected


def test_an_interval_is_wider_where_images_of_a_client_share_their_luck() -> None:
    rng, alone = np.random.default_rng(0), scores(0.5)
    luck = rng.normal(size=30)[alone.clients] * np.where(alone.inside, 1, 0)
    together = Scores(alone.values + luck, alone.inside, alone.clients)
    wide, narrow = (np.diff(auc_interval(found, derive(0)))[0] for found in (together, alone))
    assert wide > 2 * narrow


def test_the_worst_client_is_found_and_chance_is_told() -> None:
    quiet = scores(0.0)
    found = worst_client(quiet)
    assert found is not None and found.auc < found.chance < 0.85
    betrayed = Scores(quiet.values + 2.0 * (quiet.inside & (quiet.clients == 7)), quiet.inside, quiet.clients)
    worst = worst_client(betrayed)
    assert worst is not None and worst.client == 7 and worst.auc > worst.chance


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0])
def test_the_bound_stays_below_the_epsilon_of_a_gaussian_mechanism(sigma: float) -> None:
    epsilon = gaussian_epsilon(sigma)
    bounds = [epsilon_lower_bound(released(sigma, 20_000, seed), DELTA, derive(seed)) for seed in range(20)]
    assert max(bounds) <= epsilon
    assert np.mean(bounds) > 0.25 * epsilon  # it is no empty bound either


def test_a_mechanism_with_too_little_noise_is_refuted() -> None:
    """It claims noise of 3 and adds a tenth of it."""
    claimed = gaussian_epsilon(3.0)
    for seed in range(10):
        assert epsilon_lower_bound(released(0.3, 5000, seed), DELTA, derive(seed)) > claimed


def test_a_mechanism_that_gives_members_away_seldom_is_refuted_too() -> None:
    """One member in fifty is published as it is: the area hardly shows it, the bound does."""
    rng = np.random.default_rng(0)
    found = released(30.0, 20_000, 0)
    published = found.inside & (rng.random(20_000) < 0.02)
    leaky = Scores(np.where(published, 1000.0, found.values), found.inside, found.clients)
    assert leaky.auc < 0.54
    assert epsilon_lower_bound(leaky, DELTA, derive(0)) > 3 > gaussian_epsilon(30.0)


def test_nothing_told_proves_nothing() -> None:
    bounds = [epsilon_lower_bound(scores(0.0, seed=seed), DELTA, derive(seed)) for seed in range(40)]
    assert np.mean(np.array(bounds) > 0) <= 0.1


def test_scores_that_cannot_be_judged_are_refused() -> None:
    both = np.array([True, False])
    with pytest.raises(ValueError, match="1 of 2 scores are no numbers"):
        Scores(np.array([np.nan, 1]), both, np.zeros(2, int))
    with pytest.raises(ValueError, match="2 of 2 images are members"):
        Scores(np.zeros(2), np.array([True, True]), np.zeros(2, int))
    with pytest.raises(ValueError, match="3 values, 2 memberships"):
        Scores(np.zeros(3), both, np.zeros(2, int))
    with pytest.raises(ValueError, match=r"delta = 1\.5"):
        epsilon_lower_bound(scores(0.0), 1.5, derive(0))
