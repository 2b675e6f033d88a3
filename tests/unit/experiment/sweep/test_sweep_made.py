from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from secfpp.errors import ConfigError, DataError, MissingExtraError, ProtocolError
from secfpp.experiment.results.run_directory import open_results, open_run_directory
from secfpp.experiment.run.result_files import finished_results
from secfpp.experiment.sweep import make
from secfpp.experiment.sweep.make import Outcome, run_sweep
from secfpp.experiment.sweep.points import plan_sweep
from support_experiment import World, toy_world

CONFIG: dict[str, Any] = {"seeds": [3, 4], "rounds": 2, "data": {"name": "toy"}, "method": {"name": "grouped"}}
OVER = ("data.shots=4,8", "method.grouping.k_max=2,5")
METHODS = ("pooled", "grouped")


class Told:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.started: list[tuple[str, int, int, int]] = []
        self.failed: list[str] = []

    def preparing(self, what: str) -> None:
        self.said.append(what)

    note = preparing

    def method_started(self, method: str, seed: int, rounds: int, cell: int, cells: int) -> None:
        self.started.append((method, seed, cell, cells))

    def working(self, method: str, seed: int, what: str) -> None: ...

    def round_done(self, method: str, seed: int, record: object) -> None: ...

    def method_done(self, result: Any) -> None:
        self.said.append(f"{result.method} done")

    def method_failed(self, method: str, seed: int, message: str) -> None:
        self.failed.append(f"{method}, seed {seed}: {message}")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    monkeypatch.chdir(tmp_path)
    return toy_world(monkeypatch)


def swept(*over: str, out: str = "o", told: Any = None, force: bool = False, **more: Any) -> Outcome:
    sweep = plan_sweep({**CONFIG, **more.pop("config", {})}, over or OVER, **{"methods": METHODS, **more})
    with open_run_directory(Path(out), "sweep", force=force, resume=not force) as directory:
        return run_sweep(sweep, directory, told or Told())


def stored(name: str = "o/sweep.json") -> Any:
    return json.loads(Path(name).read_text())


def test_every_cell_is_trained_once_and_counted_over_all_points(world: World) -> None:
    told = Told()
    outcome = swept(told=told)
    assert len(world.trained) == 2 * 2 * 3  # shots x seeds x (pooled, grouped with 2 and with 5)
    assert [(cell, cells) for _, _, cell, cells in told.started] == [(n, 12) for n in range(1, 13)]
    assert (
        told.started[0][0] == "data.shots=4: pooled" and told.started[-1][0] == "data.shots=8: grouped@grouping.k_max=5"
    )
    assert "12 methods x seeds to train at 2 of 2 comparisons, 4 points" in told.said
    assert outcome.failures == () and outcome.content == stored() and outcome.content["missing"] == []
    algorithms: Any = world.algorithms
    assert algorithms["grouped@grouping.k_max=5"].grouping.k_max == 5
    assert stored("o/run.json")["state"] == "finished"


def test_reports_of_points_compare_with_the_reference_of_the_sweep(world: World) -> None:
    swept("data.shots=4,8", against="pooled")
    assert "pooled minus the others" in Path("o/points/data.shots=8/table.md").read_text()


def test_points_hold_what_their_comparison_measured(world: World) -> None:
    content = swept().content
    point = content["points"][3]
    assert (point["at"], point["directory"]) == (
        {"data.shots": "8", "method.grouping.k_max": "5"},
        "points/data.shots=8",
    )
    assert point["methods"]["pooled"]["label"] == "pooled" and point["methods"]["pooled"]["rival"]
    assert point["reference"] == "grouped@grouping.k_max=5" and not point["methods"]["grouped"]["rival"]
    own = point["methods"]["pooled"]["figures"]["own"]
    assert own["per_seed"] == pytest.approx({"3": 55.3, "4": 55.4}) and own["mean"] == pytest.approx(55.35)
    summary = stored("o/points/data.shots=8/summary.json")
    assert own["ci95"] == summary["methods"]["pooled"]["own"]["ci95"]


def test_each_comparison_is_a_run_that_others_read(world: World) -> None:
    swept()
    with open_results(Path("o/points/data.shots=4")) as directory:
        results = finished_results(directory)
        summary = results.summary()
        page = results.report(summary)
    assert list(summary["methods"]) == ["pooled", "grouped@grouping.k_max=2", "grouped@grouping.k_max=5"]
    assert "grouped@" in page
    with pytest.raises(ConfigError, match=r"holds a sweep, not a run; open sweep\.html"), open_results(Path("o")):
        pass


def test_the_config_that_is_kept_gives_the_same_sweep(world: World) -> None:
    first = swept().content
    again = plan_sweep(tomllib.loads(Path("o/config.toml").read_text()))
    with open_run_directory(Path("p"), "sweep") as directory:
        assert run_sweep(again, directory, Told()).content == first


def test_the_same_again_trains_nothing_and_more_is_added(world: World) -> None:
    swept()
    before = Path("o/sweep.json").read_bytes()
    world.trained.clear()
    told = Told()
    swept(told=told)
    assert world.trained == [] and Path("o/sweep.json").read_bytes() == before
    assert not any("checking" in said for said in told.said)
    assert "nothing to train: all 12 methods x seeds of 2 comparisons, 4 points are finished" in told.said
    swept("data.shots=4,8,16", OVER[1], seeds=(3, 4, 5))
    assert len(world.trained) == 3 * 3 + 2 * 3  # a third value on three seeds, a third seed of the others
    swept(seeds=(3, 4))
    assert Path("o/sweep.json").read_bytes() == before  # the figures are those of the seeds asked for


def test_a_sweep_that_was_killed_goes_on(world: World) -> None:
    def stop(method: str) -> None:
        if len(world.trained) == 7:
            raise KeyboardInterrupt

    world.before_training = stop
    with pytest.raises(KeyboardInterrupt):
        swept()
    left = stored()
    assert stored("o/run.json")["state"] == "unfinished"
    assert len(left["missing"]) == 5 and all(cell["error"] is None for cell in left["missing"])
    assert left["points"][3]["methods"].keys() == {"pooled"}
    world.before_training = str
    told, done = Told(), list(world.trained)
    whole = swept(told=told).content
    assert len(world.trained) == 12 and len(set(map(str, world.trained))) == 6 and world.trained[:7] == done
    assert [cell for _, _, cell, _ in told.started] == [8, 9, 10, 11, 12]
    assert "5 methods x seeds to train at 1 of 2 comparisons, 4 points, 7 are finished" in told.said
    assert whole == swept(out="p").content


def test_a_cell_that_fails_keeps_no_other_from_being_trained(world: World) -> None:
    def fail(method: str) -> None:
        if method == "pooled" and len(world.trained) == 6:
            raise ProtocolError("gone")

    world.before_training = fail
    told = Told()
    outcome = swept(told=told)
    assert outcome.failures == ("data.shots=8: pooled, seed 3: gone",)
    assert told.failed == list(outcome.failures) and len(world.trained) == 11
    assert [(c["at"], c["method"], c["seed"], c["error"]) for c in outcome.content["missing"]] == [
        ({"data.shots": "8"}, "pooled", 3, "gone")
    ]
    assert stored("o/run.json")["state"] == "unfinished"
    with pytest.raises(Exception, match=r"data\.shots=8: pooled, seed 3: gone"):
        outcome.require_success()


def test_a_comparison_that_cannot_begin_keeps_no_other_from_being_trained(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = make.run_experiment

    def run(config: Any, *rest: Any, **more: Any) -> Any:
        if config.data.settings.shots == 4:
            raise DataError("the disk with the images is gone")
        return usual(config, *rest, **more)

    monkeypatch.setattr(make, "run_experiment", run)
    outcome = swept()
    assert outcome.failures == ("data.shots=4: the disk with the images is gone",)
    assert len(world.trained) == 6 and len(outcome.content["missing"]) == 6


def test_data_of_all_points_are_loaded_before_anything_is_trained(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, usual = [], make.load_dataset

    def load(config: Any, seed: int) -> Any:
        loaded.append((config.data.settings.shots, seed))
        if config.data.settings.shots > 4:
            raise MissingExtraError("so many shots", "shots")
        return usual(config, seed)

    monkeypatch.setattr(make, "load_dataset", load)
    with pytest.raises(ConfigError) as caught:
        swept("data.shots=4,8", "rounds=1,2")
    assert str(caught.value).startswith("data.shots=8: so many shots needs an optional dependency: pip install")
    assert str(caught.value).endswith("or leave this out: --skip 'data.shots=8'") and "\n" not in str(caught.value)
    assert loaded == [(4, 3), (4, 3), (8, 3), (8, 3)] and world.trained == [] and not Path("o").exists()
    swept("data.shots=4,8", "rounds=1,2", skip=["data.shots=8"])
    assert len(world.trained) == 8


def test_a_model_that_is_not_there_is_refused_at_once(world: World) -> None:
    with pytest.raises(ConfigError, match=r"backbone\.name=absent: .*no such model"):
        swept("backbone.name=mini,absent")
    assert world.trained == []


def test_methods_that_do_not_fit_are_told_at_once_and_others_trained(world: World) -> None:
    world.unreadable = "dog"
    told = Told()
    outcome = swept("data.shots=4,8", told=told)
    assert any("data.shots=8: pooled cannot be trained" in said for said in told.said[:6])
    assert len(outcome.failures) == 2 and world.trained == []


def test_other_settings_than_a_point_has_are_refused_before_training(world: World) -> None:
    swept()
    world.trained.clear()
    with pytest.raises(ConfigError, match=r"rounds = 3: the run in that directory has 2"):
        swept(config={"rounds": 3})
    assert world.trained == []
    swept(config={"rounds": 3}, force=True)
    assert len(world.trained) == 12


def test_a_directory_of_something_else_is_refused(world: World) -> None:
    with open_run_directory(Path("run"), "compare") as directory:
        directory.start("", {"settings": 1})
    with pytest.raises(ConfigError, match="holds something else than a sweep"):
        swept(out="run")
    swept()
    with (
        pytest.raises(ConfigError, match="holds a sweep, not a run"),
        open_run_directory(Path("o"), "compare", resume=True),
    ):
        pass
