from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from secfpp.errors import ConfigError
from secfpp.experiment.report import comparison
from secfpp.experiment.report.tables import WITHOUT_PRIOR, result_table, stacked
from secfpp.experiment.results.significance import holm, paired_p
from secfpp.experiment.results.statistics import t_interval
from support.result_tables import close, summary_of, table_of
from support_experiment import fake_result

SEEDS = (1, 2, 3)


def test_figures_are_those_of_the_estimates_with_seeds_and_costs() -> None:
    table = table_of(close())
    grouped, pooled, other = table.rows
    assert [row.labels for row in table.rows] == [("grouped",), ("pooled",), ("third",)]
    assert grouped.seeds == other.seeds == SEEDS
    value = grouped.figures["own"].value
    assert value.per_seed == pytest.approx({1: 60.0, 2: 61.0, 3: 62.5})
    assert value.interval == t_interval([60.0, 61.0, 62.5])
    assert grouped.figures["groups"].value.per_seed == {1: 2.0, 2: 2.0, 3: 2.0}
    assert grouped.figures["ari"].value.mean == 1.0
    assert grouped.figures["seconds"].value.per_seed == {1: 13.5, 2: 14.5, 3: 15.5}
    assert grouped.figures["sent"].value.mean == 41_000
    assert "groups" not in pooled.figures and "ari" not in pooled.figures
    assert table.about == {
        "dataset": "icons",
        "backbone": "mini",
        "rounds": 4,
        "participation": 1.0,
        "seeds": [1, 2, 3],
    }


def test_differences_are_paired_and_corrected_for_all_that_is_shown() -> None:
    table = table_of(close())
    gaps = {row.labels[0]: row.figures["own"].gap for row in table.rows}
    assert gaps["grouped"] is None
    expected = {"pooled": [4.0, 6.0, 6.5], "third": [1.0, -1.0, 0.5]}
    corrected = holm({name: paired_p(of) for name, of in expected.items()})
    for name, of in expected.items():
        gap = gaps[name]
        assert gap
        assert list(gap.per_seed.values()) == pytest.approx(of)
        assert gap.interval == pytest.approx(t_interval(of))
        assert gap.p == pytest.approx(corrected[name])
    alone = table_of(close(), methods=("grouped", "pooled")).rows[1].figures["own"].gap
    assert alone and alone.p == pytest.approx(paired_p(expected["pooled"]))
    assert alone.p < corrected["pooled"]  # type: ignore[operator]
    assert all(row.figures["seconds"].gap is None for row in table.rows)


def test_they_are_the_differences_of_the_summary() -> None:
    results = close()
    from_summary = comparison.differences(table_summary := summary_of(results), "grouped", "own_domain_no_prior")
    for row in result_table(table_summary, results, "grouped").rows[1:]:
        gap, known = row.figures["own_domain_no_prior"].gap, from_summary[row.labels[0]]
        assert gap and gap.mean == pytest.approx(known.mean)
        assert gap.interval == pytest.approx(known.interval)
        assert gap.p == pytest.approx(known.p)


def test_who_leads_is_for_the_comparison_to_say() -> None:
    assert not any(figure.leads for row in table_of(close()).rows for figure in row.figures.values())
    leading = table_of(close(), methods=("grouped", "pooled"))
    assert [row.figures["own"].leads for row in leading.rows] == [True, False]
    assert not any(row.figures["seconds"].leads for row in leading.rows)


def test_without_the_prior_is_a_part_of_its_own_where_it_is_another_figure() -> None:
    parts = {column.key: column.part for column in table_of(close()).columns}
    assert parts["own"] == parts["seconds"] == ""
    assert parts["own_no_prior"] == parts["own_domain_no_prior"] == WITHOUT_PRIOR
    results = close()
    for result in results:
        for key in ("own", "own_domain"):
            result.metrics[f"{key}_no_prior"][:] = result.metrics[key]
    assert not any(column.part for column in table_of(results).columns)


def test_columns_and_rows_can_be_chosen() -> None:
    table = table_of(close(), methods=("third", "grouped"), keys=("own_no_prior", "seconds", "own"))
    assert [row.labels[0] for row in table.rows] == ["third", "grouped"]
    assert [(column.key, column.part, column.compared) for column in table.columns] == [
        ("own_no_prior", "", True),
        ("seconds", "", False),
        ("own", "", True),
    ]
    assert table.rows[0].figures.keys() == {"own_no_prior", "seconds", "own"}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"keys": ("own", "owm_domain")}, ["--metric = 'owm_domain'", "did you mean 'own_domain'", "seconds"]),
        ({"keys": ("epsilon",)}, ["--metric = 'epsilon'"]),  # nothing promises one
        ({"methods": ("groupd", "x")}, ["--methods = 'groupd'", "did you mean 'grouped'", "--methods = 'x'"]),
        ({"methods": ("pooled",), "against": "grouped"}, ["--against = 'grouped'", "pooled"]),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(asked: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        table_of(close(), **asked)
    assert all(word in str(error.value) for word in words), error.value


def test_notes_say_settings_tests_and_what_bold_means() -> None:
    notes = " ".join(table_of(close(), participation=0.5).notes)
    for words in (
        "Data icons, model mini, 4 rounds, 50 % of the clients in each, 3 seeds (1, 2, 3).",
        "± half of the 95 % t interval",
        "Bold: ahead of every other method",
        "Differences: grouped minus the method",
        "Holm",
        "With these 3 seeds, true differences under",
    ):
        assert words in notes
    assert "twin" not in notes and "Not finished" not in notes and "Times" not in notes
    slow = {"comparable": False, "why": "workers shared processors"}
    assert "Times are not to be compared: workers shared processors." in table_of(close(), seconds=slow).notes
    assert "Times" not in " ".join(table_of(close(), keys=("own",), seconds=slow).notes)
    assert not any("Differences" in note for note in table_of(close(), against=None).notes)
    twin = [replace(result, method="grouped+clear") for result in close() if result.method == "grouped"]
    assert "twin in the clear is no rival" in " ".join(table_of([*close(), *twin]).notes)


def test_one_seed_has_neither_intervals_nor_tests() -> None:
    table = table_of([result for result in close() if result.seed == 2])
    figure = table.rows[1].figures["own"]
    assert figure.value.interval is None
    assert figure.gap and figure.gap.interval is None and figure.gap.p is None
    notes = " ".join(table.notes)
    assert "one seed, so no intervals" in notes and "Bold" not in notes and "Holm" not in notes
    assert "One seed: nothing can be said about differences" in notes


def test_what_is_missing_is_noted_for_the_rows_that_are_shown() -> None:
    results = [result for result in close() if (result.method, result.seed) not in (("third", 1), ("third", 3))]
    missing = [{"method": name, "seed": 1, "error": None} for name in ("third", "fourth")]
    notes = " ".join(table_of(results, missing=missing).notes)
    assert "Not finished, and missing here: third on seeds 1, 3; fourth on seed 1." in notes
    some = table_of(results, methods=("grouped", "pooled"), missing=missing)
    assert "Not finished" not in " ".join(some.notes)


def test_epsilons_are_there_where_something_is_promised() -> None:
    results = close()
    told = summary_of(results)
    nothing = told["methods"]["pooled"]["privacy"]
    terms = {"mechanism": ["noise"], "unit": "image", "adjacency": "replace", "delta": 1e-5, "not_covered": []}
    runs = [{"seed": seed, "epsilon": 7.5 + seed / 10, "data": {"epsilon": 9.0}} for seed in SEEDS]
    told["methods"]["grouped"]["privacy"] = {**nothing, **terms, "epsilon": 7.8, "runs": runs}
    told["methods"]["pooled"]["privacy"] = {**nothing, "epsilon": None, "not_covered": ["everything"]}
    table = result_table(told, results, "grouped")
    grouped, pooled, _ = (row.figures["epsilon"].value for row in table.rows)
    assert grouped.mean == 7.8 and grouped.per_seed == {1: 7.6, 2: 7.7, 3: 7.8}
    assert math.isinf(pooled.mean)
    assert any("grouped: epsilon by image, replace, at delta 1e-05" in note for note in table.notes)


def test_tables_can_be_stacked() -> None:
    first, second = table_of(close()), table_of([fake_result("pooled", 7, 50.0, False)], against=None)
    with pytest.raises(ValueError, match="one reference"):
        stacked("setting", {"a": first, "b": second})
    second = replace(table_of(close(0.3), methods=("grouped", "pooled")), about={"dataset": "cards"})
    table = stacked("setting", {"rho 0.4": first, "rho 1": second})
    assert table.names == ("setting", "method")
    assert [row.labels for row in table.rows] == [
        *(("rho 0.4", name) for name in ("grouped", "pooled", "third")),
        *(("rho 1", name) for name in ("grouped", "pooled")),
    ]
    assert table.rows[0].figures == first.rows[0].figures and table.rows[4].figures == second.rows[1].figures
    assert table.columns == first.columns
    assert table.about == {"rho 0.4": first.about, "rho 1": {"dataset": "cards"}}
    assert first.notes[0] in table.notes  # said by both
    power = [note for note in table.notes if "With these 3 seeds" in note]
    assert [note.partition(": ")[0] for note in power] == ["rho 0.4", "rho 1"]
