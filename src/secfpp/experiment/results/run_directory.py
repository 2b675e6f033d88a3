"""The directory of a run: private to its owner, one writer at a time, every file written whole or not at all."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import BaseFileLock, FileLock, Timeout

from secfpp.errors import ConfigError, DataError
from secfpp.storage import atomic_write

README = """Results of `secfpp {command}`.

PRIVATE: a simulation plays every client, so this directory holds every client's private parts
(personal prompts, per-client accuracies, images shown in report.html). It is readable by you only.

config.toml     the complete settings; the end of report.html has the command that runs them again
run.json        command, state, what is to be trained, versions and git revision
cells/          METHOD/SEED.safetensors: the whole result of a method on a seed; what is there is not trained again.
                SEED.checkpoint: the last round of one in training; SEED.error.txt: why one failed
summary.json    figures per method, paired differences between methods, and what is missing
metrics.jsonl   one line per method, seed, client and round
costs.jsonl     one line per method and seed: messages, bytes, seconds
partitions/     SEED.json: what the data are, images per class of each client
samples.json    a few test images, for the report
prompts/        METHOD/SEED/CLIENT.safetensors: the personal prompts
tensorboard/    METHOD/SEED: events for TensorBoard, if asked for
report.html     everything above, to look at; open it in a browser. `secfpp report DIR` makes it anew
table.*         md, tex, csv, json: the figures as a table for papers and programs; `secfpp table DIR` makes others
shards/         I-of-N: what `compare --shard I/N` trained, a directory like this one each

Of `secfpp attack` beside these: audit.json, audit.html and parts/.

Of `secfpp sweep` instead:
sweep.json      every figure at every combination of the settings; sweep.md, .tex, .csv and .html have the same
points/         a directory like this one for each combination, of `secfpp compare`

Of `secfpp audit` instead:
audit.json      every attack with its figures, and audit.html, the same to look at
parts/          TARGET/SEED.safetensors: what attacks said of each image; what is there is not attacked again
shadows/        shadow prompts of what is being attacked; empty at the end
ledgers/        TARGET/SEED.jsonl: what a target released under differential privacy while it was attacked
"""
_OURS = (
    "run.json",
    "README.txt",
    "config.toml",
    "cells",
    "summary.json",
    "metrics.jsonl",
    "costs.jsonl",
    "partitions",
    "samples.json",
    "prompts",
    "tensorboard",
    "report.html",
    "table.md",
    "table.tex",
    "table.csv",
    "table.json",
    "audit.json",
    "audit.html",
    "parts",
    "shadows",
    "ledgers",
    "points",
    "sweep.json",
    "sweep.md",
    "sweep.csv",
    "sweep.tex",
    "sweep.html",
)
_LOCK = ".lock"
_DRAFT_SECONDS = 3600.0  # older files in writing are of a process that was killed, whatever else works there
SHARDS = "shards"
"""The folder of a run directory that holds those of its shards, see `secfpp.experiment.run.shards`."""
_KINDS = {"audit": ("an audit", "audit.html"), "sweep": ("a sweep", "sweep.html, or one of its points")}
"""Commands whose directories hold no run that others go on with: what they hold, and what to open there."""


class RunDirectory:
    """An opened run directory; made by `open_run_directory`, `open_results` or `open_shard`.

    Attributes:
        path: where it is.
        command: what works in it.
        stored: the plan of the run to go on with, as `RunDirectory.mark` wrote it; None to begin a new run.
        replaces: whether nothing of an earlier run counts, what its shards trained included.
        whole: of a shard, the stored plan of the run that it is a part of, if that has begun.
        shared: whether another process may work in it.
        against: the method that the report compares others with, if one was asked for.
    """

    def __init__(
        self,
        path: Path,
        command: str,
        stored: Mapping[str, Any] | None = None,
        *,
        replaces: bool = False,
        whole: Mapping[str, Any] | None = None,
        shared: bool = False,
        against: str = "",
    ) -> None:
        self.path, self.command, self.stored = path, command, stored
        self.replaces, self.whole, self.shared, self.against = replaces, whole, shared, against
        self._plan: Mapping[str, Any] = stored or {}

    def start(self, config_toml: str, plan: Mapping[str, Any] | None = None) -> None:
        """Write what is known before training; a new run first removes the files of an earlier one (no others).

        Args:
            config_toml: the complete settings.
            plan: what is to be trained, for ``run.json``.
        """
        if self.stored is None:
            for name in (*_OURS, SHARDS) if self.replaces else _OURS:
                target = self.path / name
                if target.is_dir() and not target.is_symlink():
                    shutil.rmtree(target)
                else:
                    target.unlink(missing_ok=True)
        newest = time.time() - _DRAFT_SECONDS
        for folder in (self.path.glob, *((self.path / name).rglob for name in _OURS)):
            for draft in folder(".*.draft"):  # of a process that was killed while it wrote
                with suppress(FileNotFoundError):
                    if not self.shared or draft.stat().st_mtime < newest:
                        draft.unlink()
        self._plan = plan or {}
        self.mark("running")
        self.write("README.txt", README.format(command=self.command))
        self.write("config.toml", config_toml)

    def mark(self, state: str) -> None:
        """Say in ``run.json`` that the run is ``running``, ``finished`` or ``unfinished``."""
        about = {"command": self.command, "state": state, "versions": versions(), "git": git_revision()}
        asked = {"against": self.against} if self.against else {}
        self.write_json("run.json", {**about, **asked, "plan": self._plan})

    def write(self, name: str, content: str | bytes) -> Path:
        """Write the file `name` (a relative path) atomically, readable by the owner only."""
        target = self.path / name
        atomic_write(target, content.encode() if isinstance(content, str) else content)
        return target

    def write_json(self, name: str, value: Mapping[str, Any]) -> Path:
        """Write `value` as indented JSON; NaN and infinities are refused."""
        return self.write(name, json.dumps(value, indent=2, allow_nan=False) + "\n")

    def read_json(self, name: str) -> Any:
        """The content of the JSON file `name`, or None if it is not there.

        Raises:
            DataError: a file that cannot be read.
        """
        target = self.path / name
        try:
            return json.loads(target.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise DataError(f"{target} cannot be read ({error}): start over with --force") from error


@contextmanager
def open_run_directory(
    path: Path, command: str, *, force: bool = False, own: bool = False, resume: bool = False
) -> Iterator[RunDirectory]:
    """Open `path` for a run and hold its lock; what is in it stays until `RunDirectory.start`.

    Args:
        path: the directory; made, with its parents, when it is not there.
        command: what makes this run, e.g. ``"run"``.
        force: replace what an earlier run left there.
        own: like `force`, but only where `command` itself made the earlier run.
        resume: go on with the run that is there, if there is one.

    Raises:
        ConfigError: the directory is not empty, cannot be written, or is in use; with `resume`, it holds
            something else than a run.
    """
    try:
        used = _in_use(path)
        replaces = force or (own and made_by(path) == command)
        if used and not replaces and _kind(made_by(path)) != _kind(command):
            kind, wanted = _kind(made_by(path)), _kind(command) or "a run"
            told = f"{kind}, not {wanted}" if kind else f"something else than {wanted}"
            raise ConfigError(f"--out {path}: holds {told}; choose another directory, or replace it with --force")
        if used and not replaces and not resume:
            raise ConfigError(
                f"--out {path}: exists and is not empty; choose another directory, or replace it with --force"
                + (", or go on with it with --resume" if command == "run" and stored_in(path) else "")
            )
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.chmod(0o700)
    except OSError as error:
        raise _unusable(path, error) from error
    lock = _locked(path)
    try:
        stored = stored_in(path) if used and resume and not replaces else None
        if used and not replaces and stored is None:
            raise ConfigError(f"--out {path}: holds no run that could go on; choose another directory, or use --force")
        yield RunDirectory(path, command, stored, replaces=replaces)
    finally:
        lock.release()
        if not used and all(entry.name == _LOCK for entry in path.iterdir()):  # nothing was started
            (path / _LOCK).unlink(missing_ok=True)
            path.rmdir()


@contextmanager
def open_results(path: Path) -> Iterator[RunDirectory]:
    """Open the run directory `path`, finished or not, to make something of its results, and hold its lock.

    Raises:
        ConfigError: no run is there, or it is in use.
    """
    stored = stored_in(path)
    if stored is not None and (kind := _kind(made_by(path))):
        raise ConfigError(f"{path}: holds {kind}, not a run; open {_KINDS[made_by(path) or ''][1]} there")
    if stored is None:
        raise ConfigError(f"{path}: holds no run; give a directory that `secfpp run`, `compare` or `demo` made")
    lock = _locked(path)
    try:
        yield RunDirectory(path, made_by(path) or "", stored, against=str(_about(path).get("against", "")))
    finally:
        lock.release()


@contextmanager
def open_shard(out: Path, name: str, command: str) -> Iterator[RunDirectory]:
    """The directory ``shards/NAME`` in the run directory `out`, made if it is not there; a run there goes on.

    It is not locked: what works there does not depend on being alone.

    Raises:
        ConfigError: `out` holds something else than a run, or cannot be written.
    """
    try:
        whole = stored_in(out)
        if _in_use(out) and (whole is None or _kind(made_by(out))):
            raise ConfigError(f"--out {out}: holds something else than such a run; choose another directory")
        path = out / SHARDS / name
        for folder in (out, path.parent, path):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        out.chmod(0o700)
    except OSError as error:
        raise _unusable(out, error) from error
    try:
        yield RunDirectory(path, command, stored_in(path), whole=whole, shared=True)
    finally:
        with suppress(OSError):  # if nothing was started they are empty
            for folder in (path, path.parent, out):
                folder.rmdir()


def path_part(name: str) -> str:
    """`name` as one part of a path, whatever is in it."""
    part = quote(name, safe=" +=,@").replace("..", "%2E%2E")
    return "%2E" if part == "." else part


def _kind(command: str | None) -> str:
    """What a command's directory holds, if not a run."""
    return _KINDS.get(command or "", ("", ""))[0]


def _in_use(path: Path) -> bool:
    """Whether there is anything else than a lock and shards."""
    return path.exists() and any(entry.name not in (_LOCK, SHARDS) for entry in path.iterdir())


def _locked(path: Path) -> BaseFileLock:
    lock = FileLock(path / _LOCK, timeout=0, mode=0o600)
    try:
        lock.acquire()
    except Timeout as error:
        raise ConfigError(
            f"{path}: another process is writing there; wait for it or choose another directory"
        ) from error
    except OSError as error:
        raise _unusable(path, error) from error
    return lock


def _unusable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"--out {path}: {error.strerror or error}; choose a directory that you can write to")


def _about(path: Path) -> Mapping[str, Any]:
    """The content of ``run.json``; empty if there is none."""
    try:
        about = json.loads((path / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def state_of(path: Path) -> str | None:
    """What `RunDirectory.mark` said last of the run in `path`, or None if no run is there."""
    return _about(path).get("state")


def stored_in(path: Path) -> Mapping[str, Any] | None:
    """The plan of the run in `path`, as `RunDirectory.mark` wrote it, or None if no run is there."""
    plan = _about(path).get("plan")
    return plan if isinstance(plan, dict) and plan else None


def made_by(path: Path) -> str | None:
    """The command that made the run in `path`, or None if no run is there."""
    return _about(path).get("command")


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
