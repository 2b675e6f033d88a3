"""Runs under differential privacy from the command line: their ledger over runs, and a new one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from secfpp.cli.app import app

CONFIG = """
rounds = 1
[data]
name = "icons"
shots = 6
validation_shots = 2
test_shots = 2
clients_per_domain = 4
domains = ["sketch", "pixel"]
[backbone]
device = "cpu"
[method]
name = "class_means"
poll = "plain"
[method.privacy]
mechanism = "class_means"
epsilon = 8.0
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SECFPP_LEDGERS", str(tmp_path / "ledgers"))
    (tmp_path / "c.toml").write_text(CONFIG)
    return tmp_path / "c.toml"


def told(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result.output


def trained(config: Path, *options: str) -> dict:
    told("run", str(config), "--out", str(config.parent / "out"), *options)
    return json.loads((config.parent / "out" / "summary.json").read_text())["methods"]["class_means"]["privacy"]


def test_epsilons_add_up_over_runs_until_a_new_ledger_is_begun(config: Path) -> None:
    first = trained(config)
    assert first["epsilon"] == pytest.approx(8, rel=0.01) and first["mechanism"] == ["skellam"]
    assert first["covers"] == ["everybody's class sums"] and "numbers of images" in first["not_covered"]
    assert set(first["runs"][0]["clients"].values()) == {first["epsilon"]}
    second = trained(config, "--force")
    assert second["epsilon"] == first["epsilon"] and second["runs"][0]["data"]["epsilon"] > 1.2 * first["epsilon"]
    listed = told("privacy", "ledger", str(config.parent / "out"), "--unit", "record")
    assert listed.count("everybody's class sums") == 2
    third = trained(config, "--force", "--new-ledger")
    assert third["runs"][0]["data"]["epsilon"] == first["epsilon"]
    assert third["runs"][0]["data"]["replaces"]
    assert len(list((config.parent / "ledgers").glob("*.jsonl"))) == 2


def test_a_budget_that_is_spent_ends_a_run_with_the_remedy(config: Path) -> None:
    budget = ("--set", "method.privacy.epsilon_budget=9.0")
    trained(config, *budget)
    result = CliRunner().invoke(app, ["run", str(config), "--out", str(config.parent / "more"), *budget])
    assert result.exit_code and "budget is 9" in result.output + str(result.exception)
