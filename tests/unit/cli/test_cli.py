from __future__ import annotations

import errno
import json
import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from secfpp import __version__
from secfpp.cli import doctor, listing
from secfpp.cli.app import app, warn_plainly
from secfpp.cli.going_on import going_on
from secfpp.cli.listing import first_line
from secfpp.cli.training import DEMO_METHODS
from secfpp.errors import CacheWarning, DataError, DataWarning, LeakyProtocolWarning, ProtocolError
from secfpp.experiment.results.run_directory import open_run_directory
from secfpp.experiment.spec.variants import KNOWN, Variant
from support.commands import fails, secfpp
from support_experiment import Pooled, Training, World, toy_world

CONFIG = """
seed = 3
rounds = 2
[data]
name = "toy"
[method]
name = "pooled"
"""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECFPP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "c.toml").write_text(CONFIG)
    monkeypatch.setitem(KNOWN, "secfpp+clear", Variant("Toy in the clear", "secfpp", {"class_prior": False}))
    return toy_world(monkeypatch, DEMO_METHODS[:-1])


def test_version_and_help() -> None:
    assert secfpp("--version").stdout == f"secfpp {__version__}\n"
    shown = secfpp("--help").stdout
    assert all(command in shown for command in ("demo", "run", "list", "doctor", "cache"))


def test_no_word_of_the_help_is_taken_for_markup() -> None:
    def helps(command: Any) -> Iterator[str]:
        yield command.help or ""
        yield from (getattr(parameter, "help", None) or "" for parameter in command.params)
        for inner in getattr(command, "commands", {}).values():
            yield from helps(inner)

    told = list(helps(get_command(app)))
    assert len(told) > 100 and not [text for text in told if re.search(r"\[[a-z]", text)]


def test_run_trains_the_configured_method_and_shows_it(world: World) -> None:
    result = secfpp("run", "c.toml", "--out", "o", "--set", "method.training.lr=0.5")
    assert result.exit_code == 0, result.output
    assert world.trained == [("pooled", 3)]
    assert world.algorithms["pooled"] == Pooled(training=Training(lr=0.5))
    assert "pooled" in result.stdout
    assert str(Path("o/report.html").resolve()) in result.stdout
    assert "round 2/2, loss 0.500" in result.stderr
    assert (Path("o") / "report.html").is_file()


@pytest.mark.parametrize("command", ["run", "compare"])
def test_deterministic_is_one_client_at_a_time_on_one_thread(world: World, command: str) -> None:
    result = secfpp(command, "c.toml", "--out", "o", "--deterministic")
    assert result.exit_code == 0, result.output
    assert set(world.chunks) == {1}
    assert {model["threads"] for model in world.backbones} == {1}


def test_json_on_standard_output_is_nothing_but_json(world: World) -> None:
    result = secfpp("run", "c.toml", "--out", "o", "--json")
    assert json.loads(result.stdout) == json.loads(Path("o/summary.json").read_text())


def test_the_demo_compares_six_methods_and_can_be_run_again(world: World) -> None:
    first = secfpp("demo", "--out", "d", "--seed", "4", "--rounds", "2")
    assert first.exit_code == 0, first.output
    assert world.trained == [(method, 4) for method in DEMO_METHODS]
    assert all(method in first.stdout for method in DEMO_METHODS)
    assert secfpp("demo", "--out", "d", "--rounds", "1").exit_code == 0
    assert json.loads(Path("d/summary.json").read_text())["seeds"] == [0]


def test_the_demo_does_not_replace_what_it_did_not_make(world: World) -> None:
    assert secfpp("run", "c.toml", "--out", "d").exit_code == 0
    assert "--force" in fails(2, "demo", "--out", "d")
    assert secfpp("demo", "--out", "d", "--rounds", "1", "--force").exit_code == 0


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--set", "rounds=0"], ["rounds = 0", "greater than or equal to 1"]),
        (["--set", "method.trainin.lr=1"], ["method.trainin", "did you mean 'training'"]),
        (["--set", "method.name=poled"], ["method.name = 'poled'", "did you mean 'pooled'"]),
        (["--set", "rounds=0", "--set", "seed=x"], ["2 problems", "rounds", "seed"]),
        (["--set", "rounds"], ["key=value"]),
        (["--set", "backbone.name=absent"], ["try mini"]),
    ],
)
def test_wrong_input_ends_before_any_work(world: World, words: list[str], parts: list[str]) -> None:
    message = fails(2, "run", "c.toml", "--out", "o", *words)
    assert all(part in message for part in parts), message
    assert world.trained == []
    assert not Path("o/summary.json").exists()


def test_wrong_words_on_the_command_line_end_with_2(world: World) -> None:
    assert "missing.toml" in fails(2, "run", "missing.toml", "--out", "o")
    fails(2, "run", "c.toml")
    fails(2, "list", "colours")
    fails(2, "nonsense")
    fails(2, "demo", "--seed", "-1")


def test_an_existing_directory_is_refused_and_replaced_on_demand(world: World) -> None:
    assert secfpp("run", "c.toml", "--out", "o").exit_code == 0
    assert "--force" in fails(2, "run", "c.toml", "--out", "o")
    assert secfpp("run", "c.toml", "--out", "o", "--force").exit_code == 0


def test_a_directory_in_use_is_refused(world: World) -> None:
    with open_run_directory(Path("o"), "run"):
        assert "another process" in fails(2, "run", "c.toml", "--out", "o")


@pytest.mark.parametrize(("error", "code"), [(DataError("image a.png: broken"), 2), (ProtocolError("nobody came"), 1)])
def test_errors_while_training_are_one_message(world: World, error: Exception, code: int) -> None:
    def fail(_: str) -> None:
        raise error

    world.before_training = fail
    assert f"Error: {error}" in fails(code, "run", "c.toml", "--out", "o")
    for words in (["--debug", "run", "c.toml"], ["run", "--debug", "c.toml"]):
        assert secfpp(*words, "--out", "o", "--force").exception is error


def interrupt(_: str) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("words", "on"),
    [
        ("run c.toml --out 'my run' --set rounds=1", "run c.toml --out 'my run' --set rounds=1 --resume"),
        ("--debug run c.toml --out o --resume", "--debug run c.toml --out o --resume"),
        ("run c.toml --out o --force", "run c.toml --out o --resume"),
        ("compare c.toml --out o --workers 1 --force", "compare c.toml --out o --workers 1"),
        ("demo --out d --rounds 2", "demo --out d --rounds 2 --resume"),
    ],
)  # fmt: skip
def test_an_interruption_tells_the_command_that_goes_on(world: World, words: str, on: str) -> None:
    if "--resume" in words:
        assert secfpp("run", "c.toml", "--out", "o").exit_code == 0
        for cell in Path("o/cells").rglob("*.safetensors"):
            cell.unlink()
    world.before_training = interrupt
    told = fails(130, *shlex.split(words))
    assert "Interrupted." in told and told.endswith(f"go on with: secfpp {on}")
    world.before_training = str
    trained = len(world.trained)
    assert secfpp(*shlex.split(on)).exit_code == 0
    assert len(world.trained) > trained


def test_what_trains_nothing_has_nothing_to_go_on_with(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_described", interrupt)
    assert fails(130, "list", "methods").endswith("Interrupted.")


def test_the_program_is_named_as_it_was_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "secfpp"
    program.touch(mode=0o700)
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setenv("PATH", "/nowhere")
    assert going_on(["demo"]) == f"{program} demo --resume"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert going_on(["demo"]) == "secfpp demo --resume"


@pytest.mark.parametrize("words", [("run", "c.toml"), ("demo",)])
def test_a_full_disk_is_one_message_and_the_command_that_goes_on(
    world: World, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    world.before_training = lambda _: monkeypatch.setattr(os, "fsync", no_room)
    told = fails(1, *words, "--out", "o")
    assert told.count("Error:") == 1 and told.count("no room left in") == 1
    assert f"no room left in {Path('o/prompts').resolve()}" in told
    assert told.endswith(f"make room, then go on with: secfpp {' '.join(words)} --out o --resume")
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    world.before_training = str
    assert secfpp(*words, "--out", "o", "--resume").exit_code == 0


def test_lists_have_a_line_each(world: World) -> None:
    lines = dict(line.split(maxsplit=1) for line in secfpp("list", "methods").stdout.splitlines())
    assert lines["pooled"] == "One prompt for all" and "grouped" in lines
    assert lines["secfpp+clear"] == "secfpp: Toy in the clear"
    assert secfpp("list", "datasets").stdout.splitlines()[1].split(maxsplit=1) == ["toy", "coloured squares"]
    names = [entry["name"] for entry in json.loads(secfpp("list", "backbones", "--json").stdout)]
    assert names[0] == "mini"


def test_first_line_of_any_docstring() -> None:
    assert first_line(Pooled) == "One prompt for all"
    assert first_line(type("Bare", (), {})) == ""


def test_cache_is_shown_and_emptied(world: World, tmp_path: Path) -> None:
    for part, size in (("features", 2048), ("icons", 10)):
        (tmp_path / "cache" / part).mkdir(parents=True)
        (tmp_path / "cache" / part / "x").write_bytes(b"0" * size)
    assert secfpp("cache", "where").stdout.strip() == str(tmp_path / "cache")
    assert "2.0 KiB" in secfpp("cache").stdout
    assert json.loads(secfpp("cache", "size", "--json").stdout)["bytes"] == {
        "features": 2048,
        "icons": 10,
        "images": 0,
        "noise": 0,
    }
    assert "freed 10 B" in secfpp("cache", "clear", "--only", "icons").stdout
    assert json.loads(secfpp("cache", "clear", "--json").stdout)["freed"] == 2048
    assert "one of features, icons" in fails(2, "cache", "clear", "--only", "prompts")


def test_doctor_fails_with_a_remedy_for_what_is_broken(world: World) -> None:
    # the stand-in for the model cannot encode anything
    result = secfpp("doctor")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert any(line.startswith("fail mini model") for line in lines)
    assert any("->" in line and "install" in line for line in lines)
    assert any(line.startswith("ok   cache") for line in lines)


def test_doctor_passes_when_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [doctor.Finding("cpu", "ok", "2 usable"), doctor.Finding("memory", "warn", "1 GiB", "close programs")]
    monkeypatch.setattr(doctor, "examine", lambda: iter(findings))
    result = secfpp("doctor")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["ok", "warn", "->"]
    assert [entry["status"] for entry in json.loads(secfpp("doctor", "--json").stdout)] == ["ok", "warn"]


def test_doctor_finds_a_cache_that_cannot_be_written(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("SECFPP_CACHE", str(tmp_path / "file"))
    found = doctor._cache()
    assert found.status == "fail"
    assert "SECFPP_CACHE" in found.remedy


@pytest.mark.parametrize(("free", "status"), [(2**20, "warn"), (2**34, "ok"), (None, "ok")])
def test_doctor_warns_of_little_memory(
    world: World, monkeypatch: pytest.MonkeyPatch, free: int | None, status: str
) -> None:
    monkeypatch.setattr(doctor, "free_memory", lambda: free)
    assert doctor._memory().status == status


@pytest.mark.parametrize(
    ("lacks", "told"), [("", "backbone.compile = true can be set"), ("needs g++", "cannot be had: needs g++, or leave")]
)
def test_doctor_says_whether_models_can_be_compiled(lacks: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secfpp.models.compiling._lacking", lambda device: lacks)
    found = doctor._compiling()
    assert found.status == "ok" and found.found.startswith(told), "nothing else needs it"


def test_doctor_misses_packages_by_name(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("numpy", "not-a-package"))
    found = doctor._packages()
    assert (found.status, found.remedy) == ("fail", "pip install not-a-package")


def test_the_installed_program_is_this_one() -> None:
    done = subprocess.run([sys.executable, "-c", "from secfpp.cli import main; main()", "--version"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout == f"secfpp {__version__}\n"


def test_own_warnings_are_one_line_once_and_those_of_others_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    warn_plainly()
    for own in (LeakyProtocolWarning, DataWarning, CacheWarning):
        said = f"a {own.__name__}"
        assert warnings.formatwarning(said, own, "file.py", 3) == f"Warning: {said}\n"
        assert warnings.formatwarning(said, own, "other.py", 5) == ""
    assert "file.py:3" in warnings.formatwarning("old", DeprecationWarning, "file.py", 3)
