from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secfpp.experiment.report.paper_tables import latex
from secfpp.experiment.report.table_formats import csv_rows
from secfpp.experiment.results.significance import holm, paired_p
from secfpp.experiment.results.summary import summarize
from secfpp.experiment.sweep import tables
from secfpp.experiment.sweep.figures import gather
from secfpp.experiment.sweep.page import charts, render_sweep
from secfpp.experiment.sweep.points import Sweep, plan_sweep
from support.report_pages import HOSTILE, Page, section, words
from support_experiment import fake_result, toy_world

SEEDS = (3, 4, 5)
CONFIG: dict[str, Any] = {
    "seeds": list(SEEDS),
    "rounds": 2,
    "data": {"name": "toy"},
    "method": {"name": "grouped"},
    "variants": {"grouped+one": {"base": "grouped", "class_prior": False}},
}
METHODS = ("pooled", "grouped", "grouped+one")


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch) -> None:
    toy_world(monkeypatch)


def planned(*over: str, **more: Any) -> Sweep:
    return plan_sweep(CONFIG, over, **{"methods": METHODS, **more})


def summary(own: dict[str, list[float]], domain: dict[str, list[float]] | None = None, **more: Any) -> dict[str, Any]:
    """Of methods with these own accuracies by seed; the own domain's are 5 points lower unless given."""
    results = []
    for method, values in own.items():
        for seed, value in zip(SEEDS, values, strict=False):
            result = fake_result(method, seed, value, clustered=False)
            lower = result.metrics["own_domain"] + ((domain or {}).get(method, own[method])[seed - 3] - value)
            results.append(replace(result, metrics={**result.metrics, "own_domain": lower}))
    return {**summarize("toy", "mini", 2, results), "missing": [], **more}


BASE = [60.0, 62.0, 61.0]
ABOVE = [61.0, 63.1, 61.9]
LEVEL = [60.5, 61.5, 61.0]


def two_points() -> dict[str, Any]:
    """At 4 shots `pooled` beats the reference on own alone, at 8 shots in both; a variant does so everywhere."""
    sweep = planned("data.shots=4,8")
    first = summary({"pooled": ABOVE, "grouped": BASE, "grouped+one": ABOVE}, {"pooled": LEVEL})
    second = summary({"pooled": ABOVE, "grouped": BASE, "grouped+one": ABOVE})
    return gather(sweep, {"data.shots=4": first, "data.shots=8": second})


def test_who_beats_the_reference_where() -> None:
    content = two_points()
    beaten = [{key: of for key, of in point["beaten"].items() if of} for point in content["points"]]
    without = {"own_no_prior": ["pooled"]}
    assert beaten[0]["own"] == ["pooled"] and "own_domain" not in beaten[0] and "both" not in beaten[0]
    assert beaten[1]["own"] == beaten[1]["own_domain"] == beaten[1]["both"] == ["pooled"]
    assert without.items() <= beaten[0].items()
    assert content["claim"]["own"] == {"beaten": 2, "of": 2}
    assert content["claim"]["both"] == {"beaten": 1, "of": 2}
    told = tables.claim(content)
    assert told[0] == "Own: grouped is beaten at 2 of 2 points: data.shots=4 (pooled); data.shots=8 (pooled)."
    assert told[2] == "Both at once: grouped is beaten at 1 of 2 points: data.shots=8 (pooled)."


def test_a_difference_that_may_be_chance_beats_nobody() -> None:
    content = gather(planned("data.shots=4"), {"data.shots=4": summary({"pooled": LEVEL, "grouped": BASE})})
    assert content["claim"]["own"] == {"beaten": 0, "of": 1}
    assert tables.claim(content)[0] == "Own: grouped is beaten at 0 of one point."


def test_p_values_are_corrected_for_all_points_of_a_metric() -> None:
    content = two_points()
    gaps = [gap for point in content["points"] for gap in point["differences"] if gap["metric"] == "own_domain"]
    alone = [paired_p(list(gap["per_seed"].values())) for gap in gaps]
    assert [gap["p"] for gap in gaps] == pytest.approx(alone) and len(gaps) == 4
    assert [gap["p_holm"] for gap in gaps] == pytest.approx(list(holm(dict(enumerate(alone))).values()))
    assert gaps[0]["mean"] == pytest.approx(np.mean(LEVEL) - np.mean(BASE))


def test_one_test_that_two_points_show_counts_once() -> None:
    sweep = planned("method.grouping.k_max=2,5", methods=("pooled", "grouped"), against="pooled")
    figures = summary({"pooled": BASE, "grouped@grouping.k_max=2": ABOVE, "grouped@grouping.k_max=5": LEVEL})
    points = gather(sweep, {"all": figures})["points"]
    one, other = (next(gap for gap in point["differences"] if gap["metric"] == "own") for point in points)
    assert one["p_holm"] == pytest.approx(2 * one["p"]) and other["p_holm"] == pytest.approx(other["p"])
    single = {"base": "grouped", "grouping": {"kind": "single"}}
    still = plan_sweep(
        {**CONFIG, "variants": {"single": single}},
        ["method.grouping.k_max=2,5"],
        methods=("pooled", "single", "grouped"),
        against="pooled",
    )
    points = gather(still, {"all": summary({"pooled": BASE, "single": ABOVE})})["points"]
    gaps = [gap for point in points for gap in point["differences"]]
    assert len(gaps) == 8 and all(gap["p_holm"] == gap["p"] for gap in gaps)


def test_seeds_that_were_not_asked_for_do_not_count() -> None:
    content = gather(planned("data.shots=4", seeds=(3, 5)), {"data.shots=4": summary({"grouped": BASE})})
    own = content["points"][0]["methods"]["grouped"]["figures"]["own"]
    assert own["per_seed"] == {"3": 60.0, "5": 61.0} and own["mean"] == 60.5


def test_what_is_missing_is_named() -> None:
    begun = summary({"pooled": BASE, "grouped": BASE[:2]}, missing=[{"method": "grouped", "seed": 5, "error": "gone"}])
    content = gather(planned("data.shots=4,8", methods=("pooled", "grouped")), {"data.shots=4": begun})
    assert len(content["missing"]) == 1 + 6
    assert content["missing"][0] == {"at": {"data.shots": "4"}, "method": "grouped", "seed": 5, "error": "gone"}
    assert tables.missing(content).startswith("Not finished: 7 methods x seeds, 1 of which failed.")
    assert content["points"][1]["methods"] == {} and "Not finished: 7" in words(render_sweep(content))


def test_one_seed_says_nothing_of_differences() -> None:
    sweep = planned("data.shots=4", seeds=(3,))
    content = gather(sweep, {"data.shots=4": summary({"pooled": [99.0], "grouped": [1.0]})})
    assert tables.claim(content) == [
        "No other method can be compared by differences yet: that takes two seeds of both."
    ]
    assert "+98.0" in tables.markdown(content) and "99.0 ±" not in tables.markdown(content)


def test_the_tables_in_markdown_have_the_figures() -> None:
    content = two_points()
    text = tables.markdown(content)
    assert "# grouped and 2 other methods at 2 points" in text
    assert "| data.shots | pooled | grouped | grouped+one |" in text
    assert "| 4 | 62.0 ±2.6 | 61.0 ±2.5 | 62.0 ±2.6 |" in text
    assert "pooled +1.0 (+0.8 to +1.2), p " in text and "grouped+one +1.0" not in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith(" |") for line in lines)


def test_the_tables_for_papers_and_programs_have_the_figures() -> None:
    content = two_points()
    table = tables.as_result_table(content)
    rows = list(csv.DictReader(io.StringIO(csv_rows(table))))
    own = next(row for row in rows if (row["data.shots"], row["method"], row["metric"]) == ("8", "pooled", "own"))
    gap = next(
        gap for gap in content["points"][1]["differences"] if (gap["method"], gap["metric"]) == ("pooled", "own")
    )
    assert float(own["mean"]) == 62.0 and float(own["difference"]) == pytest.approx(-1.0)
    assert [float(own["difference_low"]), float(own["difference_high"])] == [-gap["ci95"][1], -gap["ci95"][0]]
    assert own["seeds"] == "3" and float(own["p"]) == gap["p_holm"] > gap["p"] > 0
    reference = next(row for row in rows if (row["method"], row["metric"]) == ("grouped", "own"))
    assert reference["difference"] == reference["p"] == ""
    text = latex(table)
    assert "Data.shots & Method & " in text and r"\ \midrule" not in text and text.count(r"\begin{tabular}{ll") >= 2
    assert any(line.startswith("4 & pooled & ") for line in text.splitlines())
    assert any(line.startswith(" & grouped & ") for line in text.splitlines())


def test_numbers_are_drawn_along_a_line_with_intervals() -> None:
    content = two_points()
    own, domain = charts(content, content["axes"][0])
    assert (own.title, domain.title, own.axis, own.at) == ("Own", "Own domain", "data.shots", "")
    drawing = str(own.charts[""])
    assert drawing.count('class="line c') == 6 and drawing.count("upright") == 3
    assert "pooled ends at 62" in drawing and ">4</span>" in drawing and ">8</span>" in drawing


def test_each_combination_of_the_other_axes_has_its_chart_and_a_wide_axis_is_logarithmic() -> None:
    sweep = planned("rounds=1,10,100", "data.name=toy,icons", methods=("grouped",))
    figures = {place.folder: summary({"grouped": BASE}) for place in sweep.places}
    content = gather(sweep, figures)
    found = [chart for axis in content["axes"] if axis["values"] for chart in charts(content, axis)]
    assert [(c.title, c.at) for c in found] == [
        (title, f"data.name={name}") for title in ("Own", "Own domain") for name in ("toy", "icons")
    ]
    assert 'left:50.00%">10<' in str(found[0].charts[""])


def test_many_methods_have_a_chart_each() -> None:
    variants = {f"v{n}": {"base": "grouped"} for n in range(9)}
    sweep = plan_sweep({**CONFIG, "variants": variants}, ["data.shots=4,8"], methods=("grouped", *variants))
    figures = {place.folder: summary(dict.fromkeys(sweep.methods, BASE)) for place in sweep.places}
    content = gather(sweep, figures)
    own = charts(content, content["axes"][0])[0]
    assert list(own.charts) == list(sweep.methods)
    assert all(str(chart).count("line front upright") == 1 for chart in own.charts.values())
    Page(render_sweep(content))


def test_the_page_is_whole_and_loads_nothing() -> None:
    content = two_points()
    text = render_sweep(content)
    page = Page(text)
    assert "script" not in page.tags and [link for link in page.links if not link.startswith(("#", "data:,"))] == []
    told = words(section(text, "claim"))
    assert "Both at once: grouped is beaten at 1 of 2 points: data.shots=8 (pooled)." in told
    assert "+1.0 (+0.8 to +1.2)" in words(section(text, "differences"))
    assert "Own by data.shots" in words(section(text, "moves"))


def test_words_of_a_config_cannot_break_the_page() -> None:
    content = json.loads(json.dumps(two_points()).replace("data.shots", json.dumps(HOSTILE)[1:-1]))
    assert "<script>" not in render_sweep(content) and "onmouseover='x" not in render_sweep(content)
