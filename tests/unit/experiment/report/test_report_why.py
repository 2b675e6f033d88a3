from __future__ import annotations

from typing import Any

import pytest

from support.explained_runs import bare, explained_result, none_found, useful, useless
from support.report_pages import HOSTILE, Page, rendered, section, two, words


def test_why_clients_are_grouped_is_told_for_methods_that_say_so() -> None:
    results = [*two(1.0), explained_result(useful((2, 2)), "told"), explained_result(useless(), "useless")]
    text = rendered(results)
    Page(text)
    assert '<a href="#why">' in text
    told = words(section(text, "why"))
    assert "told: 2 groups, of use: members of a group" in told
    assert "useless: Groups: of no use here" in told  # in a fold
    assert "one-sided 95 % bound of their mean, lies right of what is asked for (1, dashed)" in told
    assert "Kappa: what groups disagree" in told and "chance up to 0.0" in told
    assert "all clients 4 42 70 73" in told and "1 \N{EN DASH} \N{EN DASH} 0.0 2 17.0 6.6 +10.4" in told
    assert "pooled" not in told
    assert '"why"' not in rendered(two(1.0)) and "#why" not in rendered(two(1.0))


def test_why_is_told_by_seed() -> None:
    text = rendered([explained_result(w, seed=s) for s, w in enumerate((useful(), useless(), none_found(), bare()))])
    Page(text)
    told = words(section(text, "why"))
    assert "Groups are used on 2 of 4 seeds" in told
    assert "Seed 1 groups: of no use here; members of a group predict each other&#39;s validation images" in told
    assert "1 2 1 0.05 +0.4 \N{MINUS SIGN}0.6" in told
    assert "What each level adds, seed 0" in told


@pytest.mark.parametrize("why", [none_found(), bare(), useful((1,) * 50)], ids=["none", "bare", "alone"])
def test_why_is_told_whatever_is_known(why: dict[str, Any]) -> None:
    text = rendered([explained_result(why)])
    Page(text)
    assert "What each level adds" in words(section(text, "why"))


def test_what_clients_are_called_is_escaped_in_why() -> None:
    why = useful()
    why["verdict"] = why["clients"][0]["client"] = HOSTILE
    text = rendered([explained_result(why)])
    Page(text)
    assert "<script" not in text and "<i " not in text
