"""A run of Flower: its app written, started, followed to its end, its results fetched. No code is in it.

All of this happens where the SuperLink is, since Flower brings no files back. Its command line ends with status 0 when
a run has failed; so the status is read from what the run says, and from what the server's app left.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from secfpp.crypto.roster import Roster
from secfpp.deploy.flower.names import CLIENT_APP, EXPECTED, JOBS, ROSTER, RUNS, SERVER_APP, SERVER_FOLDER
from secfpp.deploy.names import RESULTS, STATUS
from secfpp.errors import ConfigError, DataError, MissingExtraError, SecFPPError

OFFLINE = {
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
}
"""Variables with which all of Flower's programs are to be run: nothing is installed, nobody is called."""
DATABASE = "flower.db"
"""In the server's folder. A SuperLink that keeps its state in memory only does not know its nodes after a restart."""
COMPLETED = "finished:completed"

_CONNECTION = "secfpp"
_KNOWN = "already in use"
_POLL = 0.5
_ASK_EVERY = 10.0
_COMMAND_SECONDS = 120.0


class FlowerError(SecFPPError):
    """A run that Flower refused, lost or ended without a result."""


@dataclass(frozen=True)
class SuperLink:
    """How to reach the SuperLink.

    Attributes:
        address: ``host:port``.
        certificates: file of the authority that its certificate is from, PEM; None speaks without TLS.
    """

    address: str
    certificates: Path | None


@dataclass(frozen=True)
class Expected:
    """What a run will take, as far as is known before its first round.

    Attributes:
        exchanges: how many are planned.
        exchange_seconds: what one took that had no work in it.
        sites: who is there.
    """

    exchanges: int
    exchange_seconds: float
    sites: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Of all exchanges, without the sites' own work."""
        return self.exchanges * self.exchange_seconds

    def __str__(self) -> str:
        return (
            f"{len(self.sites)} sites are there; {self.exchanges} exchanges of {self.exchange_seconds:.1f} s: "
            f"about {max(self.seconds / 60, 1):.0f} minutes, and the sites' own work"
        )


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        run: Flower's number of it.
        status: the exit status, 0 for success.
        why: what went wrong, "" if nothing did.
        engine: Flower's own status of the run, such as ``finished:completed``.
    """

    run: str
    status: int
    why: str
    engine: str


def make_server(folder: Path, roster: Path) -> dict[str, str]:
    """Make the server's folder; the variables that a SuperLink is to be started with, so that it finds it.

    Args:
        folder: where runs are kept.
        roster: file of the roster of the sites.

    Raises:
        DataError: no roster, or a folder that cannot be written.
    """
    known = Roster.load(roster)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror}") from error
    known.save(folder / ROSTER)
    place = folder.absolute()
    path = f"{program('flower-superlink').parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {SERVER_FOLDER: str(place), "FLWR_HOME": str(place / "flower"), "PATH": path}


def write_app(
    folder: Path, run: str, agreed: bytes, *, resume: bool = False, server: str = SERVER_APP, client: str = CLIENT_APP
) -> Path:
    """Write the app of a run into `folder`, which must be empty or absent: one file, which names installed code.

    Args:
        folder: where.
        run: the run's name, a plain file name.
        agreed: what all sites agreed to, UTF-8.
        resume: go on with the run of that name at the server.
        server: ``module:name`` of the server's app.
        client: ``module:name`` of the sites' app.

    Raises:
        ConfigError: a folder with files in it.
        DataError: it cannot be written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty: an app is written into a folder of its own")
    flower = {
        "publisher": "secfpp",
        "components": {"serverapp": server, "clientapp": client},
        "config": {"run": run, "agreed": b64encode(agreed).decode(), "resume": resume},
    }
    about = {"project": {"name": "secfpp-run", "version": "1.0.0"}, "tool": {"flwr": {"app": flower}}}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pyproject.toml").write_text(tomli_w.dumps(about), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror}") from error
    return folder


class Control:
    """Flower's command line towards one SuperLink; made by `connected`.

    Args:
        home: the folder of its configuration.
    """

    def __init__(self, home: Path) -> None:
        self._home = home

    def start(self, app: Path) -> str:
        """Start a run; Flower's number of it.

        Raises:
            FlowerError: it was refused.
        """
        found = self._call("run", str(app.absolute()), _CONNECTION)
        if not found.get("run-id"):
            raise FlowerError(f"Flower started no run: {found.get('error-message', found)}")
        return str(found["run-id"])

    def register(self, public: Path) -> None:
        """Let the SuperNode with this key connect, from now on; nothing happens if it may already.

        Args:
            public: file of its public key, in the format of OpenSSH.

        Raises:
            FlowerError: the SuperLink does not take it, or does not answer.
        """
        try:
            found = self._call("supernode", "register", str(public.absolute()), _CONNECTION)
        except FlowerError as error:
            raise FlowerError(f"the SuperLink does not take the key {public}: {error}") from error
        why = str(found.get("error-message", ""))
        if not found.get("success") and _KNOWN not in why:
            raise FlowerError(f"the SuperLink does not take the key {public}: {why.strip() or found}")

    def state(self, run: str) -> tuple[str, str]:
        """Flower's status of a run, and its details.

        Raises:
            FlowerError: the SuperLink does not tell.
        """
        found = self._call("list", "--run-id", run, _CONNECTION)
        runs = found.get("runs") or [{}]
        if "status" not in runs[0]:
            why = str(found.get("error-message", "it knows no such run")).strip()
            raise FlowerError(f"the SuperLink does not tell about run {run}: {why}. When it is up, go on with --resume")
        return str(runs[0]["status"]), str(runs[0].get("status-details", ""))

    def stop(self, run: str) -> None:
        """End a run.

        Raises:
            FlowerError: the SuperLink does not do it.
        """
        self._call("stop", run, _CONNECTION)

    def _call(self, *words: str) -> Mapping[str, Any]:
        command = [str(program("flwr")), *words, "--format", "json"]
        environment = {**os.environ, **OFFLINE, "FLWR_HOME": str(self._home)}
        try:
            ran = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise FlowerError(
                f"flwr {words[0]} had no answer for {_COMMAND_SECONDS:g} s: is the SuperLink up?"
            ) from error
        try:
            found = json.loads(ran.stdout[ran.stdout.index("{") :])
        except ValueError as error:
            said = (ran.stderr or ran.stdout).strip()[-500:]
            raise FlowerError(
                f"flwr {words[0]} failed: {said}. When the SuperLink is up, go on with --resume"
            ) from error
        return found if isinstance(found, dict) else {}


@contextmanager
def connected(link: SuperLink) -> Iterator[Control]:
    """Flower's command line with a configuration of its own, for one SuperLink."""
    about: dict[str, Any] = {"address": link.address, "insecure": link.certificates is None}
    if link.certificates is not None:
        about["root-certificates"] = str(link.certificates.absolute())
    with tempfile.TemporaryDirectory() as room:
        (Path(room) / "config.toml").write_text(
            tomli_w.dumps({"superlink": {"default": _CONNECTION, _CONNECTION: about}}), encoding="utf-8"
        )
        yield Control(Path(room))


def run_app(
    link: SuperLink,
    server: Path,
    app: Path,
    run: str,
    out: Path,
    patience: float,
    told: Callable[[str], None] | None = None,
) -> Ended:
    """Start a run, wait for its end, copy its results to `out`; who is interrupted stops it.

    Args:
        link: to the SuperLink.
        server: the server's folder, that of the SuperLink's environment.
        app: a folder by `write_app`.
        run: the run's name.
        out: where the results go.
        patience: seconds that it may take; it is stopped then.
        told: called with what is to be shown: how long it will take, Flower's status.

    Raises:
        FlowerError: the run was refused or lost, or took too long.
        MissingExtraError: Flower is not installed.
    """
    with connected(link) as control:
        number = control.start(app)
        job = server / JOBS / number
        try:
            engine, details = _followed(control, number, job, patience, told or (lambda text: None))
        except KeyboardInterrupt:
            control.stop(number)
            raise
    about = _read(job / STATUS) or {"status": 1, "why": details}
    status, why = int(about["status"]), str(about["why"])
    if engine != COMPLETED and not status:
        status, why = 1, details
    if (server / RUNS / run / RESULTS).is_dir() and (job / EXPECTED).exists():
        shutil.copytree(server / RUNS / run / RESULTS, out, dirs_exist_ok=True)
    return Ended(number, status, why, engine)


def _followed(control: Control, run: str, job: Path, patience: float, told: Callable[[str], None]) -> tuple[str, str]:
    """Flower's last word on a run; its details."""
    until, asked, before, expected = time.monotonic() + patience, 0.0, "", False
    while time.monotonic() < until:
        if not expected and (about := _read(job / EXPECTED)):
            expected = True
            told(str(Expected(int(about["exchanges"]), float(about["seconds"]), tuple(about["sites"]))))
        if (job / STATUS).exists() or time.monotonic() - asked > _ASK_EVERY:
            status, details = control.state(run)
            if status != before:
                told(f"Flower: {status}")
            if status.startswith("finished"):
                return status, details
            before, asked = status, time.monotonic()
        time.sleep(_POLL)
    control.stop(run)
    raise FlowerError(f"run {run} took longer than {patience:g} s and was stopped")


def program(name: str) -> Path:
    """A program of Flower's, beside this Python or on the path.

    Raises:
        MissingExtraError: Flower is not installed.
    """
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise MissingExtraError("secfpp serve flower", "flower")
    return Path(found)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
