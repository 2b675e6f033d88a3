from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from secfpp.errors import ConfigError, DataError
from secfpp.experiment.results.explained import Why, decision, explanations, mean
from support.explained_runs import bare, explained_result, none_found, useful, useless
from support_experiment import fake_result


def read(why: dict[str, Any], **about: Any) -> Why:
    found = Why.of(explained_result(json.loads(json.dumps(why)), **about))
    assert found
    return found


def test_what_a_run_keeps_is_read() -> None:
    kept = useful((3, 2, 1))
    why = read(kept, seed=7)
    assert (why.seed, why.verdict, why.found, why.used, why.useful) == (7, kept["verdict"], 3, 3, True)
    assert [one.k for one in why.candidates] == list(range(1, 9))
    assert why.best == 3
    assert why.kappa == 0.31 and len(why.kappa_null) == 20
    assert why.test and (why.test.margin, why.test.n, why.test.confidence) == (1, 6, "95 %")
    assert [len(members.clients) for members in why.groups.values()] == [3, 2, 1]
    assert why.levels == ["start", "own", "everybody", "group", "method"]


def test_means_are_over_the_clients_whose_figure_is_known() -> None:
    why = read(bare((2, 1)))
    assert list(why.groups) == [0, 1, -1]
    gains = [client.gain for client in why.clients if client.gain is not None]
    assert len(gains) == 3 and why.everybody.gain == pytest.approx(np.mean(gains))
    assert why.groups[-1].gain is None and why.groups[-1].levels["own"] is None
    assert why.everybody.levels["start"] == pytest.approx((41 + 41 + 42) / 3)
    assert mean([None]) is None and mean([1, None, 3]) == 2


def test_a_bound_is_one_sided_and_needs_two_clients() -> None:
    why = read(useful((4, 1)))
    gains = np.array([client.gain for client in why.groups[0].clients])
    low = gains.mean() - stats.t.ppf(0.9, 3) * gains.std(ddof=1) / 2
    assert why.groups[0].least_gain(0.1) == pytest.approx(low)
    assert why.groups[1].least_gain(0.1) is None


def test_levels_that_nobody_has_are_not_there() -> None:
    assert read(none_found()).levels == ["start", "own", "everybody", "method"]
    why = read(useless())
    assert "group" not in why.levels and not why.useful
    broken = useful()
    broken["clients"][0]["levels"]["own"] = float("nan")
    assert read(broken).clients[0].levels["own"] is None


def test_without_candidates_none_is_best() -> None:
    why = read(bare())
    assert (why.best, why.kappa, why.kappa_null, why.test) == (None, None, (), None)
    alike = useful()
    for candidate in alike["candidates"]:
        candidate["score"] = 0.0
    assert read(alike).best == 1


@pytest.mark.parametrize("damage", [{"clients": [{"client": "a"}]}, {"clients": None}, {"found": None}, {"test": {}}])
def test_what_another_version_keeps_is_refused(damage: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"grouped, seed 4: .* train it again"):
        Why.of(explained_result(useful() | damage, seed=4))


def test_a_method_that_says_nothing_explains_nothing() -> None:
    assert Why.of(fake_result()) is None


RUNS = [
    fake_result("pooled", clustered=False),
    fake_result("by features"),
    *(explained_result(useful(), "first", seed) for seed in (1, 2)),
    explained_result(useless(), "second", 1),
]


def test_the_preferred_method_is_explained_and_else_the_first_that_can_be() -> None:
    label, runs = explanations(RUNS)
    assert label == "first" and [run.seed for run in runs] == [1, 2]
    assert explanations(RUNS, preferred="second")[0] == "second"
    assert explanations(RUNS, preferred="pooled")[0] == "first"
    assert explanations(RUNS, wanted="second", preferred="first")[0] == "second"


def test_seeds_that_say_nothing_are_left_out() -> None:
    late = replace(fake_result("first", 3), why={})
    assert [run.seed for run in explanations([*RUNS, late])[1]] == [1, 2]


def test_a_method_that_cannot_be_explained_is_refused_with_those_that_can() -> None:
    with pytest.raises(ConfigError, match="pooled does not group clients; methods of this run that say why: first, s"):
        explanations(RUNS, "pooled")
    with pytest.raises(DataError, match=r"by features: .*class_residuals.* train it again"):
        explanations(RUNS, "by features")
    with pytest.raises(ConfigError, match="no method of this run groups clients; train secfpp"):
        explanations(RUNS[:1])
    with pytest.raises(DataError, match="by features: the results do not say why"):
        explanations(RUNS[:2])


def test_a_decision_is_told_with_the_figures_it_rests_on() -> None:
    low = useful((3, 2, 1))
    low["test"] |= {"mean": 0.4, "low": -0.8}
    assert read(low | {"used": 1}).decision == "3 groups found, gain 0.4 ± 1.2, 1.0 needed: one group used"
    low["test"] |= {"mean": 4.0, "low": 1.5}
    assert read(low).decision == "3 groups found, gain 4.0 ± 2.5, 1.0 needed: 3 groups used"
    unanswered = read(low | {"used": 1}).decision
    assert unanswered == "3 groups found, gain 4.0 ± 2.5, 1.0 needed, but too few answered the test: one group used"
    assert read(low | {"used": 1, "test": None}).decision.startswith("3 groups found, too few clients could compare")
    assert read(bare()).decision == "2 groups found: 2 groups used"
    none = none_found()
    best = max(one["score"] for one in none["candidates"][1:])
    beyond = f"agreement beyond chance \N{MINUS SIGN}{-best:.1f}, above 0 needed"
    assert read(none).decision == f"no groups found, {beyond}: one group used"
    assert read(none | {"candidates": none["candidates"][:1]}).decision == (
        "no groups of enough clients found: one group used"
    )
    assert read(none | {"candidates": []}).decision == "one group used"


def test_a_method_that_does_not_say_why_tells_how_many_groups_it_uses() -> None:
    assert decision(fake_result()) == "2 groups used"
    assert decision(replace(fake_result(), assignment=(0, 0, 0, 0, 0, -1))) == "one group used"
    assert decision(fake_result(clustered=False)) == ""
    assert decision(explained_result(useless())).endswith(": one group used")
