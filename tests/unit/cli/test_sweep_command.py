from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from secfpp.algorithms.base import methods
from secfpp.cli.going_on import going_on
from secfpp.errors import ProtocolError
from secfpp.experiment.spec.config import load_table
from secfpp.experiment.spec.variants import root
from secfpp.experiment.sweep.points import plan_sweep
from support.commands import fails, toy_folder, works
from support_experiment import World

CONFIG = """
seeds = [3, 4]
rounds = 2
[data]
name = "toy"
[method]
name = "grouped"
[sweep]
methods = ["pooled", "grouped"]
[sweep.over]
data.shots = [4, 8]
[sweep.over.set]
plain = { data = { rho = 0.4 } }
odd = { data = { rho = 1.0 } }
"""
CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    return toy_folder(monkeypatch, tmp_path, CONFIG)


def sweep(*words: str) -> tuple[str, ...]:
    return ("sweep", "c.toml", "--out", "o", "--workers", "1", *words)


def test_a_config_is_swept_and_shown(world: World) -> None:
    shown = works(*sweep())
    assert len(world.trained) == 16
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert ["set", "data.shots", "pooled", "grouped"] in lines
    assert ["odd", "8", "55.4", "+-0.6", "60.4", "+-0.6"] in lines
    assert "Own: grouped is beaten at 0 of 4 points." in shown.stdout
    assert "sweep.html" in shown.stdout and Path("o/sweep.html").exists()
    assert "[16/16] set=odd,data.shots=8: grouped, seed 4: own accuracy" in shown.stderr
    assert works("report", "o/points/set=odd,data.shots=8", "--json").exit_code == 0


def test_options_change_what_is_swept(world: World) -> None:
    works(*sweep("--over", "set=odd", "--over", "rounds=1,3", "--skip", "data.shots=4", "--methods", "pooled,grouped",
                 "--seeds", "9", "--against", "pooled", "--set", "participation=0.5", "--threads", "1"))  # fmt: skip
    content = json.loads(Path("o/sweep.json").read_text())
    assert content["reference"] == "pooled" and content["seeds"] == [9]
    assert [tuple(point["at"].values()) for point in content["points"]] == [("odd", "8", "1"), ("odd", "8", "3")]
    kept = tomllib.loads(Path("o/points/set=odd,data.shots=8,rounds=3/config.toml").read_text())
    assert (kept["participation"], kept["rounds"], kept["backbone"]["threads"]) == (0.5, 3, 1)


def test_json_is_what_is_kept(world: World) -> None:
    shown = works(*sweep("--json"))
    assert json.loads(shown.stdout) == json.loads(Path("o/sweep.json").read_text())


def test_a_failed_cell_ends_with_1_and_the_same_again_goes_on(world: World) -> None:
    def fail(method: str) -> None:
        if len(world.trained) == 3:
            raise ProtocolError("gone")

    world.before_training = fail
    told = fails(1, *sweep("--skip", "set=odd"))
    assert "set=plain,data.shots=4: grouped, seed 4: gone" in told
    world.before_training = str
    shown = works(*sweep("--skip", "set=odd"))
    assert len(world.trained) == 8 and "Not finished" not in shown.stdout
    assert going_on(["sweep", "c.toml", "--out", "o", "--force"]).endswith("sweep c.toml --out o")


def test_bad_values_end_with_2_and_nothing_is_written(world: World) -> None:
    assert "data.shots=x" in fails(2, *sweep("--over", "data.shots=4,x"))
    assert "unknown axis" in fails(2, *sweep("--skip", "shots=4"))
    assert "--seeds" in fails(2, *sweep("--seeds", "x"))
    assert not Path("o").exists() and world.trained == []


def test_other_commands_train_such_a_config_as_it_stands(world: World) -> None:
    works("run", "c.toml", "--out", "r")
    assert world.trained == [("grouped", 3), ("grouped", 4)]
    assert "sweep" not in tomllib.loads(Path("r/config.toml").read_text())


def test_the_leaderboard_has_every_benchmark_dealt_in_three_ways() -> None:
    board = plan_sweep(load_table(CONFIGS / "leaderboard.toml"))
    assert [axis.name for axis in board.axes] == ["benchmark", "within"] and len(board.places) == 15
    assert board.reference == "secfpp+clear+full" and len(board.seeds) >= 5 and min(board.seeds) >= 400
    trained = {place.config.choose(["secfpp+clear"])["secfpp+clear"] for place in board.places}
    assert len(trained) == 1
    assert {root(label) for label in board.methods if "+full" not in label} == set(methods())
    kinds = {type(place.config.data.settings.partition.within).__name__ for place in board.places}
    assert kinds == {"Dirichlet", "Pathological", "IID"}
    assert {place.config.data.name for place in board.places} == {"icons", "cards", "digits"}
    assert {place.config.data.settings.alpha for place in board.places if "dirichlet" in place.folder} == {0.3}
