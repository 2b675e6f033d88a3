"""What stands beside which published figure, and which settings are said to differ."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from secfpp.experiment.results.published_figures import DEFINITIONS, notes, remarks, settings_in_words, settings_rows
from support.published_runs import PUBLISHED, runs, summary


def entry(*arguments: Any, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = summary(*arguments, **more)["published"]
    return json.loads(json.dumps(found, allow_nan=False))  # as it is stored


def labels(told: dict[str, Any]) -> list[list[str]]:
    return [[ours["label"] for ours in figure["ours"]] for figure in told["figures"]]


def test_each_figure_stands_beside_its_method_and_variants_of_it() -> None:
    assert labels(entry()) == [["pooled", "pooled+slow"], ["grouped"], ["pooled+dp"], []]


def test_figures_under_noise_stand_beside_methods_with_noise_only() -> None:
    told = entry(("pooled",))
    assert labels(told) == [["pooled"], [], [], []]
    assert "pooled under noise (FedAll at epsilon 0.1)" in remarks(told)[0]
    told = entry(("pooled+dp",))
    assert labels(told) == [[], [], ["pooled+dp"], []]
    assert remarks(told)[0] == "No run here of: pooled (FedAll), grouped (FedGroup), absent (FedNone)."


@pytest.mark.parametrize("epsilon", [18.7, None])
def test_the_true_epsilon_is_beside_the_printed_one(epsilon: float | None) -> None:
    told = entry(("pooled", "pooled+dp"), results=runs(("pooled", "pooled+dp"), (0, 1), epsilon))
    plain, noisy = told["figures"][0], told["figures"][2]
    assert (noisy["epsilon"], noisy["ours"][0]["noise"], noisy["ours"][0]["epsilon"]) == (0.1, True, epsilon)
    assert (plain["epsilon"], plain["ours"][0]["noise"], plain["ours"][0]["epsilon"]) == (None, False, None)
    assert any("Epsilon there is as printed" in line for line in remarks(told))
    assert not any("Epsilon" in line for line in remarks(entry(("pooled",))))


def test_accuracies_have_interval_and_difference_and_stand_with_and_without_prior() -> None:
    figure = entry(("pooled",))["figures"][0]
    found = figure["ours"][0]["accuracies"]
    assert list(found) == ["own", "own_no_prior", "neighbour"]
    assert found["own"]["mean"] == 60.5 and found["own"]["difference"] == 60.5 - 59.25
    assert found["own"]["ci95"] == pytest.approx([60.5 - 6.353, 60.5 + 6.353], abs=1e-3)  # t(0.975, 1) / 2
    assert found["own_no_prior"]["theirs"] == 59.25 and found["own_no_prior"]["mean"] == 52.5
    assert found["neighbour"] == {"theirs": 40.0, "mean": None, "ci95": None, "difference": None}


def test_a_figure_without_a_neighbour_and_a_run_without_a_prior_have_no_such_rows() -> None:
    results = [replace(r, metrics={**r.metrics, "own_no_prior": r.metrics["own"]}) for r in runs(("grouped",))]
    assert list(entry(("grouped",), results=results)["figures"][1]["ours"][0]["accuracies"]) == ["own"]


def test_a_neighbour_that_was_measured_is_compared() -> None:
    results = [replace(r, metrics={**r.metrics, "neighbour": r.metrics["own"] - 30}) for r in runs(("pooled",), (0,))]
    found = entry(("pooled",), (0,), results)["figures"][0]["ours"][0]["accuracies"]["neighbour"]
    assert found == {"theirs": 40.0, "mean": 30.0, "ci95": None, "difference": -10.0}


def test_settings_that_differ_are_named_with_both_values_and_whose_they_are() -> None:
    told = entry()
    assert told["settings"] == 8
    assert told["differing"] == [
        {"key": "rounds", "theirs": 50, "ours": 4, "methods": []},
        {"key": "participation", "theirs": 0.5, "ours": 1.0, "methods": []},
        {"key": "method.training.lr", "theirs": 0.02, "ours": 0.5, "methods": ["pooled+slow"]},
        {"key": "method.training.steps", "theirs": 7, "ours": 5, "methods": ["pooled", "pooled+slow"]},
    ]
    assert told["not_comparable"] == [
        {"key": "dropout", "theirs": 0.1, "methods": []},
        {"key": "method.training.lr", "theirs": 0.02, "methods": ["grouped"]},
        {"key": "method.training.steps", "theirs": 7, "methods": ["grouped"]},
    ]
    assert settings_in_words(told) == "3 of the 8 settings that are known of theirs are the same here; these are not:"
    assert ("rounds", "50", "4", "all") in settings_rows(told)
    assert ("dropout", "0.1", "not comparable: no such setting here", "all") in settings_rows(told)
    assert ("method.training.steps", "7", "5", "pooled, pooled+slow") in settings_rows(told)


def test_a_method_setting_is_that_of_the_methods_that_are_shown() -> None:
    told = entry(("pooled+dp",))
    assert [row["key"] for row in told["differing"]] == ["rounds", "participation"]
    assert ("method.training.steps", "7", "5", "all") in settings_rows(entry(("pooled",)))


def test_equal_settings_are_said_to_be_equal() -> None:
    told = entry(("pooled+dp",), settings={"rounds": 50, "participation": 0.5, "dropout": 0.1})
    assert told["differing"] == told["not_comparable"] == settings_rows(told) == []
    assert settings_in_words(told) == "All 8 settings that are known of theirs are the same here."
    other = entry(("pooled+dp",), settings={"data": {"name": "toy", "partition": {"kind": "shards"}}})
    assert {"key": "data.partition", "theirs": "iid", "ours": "shards", "methods": []} in other["differing"]


def test_nothing_is_said_of_settings_while_nothing_can_stand_beside() -> None:
    told = entry(("grouped",), published=replace(PUBLISHED, figures=PUBLISHED.figures[3:]))
    assert (told["settings"], settings_in_words(told), settings_rows(told)) == (0, "", [])
    assert remarks(told) == ["No run here of: absent (FedNone)."]


def test_seeds_that_are_not_finished_are_named() -> None:
    told = entry(("pooled", "grouped"), (0, 1, 2), runs(("pooled",), (0, 2)))
    assert told["unfinished"] == {"pooled": [1], "grouped": [0, 1, 2]}
    assert remarks(told)[-1] == "Not all seeds are finished: pooled lacks 1; grouped lacks 0, 1, 2."
    assert told["figures"][0]["ours"][0]["seeds"] == [0, 2]
    assert entry()["unfinished"] == {}


def test_definitions_and_notes_are_given_where_there_are_figures() -> None:
    told = entry()
    assert DEFINITIONS in remarks(told)
    assert notes(told) == ["FedAll: with <tricks>.", "FedAll at epsilon 0.1: as printed."]
    assert notes(entry(("grouped",))) == []
