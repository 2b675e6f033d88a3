from __future__ import annotations

import html
import re
from dataclasses import replace
from typing import Any

from secfpp.experiment.report.why_charts import Explained, explained
from support.explained_runs import bare, explained_result, none_found, useful, useless
from support_experiment import fake_result


def one(*kept: dict[str, Any]) -> Explained:
    (found,) = explained([explained_result(why, seed=seed) for seed, why in enumerate(kept)])
    return found


def rows(chart: str | None, kind: str = r"\w*") -> list[str]:
    """Labels of a chart's rows of a kind."""
    names = re.findall(rf'<div class="row {kind}"><span class="who">(.*?)</span>', str(chart))
    return [html.unescape(name.replace("<wbr>", "")) for name in names]


def places(chart: str | None, kind: str, at: str = "cx") -> list[float]:
    return [float(x) for x in re.findall(rf'class="{kind}" {at}="([\d.]+)%"', str(chart))]


def test_gains_stand_below_their_groups() -> None:
    found = one(useful((2, 1, 2)))
    assert rows(found.gains) == [
        "all clients",
        *("group 0", "style 0-0", "style 0-1"),
        "group 1: style 1-2",
        *("group 2", "style 2-3", "style 2-4"),
    ]
    assert rows(found.gains, "mean") == ["all clients", "group 0", "group 1: style 1-2", "group 2"]
    assert str(found.gains).count('class="span"') == 3  # one client has no bound
    assert str(found.gains).count('class="asked"') == 8
    assert "(1 asked for)" in str(found.gains) and "at least +" in str(found.gains)
    assert not found.long and one(useful((17,) * 6)).long and one(useful((1,) * 100)).long


def test_margin_and_zero_are_always_on_the_scale() -> None:
    why = useful((3, 3), gain=30)
    why["test"]["margin"] = 42.0
    (mark,) = set(places(one(why).gains, "asked", "x1"))
    assert 0 < mark <= 100
    ticks = re.findall(r'<span style="left:[\d.]+%">([^<]*)</span>', str(one(why).gains))
    assert "0" in ticks


def test_a_bar_ends_at_the_mean_and_begins_at_the_bound() -> None:
    chart = one(useful((3, 3))).gains
    starts, ends = places(chart, "span", "x1"), re.findall(r'class="span".*? x2="([\d.]+)%"', str(chart))
    dots = places(chart, "dot")
    assert starts[0] < float(ends[0]) == dots[0]


def test_scores_lie_beside_the_place_of_noise() -> None:
    found = one(useful())
    assert rows(found.candidates, "best") == ["2 groups"]
    assert rows(found.candidates)[0] == "1 group"
    assert str(found.candidates).count('class="span"') == 7
    (zero,) = set(places(found.candidates, "zero", "x1"))
    ends = re.findall(r'class="span".*? x2="([\d.]+)%"', str(found.candidates))
    assert {float(end) for end in ends} == {zero}
    starts = places(found.candidates, "span", "x1")
    assert starts == sorted(starts, reverse=True)  # more groups agree more by chance
    why = useful()
    for candidate in why["candidates"]:
        candidate["null"] += 2 * candidate.pop("null_spread")
    assert one(why).candidates == found.candidates


def test_kappa_is_beside_what_chance_gives_on_every_seed() -> None:
    found = one(useful(), none_found(), useless())
    assert rows(found.kappa) == ["seed 0", "seed 1", "seed 2"]
    assert str(found.kappa).count('class="seed"') == 40
    assert "chance up to 0.0" in str(found.kappa) and "one group" in str(found.kappa)
    assert found.verdict == "Groups are used on 1 of 3 seeds"


def test_levels_add_up() -> None:
    found = one(useful((2, 2)))
    assert rows(found.levels) == ["start prompt", "+ own means", "+ everybody's", "+ the group's", "+ training"]
    assert str(found.levels).count('class="seed"') == 10
    assert "<b>41.5</b>" in str(found.levels) and "<small>+28.6</small>" in str(found.levels)
    assert [name for name, *_ in found.table.rows] == ["all clients", "group 0", "group 1"]
    assert [row[1] for row in found.table.rows] == [4, 2, 2]
    assert [cell.value for cell in found.table.rows[2][2]] == [42.0, 70.1, 73.0, 77.2, 79.0]


def test_where_nothing_is_known_nothing_is_drawn() -> None:
    found = one(none_found())
    assert found.gains is None and found.kappa is None
    assert len(found.table.rows) == 1 and 'class="seed"' not in str(found.levels)
    found = one(bare())
    assert found.candidates is None and found.kappa is None
    assert found.gains is not None and 'class="asked"' not in str(found.gains)
    assert rows(found.gains)[-1] == "in no group: odd"
    blind = none_found()
    for client in blind["clients"]:
        client["levels"] = {}
    found = one(blind)
    assert found.levels is None and found.table.rows == ()


def test_methods_that_say_the_same_are_one_and_the_reference_is_first() -> None:
    runs = [
        explained_result(useless(), "other"),
        explained_result(useful(), "secfpp"),
        explained_result(useful(), "secfpp+clear"),
        fake_result("pooled"),
    ]
    assert [item.methods for item in explained(runs)] == [("other",), ("secfpp", "secfpp+clear")]
    assert explained(runs, "secfpp")[0].methods == ("secfpp", "secfpp+clear")
    assert explained([replace(runs[1], why={})]) == []


def test_names_cannot_break_out_of_the_charts() -> None:
    why = useful()
    why["clients"][0]["client"] = '"><script>'
    assert "<script" not in str(one(why).gains)
