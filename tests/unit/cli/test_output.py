from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from secfpp.cli.output import (
    aligned,
    bare_table,
    differences_table,
    newcomers_table,
    power_notes,
    print_results,
    results_table,
    signed,
)
from secfpp.experiment.results.summary import summarize
from secfpp.runtime.trainer import RunResult
from support import published_runs
from support.explained_runs import explained_result, useless
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
    each_its_own = fake_result(domains=tuple("abcdef"), per_domain=1)
    assert results_table(summarize("x", "mini", 4, [each_its_own]))[1][5:7] == ["6", "-"]


def test_intervals_are_shown_with_several_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    results = [fake_result(seed=seed, own=60 + seed) for seed in (1, 2)]
    summary = summarize("icons", "mini", 4, results)
    assert results_table(summary)[1][1] == "61.5 +-6.4"  # t(0.975, 1) * 0.7071 / sqrt(2)
    print_results(summary, Path("o"))
    shown = capsys.readouterr().out
    assert "seeds 1, 2" in shown
    assert "interval" in shown
    print_results(summarize("icons", "mini", 4, results[:1]), Path("o"))
    print_results(summarize("icons", "mini", 1, results[:1]), Path("o"))
    assert "model mini, one round, seed 1" in (shown := capsys.readouterr().out) and "4 rounds" in shown
    print_results(summarize("icons", "mini", 4, results[:1]), Path("o"))
    assert "one seed: no intervals" in capsys.readouterr().out


def compared(*seeds: int) -> dict[str, Any]:
    """`a` and `b` on `seeds`, `c` without a cluster on the first; b is 1, 2, 3, ... points above a."""
    results = [fake_result("a", seed, 50.0) for seed in seeds]
    results += [fake_result("b", seed, 51.0 + i) for i, seed in enumerate(seeds)]
    return summarize("icons", "mini", 4, [*results, fake_result("c", seeds[0], 40.0, clustered=False)])


def test_the_number_of_seeds_is_shown_while_methods_differ_in_it() -> None:
    head, *rows = results_table(compared(1, 2))
    assert head[-1] == "seeds" and [row[-1] for row in rows] == ["2", "2", "1"]
    assert results_table(compared(1))[0][-1] == "time"


def test_accuracies_without_the_prior_have_a_block_of_their_own() -> None:
    head, first, *_ = bare_table(compared(1))
    assert head == ["method", "own", "own domain"]
    assert first == ["a", "42.0", "44.0"]


def test_no_block_without_prior_where_nobody_uses_one() -> None:
    summary = compared(1)
    for method in summary["methods"].values():
        method |= {name: method[name.removesuffix("_no_prior")] for name in method if name.endswith("_no_prior")}
    assert bare_table(summary) == []
    for method in summary["methods"].values():
        del method["own_no_prior"], method["own_domain_no_prior"]
    assert bare_table(summary) == []


def test_differences_are_seen_from_the_chosen_method() -> None:
    summary = compared(1, 2, 3)
    head, *rows = differences_table(summary, "b")
    assert head[0] == "against" and head.count("at least") == 2
    assert [row[0] for row in rows] == ["a", "c"]
    # 2 +- t / sqrt(3), with t(0.975, 2) = 4.303 and t(0.95, 2) = 2.920
    assert rows[0][1:4] == ["+2.0", "-0.5 to +4.5", "+0.3"]
    assert rows[1][1:5] == ["+11.0", "-", "-", "-"]  # one seed shared
    assert differences_table(summary, "a")[1][1:4] == ["-2.0", "-4.5 to +0.5", "-3.7"]
    assert differences_table(compared(1), "nobody") == []


def test_p_values_are_corrected_for_the_methods_of_a_column() -> None:
    gaps = {"a": (2.0, 2.5, 3.1), "b": (0.4, 0.1, 0.9)}
    results = [fake_result(m, s, 60 - gaps[m][s]) for m in gaps for s in range(3)]
    results += [fake_result("x", s, 60.0) for s in range(3)]
    head, *rows = differences_table(summarize("icons", "mini", 4, results), "x")
    assert head[4] == head[8] == "p" and len(rows) == 2
    single = sorted(float(ttest_1samp(of, 0).pvalue) for of in gaps.values())
    assert [rows[0][4], rows[1][4]] == [f"{2 * single[0]:.3f}", f"{max(single[1], 2 * single[0]):.2f}"]


def test_what_the_seeds_cannot_see_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    summary = compared(1, 2, 3)  # spread 1, of the pair that shares three seeds
    print_results(summary, Path("o"), "b")
    assert "With these 3 seeds, true differences under 3.3 points" in capsys.readouterr().out
    assert power_notes(compared(1), "b") == [
        "One seed: nothing can be said about differences, neither that there are any nor that there are none."
    ]
    assert power_notes(summarize("icons", "mini", 4, [fake_result()]), "grouped") == []


def test_what_is_missing_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    missing = [{"method": "c", "seed": 2, "error": None}, {"method": "c", "seed": 3, "error": "no memory"}]
    print_results({**compared(1, 2), "missing": missing}, Path("o"), "b")
    shown = capsys.readouterr().out
    assert "missing: 2 of 7 methods x seeds" in shown
    assert "c, seed 2: not finished" in shown and "c, seed 3: no memory" in shown
    assert "b minus the others, in points" in shown


def test_a_method_without_a_metric_is_printed_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    summary = compared(1)
    del summary["methods"]["c"]["other_domains"]
    print_results(summary, Path("o"), "a")
    assert "c " in capsys.readouterr().out
    assert results_table(summary)[3][3] == "-"


def test_differences_that_round_to_zero_have_no_sign() -> None:
    assert [signed(value) for value in (-0.0, 0.04, -0.04, 0.06, -1.26)] == ["0.0", "0.0", "0.0", "+0.1", "-1.3"]


def with_newcomers(result: RunResult, own: float) -> RunResult:
    late = {"own": np.array([own - 1, own + 1]), "own_domain": np.array([own, np.nan]), "own_no_prior": np.zeros(2)}
    return replace(result, newcomers=("a", "b"), newcomer_metrics=late)


def test_newcomers_have_a_block_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    results = [fake_result("a"), with_newcomers(fake_result("b"), 61.0)]
    assert newcomers_table(summarize("icons", "mini", 4, results)) == [
        ["method", "clients", "own", "own domain"],
        ["b", "2", "61.0", "61.0"],
    ]
    results = [with_newcomers(fake_result("b", seed), 60.0 + seed) for seed in (1, 2)]
    assert newcomers_table(summarize("icons", "mini", 4, results))[1][2] == "61.5 +-6.4"
    print_results(summarize("icons", "mini", 4, results), Path("o"))
    assert "newcomers: clients that joined after training" in capsys.readouterr().out
    print_results(compared(1), Path("o"))
    assert "newcomers" not in capsys.readouterr().out


def test_agreement_is_said_to_be_with_the_true_groups(capsys: pytest.CaptureFixture[str]) -> None:
    print_results(compared(1), Path("o"))
    assert "ARI: agreement of groups with the true ones" in capsys.readouterr().out
    print_results(summarize("icons", "mini", 4, [fake_result("a", clustered=False)]), Path("o"))
    assert "ARI:" not in capsys.readouterr().out


def one_group(method: str, seed: int = 0) -> RunResult:
    result = explained_result(useless(), method, seed)
    return replace(result, assignment=(0,) * len(result.clients))


def test_one_group_has_a_reason_and_no_agreement(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [one_group("secfpp"), one_group("secfpp+clear"), fake_result("grouped")]
    summary = summarize("icons", "mini", 4, runs)
    assert [row[5:7] for row in results_table(summary)[1:]] == [["1", "-"], ["1", "-"], ["2", "1.00"]]
    assert summary["methods"]["secfpp"]["clusters"]["decisions"] == [
        "2 groups found, gain 0.4 ± 1.0, 1.0 needed: one group used"
    ]
    print_results(summary, Path("o"))
    reason = "2 groups found, gain 0.4 +- 1.0, 1.0 needed: one group used"
    shown = capsys.readouterr().out.splitlines()
    assert f"secfpp, secfpp+clear: {reason}" in shown
    assert not any(line.startswith("grouped:") for line in shown)
    several = summarize("icons", "mini", 4, [one_group("secfpp", 1), fake_result("secfpp", 2)])
    assert several["methods"]["secfpp"]["clusters"] | {"sizes": 0, "decisions": 0} == {
        "k": 1.5, "ari": 1.0, "purity": 1.0, "judged": 1, "sizes": 0, "decisions": 0,
    }  # fmt: skip
    print_results(several, Path("o"))
    assert f"secfpp: seed 1: {reason}" in capsys.readouterr().out


def test_published_figures_are_shown_with_ours_and_the_settings_that_differ(capsys: pytest.CaptureFixture[str]) -> None:
    print_results(published_runs.summary(), Path("o"))
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "beside published figures: Somebody & Co, 2020" in shown
    assert "pooled FedAll own 59.25 60.5 +-6.4 +1.2 - -" in shown
    assert "own, no prior 59.25 52.5 +-6.4 -6.8" in shown and "neighbour 40.00 - -" in shown
    assert "pooled+dp FedAll own 50.00 60.5 +-6.4 +10.5 0.1 18.7" in shown
    assert "No run here of: absent (FedNone)." in shown and "FedAll: with <tricks>." in shown
    assert "method.training.steps 7 5 pooled, pooled+slow" in shown
    assert any(line.startswith("Own is not the same measure") for line in shown)


def test_without_noise_epsilons_are_not_shown_and_equal_settings_have_no_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    equal = {"rounds": 50, "participation": 0.5, "dropout": 0.1}
    published = replace(published_runs.PUBLISHED, settings=equal)
    print_results(published_runs.summary(("pooled", "grouped"), published=published, settings=equal), Path("o"))
    shown = capsys.readouterr().out
    assert "All 3 settings that are known of theirs are the same here." in shown
    assert "epsilon printed" not in shown and "setting  " not in shown
    print_results(
        published_runs.summary(("grouped",), published=replace(published, figures=published.figures[3:])), Path("o")
    )
    assert "called there" not in (shown := capsys.readouterr().out) and "No run here of: absent (FedNone)." in shown
