"""From a config with published figures beside it to a run directory that needs no other file for its report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from secfpp.cli.app import app
from support_experiment import World, toy_world

CONFIG = """
seeds = [3, 4]
rounds = 2
[data]
name = "toy"
[method]
name = "pooled"
"""
FIGURES = """
source = "Somebody, 2020"
table = "Table 1"
url = "https://example.org"
settings.rounds = 50
settings.data.name = "toy"
[[figures]]
method = "pooled"
called = "FedAll"
own = 54
"""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    monkeypatch.chdir(tmp_path)
    Path("figures").mkdir()
    Path("figures/c.toml").write_text(FIGURES)
    Path("c.toml").write_text(CONFIG)
    return toy_world(monkeypatch)


def secfpp(*words: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == code, result.output
    return result


def compare(config: str, out: str, *words: str) -> Any:
    return secfpp("compare", config, "--out", out, "--workers", "1", "--methods", "pooled,grouped", *words)


def test_a_run_directory_shows_the_figures_when_the_config_is_gone(world: World) -> None:
    shown = compare("c.toml", "o").stdout
    assert "beside published figures: Somebody, 2020" in shown
    assert "1 of the 2 settings that are known of theirs are the same here" in shown
    shutil.rmtree("figures")
    Path("c.toml").unlink()
    summary = json.loads(secfpp("report", "o", "--json").stdout)
    (figure,) = summary["published"]["figures"]
    assert [ours["label"] for ours in figure["ours"]] == ["pooled"]
    assert figure["ours"][0]["accuracies"]["own"]["difference"] == pytest.approx(55.35 - 54)
    assert [row["key"] for row in summary["published"]["differing"]] == ["rounds"]
    assert summary["published"] == json.loads(Path("o/summary.json").read_text())["published"]
    assert 'id="published"' in Path("o/report.html").read_text()
    assert "beside published figures" in secfpp("report", "o").stdout


def test_an_extended_config_keeps_them_and_names_what_it_changed(world: World) -> None:
    Path("mine.toml").write_text('extends = "c.toml"\nrounds = 50\n[data]\nrho = 0.1\n')
    assert "All 2 settings" in compare("mine.toml", "o").stdout
    shown = secfpp("run", "mine.toml", "--out", "one", "--set", "rounds=1").stdout
    assert "rounds 50 1 all" in [" ".join(line.split()) for line in shown.splitlines()]


def test_all_else_is_as_without_them(world: World) -> None:
    compare("c.toml", "with")
    Path("figures/c.toml").unlink()
    assert "published" not in compare("c.toml", "without").stdout
    told, plain = (json.loads(Path(out, "summary.json").read_text()) for out in ("with", "without"))
    del told["published"]
    assert told["methods"] == plain["methods"] and told["differences"] == plain["differences"]
    assert set(told) == set(plain)
    for name in ("metrics.jsonl", "costs.jsonl"):
        assert Path("with", name).read_bytes() == Path("without", name).read_bytes()
    assert "published" not in Path("without/config.toml").read_text()
    assert world.trained == [("pooled", 3), ("grouped", 3), ("pooled", 4), ("grouped", 4)] * 2
    compare("c.toml", "with")  # the same run, though its figures are gone
    assert len(world.trained) == 8


def test_a_run_that_is_not_finished_says_so(world: World) -> None:
    def out_of_memory(method: str) -> None:
        if method == "pooled" and world.trained:
            raise MemoryError("no room")

    world.before_training = out_of_memory
    CliRunner().invoke(app, ["run", "c.toml", "--out", "o"])
    assert "Not all seeds are finished: pooled lacks 4." in secfpp("report", "o").stdout


def test_bad_figures_stop_a_run_before_it_begins(world: World) -> None:
    Path("figures/c.toml").write_text(FIGURES.replace("54", "154"))
    told = " ".join(secfpp("run", "c.toml", "--out", "o", code=2).stderr.split())
    assert "published.figures[0].own = 154" in told and "figures/c.toml" in told
    assert not Path("o").exists() and not world.trained


@pytest.mark.parametrize("bad", [FIGURES.replace("54", "154"), "= ="])
def test_settings_of_a_run_that_were_spoiled_are_named(world: World, bad: str) -> None:
    compare("c.toml", "o")
    config = Path("o/config.toml")
    config.write_text(config.read_text().replace("own = 54", "own = 154") if "154" in bad else bad)
    assert "config.toml" in secfpp("report", "o", code=2).stderr
