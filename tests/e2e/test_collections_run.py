"""Collections as they lie on a disk, through a whole run with the embedded model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from secfpp.cli.app import app
from secfpp.data.collection import ROOT_VARIABLE
from secfpp.data.collections.office_caltech import TEN
from support.collections_on_disk import OFFICE, caltech101, cifar, domain_lists

MAKE: dict[str, Callable[[Path], Any]] = {
    "caltech101": caltech101,
    "cifar10": cifar,
    "office_caltech": lambda root: domain_lists(root / "office_caltech_10", OFFICE, TEN, 6, 2, "pkl"),
}


@pytest.mark.parametrize("name", MAKE)
def test_a_round_is_trained_on_a_collection(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECFPP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(ROOT_VARIABLE, "")
    MAKE[name](tmp_path / "data")
    Path("c.toml").write_text(
        f'rounds = 1\n[data]\nname = "{name}"\nclients_per_domain = 2\nshots = 4\nsize = 48\n'
        '[method]\nname = "promptfl"\n'
    )
    words = ["run", "c.toml", "--data-root", "data", "--out", "o"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    summary = json.loads(Path("o/summary.json").read_text())
    assert summary["dataset"] == name and 0 <= summary["methods"]["promptfl"]["own"]["mean"] <= 100
    assert "data_root" not in Path("o/config.toml").read_text() or 'data_root = ""' in Path("o/config.toml").read_text()


def test_a_collection_that_is_elsewhere_goes_on_with_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where images lie is no part of what a run depends on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECFPP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(ROOT_VARIABLE, "")
    caltech101(tmp_path / "data")
    Path("c.toml").write_text(
        'rounds = 1\n[data]\nname = "caltech101"\nclients_per_domain = 2\nsize = 48\n[method]\nname = "promptfl"\n'
    )
    run = ["compare", "c.toml", "--out", "o", "--methods", "zero_shot", "--data-root"]
    assert CliRunner().invoke(app, [*run, "data"]).exit_code == 0
    Path("data").rename("moved")
    again = CliRunner().invoke(app, [*run, "moved"])
    assert again.exit_code == 0, again.output
