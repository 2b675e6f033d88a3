"""`secfpp compare --shard`: parts of a comparison in directories of their own, put together by the call without it."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from secfpp.cli.app import app
from secfpp.errors import ConfigError
from secfpp.experiment.results.run_directory import open_run_directory, open_shard
from secfpp.experiment.run.shards import Shard
from secfpp.experiment.spec.plan import Cell, Plan
from support_experiment import World, toy_world

CONFIG = """
seeds = [4, 3]
rounds = 2
[data]
name = "toy"
[method]
name = "grouped"
[variants.grouped-prior]
base = "grouped"
class_prior = false
"""
LABELS = ("pooled", "grouped", "grouped-prior")
CELLS = [(label, seed) for seed in (4, 3) for label in LABELS]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.toml").write_text(CONFIG)
    return toy_world(monkeypatch)


def compare(*words: str, out: str = "o", code: int = 0) -> Any:
    command = ["compare", "c.toml", "--methods", ",".join(LABELS), "--workers", "1", "--out", out, *words]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def refused(*words: str, out: str = "o", code: int = 2) -> str:
    return " ".join(compare(*words, out=out, code=code).stderr.split())


def files(out: str) -> dict[str, Any]:
    """What a run directory holds, without seconds and what its shards trained."""
    found: dict[str, Any] = {}
    for path in Path(out).rglob("*"):
        name = path.relative_to(out).as_posix()
        if path.is_file() and not name.startswith(("shards/", ".lock")):
            found[name] = b"" if path.suffix in (".html", ".safetensors") else path.read_bytes()
    summary = json.loads(found["summary.json"])
    return {**found, "summary.json": {**summary, "wall_seconds": 0}}


def plan(labels: int, seeds: int) -> Plan:
    return Plan({}, {str(n): {} for n in range(labels)}, {str(n): tuple(range(seeds)) for n in range(labels)})


@pytest.mark.parametrize(("labels", "seeds", "count"), [(3, 2, 1), (3, 2, 4), (3, 2, 6), (5, 8, 8), (9, 8, 7)])
def test_every_cell_is_in_one_shard(labels: int, seeds: int, count: int) -> None:
    whole = plan(labels, seeds)
    parts = [Shard(count, index).part(whole, range(seeds)).cells for index in range(1, count + 1)]
    assert sorted(cell for part in parts for cell in part) == sorted(whole.cells)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    if count == seeds:
        assert all(len({cell.seed for cell in part}) == 1 for part in parts)


@pytest.mark.parametrize("text", ["0/3", "4/3", "-1/3", "1/0", "1", "a/b", "1/3/5", "1.5/3", "9999999/9999999", "²/3"])
def test_what_is_no_shard_is_refused(world: World, text: str) -> None:
    assert f"--shard = '{text}': I/N" in refused("--shard", text)
    assert not Path("o").exists()


def test_more_shards_than_cells_are_refused(world: World) -> None:
    assert "at most 6 shards" in refused("--shard", "1/7")
    assert not Path("o").exists()


def test_options_that_each_shard_would_follow_for_all_are_refused(world: World) -> None:
    message = refused("--shard", "1/2", "--force", "--new-ledger")
    assert "--force" in message and "--new-ledger" in message


@pytest.mark.parametrize("count", [1, 3, 6])
def test_shards_put_together_are_the_run_in_one(world: World, count: int) -> None:
    compare("--against", "grouped", out="one")
    assert world.trained == CELLS
    world.trained.clear()
    for index in reversed(range(1, count + 1)):
        compare("--shard", f"{index}/{count}")
    assert sorted(world.trained) == sorted(CELLS)
    world.trained.clear()
    shown = compare("--against", "grouped")
    assert world.trained == [] and "grouped minus the others" in shown.stdout
    assert files("o") == files("one")
    assert json.loads(Path("o/run.json").read_text())["state"] == "finished"
    compare("--against", "grouped")
    assert world.trained == [] and files("o") == files("one")


def test_a_shard_is_a_run_of_its_own(world: World) -> None:
    shown = compare("--shard", "2/3").stdout
    assert world.trained == [("grouped-prior", 4), ("pooled", 3)]
    assert "missing" not in shown and str(Path("o/shards/2-of-3/report.html")) in shown
    assert CliRunner().invoke(app, ["report", "o/shards/2-of-3"]).exit_code == 0
    assert [path.name for path in Path("o").iterdir()] == ["shards"]
    assert all(Path(path).stat().st_mode & 0o077 == 0 for path in ("o", "o/shards", "o/shards/2-of-3"))
    compare("--shard", "2/3")
    assert len(world.trained) == 2


def test_a_shard_that_was_stopped_goes_on_or_is_made_up_for(world: World) -> None:
    def stop(method: str) -> None:
        if method == "grouped":
            raise KeyboardInterrupt

    world.before_training = stop
    told = refused("--shard", "1/2", code=130)
    assert "--shard 1/2" in told
    world.before_training = str
    shutil.copytree("o", "again")
    world.trained.clear()
    compare("--shard", "1/2")
    assert world.trained == [("grouped", 4), ("grouped-prior", 4)]
    world.trained.clear()
    told = compare(out="again").stderr
    assert "shards still running, or stopped: 1/2" in told
    assert world.trained == CELLS[1:]
    assert "shards still running" not in compare(out="again").stderr


def test_what_failed_in_a_shard_is_tried_again(world: World) -> None:
    def fail(method: str) -> None:
        if method == "grouped":
            raise ValueError("no luck")

    world.before_training = fail
    assert "no luck" in refused("--shard", "1/2", code=1)
    world.before_training = str
    world.trained.clear()
    compare("--shard", "2/2")
    compare()
    assert world.trained == [*CELLS[3:], ("grouped", 4)]


def test_shards_of_other_settings_are_refused(world: World) -> None:
    compare("--shard", "1/2")
    message = refused("--set", "rounds=5")
    assert "rounds = 5: the run in that directory has 2" in message
    assert [path.name for path in Path("o").iterdir()] in ([".lock", "shards"], ["shards"], ["shards", ".lock"])
    compare()
    world.trained.clear()
    assert "rounds = 5" in refused("--shard", "2/2", "--set", "rounds=5")
    assert world.trained == []


def test_shards_of_other_data_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    compare("--shard", "1/6")
    with monkeypatch.context() as other:
        other.setattr("secfpp.runtime.contexts.dataset_digest", lambda dataset: "other")
        compare("--shard", "2/6")
    message = refused()
    assert "seed 4" in message and "1-of-6" in message and "2-of-6" in message and "different data" in message


def test_starting_over_forgets_shards(world: World) -> None:
    compare("--shard", "1/2")
    compare()
    world.trained.clear()
    compare("--force")
    assert world.trained == CELLS and not Path("o/shards").exists()


def test_a_shard_has_no_place_in_something_else(world: World) -> None:
    Path("o").mkdir()
    Path("o/letter.txt").touch()
    assert "holds something else" in refused("--shard", "1/2")


def test_no_lock_keeps_shards_from_working(world: World) -> None:
    with open_run_directory(Path("o"), "compare", resume=True), open_shard(Path("o"), "1-of-2", "compare"):
        compare("--shard", "1/2")
        compare("--shard", "2/2")
    assert len(world.trained) == 6


def test_drafts_that_another_process_may_be_writing_stay(tmp_path: Path) -> None:
    with open_shard(tmp_path, "1-of-2", "compare") as directory:
        directory.start("", {"a": 1})
        old, new = (directory.path / f".{name}.draft" for name in ("old", "new"))
        for draft in (old, new):
            draft.touch()
        os.utime(old, (time.time() - 7200,) * 2)
        directory.start("", {"a": 1})
        assert (old.exists(), new.exists()) == (False, True)


def test_a_plan_of_some_cells_names_their_methods_alone() -> None:
    part = plan(3, 2).only([Cell("1", 0), Cell("2", 1)])
    assert part.cells == (Cell("1", 0), Cell("2", 1)) and set(part.methods) == {"1", "2"}


def test_a_shard_is_told_by_its_number() -> None:
    assert str(Shard.parse(" 02/10 ")) == "2/10" and Shard.parse("2/10").folder == "2-of-10"
    with pytest.raises(ConfigError, match="I/N"):
        Shard.parse("")
