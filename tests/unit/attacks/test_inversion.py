"""Causes are found where updates follow from them, the less the more others are in the mean; and what is public."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from secfpp.attacks import properties
from secfpp.attacks.inversion import _cosine, inverted


def recovered(size: int, seed: int) -> float:
    """Cosine of a cause that is found from the mean of `size` updates, each linear in its own cause, under noise."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(3, 40, 8))  # rounds, numbers of an update, dimensions of a cause
    causes = rng.normal(size=(64, 8)) + 5

    def mean(own: np.ndarray) -> np.ndarray:
        total = np.concatenate([own[None], rng.normal(size=(size - 1, 8)) + 5])
        made: np.ndarray = (mixing @ total.mean(0)) + 0.1 * rng.normal(size=(3, 40))
        return made

    truth = rng.normal(size=8) + 5
    shadows = np.stack([mean(cause) for cause in causes])
    return _cosine(inverted(shadows, mean(truth), causes), truth - causes.mean(0))


def test_one_update_gives_its_cause_away_and_a_mean_hides_it() -> None:
    alone, two, twenty = (np.mean([recovered(size, seed) for seed in range(40)]) for size in (1, 2, 20))
    assert alone > 0.95 and 0.8 > two > 0.4 and abs(twenty) < 0.3


def test_updates_of_nobody_give_nothing() -> None:
    rng, cosines = np.random.default_rng(0), []
    for _ in range(40):
        shadows, causes = rng.normal(size=(64, 2, 30)), rng.normal(size=(64, 8))
        cosines.append(_cosine(inverted(shadows, rng.normal(size=(2, 30)), causes), rng.normal(size=8)))
    assert abs(np.mean(cosines)) < 0.15


def run(groups: list[tuple[str, ...]]) -> Any:
    """Two true groups of three clients; the first has the first class only."""
    truth = {name: number // 3 for number, name in enumerate("abcdef")}
    contexts = {
        name: SimpleNamespace(group=group, weight=10, histogram=np.array([10, 0]) if group == 0 else np.array([0, 10]))
        for name, group in truth.items()
    }
    return SimpleNamespace(contexts=contexts, groups=groups, sent=lambda step, client: [])


def test_a_true_group_is_told_by_a_right_grouping_only() -> None:
    right, one = (properties.properties(run(g))[0] for g in ([("a", "b", "c"), ("d", "e", "f")], [tuple("abcdef")]))
    assert (right.found, right.base) == (1.0, pytest.approx(2 / 5))
    assert one.found == one.base


def test_classes_that_are_told_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = properties.properties(run([tuple("abcdef")]))[1]
    assert nothing.found == nothing.base == 0.5
    told = {name: np.array([name in "abc", name in "def"]) for name in "abcdef"}
    monkeypatch.setattr(properties, "told_classes", lambda run, name: told[name])
    assert properties.properties(run([tuple("abcdef")]))[1].found == 1.0
