from __future__ import annotations

import json
import sys
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import save

from secfpp.errors import (
    ConfigError,
    DataError,
    DataWarning,
    DiskFullError,
    MissingExtraError,
    ProtocolError,
    SecFPPError,
)
from secfpp.experiment.results.cells import cell_file
from secfpp.experiment.results.run_directory import open_run_directory
from secfpp.experiment.run import runner
from secfpp.experiment.run.runner import Outcome, run_experiment
from secfpp.experiment.run.training import Event, train_seed
from secfpp.experiment.spec.config import ExperimentConfig, parse_config
from secfpp.experiment.spec.plan import Cell
from secfpp.storage import read_arrays
from support_experiment import Grouped, ToySpec, World, toy_dataset, toy_world


class Log:
    """A progress display that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def preparing(self, what: str) -> None:
        self.events.append(("preparing", what))

    def note(self, what: str) -> None:
        self.events.append(("note", what))

    def method_started(self, method: str, seed: int, rounds: int, cell: int, cells: int) -> None:
        self.events.append(("started", method, seed, cell, cells))

    def working(self, method: str, seed: int, what: str) -> None:
        self.events.append(("working", method, seed, what))

    def round_done(self, method: str, seed: int, record: Any) -> None:
        self.events.append(("round", method, seed, record.round))

    def method_failed(self, method: str, seed: int, message: str) -> None:
        self.events.append(("failed", method, seed, message))

    def method_done(self, result: Any) -> None:
        self.events.append(("done", result.method, result.seed))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return toy_world(monkeypatch)


def settings(**changes: Any) -> ExperimentConfig:
    table = {"seeds": [1, 2], "rounds": 3, "data": {"name": "toy"}, "method": {"name": "grouped"}}
    return parse_config(table | changes)


def go(out: Path, config: ExperimentConfig, labels: list[str], log: Log | None = None) -> dict[str, Any]:
    with open_run_directory(out, "run", force=True) as directory:
        return run_experiment(config, labels, directory, log or Log()).summary


def test_every_method_runs_on_every_seed_and_all_files_are_there(world: World, tmp_path: Path) -> None:
    config = settings()
    summary = go(tmp_path, config, ["grouped", "pooled"])
    assert world.trained == [("grouped", 1), ("pooled", 1), ("grouped", 2), ("pooled", 2)]
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    assert summary["seeds"] == [1, 2]
    assert list(summary["methods"]) == ["grouped", "pooled"]
    assert summary["versions"]["numpy"]
    table = json.loads((tmp_path / "partitions" / "2.json").read_text())
    assert all(len(held["train"]) == len(table["classes"]) for held in table["clients"].values())
    assert sum(map(sum, (held["train"] for held in table["clients"].values()))) > 0
    assert set(summary["data"]) == {"1", "2"}
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2 * 2 * 3 * 6
    assert len((tmp_path / "costs.jsonl").read_text().splitlines()) == 4
    assert len(list((tmp_path / "prompts").rglob("*.safetensors"))) == 2 * 2 * 6
    assert "grouped leads" in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "run.json").read_text())["state"] == "finished"
    assert parse_config(tomllib.loads((tmp_path / "config.toml").read_text())) == config


def test_settings_reach_the_model_and_the_algorithm(world: World, tmp_path: Path) -> None:
    config = settings(
        backbone={"name": "m", "threads": 2, "device": "cpu"},
        variants={"g8": {"base": "grouped", "class_prior": False}},
    )
    go(tmp_path, config, ["g8"])
    asked = {"name": "m", "threads": 2, "device": "cpu", "dtype": "float32", "compile": False}
    assert world.backbones == [asked]
    assert world.algorithms == {"g8": Grouped(class_prior=False)}


def test_progress_is_told_in_order(world: World, tmp_path: Path) -> None:
    log = Log()
    go(tmp_path, settings(seeds=[1]), ["pooled"], log)
    kinds = [event[0] for event in log.events]
    assert kinds == ["preparing"] * 3 + ["started", *["working", "round"] * 3, "done", "preparing"]
    assert log.events[3] == ("started", "pooled", 1, 1, 1)
    assert log.events[6] == ("working", "pooled", 1, "round 2/3, exchange 1: clustering and training")


def offer(monkeypatch: pytest.MonkeyPatch, load: Callable[[Any, int], Any]) -> None:
    """Put `load` in the place of the loader of the data set ``toy``."""
    monkeypatch.setattr(ToySpec, "load", lambda spec, settings, seed: load(settings, seed))


def test_what_is_to_be_said_of_the_data_is_said_once(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []

    def load(settings: Any, seed: int) -> Any:
        loaded.append(seed)
        warnings.warn("passed over: 3 .dcm", DataWarning, stacklevel=2)
        return toy_dataset(seed)

    offer(monkeypatch, load)
    with pytest.warns(DataWarning, match=r"3 \.dcm") as said:
        go(tmp_path, settings(), ["pooled"])
    assert loaded == [1, 2] and len(said) == 1


def test_a_loader_that_gives_something_else_is_named(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, lambda settings, seed: {"train": []})
    with pytest.raises(DataError, match="the data set 'toy': its loader gives dict, not a FederatedDataset"):
        go(tmp_path, settings(), ["pooled"])


@pytest.mark.parametrize("bad", ["label", "model"])
def test_bad_input_changes_nothing(world: World, tmp_path: Path, bad: str) -> None:
    go(tmp_path, settings(), ["grouped"])
    before = (tmp_path / "summary.json").read_bytes()
    config = settings(backbone={"name": "absent"}) if bad == "model" else settings()
    with pytest.raises(ConfigError):
        go(tmp_path, config, ["nobody" if bad == "label" else "grouped"])
    assert (tmp_path / "summary.json").read_bytes() == before


def test_a_failure_leaves_what_was_finished_and_lets_the_others_run(world: World, tmp_path: Path) -> None:
    def fail(method: str) -> None:
        if method == "pooled":
            raise ProtocolError("gone")

    world.before_training = fail
    log, config = Log(), settings(seeds=[1])
    with open_run_directory(tmp_path, "compare", force=True) as directory:
        outcome = run_experiment(config, ["pooled", "grouped"], directory, log)
    assert ("failed", "pooled", 1, "gone") in log.events and ("done", "grouped", 1) in log.events
    assert list(outcome.failures) == [("pooled", 1)]
    with pytest.raises(SecFPPError, match="pooled, seed 1: gone"):
        outcome.require_success()
    stored = json.loads((tmp_path / "summary.json").read_text())
    assert list(stored["methods"]) == ["grouped"]
    assert stored["missing"] == [{"method": "pooled", "seed": 1, "error": "gone"}]
    assert "ProtocolError" in (tmp_path / "cells/pooled/1.error.txt").read_text()
    assert json.loads((tmp_path / "run.json").read_text())["state"] == "unfinished"
    world.before_training = str
    with open_run_directory(tmp_path, "compare", resume=True) as directory:
        outcome = run_experiment(config, ["pooled", "grouped"], directory, Log())
    outcome.require_success()
    assert world.trained == [("grouped", 1), ("pooled", 1)]
    assert outcome.summary["missing"] == [] and not (tmp_path / "cells/pooled/1.error.txt").exists()
    assert list(outcome.summary["methods"]) == ["pooled", "grouped"]


def test_images_are_encoded_before_any_method_is_timed(world: World, tmp_path: Path) -> None:
    def all_there(_: str) -> None:
        assert len(world.encoded) == 4 * 2 + 2  # train and validation of 4 clients, test of 2 domains

    world.before_training = all_there
    go(tmp_path, settings(seeds=[1]), ["grouped"])


def failing(*errors: Exception, tried: int) -> Outcome:
    return Outcome({}, {Cell("a", number): error for number, error in enumerate(errors)}, tried)


def test_the_only_cell_of_a_run_raises_its_own_error() -> None:
    error = DataError("photo.jpg: broken")
    with pytest.raises(DataError) as caught:
        failing(error, tried=1).require_success()
    assert caught.value is error
    failing(tried=1).require_success()


def test_class_names_that_the_model_refuses_are_told_once_and_nothing_is_begun(world: World, tmp_path: Path) -> None:
    world.unreadable = toy_dataset(1).classes[0]
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        go(tmp_path / "o", settings(), ["pooled", "grouped"])
    assert len(str(caught.value).splitlines()) == 1 and world.trained == [] and not (tmp_path / "o").exists()


def test_several_cells_raise_one_error_that_lists_those_that_failed() -> None:
    for error in (DataError("broken"), KeyError("x")):
        with pytest.raises(SecFPPError, match="a, seed 0: ") as caught:
            failing(error, tried=2).require_success()
        assert not isinstance(caught.value, DataError) and caught.value.__cause__ is error
    with pytest.raises(SecFPPError, match="a, seed 0: KeyError: 'x'\na, seed 1: broken"):
        failing(KeyError("x"), DataError("broken"), tried=2).require_success()
    with pytest.raises(SecFPPError, match="KeyError"):
        failing(KeyError("x"), tried=1).require_success()


def test_figures_say_what_computed_them_even_if_that_changed(world: World, tmp_path: Path) -> None:
    go(tmp_path, settings(seeds=[1]), ["pooled"])
    path = cell_file(tmp_path, Cell("pooled", 1))
    arrays, metadata = read_arrays(path)
    about = json.loads(metadata["secfpp"])
    about |= {"versions": {**about["versions"], "numpy": "1.0"}, "git": "c0ffee"}
    path.write_bytes(save(arrays, metadata={"secfpp": json.dumps(about)}))
    with open_run_directory(tmp_path, "compare", resume=True) as directory:
        summary = run_experiment(settings(seeds=[1, 2]), ["pooled"], directory, Log()).summary
    assert summary["versions"]["numpy"].startswith("1.0 / ") and summary["git"].startswith("c0ffee")
    assert summary["versions"]["threads"] == str(torch.get_num_threads())


def test_going_on_in_a_directory_with_a_damaged_result_changes_nothing(world: World, tmp_path: Path) -> None:
    go(tmp_path, settings(seeds=[1]), ["pooled"])
    cell_file(tmp_path, Cell("pooled", 1)).write_bytes(b"x")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with (
        pytest.raises(DataError, match=r"cells/pooled/1\.safetensors"),
        open_run_directory(tmp_path, "compare", resume=True) as directory,
    ):
        run_experiment(settings(seeds=[1, 2]), ["pooled"], directory, Log())
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_event_files_are_written_for_earlier_cells_too(world: World, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    go(tmp_path, settings(seeds=[1]), ["pooled"])
    with open_run_directory(tmp_path, "compare", resume=True) as directory:
        run_experiment(settings(seeds=[1, 2]), ["pooled"], directory, Log(), tensorboard=True)
    assert all(list((tmp_path / "tensorboard" / "pooled" / seed).glob("events.*")) for seed in ("1", "2"))


def test_without_tensorboard_nothing_begins(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with (
        pytest.raises(MissingExtraError, match="tensorboard"),
        open_run_directory(tmp_path / "new", "run") as directory,
    ):
        run_experiment(settings(), ["pooled"], directory, Log(), tensorboard=True)
    assert not (tmp_path / "new").exists() and world.trained == []


def test_cells_that_are_shared_out_end_in_the_same_files(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_turns(tasks: Any, workers: int, emit: Any) -> None:
        assert workers == 2
        for task in reversed(tasks):
            train_seed(task, world.load_backbone("mini"), emit)

    monkeypatch.setattr("secfpp.experiment.run.runner.train_in_processes", in_turns)
    go(tmp_path / "one", settings(), ["pooled", "grouped"])
    with open_run_directory(tmp_path / "two", "compare") as directory:
        run_experiment(settings(), ["pooled", "grouped"], directory, Log(), workers=2)
    for name in ("metrics.jsonl", "costs.jsonl", "samples.json", "config.toml"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_disk_that_is_full_in_a_worker_ends_the_run(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tasks: Any, workers: int, emit: Any) -> None:
        emit(Event("full", tasks[0].cells[0], text="no room left"))

    monkeypatch.setattr(runner, "train_in_processes", full)
    with open_run_directory(tmp_path, "compare") as directory, pytest.raises(DiskFullError, match="no room left"):
        run_experiment(settings(), ["grouped"], directory, Log(), workers=2)
    assert not (tmp_path / "summary.json").exists()  # no second message about a file that does not fit either


def test_what_a_cell_was_trained_beside_is_kept(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secfpp.experiment.run.timing.usable_cores", lambda: 1)

    def beside(tasks: Any, workers: int, emit: Any) -> None:
        for task in tasks:
            train_seed(task, world.load_backbone("mini"), emit)

    monkeypatch.setattr(runner, "train_in_processes", beside)
    with open_run_directory(tmp_path, "compare") as directory:
        summary = run_experiment(settings(), ["grouped"], directory, Log(), workers=2).summary
    assert not summary["seconds"]["comparable"] and "2 workers of " in summary["seconds"]["why"]
    assert {"threads", "numpy"} <= set(summary["versions"]) and "workers" not in summary["versions"]
    assert go(tmp_path / "alone", settings(), ["grouped"])["seconds"] == {"comparable": True, "why": ""}
