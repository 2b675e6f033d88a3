"""The examples of the documents are run, and print what the documents say they print."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from secfpp.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = {
    "python-api.md": {"python": 6, "console": 2},
    "own-data.md": {"python": 5, "console": 1},
    "data/index.md": {"python": 2, "console": 2},
}
"""Pages whose blocks are run, with how many there are at least."""
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"(?<![\w-])\d+\.\d+")
TOLERANCE = 0.05  # of decimal fractions: other versions of PyTorch round otherwise


def assert_printed(printed: str, promised: str) -> None:
    """Both are the same text, decimal fractions up to `TOLERANCE`."""
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", promised)
    found, expected = ([float(number) for number in NUMBER.findall(text)] for text in (printed, promised))
    assert found == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("page", PAGES)
def test_the_page_does_what_it_says(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    ran, printed = [], ""
    for language, block in FENCE.findall((ROOT / "docs" / page).read_text(encoding="utf-8")):
        if language == "python":
            exec(compile(block, page, "exec"), vars(module))
            printed = capsys.readouterr().out
        elif language == "toml" and (named := re.match(r"# (\S+\.toml)$", block, re.MULTILINE)):
            Path(named[1]).write_text(block, encoding="utf-8")
        elif language == "text":
            assert_printed(printed, block)
        elif language == "console":
            for line in block.replace("\\\n", "").splitlines():
                program, *words = shlex.split(line.removeprefix("$ "))
                result = CliRunner().invoke(app, words)
                assert (program, result.exit_code) == ("secfpp", 0), result.output
        ran.append(language)
    assert {language: ran.count(language) >= least for language, least in PAGES[page].items()} == dict.fromkeys(
        PAGES[page], True
    )


def test_other_pages_show_the_same_example() -> None:
    tested = [
        block
        for page in PAGES
        for language, block in FENCE.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))
        if language == "python"
    ]
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
            if language == "python" and "load_folder(" in block:
                assert block in tested, f"{page.name} shows an example that no tested page has"


def test_a_difference_is_noticed() -> None:
    assert_printed("a 0.90 b\n", "a 0.93 b\n")
    for other in ("a 0.90 c\n", "a 0.70 b\n", "a 0.90 b\nmore\n", ""):
        with pytest.raises(AssertionError):
            assert_printed(other, "a 0.93 b\n")
