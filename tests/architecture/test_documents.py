"""The documents name things that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from secfpp.algorithms.base import methods
from secfpp.experiment.spec.config import parse_config
from secfpp.experiment.spec.schema import kinds
from secfpp.secure.clustering.clusterer import Clusterer

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    local = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_commands_exist(page: Path) -> None:
    named = set(re.findall(r"(?:^\$ |`)make ([a-z-]+)", page.read_text(), re.MULTILINE))
    assert named <= TARGETS, f"{name_of(page)} names targets that the Makefile lacks: {sorted(named - TARGETS)}"


def test_the_two_commands_stand_on_the_first_screen() -> None:
    top = "\n".join((ROOT / "README.md").read_text().splitlines()[:20])
    assert "$ make demo" in top
    assert "$ make test" in top


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_settings_shown_are_settings_that_work(page: Path) -> None:
    for example in re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        assert parse_config(tomllib.loads(example)).rounds > 0


def test_how_to_choose_knows_every_method_and_clusterer() -> None:
    text = (ROOT / "docs" / "how-to-choose.md").read_text()
    named = set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE))
    assert {*methods(), *kinds(Clusterer)} <= named


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    records = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert records
    for overview in (folder / "index.md", ROOT / "mkdocs.yml"):
        assert [name for name in records if name not in overview.read_text()] == []


OWN = {"zero_shot", "random_prompt", "class_means_local", "class_means", "secfpp"}
"""Methods that are from no paper, or told of elsewhere."""


def test_every_method_from_a_paper_has_a_page_that_is_listed() -> None:
    folder = ROOT / "docs" / "fidelity"
    pages = {path.stem for path in folder.glob("*.md")} - {"index"}
    assert pages == methods().keys() - OWN
    for overview in (folder / "index.md", ROOT / "mkdocs.yml"):
        assert [name for name in pages if f"{name}.md" not in overview.read_text()] == []
