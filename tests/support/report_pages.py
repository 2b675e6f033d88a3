"""Reports of made-up results, as text, and what is checked of every one."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from secfpp.experiment.report.page import render_report
from secfpp.experiment.report.samples import sample_images
from secfpp.experiment.results.summary import summarize
from support_experiment import fake_result, toy_dataset

HOSTILE = "<i onmouseover='x()'>\"&x</i><script>"
VOID = {"meta", "link", "img", "br", "wbr", "input"}


class Page(HTMLParser):
    """Checks that tags nest and links inside the page have ends, and collects what a browser would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        assert self.open == []
        assert len(set(self.ids)) == len(self.ids)
        assert {link[1:] for link in self.links if link.startswith("#")} <= set(self.ids)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def rendered(results: list[Any], config: str = "rounds = 4\n", **summary: Any) -> str:
    content = {**summarize("icons", "mini", 4, results), **summary}
    return render_report(content, results, sample_images(toy_dataset()), config)


def section(text: str, name: str) -> str:
    found = re.search(f'<section id="{name}">.*?</section>', text, re.DOTALL)
    assert found, name
    return found[0]


def words(text: str) -> str:
    """What is read, tags and spaces aside."""
    return " ".join(re.sub("<[^>]*>", " ", text.replace("<wbr>", "")).split())


def two(gap: float, seeds: tuple[int, ...] = (0,), jitter: float = 0.0) -> list[Any]:
    return [
        fake_result(name, seed, 60 + gain + jitter * (-1) ** seed * (name == "grouped"), name == "grouped")
        for name, gain in (("pooled", 0.0), ("grouped", gap))
        for seed in seeds
    ]
