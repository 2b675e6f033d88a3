"""What summary, table and report say of differential privacy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from secfpp.cli.output import print_results, results_table
from secfpp.experiment.report.page import render_report
from secfpp.experiment.report.samples import sample_images
from secfpp.experiment.results.privacy_figures import epsilon_in_words, in_words, privacy, promised
from secfpp.experiment.results.result_record import result_from, result_record
from secfpp.experiment.results.summary import summarize
from secfpp.runtime.costs import Costs, Share
from support.report_pages import Page, section, words
from support_experiment import fake_result, toy_dataset

TERMS = {"unit": "record", "adjacency": "add_remove", "delta": 1e-5, "budget": None}


def sent(part: str | None) -> Costs:
    return Costs(components={part: Share(messages=3)} if part else {})


def run(
    seed: int, epsilon: float | None, part: str | None = "aggregator", total: float | None = 9.0, **more: Any
) -> Any:
    about = {
        **TERMS,
        "epsilon": epsilon,
        "mechanism": ["skellam"],
        "releases": seed,
        "covers": ["class sums"],
        "not_covered": ["partition"],
        "clients": {"anna": epsilon},
        "rounds": [{"round": 1, "epsilon": epsilon}],
        "data": {"epsilon": total, "releases": 2, "replaces": None},
        **more,
    }
    return SimpleNamespace(seed=seed, costs=sent(part), privacy=about)


def silent(part: str | None) -> Any:
    return SimpleNamespace(seed=0, costs=sent(part), privacy={})


def test_the_largest_epsilon_of_all_runs_counts():
    entry = privacy([run(1, 3.0), run(2, 3.5, not_covered=["classes"])])
    assert entry["epsilon"] == 3.5 and entry["releases"] == 2 and entry["unit"] == "record"
    assert entry["not_covered"] == ["classes", "partition"]
    assert [one["seed"] for one in entry["runs"]] == [1, 2]
    assert privacy([run(1, 3.0), run(2, None)])["epsilon"] is None


def test_who_promises_nothing_has_an_infinite_epsilon_unless_nothing_leaves():
    shares, alone = privacy([silent("aggregator")]), privacy([silent(None)])
    assert shares["epsilon"] is None and shares["not_covered"] == ["everything"]
    assert alone["epsilon"] == 0.0 and alone["not_covered"] == []
    assert epsilon_in_words(shares, "infinite") == "infinite" and epsilon_in_words(alone, "infinite") == "0"


def test_words_are_there_only_where_something_is_promised():
    shares = {"methods": {"a": {"privacy": privacy([silent("poll")])}}}
    assert promised(shares) == {} and in_words(shares) == []
    both = {"methods": {**shares["methods"], "b": {"privacy": privacy([run(1, 3.999)])}}}
    assert list(promised(both)) == ["a", "b"]
    (told,) = in_words(both)
    assert told.startswith("b: epsilon by record, add_remove, at delta 1e-05")
    assert "9" in told and told.endswith("not covered: partition")


@pytest.mark.parametrize("total", [None, 12.5])
def test_what_all_runs_have_cost_is_told(total):
    (told,) = in_words({"methods": {"b": {"privacy": privacy([run(1, 4.0, total=total)])}}})
    assert ("infinite" if total is None else "12.5") in told


def test_a_run_keeps_what_it_says_of_privacy():
    about = run(1, 4.0).privacy
    arrays, told = result_record(replace(fake_result(), privacy=about))
    assert result_from("m", 0, told, arrays).privacy == about
    del told["privacy"]
    assert result_from("m", 0, told, arrays).privacy == {}


def test_table_lines_and_report_say_the_epsilon(capsys):
    open_, kept = fake_result("open"), replace(fake_result("kept"), privacy=run(0, 3.996).privacy)
    for result in (open_, kept):
        result.costs.components["aggregator"] = Share(messages=9)
    summary = summarize("icons", "mini", 4, [open_, kept])
    head, *rows = results_table(summary)
    assert [row[head.index("epsilon")] for row in rows] == ["inf", "4"]
    assert "epsilon" not in results_table(summarize("icons", "mini", 4, [open_]))[0]
    print_results(summary, Path("o"))
    assert "kept: epsilon by record" in capsys.readouterr().out
    page = render_report(summary, [open_, kept], sample_images(toy_dataset()), "")
    Page(page)
    told = words(section(page, "security"))
    assert "kept 4 class sums by record, add_remove, at delta 1e-05" in told
    assert "round 1: 4" in told and "all runs on these data: 9" in told
    assert "open \N{INFINITY} nothing everything" in told
