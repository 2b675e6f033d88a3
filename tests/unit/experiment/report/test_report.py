from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secfpp.experiment.report.page import by_round, command, data_facts, render_report
from secfpp.experiment.report.samples import Samples, sample_images
from secfpp.experiment.results.security_costs import PHASES
from secfpp.experiment.results.summary import summarize
from secfpp.protocol.refusals import Refusal
from secfpp.runtime.costs import Share
from secfpp.runtime.evaluation import Example
from support.explained_runs import explained_result, useless
from support.report_pages import HOSTILE, Page, rendered, section, two, words
from support_experiment import fake_result, toy_dataset


def test_the_page_is_whole_and_loads_nothing_from_outside() -> None:
    text = rendered(two(3.0, (1, 2)))
    page = Page(text)
    assert page.links
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert "script" not in page.tags
    assert not re.search(r"https?://", text)
    assert "url(" not in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_names_and_settings_are_escaped() -> None:
    results = [
        replace(
            fake_result(method, seed, own=60 + seed, domains=(HOSTILE, "b"), per_domain=1),
            examples=(Example(HOSTILE, HOSTILE, 0, 0, 2, 0.5),),
        )
        for method in (HOSTILE, "other")
        for seed in (1, 2, 3)
    ][:-1]
    text = render_report(
        {**summarize(HOSTILE, HOSTILE, 4, results), "versions": {HOSTILE: HOSTILE}, "git": HOSTILE},
        results,
        replace(sample_images(toy_dataset()), rows={HOSTILE: (None, None, None)}),
        f"a = '</pre>{HOSTILE}'",
    )
    Page(text)
    assert "<script" not in text
    assert "<i " not in text
    assert "&lt;b&gt;" in text  # a class name


def test_the_page_says_that_it_is_private_and_how_to_read_it() -> None:
    text = words(rendered(two(1.0)))
    assert "Think before you share it" in text
    for term in ("Own domain", "Worst client", "no prior", "95 % interval", "Paired difference", "ARI"):
        assert term in words(section(rendered(two(1.0)), "reading"))


def test_sections_appear_only_with_something_to_show() -> None:
    full, bare = rendered(two(1.0, (1, 2))), rendered([fake_result("pooled", clustered=False, rounds=1)])
    for name in ("differences", "rounds", "clusters"):
        assert section(full, name)
        assert f'"{name}"' not in bare and f"#{name}" not in bare
    for name in ("accuracy", "clients", "images", "costs", "reading", "again"):
        assert section(full, name) and section(bare, name)
    Page(bare)


def test_a_best_is_marked_where_it_is_hardly_chance() -> None:
    clear = section(rendered(two(3.0, (1, 2, 3))), "accuracy")
    assert clear.count('<td class="best">63.0') == 1 and 'class="row best"' in clear
    for results in (two(3.0), two(0.3, (1, 2, 3), jitter=3.0)):
        text = section(rendered(results), "accuracy")
        assert 'class="best"' not in text and 'class="row best"' not in text
    assert "one seed names no best" in section(rendered(two(3.0)), "accuracy")


def test_the_table_has_every_method() -> None:
    text = section(rendered(two(3.0)), "accuracy")
    assert "Own, no prior" in text
    assert "Own domain, no prior" in text  # another figure in these results
    assert "Other domains, no prior" not in text
    assert "<small>" not in text  # one seed has no interval
    assert "<small>6" in section(rendered(two(3.0, (1, 2), 0.1)), "accuracy")


def test_privately_chosen_rounds_are_beside_the_last() -> None:
    results = two(3.0)
    assert "chose for itself" not in rendered(results)
    results = [replace(r, metrics={**r.metrics, "own_selected": r.metrics["own"] + 1.5}) for r in results]
    text = section(rendered(results), "accuracy")
    assert "chose for itself" in text and "64.5" in text


def test_a_metric_that_one_method_lacks_is_blank_there() -> None:
    pooled, grouped = two(3.0)
    pooled = replace(pooled, metrics={k: v for k, v in pooled.metrics.items() if not k.startswith("other")})
    text = rendered([pooled, grouped])
    Page(text)
    row = re.search(r'<tr><th scope="row">pooled</th>(.*?)</tr>', section(text, "accuracy"), re.DOTALL)
    assert row and "\N{EN DASH}" in row[1]
    assert "48.0" in section(text, "accuracy")  # the other's


def test_the_difference_to_the_method_of_the_settings_is_charted() -> None:
    results = two(3.0, (1, 2, 3), jitter=0.2)
    text = section(rendered(results, '[method]\nname = "pooled"'), "differences")
    assert "pooled, compared seed by seed" in words(text)
    assert text.count('class="row below"') == 3
    assert "\N{MINUS SIGN}3.1" in text or "\N{MINUS SIGN}2.9" in text
    assert section(rendered(results), "differences").count('class="row above"') == 3


def test_far_methods_do_not_squash_near_ones() -> None:
    results = [
        fake_result(name, seed, own + jitter * (-1) ** seed)
        for name, own, jitter in (("best", 80.0, 0.0), ("close", 79.0, 0.3), ("far", 20.0, 0.3))
        for seed in (1, 2, 3)
    ]
    text = section(rendered(results), "differences")
    chart = text[text.index('class="dots"') : text.index("<details")]
    assert len(re.findall('overflow="visible"', chart)) == 3  # the far one, in each of the three charts
    (place,) = re.findall(r'class="dot" cx="([\d.]+)%"', chart[: chart.index(">far<")])
    zero = float(re.findall(r'class="zero" x1="([\d.]+)%"', chart)[0])
    assert float(place) - zero > 20


def test_rounding_is_no_difference() -> None:
    results = two(0.0, (1, 2, 3))
    for result in results[3:]:
        result.metrics["own"][:] -= 1e-12
    text = section(rendered(results), "differences")
    assert 'class="row below"' not in text and 'class="row above"' not in text
    assert "\N{MINUS SIGN}0.0" not in text and "+0.0" not in text


def test_accuracies_are_drawn_between_0_and_100() -> None:
    text = section(rendered([fake_result("a", seed, own) for seed, own in ((1, 30), (2, 70))]), "accuracy")
    ticks = [float(tick) for tick in re.findall(r'<span style="left:[\d.]+%">([^<]*)</span>', text)]
    assert min(ticks) == 0 and max(ticks) == 100
    assert "\N{MINUS SIGN}" in text  # the interval of two seeds, in figures


def test_only_far_methods_are_all_in_the_chart() -> None:
    text = section(rendered(two(40.0, (1, 2, 3), jitter=0.3)), "differences")
    assert 'overflow="visible"' not in text
    assert text.count('class="dot" cx') == 3


def test_one_sided_bounds_are_in_the_figures() -> None:
    summary = summarize("icons", "mini", 4, two(3.0, (1, 2, 3), 0.1))
    for entry in summary["differences"]:
        entry |= {"lower95": 2.34, "upper95": 4.56}
    assert "+2.3" in words(section(rendered(two(3.0, (1, 2, 3), 0.1), **summary), "differences"))


def test_p_values_and_what_cannot_be_seen_stand_beside_differences() -> None:
    text = words(section(rendered(two(3.0, (1, 2, 3), 0.1)), "differences"))
    assert "With these 3 seeds, true differences under" in text
    assert "corrected for all methods of its table (Holm)" in text and "&lt;0.001" in text


def test_an_unfinished_comparison_says_what_is_missing() -> None:
    results = [*two(3.0, (1, 2, 3), 0.2)][:-2]
    text = rendered(results)
    Page(text)
    assert "Missing: grouped on seeds 2, 3" in words(text)
    assert "1 of 3 seeds" in text
    planned = [{"method": "grouped", "seed": 9, "error": None}, {"method": "<new>", "seed": 1, "error": "no <memory>"}]
    text = rendered(results, missing=planned)
    Page(text)
    assert "1 of 4 seeds" in text
    assert "grouped on seeds 2, 3, 9; &lt;new&gt; on seed 1" in words(text)
    assert "seed 1, failed: no &lt;memory&gt;" in words(text)
    assert "Not finished" not in rendered(two(3.0, (1, 2)))


def test_nothing_finished_is_a_page_too() -> None:
    text = rendered([], data={"0": {"concepts": 7}})
    Page(text)
    assert "Nothing to compare yet" in text


def test_few_methods_share_a_chart_and_many_get_one_each() -> None:
    few, many = ([fake_result(f"m{i}", own=50 + i) for i in range(n)] for n in (6, 12))
    assert [list(item.charts) for item in by_round(few)] == [[""], [""]]
    assert [list(item.charts) for item in by_round(many)] == [[f"m{i}" for i in range(12)]] * 2
    assert by_round(many)[0].last["m3"] == "53.0"
    text = section(rendered(many), "rounds")
    assert text.count('class="line front"') == 24
    assert len(re.findall("<h4>", text)) == 24
    assert section(rendered(few), "rounds").count('class="stroke"') == 6


def test_rounds_without_a_figure_are_left_out() -> None:
    result = fake_result("a")
    rows = tuple({**row, "loss": float("nan") if row["round"] == 2 else None, "own": row["own"]} for row in result.rows)
    (item,) = by_round([replace(result, rows=rows)])
    assert item.title == "Own accuracy, %"
    assert by_round([replace(result, rows=())]) == []


def test_a_method_of_one_round_has_no_line_and_no_place_in_the_legend() -> None:
    text = section(rendered([fake_result("long"), fake_result("short", rounds=1)]), "rounds")
    assert "long" in text and "short" not in text


def test_predictions_are_right_or_wrong_in_words() -> None:
    seen = tuple(Example("domain 0", "domain 0/0", 0, label, got, p) for label, got, p in ((0, 0, 0.91), (1, 0, 0.4)))
    results = [replace(result, examples=seen) for result in two(1.0)]
    text = section(rendered(results), "images")
    assert words(text).count("right 91 %") == 2
    assert words(text).count("wrong: cat 40 %") == 2
    assert 'id="every"' not in text
    results += [replace(fake_result(name, own=9), examples=seen) for name in ("zero_shot", "last")]
    text = section(rendered(results), "images")
    assert "show all 4 methods" in text
    assert text.count('class="guess more"') == 1
    assert "zero_shot" in words(text.replace('class="guess more"', ""))


def test_without_stored_images_there_is_no_section_for_them() -> None:
    results = two(1.0)
    text = render_report(summarize("icons", "mini", 4, results), results, Samples((), (), {}), "")
    Page(text)
    assert "<img" not in text and '"images"' not in text


def test_what_was_refused_is_said() -> None:
    results = two(1.0)
    accused = tuple(Refusal(by, "sketch-9", "tampering", 1, "aggregator.share") for by in "abc")
    results[0] = replace(results[0], refusals=accused, colluding=2)
    text = render_report(summarize("icons", "mini", 4, results), results, Samples((), (), {}), "")
    assert text.count("<b>Refused.</b>") == 1
    assert "3 by clients (tampering); the run went on without sketch-9." in words(text)


def test_newcomers_stand_beside_the_clients_who_trained() -> None:
    late = {"own": np.array([50.0, 52.0]), "own_domain": np.array([np.nan, 40.0])}
    results = [replace(result, newcomers=("x", "y"), newcomer_metrics=late) for result in two(3.0)[:1]]
    told = words(section(rendered([*results, *two(3.0)[1:]]), "accuracy"))
    assert "Clients that joined after training" in told
    assert "pooled 2 51.0 others 60.0 40.0 others 55.0 \N{EN DASH}" in told
    assert "joined after training" not in rendered(two(3.0))


def test_true_groups_are_called_domains_only_if_they_are() -> None:
    plain = words(section(rendered(two(1.0)), "clusters"))
    assert "No method is told the true groups, which are the domains" in plain and "Clients of each domain" in plain
    results = [replace(result, groups=("p", "q") * 3) for result in two(1.0)]
    told = words(section(rendered(results), "clusters"))
    assert "No method is told the true groups (" in told and "Clients of each true group" in told
    assert "True group cluster 0 cluster 1 p 2 1 q 1 2" in told
    assert "cluster 0: 3" in told and "cluster 1: 3" in told  # the legend of shapes


def sending(name: str, up: int = 2048) -> Any:
    """A run whose clusterer took part in 7 exchanges; every client sent `up` bytes and received 4 KiB."""
    result = fake_result(name)
    result.costs.components["clusterer"] = Share(exchanges=7, messages=9, up=6 * up, down=6 * 4096)
    return result


def secured(results: list[Any], **promised: Any) -> str:
    """The section on security, where the method ``grouped`` promises this."""
    summary = summarize("icons", "mini", 4, results)
    summary["methods"]["grouped"]["security"] |= promised
    text = render_report(summary, results, sample_images(toy_dataset()), "")
    Page(text)
    return section(text, "security")


def test_every_phase_that_costs_something_is_explained() -> None:
    text = rendered([fake_result("a", rounds=1)])
    told = text.partition("<dt>Phases</dt>")[2].partition("</dd>")[0]
    assert all(f"{phase.capitalize()}:" in told for phase in PHASES.values())


def test_costs_are_told_by_phase() -> None:
    text = rendered([sending("grouped")])
    assert "40.0 KiB" in words(section(text, "costs"))  # 41,000 bytes
    told = words(section(text, "security"))
    assert "Methods in the clear, by phase" in told
    assert "grouped clustering 7 2.0 KiB 4.0 KiB 36.0 KiB 0.00 s" in told
    assert "grouped training 0 0 B 0 B 0 B 1.5 s" in told
    assert "grouped all 40 2.0 KiB 4.0 KiB 36.0 KiB 1.5 s" in told


def test_a_method_stands_beside_itself_in_the_clear() -> None:
    told = words(secured([sending("grouped"), sending("grouped+clear", 1024), sending("pooled")]))
    times = "\N{MULTIPLICATION SIGN}"
    beside = f"2.0 KiB clear 1.0 KiB, {times}2.0 4.0 KiB clear 4.0 KiB, {times}1.0 36.0 KiB clear 30.0 KiB, {times}1.2"
    assert f"grouped clustering 7 clear 7, {times}1.0 {beside} 0.00 s clear 0.00 s grouped training" in told
    others = told[told.index("Other methods, by phase") :]
    assert "grouped+clear clustering 7 1.0 KiB" in others and "pooled clustering 7 2.0 KiB" in others
    assert times not in others and "grouped clustering" not in others


def test_who_learns_what_is_told() -> None:
    told = words(secured([sending("grouped")], reveal="<partition>", holders=16, threshold=2))
    assert "grouped &lt;partition&gt; 16 2" in told
    assert "Below each figure" not in told  # nothing to compare with
    assert "grouped not stated 9" in words(secured([sending("grouped")], reveal=None, holders=9, threshold=3))
    parts = {"clustering": {"reveal": "partition", "max_dropouts": 5}, "aggregation": {"holders": 9, "threshold": None}}
    told = words(secured([sending("grouped")], reveal="partition", holders=None, threshold=None, **parts))
    assert (
        "grouped partition clustering: reveal partition, max dropouts 5 aggregation: holders 9 \N{EN DASH} \N{EN DASH}"
        in told
    )


def test_without_costs_there_is_nothing_about_security() -> None:
    result = fake_result("zero_shot")
    result.costs.seconds.clear()
    text = rendered([result])
    assert '"security"' not in text and "#security" not in text


def test_a_twin_in_the_clear_is_no_rival_whose_guesses_are_shown() -> None:
    seen = (Example("domain 0", "domain 0/0", 0, 0, 0, 0.9),)
    results = [replace(fake_result(name, own=own), examples=seen)
               for name, own in (("grouped", 60), ("grouped+clear", 60), ("pooled", 50), ("last", 40))]  # fmt: skip
    text = section(rendered(results), "images").replace("<wbr>", "")
    assert re.findall(r'<tr class="guess more"><th scope="row">([^<]*)', text) == ["grouped+clear", "last"]


def test_settings_versions_and_data_are_told() -> None:
    facts = {"0": {"drawings": {"train": 5}}}
    text = rendered(two(1.0), "alpha = 0.25", versions={"torch": "9.8"}, git="cafe123", data=facts, wall_seconds=65.0)
    for told in ("alpha = 0.25", "9.8", "cafe123", "drawings: train 5", "1 min 05 s"):
        assert told in text
    assert "not run from a checkout" in rendered(two(1.0))
    assert "40 % take part per round" in words(rendered(two(1.0), participation=0.4))
    assert "take part" not in words(rendered(two(1.0), participation=1.0))


@pytest.mark.parametrize("per_domain", [1, 50])
def test_any_number_of_clients_fits(per_domain: int) -> None:
    text = rendered([fake_result("a", per_domain=per_domain)])
    Page(text)
    assert section(text, "clients").count('<th scope="row">') == 2 * per_domain
    assert ('class="scroll tall"' in text) is (per_domain == 50)


def test_a_single_client_and_a_long_name_are_a_page() -> None:
    text = rendered([fake_result("a" * 200, domains=("only",), per_domain=1)])
    Page(text)
    assert "<b>1</b> client<" in text and "<b>1</b> domain<" in text
    assert section(text, "clusters").count("<td>\N{EN DASH}</td>") == 2  # no ARI, no purity with one domain


def test_the_command_gives_these_methods_on_these_seeds() -> None:
    one, several = summarize("icons", "mini", 4, two(1.0)[1:]), summarize("icons", "mini", 4, two(1.0, (3, 5)))
    assert command(one) == "secfpp run config.toml --method grouped --out DIR"
    assert command(several) == "secfpp compare config.toml --methods pooled,grouped --seeds 3,5 --out DIR"
    assert "--method 'a b'" in command({"methods": {"a b": {}}, "seeds": [1]})
    assert "compare config.toml" in section(rendered(two(1.0)), "again")


def test_facts_about_the_data_are_told() -> None:
    summary = {"seeds": [3], "data": {"3": {"drawings": {"train": 5, "test": 2}, "concepts": 7}}}
    assert data_facts(summary) == ["drawings: train 5, test 2", "concepts: 7"]
    assert data_facts({"seeds": [3]}) == []
    assert data_facts({"seeds": []}) == []


def test_the_reason_for_one_group_is_in_sight() -> None:
    one = [replace(explained_result(useless(), "a", seed), assignment=(0,) * 6) for seed in (1, 2)]
    reason = "2 groups found, gain 0.4 \N{PLUS-MINUS SIGN} 1.0, 1.0 needed: one group used"
    assert words(section(rendered(one[:1]), "clusters")).count(reason) == 1
    several = section(rendered(one), "clusters")
    assert words(several).count(reason) == 2
    assert "<details open><summary>By seed" in several
    assert "<details><summary>By seed" in section(rendered(two(1.0, (1, 2))), "clusters")
