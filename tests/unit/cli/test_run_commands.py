from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from secfpp.cli.training import parse_labels, parse_seeds
from secfpp.errors import ConfigError, ProtocolError
from secfpp.experiment.results.run_directory import open_run_directory
from secfpp.experiment.run import machine, runner
from support.commands import fails, secfpp, toy_folder, works
from support_experiment import World

CONFIG = """
seeds = [3, 4]
rounds = 2
[data]
name = "toy"
[method]
name = "pooled"
[variants.grouped-prior]
base = "grouped"
class_prior = false
"""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    return toy_folder(monkeypatch, tmp_path, CONFIG)


def compare(*words: str) -> tuple[str, ...]:
    return ("compare", "c.toml", "--out", "o", "--workers", "1", *words)


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("100", (100,)), ("100,102", (100, 102)), ("100-103", (100, 101, 102, 103)), ("7, 1-2 ,9-9", (7, 1, 2, 9))],
)
def test_seeds_are_numbers_and_ranges(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "1,", "3-1", "-1", "1-", "1,1", "1-3,2", "1.5", "1-2-3"])
def test_seeds_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--seeds"):
        parse_seeds(text)


def test_labels_are_named_once() -> None:
    assert parse_labels("a, b+c") == ("a", "b+c")
    for text in ("a,,b", "a,a", ","):
        with pytest.raises(ConfigError, match="--methods"):
            parse_labels(text)


def test_run_trains_another_method_or_variant_on_demand(world: World) -> None:
    works("run", "c.toml", "--out", "o", "--method", "grouped-prior")
    assert world.trained == [("grouped-prior", 3), ("grouped-prior", 4)]
    assert "did you mean 'grouped'" in fails(2, "run", "c.toml", "--out", "p", "--method", "groupd")


def test_a_run_goes_on_with_resume_only(world: World) -> None:
    def fail_late(method: str) -> None:
        if world.trained:
            raise ProtocolError("gone")

    world.before_training = fail_late
    assert "[2/2] pooled, seed 4: FAILED: gone" in fails(1, "run", "c.toml", "--out", "o")
    world.before_training = str
    refusal = fails(2, "run", "c.toml", "--out", "o")
    assert "--resume" in refusal and "--force" in refusal
    assert world.trained == [("pooled", 3)]
    shown = works("run", "c.toml", "--out", "o", "--resume")
    assert world.trained == [("pooled", 3), ("pooled", 4)]
    assert "[2/2] pooled, seed 4" in shown.stderr and "missing" not in shown.stdout
    works("run", "c.toml", "--out", "o", "--resume")
    assert len(world.trained) == 2
    works("run", "c.toml", "--out", "new", "--resume")  # nothing there yet: a script can always say --resume
    assert len(world.trained) == 4


def test_resume_means_the_same_settings(world: World) -> None:
    works("run", "c.toml", "--out", "o")
    before = {path: path.read_bytes() for path in Path("o").rglob("*") if path.is_file()}
    for change, key in (("rounds=3", "rounds = 3"), ("data.shots=8", "data.shots = 8"),
                        ("method.training.lr=0.5", "method.training.lr = 0.5")):  # fmt: skip
        message = fails(2, "run", "c.toml", "--out", "o", "--resume", "--set", change)
        assert key in message and "--force" in message
    assert before == {path: path.read_bytes() for path in Path("o").rglob("*") if path.is_file()}
    assert "either --force or --resume" in fails(2, "run", "c.toml", "--out", "o", "--resume", "--force")


def test_resume_needs_a_run(world: World) -> None:
    Path("o").mkdir()
    (Path("o") / "thesis.tex").write_text("x")
    assert "holds no run" in fails(2, "run", "c.toml", "--out", "o", "--resume")
    assert "holds no run" in fails(2, *compare())
    assert Path("o/thesis.tex").exists()


def test_compare_trains_everything_it_knows_unless_told(world: World) -> None:
    shown = works(*compare())
    assert [label for label, seed in world.trained if seed == 3] == ["grouped", "pooled", "grouped-prior"]
    assert len(world.trained) == 6
    assert "pooled minus the others, in points, paired by seed" in shown.stdout
    assert "without class prior" in shown.stdout
    assert str(Path("o/report.html").resolve()) in shown.stdout


def test_compare_adds_methods_and_seeds_to_a_directory(world: World) -> None:
    works(*compare("--methods", "pooled", "--seeds", "5"))
    works(*compare("--methods", "pooled,grouped", "--seeds", "5-6"))
    assert world.trained == [("pooled", 5), ("grouped", 5), ("pooled", 6), ("grouped", 6)]
    result = works(*compare("--methods", "grouped-prior", "--seeds", "5", "--json"))
    summary = json.loads(result.stdout)
    assert {name: method["seeds"] for name, method in summary["methods"].items()} == {
        "pooled": [5, 6],
        "grouped": [5, 6],
        "grouped-prior": [5],
    }
    assert summary["missing"] == [] and summary["seeds"] == [5, 6]
    assert "seeds = [\n    5,\n    6,\n]" in Path("o/config.toml").read_text()
    message = fails(2, *compare("--methods", "grouped-prior", "--set", "variants.grouped-prior.training.lr=0.7"))
    assert "grouped-prior: training.lr = 0.7" in message and "has 0.01" in message
    works(*compare("--methods", "grouped", "--seeds", "5", "--force"))
    assert json.loads(Path("o/summary.json").read_text())["methods"].keys() == {"grouped"}


def test_an_earlier_variant_stays_in_the_settings(world: World) -> None:
    works(*compare("--methods", "grouped-prior"))
    Path("c.toml").write_text(CONFIG.partition("[variants")[0])
    works(*compare("--methods", "grouped"))
    Path("c.toml").write_text(Path("o/config.toml").read_text())
    works("compare", "c.toml", "--out", "o", "--methods", "grouped-prior", "--workers", "1")
    assert world.trained == [("grouped-prior", 3), ("grouped-prior", 4), ("grouped", 3), ("grouped", 4)]


def test_one_cell_that_fails_is_named_and_the_others_are_kept(world: World) -> None:
    def fail(method: str) -> None:
        if method == "grouped":
            raise ValueError("shapes differ")

    world.before_training = fail
    result = secfpp(*compare())
    assert result.exit_code == 1
    assert "[1/6] grouped, seed 3: FAILED: ValueError: shapes differ" in result.stderr
    assert "2 problems\n  grouped, seed 3: ValueError: shapes differ\n  grouped, seed 4: Value" in result.stderr
    assert "missing: 2 of 6 methods x seeds" in result.stdout
    assert "grouped-prior" in result.stdout
    assert "ValueError" in Path("o/cells/grouped/3.error.txt").read_text()
    world.before_training = str
    world.trained.clear()
    works(*compare())
    assert world.trained == [("grouped", 3), ("grouped", 4)]


def test_against_chooses_the_method_that_differences_are_of(world: World) -> None:
    def told(*words: str) -> str:
        shown = works(*words).stdout.partition(" minus the others")[0].split()[-1]
        assert f"{shown} minus the others" in Path("o/table.md").read_text()
        assert f"{shown} ahead" in Path("o/report.html").read_text()
        return shown

    assert told(*compare("--against", "grouped-prior")) == "grouped-prior"
    Path("o/report.html").write_text("")
    works("report", "o")
    assert "grouped-prior ahead" in Path("o/report.html").read_text()
    assert told(*compare()) == "pooled"
    assert "--against = 'x'" in fails(2, *compare("--against", "x"))


def test_differences_are_of_the_best_method_without_that_of_the_config(world: World) -> None:
    for methods in ("grouped-prior,grouped", "grouped,grouped-prior"):
        shown = works("compare", "c.toml", "--methods", methods, "--out", methods, "--workers", "1").stdout
        table = json.loads(Path(methods, "summary.json").read_text())["methods"]
        best = f"{max(table, key=lambda name: table[name]['own']['mean'])} minus the others"
        assert best in shown and best in Path(methods, "table.md").read_text()


@pytest.mark.parametrize(
    ("words", "workers", "threads"),
    [
        ((), 2, 1),
        (("--workers", "1"), 1, None),
        (("--workers", "2"), 2, 1),
        (("--threads", "4"), 1, 4),
        (("--threads", "3", "--workers", "2"), 2, 3),
        (("--set", "backbone.threads=2"), 2, 2),
        (("--seeds", "1"), 1, None),
    ],
)
def test_workers_and_threads_suit_the_machine(
    words: tuple[str, ...], workers: int, threads: int | None, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int | None]] = []

    def here(task: Any, *_: object) -> None:
        asked.append((1, task.config.backbone.threads))

    def side_by_side(tasks: Any, workers: int, emit: object) -> None:
        asked.append((workers, tasks[0].config.backbone.threads))

    monkeypatch.setattr(runner, "train_seed", here)
    monkeypatch.setattr(runner, "train_in_processes", side_by_side)
    monkeypatch.setattr(machine, "usable_cores", lambda: 5)
    monkeypatch.setattr(machine, "free_memory", lambda: None)
    works("compare", "c.toml", "--out", "o", *words)
    assert set(asked) == {(workers, threads)}


def test_no_more_workers_than_what_they_train_leaves_memory_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(runner, "train_in_processes", lambda tasks, workers, emit: asked.append(workers))
    monkeypatch.setattr(machine, "usable_cores", lambda: 8)
    monkeypatch.setattr(machine, "free_memory", lambda: 9 * 2**30)
    monkeypatch.setattr(runner, "resident_memory", lambda: 2**30)
    monkeypatch.setattr(
        runner, "grouping_memory", lambda method, clients, n_classes, seed: (clients + n_classes) * 2**28
    )
    works("compare", "c.toml", "--out", "o", "--seeds", "1-8")  # 1 GiB, and 1.75 for 4 clients and 3 classes
    assert asked == [3]


def test_the_report_is_made_anew_from_the_directory(world: World) -> None:
    works(*compare("--methods", "pooled,grouped"))
    first = works("report", "o", "--json")
    stored = json.loads(Path("o/summary.json").read_text())
    del stored["wall_seconds"]
    assert json.loads(first.stdout) == stored
    Path("o/report.html").unlink()
    assert str(Path("o/report.html").resolve()) in works("report", "o").stdout
    assert "grouped" in Path("o/report.html").read_text()
    works("report", "o", "--out", "elsewhere/page.html")
    assert Path("elsewhere/page.html").read_text() == Path("o/report.html").read_text()
    assert "--out" in fails(2, "report", "o", "--out", "c.toml/page.html")


def test_the_report_of_an_unfinished_run_says_what_is_missing(world: World) -> None:
    def stop(method: str) -> None:
        if world.trained:
            raise KeyboardInterrupt

    world.before_training = stop
    assert "Interrupted" in fails(130, "run", "c.toml", "--out", "o")
    assert json.loads(Path("o/run.json").read_text())["state"] == "unfinished"
    shown = works("report", "o").stdout
    assert "missing: 1 of 2 methods x seeds" in shown and "pooled, seed 4: not finished" in shown
    assert Path("o/report.html").is_file()


def test_the_report_needs_a_run_with_something_in_it_that_nobody_writes(world: World) -> None:
    assert "holds no run" in fails(2, "report", "nowhere")

    def stop(method: str) -> None:
        raise KeyboardInterrupt

    world.before_training = stop
    fails(130, "run", "c.toml", "--out", "o")
    assert "no method is finished" in fails(2, "report", "o")
    world.before_training = str
    works("run", "c.toml", "--out", "o", "--resume")
    with open_run_directory(Path("o"), "run", resume=True):
        assert "another process" in fails(2, "report", "o")
    Path("o/cells/pooled/3.safetensors").write_bytes(b"x")
    assert "cells/pooled/3.safetensors" in fails(2, "report", "o")


def test_an_engine_is_refused_before_anything_is_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ray, or leave it out" in fails(2, "run", "c.toml", "--out", "o", "--engine", "spark")
    assert "backbone.device" in fails(
        2, "run", "c.toml", "--out", "o", "--engine", "ray", "--set", "backbone.device=cuda"
    )
    assert "one seed at a time" in fails(2, "compare", "c.toml", "--out", "o", "--engine", "ray", "--workers", "2")
    monkeypatch.setattr("secfpp.cluster.engine.find_spec", lambda name: None)
    assert "secfpp[ray]" in fails(2, "run", "c.toml", "--out", "o", "--engine", "ray")


@pytest.mark.parametrize("command", ["run", "compare"])
def test_a_device_is_one_option(command: str, world: World) -> None:
    works(command, "c.toml", "--out", "o", "--device", "cuda:1", "--set", "seeds=[3]")
    assert {made["device"] for made in world.backbones} == {"cuda:1"}


def test_results_say_if_blocks_were_compiled_and_a_run_goes_on_as_it_began(world: World) -> None:
    works(*compare("--methods", "pooled", "--set", "backbone.compile=true"))
    assert world.backbones[-1]["compile"] is True
    assert json.loads(Path("o/summary.json").read_text())["versions"]["compiled"] == "text tower"
    assert "backbone.compile" in fails(2, *compare("--methods", "pooled"))
    works(*compare("--methods", "pooled", "--force"))
    assert "compiled" not in json.loads(Path("o/summary.json").read_text())["versions"]


def test_results_say_on_which_device_and_in_which_precision_they_were_made(world: World) -> None:
    works(*compare("--methods", "pooled", "--device", "cpu", "--set", "backbone.dtype=bfloat16"))
    versions = json.loads(Path("o/summary.json").read_text())["versions"]
    assert (versions["device"], versions["precision"]) == ("cpu", "bfloat16")
