"""Attacks by likelihood tell members as well as theory says, and nothing where there is nothing to tell."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from secfpp.attacks.game import halves
from secfpp.attacks.likelihood import ATTACKS, Evidence, lira, lira_offline, loss, rmia
from secfpp.attacks.membership import auc
from secfpp.seeding import derive

IMAGES, OTHERS, SHADOWS = 400, 200, 64


def evidence(gain: float, rounds: int = 1, hard: float = 3.0, seed: int = 0) -> tuple[Evidence, np.ndarray]:
    """Training on an image raises its confidence by `gain` noise deviations; images are `hard` to different degrees."""
    rng = np.random.default_rng(seed)
    inside, truth = halves(IMAGES, SHADOWS, derive(seed)), rng.random(IMAGES) < 0.5
    usual = hard * rng.normal(size=IMAGES + OTHERS)

    def drawn(members: np.ndarray) -> np.ndarray:
        raised = np.append(members, np.zeros(OTHERS, bool)) * gain
        return usual + raised + rng.normal(size=(rounds, IMAGES + OTHERS))

    return Evidence(drawn(truth), np.stack([drawn(members) for members in inside]), inside), truth


def test_lira_is_nearly_as_good_as_knowing_the_distributions() -> None:
    for gain in (0.5, 1.0, 2.0):
        found, truth = evidence(gain)
        assert auc(lira(found), truth) == pytest.approx(norm.cdf(gain / math.sqrt(2)), abs=0.05)


def test_shadows_take_out_how_hard_images_are() -> None:
    found, truth = evidence(1.0)
    areas = {name: auc(attack(found), truth) for name, attack in ATTACKS.items()}
    assert areas["loss"] < 0.62 < min(areas[name] for name in ("lira", "lira_offline", "rmia"))


def test_evidence_of_rounds_adds_up() -> None:
    found, truth = evidence(0.4, rounds=16)
    for attack in (lira, lira_offline, rmia):
        assert auc(attack(found), truth) > auc(attack(found.rounds(slice(0, 1))), truth) + 0.1


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_is_told_of_prompts_that_did_not_train(name: str) -> None:
    areas = []
    for seed in range(10):
        found, truth = evidence(0.0, rounds=3, seed=seed)
        areas.append(auc(ATTACKS[name](found), truth))
    assert np.mean(areas) == pytest.approx(0.5, abs=0.025)


def test_shadows_from_another_round_tell_less() -> None:
    """The attack rests on shadows of the same base: shifted ones are worse than none at all."""
    found, truth = evidence(1.0)
    shifted = Evidence(found.observed, np.roll(found.shadows, 1, axis=-1), found.inside)
    assert auc(lira(shifted), truth) < auc(lira(found), truth) - 0.1


def test_confidences_of_any_size_are_finite() -> None:
    found, _ = evidence(1.0)
    far = Evidence(found.observed * 1e4, found.shadows, found.inside)
    for attack in (loss, lira, lira_offline, rmia):
        assert np.isfinite(attack(far)).all()


def test_rmia_needs_images_to_compare_with() -> None:
    found, _ = evidence(1.0)
    alone = Evidence(found.observed[:, :IMAGES], found.shadows[..., :IMAGES], found.inside)
    with pytest.raises(ValueError, match="nobody trained on"):
        rmia(alone)
