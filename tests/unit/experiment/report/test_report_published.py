"""The section of the report with published figures."""

from __future__ import annotations

from dataclasses import replace

from support.published_runs import LABELS, PUBLISHED, runs, summary
from support.report_pages import HOSTILE, Page, rendered, section, words

DASH = "\N{EN DASH}"


def page(**more: object) -> str:
    return rendered(runs(tuple(LABELS)), published=summary(**more)["published"])  # type: ignore[arg-type]


def test_ours_stand_beside_theirs_with_the_settings_that_differ() -> None:
    text = page()
    Page(text)
    assert '<a href="#published">' in text
    told = words(section(text, "published"))
    assert "Somebody &amp; Co, 2020: Table 1. https://example.org/paper" in told
    assert f"pooled FedAll own 59.25 60.5 54.1 to 66.9 +1.2 {DASH} {DASH}" in told
    assert "pooled FedAll own, no prior 59.25 52.5 46.1 to 58.9 \N{MINUS SIGN}6.8" in told
    assert f"pooled FedAll neighbour 40.00 {DASH} {DASH}" in told
    assert "pooled+dp FedAll own 50.00 60.5 54.1 to 66.9 +10.5 0.1 18.7" in told
    assert "No run here of: absent (FedNone)." in told and "Own is not the same measure" in told
    assert "FedAll: with &lt;tricks&gt;." in told
    assert "rounds 50 4 all" in told
    assert "method.training.steps 7 5 pooled, pooled+slow" in told
    assert "dropout 0.1 not comparable: no such setting here all" in told


def test_without_noise_there_are_no_columns_of_epsilon() -> None:
    told = words(section(page(labels=("pooled", "grouped")), "published"))
    assert "ε" not in told and "pooled FedAll own 59.25 60.5 54.1 to 66.9 +1.2 pooled FedAll own, no prior" in told


def test_an_infinite_epsilon_is_shown_as_such() -> None:
    results = runs(("pooled+dp",), (0, 1), None)
    told = words(section(page(labels=("pooled+dp",), results=results), "published"))
    assert "+10.5 0.1 ∞" in told


def test_a_page_without_published_figures_has_no_such_section() -> None:
    assert "published" not in rendered(runs(("pooled",)))


def test_with_nothing_beside_them_there_is_no_table() -> None:
    told = section(page(published=replace(PUBLISHED, figures=PUBLISHED.figures[3:])), "published")
    assert "<table" not in told and "No run here of: absent (FedNone)." in told


def test_hostile_words_do_no_harm() -> None:
    figures = tuple(replace(figure, called=HOSTILE, note=HOSTILE) for figure in PUBLISHED.figures)
    settings = {HOSTILE: HOSTILE, "data": {"name": HOSTILE}}
    told = page(published=replace(PUBLISHED, source=HOSTILE, url=HOSTILE, settings=settings, figures=figures))
    found = Page(told)
    assert "script" not in found.tags and "i" not in found.tags
