from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secfpp.experiment.report.comparison import (
    changed_by_prior,
    differences,
    estimates,
    headline,
    leader,
    ranking,
    reference,
    shown,
    unfinished,
)
from secfpp.experiment.results.summary import summarize
from support_experiment import fake_result


def summary_of(results: list[Any]) -> dict[str, Any]:
    return summarize("icons", "mini", 4, results)


def told(results: list[Any]) -> tuple[str, str]:
    return headline(estimates(summary_of(results), results))


def two(gap: float, seeds: tuple[int, ...] = (0,), jitter: float = 0.0) -> list[Any]:
    return [
        fake_result(name, seed, 60 + gain + jitter * (-1) ** seed * (name == "grouped"), name == "grouped")
        for name, gain in (("pooled", 0.0), ("grouped", gap))
        for seed in seeds
    ]


def test_estimates_hold_every_seed_and_the_worst_client() -> None:
    results = two(3.0, (1, 2))
    results[0].metrics["own"][4] = 7.0
    table = estimates(summary_of(results), results)
    assert table["grouped"]["own"].per_seed == pytest.approx({1: 63.0, 2: 63.0})
    assert table["grouped"]["own"].interval == pytest.approx((63, 63))
    assert table["pooled"]["worst"].per_seed == {1: 7.0, 2: 58.0}
    assert table["pooled"]["worst"].mean == 32.5
    assert "own_domain_no_prior" in table["pooled"]
    assert "other_domains_no_prior" not in table["pooled"]


def test_a_client_without_test_images_is_not_the_worst() -> None:
    results = two(3.0)
    results[0].metrics["own"][0] = math.nan
    assert estimates(summary_of(results), results)["pooled"]["worst"].mean == 58.0
    results[0].metrics["own"][:] = math.nan
    assert "worst" not in estimates(summary_of(results), results)["pooled"]


def test_only_what_some_method_has_is_shown() -> None:
    assert [m.key for m in shown({"a": {}, "b": {}})] == []
    results = two(1.0)
    table = estimates(summary_of(results), results)
    del table["pooled"]["other_domains"]
    assert [m.key for m in shown(table)] == ["own", "own_domain", "other_domains", "worst"]
    del table["grouped"]["other_domains"]
    assert [m.key for m in shown(table)] == ["own", "own_domain", "worst"]


def test_the_prior_is_told_only_where_it_changes_something() -> None:
    results = two(1.0)
    for result in results:
        result.metrics["own_domain_no_prior"][:] = result.metrics["own_domain"]
    table = estimates(summary_of(results), results)
    assert [m.key for m in changed_by_prior(table, shown(table))] == ["own"]


def test_ranking_uses_the_seeds_that_all_have() -> None:
    hard, easy = 1, 2
    results = [fake_result("a", hard, 50), fake_result("b", hard, 49), fake_result("b", easy, 80)]
    table = estimates(summary_of(results), results)
    assert table["b"]["own"].mean > table["a"]["own"].mean
    assert ranking(table, "own") == ["a", "b"]
    assert ranking(table, "nothing") == []


def test_ranking_without_common_seeds_uses_what_there_is() -> None:
    results = [fake_result("a", 1, 50), fake_result("b", 2, 60)]
    assert ranking(estimates(summary_of(results), results), "own") == ["b", "a"]


def test_missing_seeds_are_named() -> None:
    results = [fake_result("a", 1), fake_result("a", 2), fake_result("a", 3), fake_result("b", 2)]
    assert unfinished(summary_of(results)) == {"b": [1, 3]}
    assert unfinished(summary_of(results[:3])) == {}
    planned = [{"method": "b", "seed": 4, "error": None}, {"method": "new", "seed": 1, "error": "out of memory"}]
    assert unfinished({**summary_of(results), "missing": planned}) == {"b": [1, 3, 4], "new": [1]}


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ('[method]\nname = "pooled"\n', "pooled"),
        ('[method]\nname = "unknown"\n', "grouped"),
        ("method = 3", "grouped"),
        ("[method]\nname = [1]", "grouped"),
        ("rounds = 4", "grouped"),
        ("not toml", "grouped"),
    ],
)
def test_the_reference_is_the_method_of_the_settings_or_the_best(config: str, name: str) -> None:
    results = two(3.0)
    assert reference(summary_of(results), estimates(summary_of(results), results), config) == name


def test_a_method_is_not_its_own_rival_in_the_clear() -> None:
    names = {"grouped": 60, "grouped+clear": 60, "pooled": 50}
    results = [fake_result(name, seed, own=own) for name, own in names.items() for seed in (1, 2)]
    assert told(results)[0] == "grouped leads on clients' own data: 60.0 %, 10.0 points above pooled"
    assert leader(estimates(summary_of(results), results), "own") == "grouped"
    alone = results[2:]  # without the method itself it is a method like others
    assert told(alone)[0].startswith("grouped+clear leads")


def test_without_any_method_there_is_no_reference() -> None:
    assert reference(summary_of([]), {}, "") is None


def test_differences_are_the_same_whichever_way_round_they_are_stored() -> None:
    results = two(3.0, (1, 2, 3), jitter=0.5)
    summary = summary_of(results)
    for entry in summary["differences"]:
        entry |= {"lower95": entry["mean"] - 1, "upper95": entry["mean"] + 2}
    one, other = differences(summary, "grouped", "own")["pooled"], differences(summary, "pooled", "own")["grouped"]
    assert one.mean == pytest.approx(-other.mean) == pytest.approx(2.8, abs=0.1)
    assert one.interval is not None and other.interval is not None
    assert one.interval == pytest.approx((-other.interval[1], -other.interval[0]))
    assert one.interval[0] < one.mean < one.interval[1]
    assert one.per_seed == pytest.approx({seed: -value for seed, value in other.per_seed.items()})
    assert one.bound == pytest.approx(one.mean - 1)
    assert other.bound == pytest.approx(other.mean - 2)


def test_differences_without_bounds_have_none() -> None:
    summary = summary_of(two(3.0))
    for entry in summary["differences"]:
        entry |= {"lower95": None, "upper95": None}
    assert differences(summary, "grouped", "own")["pooled"].bound is None
    assert differences(summary, "grouped", "nothing") == {}


def test_one_seed_is_honest_about_having_no_interval() -> None:
    title, sentence = told(two(3.0))
    assert title == "grouped 63.0 %, pooled 60.0 % on clients' own data: one seed names no leader"
    assert "one seed (0), so no interval" in sentence
    results = two(3.0)
    assert leader(estimates(summary_of(results), results), "own") is None


def test_several_seeds_with_a_clear_gap_are_called_so() -> None:
    title, sentence = told(two(3.0, (1, 2, 3, 4), jitter=0.2))
    assert "grouped leads" in title
    assert "Paired over 4 seeds the difference is +3.0" in sentence
    assert "does not explain it" in sentence


def test_an_interval_over_zero_is_no_lead() -> None:
    title, sentence = told(two(0.3, (1, 2, 3, 4), jitter=3.0))
    assert title == "grouped and pooled are level on clients' own data: 60.3 and 60.0 %"
    assert "not settled" in sentence


def test_a_lead_is_one_over_every_other_method() -> None:
    noisy = [fake_result("noisy", seed, 59.0 + 8 * (-1) ** seed, False) for seed in (1, 2, 3, 4)]
    results = two(3.0, (1, 2, 3, 4), jitter=0.2) + noisy
    assert leader(estimates(summary_of(results), results), "own") is None
    assert told(results)[0].startswith("grouped and noisy are level")
    absent = [*results[:8], fake_result("late", 9, 10.0, False)]
    assert leader(estimates(summary_of(absent), absent), "own") is None


def test_a_lead_by_the_class_prior_alone_is_none() -> None:
    results = two(3.0, (1, 2, 3, 4), jitter=0.2)
    for result in results:
        result.metrics["own_no_prior"][:] = 50.0 + result.seed + (result.seed % 2) * (result.method == "pooled")
    title, sentence = told(results)
    assert title == "grouped is ahead on clients' own data with the class prior only: 63.0 %, pooled 60.0 %"
    assert "no method is said to lead" in sentence
    table = estimates(summary_of(results), results)
    assert (leader(table, "own"), leader(table, "own_no_prior")) == ("grouped", None)


def test_equal_methods_are_level_and_one_method_is_just_told() -> None:
    assert "are level" in told(two(0.0, (1, 2)))[0]
    assert told([fake_result("grouped", own=61.24)])[0] == "grouped reaches 61.2 % on its clients' own data"
    assert "interval is" in told([fake_result("grouped", s, own=61.0 + s) for s in (1, 2)])[1]


def test_methods_without_a_common_seed_are_not_compared() -> None:
    title, sentence = told([fake_result("a", 1, 50), fake_result("b", 2, 60)])
    assert "leads" not in title and "60.0" in title and "50.0" in title
    assert "no fair comparison" in sentence


def test_nothing_measured_is_said() -> None:
    assert told([])[0] == "Nothing to compare yet"
    blind = fake_result("a")
    blind = replace(blind, metrics={"own": np.full(len(blind.clients), np.nan)})
    assert told([blind])[0] == "Nothing to compare yet"
