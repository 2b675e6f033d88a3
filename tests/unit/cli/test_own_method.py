"""The method of another package that the page about contributing shows: found, listed, trained."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from secfpp.algorithms.base import GROUP, methods
from secfpp.errors import ConfigError
from secfpp.models.prompt_file import load_prompt

PAGE = (Path(__file__).parents[3] / "docs" / "contributing.md").read_text(encoding="utf-8")
CONFIG = """
rounds = 3
[data]
name = "icons"
shots = 6
validation_shots = 2
test_shots = 2
clients_per_domain = 4
domains = ["sketch", "pixel"]
[backbone]
device = "cpu"
threads = 1
[method]
name = "fine_tuned"
own_rounds = 1
training.steps = 2
training.batch = 8
"""


def block(language: str, pattern: str) -> str:
    (found,) = (
        text for text in re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S) if re.search(pattern, text)
    )
    return found


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder in which the package lies as installers put it."""
    package, about = tmp_path / "my_methods", tmp_path / "my_methods-1.0.dist-info"
    for folder in (package, about):
        folder.mkdir()
    (package / "__init__.py").touch()
    (package / "fine_tuned.py").write_text(block("python", "class FineTuned"))
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my_methods\nVersion: 1.0\n")
    entry = block("ini", GROUP).replace(f'[project.entry-points."{GROUP}"]', f"[{GROUP}]").replace('"', "")
    (about / "entry_points.txt").write_text(entry)
    return tmp_path


def secfpp(folder: Path, *words: str) -> str:
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.run(
        [sys.executable, "-c", "from secfpp.cli import main; main()", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_it_is_listed_and_trains(installed: Path) -> None:
    listed = {row["name"]: row["description"] for row in json.loads(secfpp(installed, "list", "methods", "--json"))}
    assert listed["fine_tuned"].startswith("The common prompt, and then steps")
    (installed / "c.toml").write_text(CONFIG)
    secfpp(installed, "run", "c.toml", "--out", "own")
    secfpp(installed, "run", "c.toml", "--out", "shares", "--set", "method.aggregator.kind=secure")
    own, shares = (prompts(installed / name) for name in ("own", "shares"))
    assert len(own) == len(set(own.values())) == 8
    assert shares == own


def prompts(folder: Path) -> dict[str, bytes]:
    """Each client's prompt, by its file."""
    files = sorted(folder.rglob("prompts/**/*.safetensors"))
    return {path.name: load_prompt(path).prompt.tobytes() for path in files}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("secfpp.algorithms.base:Nothing", "cannot be loaded: AttributeError"),
        ("secfpp.algorithms.base:FederatedAlgorithm", "should be a class derived from secfpp.FederatedAlgorithm"),
    ],
)
def test_one_that_cannot_be_used_is_named(
    value: str, words: str, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (installed / "my_methods-1.0.dist-info" / "entry_points.txt").write_text(f"[{GROUP}]\nmine = {value}\n")
    monkeypatch.syspath_prepend(str(installed))
    methods.cache_clear()
    try:
        with pytest.raises(ConfigError, match=words) as caught:
            methods()
    finally:
        monkeypatch.undo()
        methods.cache_clear()
    assert "of my_methods (entry point 'mine'" in str(caught.value)
