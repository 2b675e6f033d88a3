"""The directory of a run: private to its owner, one writer at a time, every file written whole or not at all."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from secfpp.errors import ConfigError
from secfpp.storage import atomic_write

README = """Results of `secfpp {command}`.

PRIVATE: a simulation plays every client, so this directory holds every client's private parts
(personal prompts, per-client accuracies, images shown in report.html). It is readable by you only.

config.toml     the complete settings; `secfpp run config.toml --out DIR` runs them again
run.json        command, state, versions and git revision
summary.json    figures per method, and paired differences between methods
metrics.jsonl   one line per method, seed, client and round
costs.jsonl     one line per method and seed: messages, bytes, seconds
partitions/     SEED.json: images per class of each client
prompts/        METHOD/SEED/CLIENT.safetensors: the personal prompts
report.html     everything above, to look at; open it in a browser
"""
_OURS = (
    "run.json",
    "README.txt",
    "config.toml",
    "summary.json",
    "metrics.jsonl",
    "costs.jsonl",
    "partitions",
    "report.html",
    "prompts",
)
_LOCK = ".lock"


class RunDirectory:
    """An opened, locked run directory; made by `open_run_directory`."""

    def __init__(self, path: Path, command: str) -> None:
        self.path, self.command = path, command

    def start(self, config_toml: str) -> None:
        """Remove the files of an earlier run (no others) and write what is known before training."""
        for name in _OURS:
            target = self.path / name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)
        self.mark("running")
        self.write("README.txt", README.format(command=self.command))
        self.write("config.toml", config_toml)

    def mark(self, state: str) -> None:
        """Say in ``run.json`` whether the run is ``running`` or ``finished``."""
        about = {"command": self.command, "state": state, "versions": versions(), "git": git_revision()}
        self.write_json("run.json", about)

    def write(self, name: str, content: str | bytes) -> Path:
        """Write the file `name` (a relative path) atomically, readable by the owner only."""
        target = self.path / name
        atomic_write(target, content.encode() if isinstance(content, str) else content)
        return target

    def write_json(self, name: str, value: Mapping[str, Any]) -> Path:
        """Write `value` as indented JSON; NaN and infinities are refused."""
        return self.write(name, json.dumps(value, indent=2, allow_nan=False) + "\n")


@contextmanager
def open_run_directory(path: Path, command: str, *, force: bool = False, own: bool = False) -> Iterator[RunDirectory]:
    """Open `path` for a new run and hold its lock; what is in it stays until `RunDirectory.start`.

    Args:
        path: the directory; made, with its parents, when it is not there.
        command: what makes this run, e.g. ``"run"``.
        force: replace what an earlier run left there.
        own: like `force`, but only where `command` itself made the earlier run.

    Raises:
        ConfigError: the directory is not empty, cannot be written, or is in use.
    """
    try:
        used = path.exists() and any(entry.name != _LOCK for entry in path.iterdir())
        if used and not force and not (own and made_by(path) == command):
            raise ConfigError(
                f"--out {path}: exists and is not empty; choose another directory, or replace it with --force"
            )
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.chmod(0o700)
        lock = FileLock(path / _LOCK, timeout=0, mode=0o600)
        lock.acquire()
    except Timeout as error:
        raise ConfigError(
            f"--out {path}: another process is writing there; wait for it or choose another directory"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"--out {path}: {error.strerror or error}; choose a directory that you can write to"
        ) from error
    try:
        yield RunDirectory(path, command)
    finally:
        lock.release()
        if not used and all(entry.name == _LOCK for entry in path.iterdir()):  # nothing was started
            (path / _LOCK).unlink(missing_ok=True)
            path.rmdir()


def made_by(path: Path) -> str | None:
    """The command that made the run in `path`, or None if no run is there."""
    try:
        about = json.loads((path / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return about.get("command") if isinstance(about, dict) else None


def versions() -> dict[str, str]:
    """Versions of what computes the results; ``"missing"`` for what is not installed."""
    import platform

    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("secfpp", "torch", "transformers", "numpy", "scipy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


@cache
def git_revision() -> str | None:
    """The commit of the checkout this package runs from, with ``+changes`` if edited; None outside one."""
    here = Path(__file__).resolve()

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(here.parent), *arguments], capture_output=True, text=True, check=True, timeout=10
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)  # else the checkout is somebody else's, with us installed in it
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None
