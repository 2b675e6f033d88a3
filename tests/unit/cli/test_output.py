from __future__ import annotations

from pathlib import Path

import pytest

from secfpp.cli.output import aligned, print_results, results_table
from secfpp.experiment.results import summarize
from support_experiment import fake_result


def test_columns_stand_below_each_other() -> None:
    assert aligned([["name", "x"], ["a", "10.0"], ["longer", "9.5"]]) == [
        "name        x",
        "a        10.0",
        "longer    9.5",
    ]


def test_the_table_has_a_row_per_method() -> None:
    results = [fake_result("grouped", own=60), fake_result("pooled", own=55, clustered=False)]
    head, *rows = results_table(summarize("icons", "mini", 4, results))
    assert head[:4] == ["method", "own", "own domain", "other domains"]
    assert rows[0] == ["grouped", "60.0", "55.0", "45.0", "58.0", "2", "1.00", "40.0 KiB", "12.5 s"]
    assert rows[1][5:7] == ["-", "-"]


def test_intervals_are_shown_with_several_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    results = [fake_result(seed=seed, own=60 + seed) for seed in (1, 2)]
    summary = summarize("icons", "mini", 4, results)
    assert results_table(summary)[1][1] == "61.5 +-6.4"  # t(0.975, 1) * 0.7071 / sqrt(2)
    print_results(summary, Path("o"))
    shown = capsys.readouterr().out
    assert "seeds 1, 2" in shown
    assert "interval" in shown
    print_results(summarize("icons", "mini", 4, results[:1]), Path("o"))
    assert "one seed: no intervals" in capsys.readouterr().out
