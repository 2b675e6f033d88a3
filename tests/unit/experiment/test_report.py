from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from secfpp.experiment.report import (
    best_method,
    breakable,
    data_facts,
    headline,
    render_report,
    sample_images,
)
from secfpp.experiment.results import summarize
from support_experiment import fake_result, toy_dataset

VOID = {"meta", "link", "img", "br", "wbr"}


class Page(HTMLParser):
    """Checks that tags nest, and collects what a browser would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def summary_of(results: list[Any]) -> dict[str, Any]:
    return summarize("icons", "mini", 4, results)


def rendered(results: list[Any], config: str = "rounds = 4\n") -> str:
    return render_report(summary_of(results), results, sample_images(toy_dataset()), config)


def two(gap: float, seeds: tuple[int, ...] = (0,), jitter: float = 0.0) -> list[Any]:
    return [
        fake_result(name, seed, 60 + gain + jitter * (-1) ** seed * (name == "grouped"), name == "grouped")
        for name, gain in (("pooled", 0.0), ("grouped", gap))
        for seed in seeds
    ]


def test_the_page_is_whole_and_loads_nothing_from_outside() -> None:
    text = rendered(two(3.0))
    page = Page(text)
    assert page.links
    assert all(link.startswith("data:") for link in page.links)
    assert "script" not in page.tags
    assert not re.search(r"https?://", text)
    assert "url(" not in text
    assert "prefers-color-scheme: dark" in text


def test_names_and_settings_are_escaped() -> None:
    text = rendered([fake_result("<i>x</i>", own=60)], config="a = '</pre><script>'")
    Page(text)
    assert "<script" not in text
    assert "<i>x" not in text
    assert "&lt;b&gt;" in text  # a class name


def test_one_seed_is_honest_about_having_no_interval() -> None:
    title, sentence = headline(summary_of(two(3.0)))
    assert title == "grouped leads on clients' own data: 63.0 %, 3.0 points above pooled"
    assert "one seed (0), so no interval" in sentence
    assert "<small>" not in rendered(two(3.0))


def test_several_seeds_with_a_clear_gap_are_called_so() -> None:
    title, sentence = headline(summary_of(two(3.0, (1, 2, 3, 4), jitter=0.2)))
    assert "grouped leads" in title
    assert "Paired over 4 seeds the difference is +3.0" in sentence
    assert "does not explain it" in sentence


def test_an_interval_over_zero_is_no_lead() -> None:
    title, sentence = headline(summary_of(two(0.3, (1, 2, 3, 4), jitter=3.0)))
    assert "are level" in title
    assert "not settled" in sentence


def test_equal_methods_are_level_and_one_method_is_just_told() -> None:
    assert "are level" in headline(summary_of(two(0.0)))[0]
    title, _ = headline(summary_of([fake_result("grouped", own=61.24)]))
    assert title == "grouped reaches 61.2 % on its clients' own data"
    _, sentence = headline(summary_of([fake_result("grouped", s, own=61.0 + s) for s in (1, 2)]))
    assert "interval is" in sentence


def test_sections_appear_only_with_something_to_show() -> None:
    full, bare = rendered(two(1.0, (1, 2))), rendered([fake_result("pooled", clustered=False, rounds=1)])
    for title in ("compared seed by seed", "Who was grouped with whom", "Round by round"):
        assert title in full
        assert title not in bare
    assert "Without the class prior" in bare
    assert full.count("<small>") > 4


def test_the_table_has_every_method_and_marks_the_best() -> None:
    text = rendered(two(3.0))
    assert text.count('class="best">63.0') == 1
    assert "40.0 KiB" in text  # 41,000 bytes
    assert "ARI <b>1.00</b>" in text


def test_best_method_is_per_metric() -> None:
    summary = summary_of(two(3.0))
    summary["methods"]["pooled"]["other_domains"]["mean"] = 99.0
    assert best_method(summary, "own") == "grouped"
    assert best_method(summary, "other_domains") == "pooled"


def test_names_break_after_underscores_and_are_escaped() -> None:
    assert breakable("a_b<") == "a_<wbr>b&lt;"


def test_facts_about_the_data_are_told() -> None:
    summary = {"seeds": [3], "data": {"3": {"drawings": {"train": 5, "test": 2}, "concepts": 7}}}
    assert data_facts(summary) == ["drawings: train 5, test 2", "concepts: 7"]
    assert data_facts({"seeds": [3]}) == []
