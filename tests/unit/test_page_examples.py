"""The examples of the documents are run, and print what the documents say they print."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from secfpp.cli.app import app

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "python-api.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"(?<![\w-])\d+\.\d+")
TOLERANCE = 0.05  # of decimal fractions: other versions of PyTorch round otherwise


def assert_printed(printed: str, promised: str) -> None:
    """Both are the same text, decimal fractions up to `TOLERANCE`."""
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", promised)
    found, expected = ([float(number) for number in NUMBER.findall(text)] for text in (printed, promised))
    assert found == pytest.approx(expected, abs=TOLERANCE)


def test_the_python_page_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    ran, printed = [], ""
    for language, block in FENCE.findall(PAGE.read_text(encoding="utf-8")):
        if language == "python":
            exec(compile(block, PAGE.name, "exec"), names)
            printed = capsys.readouterr().out
        elif language == "text":
            assert_printed(printed, block)
        elif language == "console":
            for line in block.replace("\\\n", "").splitlines():
                program, *words = shlex.split(line.removeprefix("$ "))
                result = CliRunner().invoke(app, words)
                assert (program, result.exit_code) == ("secfpp", 0), result.output
        ran.append(language)
    assert ran.count("python") >= 6 and ran.count("console") >= 2
    assert Path("shared.safetensors").is_file()


def test_other_pages_show_the_same_example() -> None:
    tested = [block for language, block in FENCE.findall(PAGE.read_text()) if language == "python"]
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
            if language == "python" and "load_folder(" in block:
                assert block in tested, f"{page.name} shows an example that docs/python-api.md, which is tested, lacks"


def test_a_difference_is_noticed() -> None:
    assert_printed("a 0.90 b\n", "a 0.93 b\n")
    for other in ("a 0.90 c\n", "a 0.70 b\n", "a 0.90 b\nmore\n", ""):
        with pytest.raises(AssertionError):
            assert_printed(other, "a 0.93 b\n")
