from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from secfpp.errors import ConfigError
from secfpp.experiment import run_directory
from secfpp.experiment.run_directory import git_revision, made_by, open_run_directory, versions


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
