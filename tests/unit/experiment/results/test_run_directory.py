from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from secfpp.errors import ConfigError, DataError
from secfpp.experiment.results import run_directory
from secfpp.experiment.results.run_directory import (
    git_revision,
    made_by,
    open_results,
    open_run_directory,
    path_part,
    versions,
)


def run_in(path: Path, command: str = "run", **options: bool) -> None:
    with open_run_directory(path, command, **options) as directory:
        directory.start("seed = 1\n")
        directory.write("prompts/a/0/x.safetensors", b"123")
        directory.mark("finished")


def test_a_run_directory_is_private_and_says_so(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    run_in(out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert stat.S_IMODE((out / "config.toml").stat().st_mode) == 0o600
    assert "every client's private parts" in " ".join((out / "README.txt").read_text().split())
    assert json.loads((out / "run.json").read_text())["state"] == "finished"


def test_what_runs_the_settings_again_is_left_to_the_report_which_knows_methods_and_seeds(tmp_path: Path) -> None:
    run_in(tmp_path / "out")
    assert "secfpp run config.toml" not in (tmp_path / "out/README.txt").read_text()


def test_an_open_directory_is_made_private_again(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    run_in(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_results_are_not_overwritten_unasked(tmp_path: Path) -> None:
    run_in(tmp_path)
    with pytest.raises(ConfigError, match="--force"), open_run_directory(tmp_path, "run"):
        pass
    (tmp_path / "note.txt").write_text("mine")
    run_in(tmp_path, force=True)
    assert (tmp_path / "note.txt").read_text() == "mine"  # force removes a run's files, nobody else's


def test_nothing_is_removed_before_start(tmp_path: Path) -> None:
    run_in(tmp_path)
    with open_run_directory(tmp_path, "run", force=True):
        assert (tmp_path / "prompts/a/0/x.safetensors").exists()
    with open_run_directory(tmp_path, "run", force=True) as directory:
        directory.start("")
        assert not (tmp_path / "prompts").exists()


def test_a_run_that_never_started_leaves_no_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError), open_run_directory(tmp_path / "new", "run"):
        raise ConfigError("no such model")
    assert not (tmp_path / "new").exists()


def test_own_replaces_only_what_the_same_command_made(tmp_path: Path) -> None:
    run_in(tmp_path, "demo")
    run_in(tmp_path, "demo", own=True)
    assert made_by(tmp_path) == "demo"
    run_in(tmp_path, "run", force=True)
    with pytest.raises(ConfigError, match="not empty"), open_run_directory(tmp_path, "demo", own=True):
        pass


def test_own_does_not_touch_a_strangers_directory(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="not empty"), open_run_directory(tmp_path, "demo", own=True):
        pass
    assert made_by(tmp_path) is None


def test_two_processes_are_kept_apart(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with (
        open_run_directory(out, "run"),
        pytest.raises(ConfigError, match="another process"),
        open_run_directory(out, "run", force=True),
    ):
        pass
    run_in(out)  # the lock is given back
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / ".lock").touch()
    run_in(tmp_path / "killed")  # what is left of a killed process does not count as content


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(ConfigError, match=r"file/out.*choose a directory"),
        open_run_directory(tmp_path / "file/out", "run"),
    ):
        pass


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_run_directory(tmp_path, "run") as directory:
        directory.write("summary.json", "old")

        def full(*_: object) -> None:
            raise OSError("disk full")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="disk full"):
            directory.write("summary.json", "new")
        assert (tmp_path / "summary.json").read_text() == "old"
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "summary.json"]


def test_json_refuses_what_is_not_json(tmp_path: Path) -> None:
    with open_run_directory(tmp_path, "run") as directory, pytest.raises(ValueError, match="JSON"):
        directory.write_json("summary.json", {"x": float("nan")})


def test_versions_name_what_computes() -> None:
    found = versions()
    assert found["numpy"] != "missing"
    assert {"python", "secfpp", "torch", "platform"} <= set(found)


def test_no_revision_outside_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_directory, "__file__", str(tmp_path / "module.py"))
    assert git_revision.__wrapped__() is None


PLAN = {"seeds": {"a": [1]}}


def planned(path: Path, command: str = "run", **options: bool) -> None:
    with open_run_directory(path, command, **options) as directory:
        directory.start("seed = 1\n", PLAN)
        directory.mark("finished")


def test_a_stored_run_is_handed_over_and_kept(tmp_path: Path) -> None:
    planned(tmp_path)
    (tmp_path / "cells" / "a").mkdir(parents=True)
    (tmp_path / "cells" / "a" / "1.safetensors").write_bytes(b"x")
    with open_run_directory(tmp_path, "compare", resume=True) as directory:
        assert directory.stored == PLAN
        directory.start("seed = 2\n", PLAN)
        assert (tmp_path / "cells/a/1.safetensors").exists()
        assert json.loads((tmp_path / "run.json").read_text())["state"] == "running"
    assert made_by(tmp_path) == "compare"
    with open_run_directory(tmp_path, "run", resume=True, force=True) as directory:
        assert directory.stored is None
        directory.start("", PLAN)
    assert not (tmp_path / "cells").exists()


def test_going_on_where_nothing_is_begins(tmp_path: Path) -> None:
    with open_run_directory(tmp_path / "new", "run", resume=True) as directory:
        assert directory.stored is None


@pytest.mark.parametrize("about", ["", "{}", "[]", '{"plan": {}}', '{"plan": [1]}', '{"command": "run"}'])
def test_only_a_run_can_go_on(tmp_path: Path, about: str) -> None:
    (tmp_path / "run.json").write_text(about)
    with pytest.raises(ConfigError, match="holds no run"), open_run_directory(tmp_path, "run", resume=True):
        pass
    with pytest.raises(ConfigError, match="holds no run"), open_results(tmp_path):
        pass


def test_refusing_a_used_directory_names_resume_where_it_helps(tmp_path: Path) -> None:
    planned(tmp_path)
    with pytest.raises(ConfigError, match="--resume"), open_run_directory(tmp_path, "run"):
        pass
    with pytest.raises(ConfigError) as caught, open_run_directory(tmp_path, "demo"):
        pass
    assert "--resume" not in str(caught.value)


def test_drafts_of_a_killed_process_are_removed_others_not(tmp_path: Path) -> None:
    planned(tmp_path)
    (tmp_path / "prompts" / "a").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    for name in (".run.json.x.draft", "prompts/a/.c.safetensors.y.draft", "mine/.letter.draft", "letter.draft"):
        (tmp_path / name).touch()
    with open_run_directory(tmp_path, "run", resume=True) as directory:
        directory.start("", PLAN)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.draft"))
    assert left == ["letter.draft", "mine/.letter.draft"]


def test_results_are_opened_under_the_same_lock(tmp_path: Path) -> None:
    planned(tmp_path)
    with open_results(tmp_path) as directory:
        assert directory.stored == PLAN and directory.command == "run"
        with pytest.raises(ConfigError, match="another process"), open_run_directory(tmp_path, "run", resume=True):
            pass
    with (
        open_run_directory(tmp_path, "run", resume=True),
        pytest.raises(ConfigError, match="another process"),
        open_results(tmp_path),
    ):
        pass


def test_json_is_read_or_named(tmp_path: Path) -> None:
    with open_run_directory(tmp_path, "run") as directory:
        assert directory.read_json("samples.json") is None
        directory.write_json("samples.json", {"a": 1})
        assert directory.read_json("samples.json") == {"a": 1}
        directory.write("samples.json", "{")
        with pytest.raises(DataError, match=r"samples\.json cannot be read"):
            directory.read_json("samples.json")


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".", "a\\b", "", "ä", "a+b"])
def test_any_name_is_one_part_of_a_path(name: str, tmp_path: Path) -> None:
    part = path_part(name)
    assert "/" not in part and ".." not in part
    if name:
        assert (tmp_path / part).parent == tmp_path
