"""The report in a real browser: silent, alone, whole and readable, at 1280 and at 420 pixels, light and dark.

Needs Chromium or Chrome (or its path in $CHROMIUM). Without one the tests are skipped, unless
SECFPP_REQUIRE_BROWSER=1, which makes its absence an error.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from secfpp.experiment.report.holdings_map import holdings_map
from secfpp.experiment.report.page import render_report
from secfpp.experiment.report.samples import sample_images
from secfpp.experiment.results.holdings import partition_table
from secfpp.experiment.results.summary import summarize
from secfpp.runtime.costs import Share
from secfpp.runtime.evaluation import Example
from support import published_runs
from support.browser import Browser, find_browser
from support.explained_runs import bare, explained_result, none_found, useful, useless
from support.page_faults import faults
from support_experiment import fake_result, toy_dataset

WIDTHS = (1280, 420)
DOMAINS = tuple(f"domain {number}" for number in range(6))


def results(names: tuple[str, ...], seeds: range, domains: tuple[str, ...] = DOMAINS, per_domain: int = 5) -> list[Any]:
    """Runs of which the first method is ahead and the last is far behind."""
    found = []
    for seed in seeds:
        for rank, name in enumerate(names):
            own = 70 - rank - 30 * (rank == len(names) - 1) + (seed * (rank + 3)) % 4
            result = fake_result(name, seed, own, "secfpp" in name, 8, domains, per_domain)
            rows = tuple({**row, "validation": row["own"]} for row in result.rows)
            seen = tuple(Example(d, f"{d}-0", 0, c, (c + rank) % 3, 0.5) for d in domains for c in range(3))
            more = {f"{key}_selected": values - 1 for key, values in result.metrics.items() if "prior" not in key}
            result.costs.components.update(SHARES if rank < 6 else {})
            result.costs.seconds.update(dict.fromkeys(result.costs.components, 0.7 * (rank + 1)))
            if "secfpp" in name:
                result = replace(result, why=useful((per_domain,) * len(domains)))
            late = {"newcomers": ("x", "y"), "newcomer_metrics": {"own": result.metrics["own"][:2]}}
            found.append(replace(result, **late, rows=rows, examples=seen, metrics={**result.metrics, **more}))
    return found


def page(runs: list[Any], config: str = "rounds = 8\n", **more: Any) -> str:
    facts = {"0": {"drawings": {"train": 181, "test": 121}}}
    about = {"versions": {"python": "3.11.7"}, "git": "49e1768816a2686a4b1349b41cbcb84f5fc5f422", "data": facts}
    samples = sample_images(toy_dataset(n_domains=len(DOMAINS)), seed=0)
    summary = {**summarize("icons", "mini", 8, runs), **about, **more}
    for name in {"secfpp", LONG} & summary["methods"].keys():
        summary["methods"][name]["security"] |= PROMISES
    held = holdings_map(0, partition_table(toy_dataset(n_domains=len(DOMAINS))))
    return render_report(summary, runs, samples, config, held)


SHARES = {name: Share(20, 1200, up, 3 * up) for name, up in (("clusterer", 9_876), ("aggregator", 12_345_678))}
DEMO = (
    "secfpp",
    "secfpp+clear",
    "coop_local+means",
    "coop_local",
    "class_means_local",
    "class_means",
    "promptfl",
    "zero_shot",
    "random_prompt",
)
MANY = (
    *("secfpp+oracle", "secfpp", "coop_local+logit_adjusted", "coop_local+means", "coop_local", "secfpp+one"),
    *("secfpp_paper", "secfpp+random", "promptfl+logit_adjusted", "promptfl", "zero_shot", "random_prompt"),
)
PROMISES = {"reveal": "partition", "holders": 16, "threshold": 2, "clustering": {"reveal": "partition", "holders": 16}}
WHY = {
    "secfpp": [useful((5,) * 6), useless((5,) * 6), none_found(30)],
    "secfpp+all": [useful((17,) * 6)] * 2,
    "secfpp+alone": [useful((1,) * 100)],
    "secfpp+bare": [bare()],
}
LONG = "averyverylongmethodnamewithoutanyplacetobreakit" * 2
_LONG_TOO = {"data": {"name": LONG}, "method": {"training": {"steps": 7}}, LONG: 3}
OTHERS = published_runs.summary(published=replace(published_runs.PUBLISHED, settings=_LONG_TOO, url=LONG))["published"]


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses of reports: like the demo's, a large comparison, and awkward ones."""
    folder = tmp_path_factory.mktemp("reports")
    texts = {
        "demo": page(results(DEMO, range(1))),
        "many": page(results(MANY, range(5)), "alpha = 0.3 # " + "x" * 300 + '\n[method]\nname = "secfpp"\n'),
        "long": page(results((LONG, "<b>bold</b>"), range(2), (DOMAINS[0], LONG), 1)[:-1]),
        "crowd": page(results(MANY[5:], range(1), DOMAINS[:1], per_domain=100)),
        "why": page(
            [explained_result(why, name, seed) for name, seeds in WHY.items() for seed, why in enumerate(seeds)]
        ),
        "published": page(published_runs.runs(tuple(published_runs.LABELS)), published=OTHERS),
        "none": page([]),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: (folder / f"{name}.html").as_uri() for name in texts}


@pytest.mark.parametrize("name", ["demo", "many", "long", "crowd", "why", "published", "none"])
def test_the_page_is_silent_alone_and_readable(browser: Browser, pages: dict[str, str], name: str) -> None:
    with browser.visit(pages[name]) as visit:
        for width in WIDTHS:
            for dark in (False, True):
                visit.resize(width, dark=dark)
                assert faults(visit, pages[name]) == []
        assert visit.requests == [pages[name]]


def test_every_section_has_a_way_to_it(browser: Browser, pages: dict[str, str]) -> None:
    with browser.visit(pages["many"], 420) as visit:
        linked = visit.evaluate("[...document.querySelectorAll('nav a')].map(link => link.hash.slice(1))")
        assert linked == visit.evaluate("[...document.querySelectorAll('section')].map(part => part.id)")
        assert {"accuracy", "differences", "rounds", "clients", "clusters", "why", "images", "costs", "security"} < set(
            linked
        )
        visit.evaluate("document.querySelector('nav a[href=\"#costs\"]').click()")
        assert visit.evaluate("location.hash") == "#costs"


def test_all_predictions_are_a_key_away(browser: Browser, pages: dict[str, str]) -> None:
    shown = "[...document.querySelectorAll('.guess')].filter(row => row.offsetHeight > 0).length"
    with browser.visit(pages["many"]) as visit:
        assert visit.evaluate(shown) == 3 * len(DOMAINS)
        visit.evaluate("document.querySelector('#every').focus()")
        visit.press(" ", 32)
        assert visit.evaluate(shown) == len(MANY) * len(DOMAINS)
        assert faults(visit, pages["many"]) == []


def test_wide_tables_scroll_in_their_place_and_keep_their_names(browser: Browser, pages: dict[str, str]) -> None:
    with browser.visit(pages["many"], 420) as visit:
        box = "document.querySelector('#clients .scroll')"
        assert visit.evaluate(f"{box}.scrollWidth > {box}.clientWidth")
        name = f"{box}.querySelector('tbody tr + tr th').getBoundingClientRect().left"
        cell = name.replace(" th'", " td'")
        visit.evaluate(f"{box}.scrollLeft = 50")
        before, moving = visit.evaluate(name), visit.evaluate(cell)
        visit.evaluate(f"{box}.scrollLeft = 150")
        assert visit.evaluate(name) == before
        assert visit.evaluate(cell) == moving - 100


@pytest.mark.parametrize("name", ["demo", "many", "long", "why"])
def test_a_table_that_is_cut_says_so_and_no_other(browser: Browser, pages: dict[str, str], name: str) -> None:
    boxes = """[...document.querySelectorAll('.scroll')]
      .filter(box => box.offsetHeight && box.querySelector('table')).map(box => [box.scrollWidth > box.clientWidth,
        box.querySelector('.sideways')?.getBoundingClientRect().width > 60])"""
    with browser.visit(pages[name]) as visit:
        visit.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
        found = []
        for width in WIDTHS:
            visit.resize(width)
            found += visit.evaluate(boxes)
        assert [cut for cut, told in found if cut != told] == []
        assert {cut for cut, _ in found} == {False, True}
        hint = "document.querySelector('#costs .sideways').getBoundingClientRect().right"
        box = "document.querySelector('#costs .scroll')"
        assert visit.evaluate(hint) <= visit.evaluate(f"{box}.getBoundingClientRect().right")
        visit.evaluate(f"{box}.scrollLeft = 40")
        assert visit.evaluate(hint) <= visit.evaluate(f"{box}.getBoundingClientRect().right")


def test_the_scale_of_a_long_chart_stays_while_its_rows_scroll(browser: Browser, pages: dict[str, str]) -> None:
    with browser.visit(pages["why"], 420) as visit:
        visit.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
        box = "document.querySelector('#why .tall')"
        assert visit.evaluate(f"{box}.scrollHeight > {box}.clientHeight")
        scale, row = (f"{box}.querySelector('{part}').getBoundingClientRect().top" for part in (".head", ".one"))
        visit.evaluate(f"{box}.scrollTop = 100")
        before, moving = visit.evaluate(scale), visit.evaluate(row)
        visit.evaluate(f"{box}.scrollTop = 300")
        assert visit.evaluate(scale) == before
        assert visit.evaluate(row) == moving - 200


def test_dark_is_dark_and_paper_is_white(browser: Browser, pages: dict[str, str]) -> None:
    lightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((sum, c) => sum + +c, 0) / 765"
    with browser.visit(pages["demo"], dark=True) as visit:
        assert visit.evaluate(lightness) < 0.15
        visit.resize(1280)
        assert visit.evaluate(lightness) > 0.9
        visit.call("Emulation.setEmulatedMedia", media="print", features=[])
        assert visit.evaluate(lightness) == 1
        assert visit.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"


BROKEN = {
    "an error in a script": ("</body>", "<script>undefinedThing()</script></body>", "ReferenceError"),
    "a warning": ("</body>", "<script>console.warn('careful')</script></body>", "console.warning: careful"),
    "a picture from elsewhere": ("</main>", '<img src="http://127.0.0.1:9/cat.png" alt="cat"></main>', "request: http"),
    "a style from elsewhere": ("</head>", '<link rel="stylesheet" href="file:///nowhere.css"></head>', "nowhere.css"),
    "a broken picture": ("</main>", '<img src="data:image/png;base64,AAAA" alt="torn"></main>', "not loaded: torn"),
    "a box that is too wide": ("</main>", '<div style="width: 2000px">wide</div></main>', "wider than the window"),
    "words cut off": (
        "</main>",
        '<div style="overflow: hidden"><p style="width: 2000px; text-align: right">cut</p></div></main>',
        "cut",
    ),
    "tiny words": ("</main>", '<p style="font-size: 10px">footnote</p></main>', "small words, 10 px: footnote"),
    "an empty section": ("</main>", '<section id="empty"></section></main>', "not to be seen: empty"),
    "ticks on each other": ('class="axis">', 'class="axis"><span style="left: 0%">1000000</span>', "ticks overlap"),
}


def with_faults(policy: bool) -> str:
    """A small page in which everything in `BROKEN` is wrong."""
    text = page(results(DEMO[:2], range(1), DOMAINS[:1], 1))
    for old, new, _ in BROKEN.values():
        assert old in text
        text = text.replace(old, new, 1)
    return text if policy else text.replace("Content-Security-Policy", "X-No-Policy")


@pytest.fixture(scope="session")
def found(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the checks say of that page without the policy that would keep some of it from happening."""
    broken = tmp_path_factory.mktemp("broken") / "broken.html"
    broken.write_text(with_faults(policy=False), encoding="utf-8")
    with browser.visit(broken.as_uri(), 420) as visit:
        return faults(visit, broken.as_uri())


@pytest.mark.parametrize("what", BROKEN)
def test_these_checks_would_find(found: list[str], what: str) -> None:
    assert any(BROKEN[what][2] in fault for fault in found), found


def test_the_policy_of_the_page_keeps_others_out(browser: Browser, tmp_path: Path) -> None:
    guarded = tmp_path / "guarded.html"
    guarded.write_text(with_faults(policy=True), encoding="utf-8")
    with browser.visit(guarded.as_uri(), 420) as visit:
        refused = [complaint for complaint in visit.complaints if "Content Security Policy" in complaint]
        assert len(refused) == 4  # two scripts, a picture and a style
        assert not any("ReferenceError" in complaint or "careful" in complaint for complaint in visit.complaints)


def test_an_absent_browser_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_browser() is None
    monkeypatch.setenv("CHROMIUM", "/opt/chrome")
    assert find_browser() == "/opt/chrome"
