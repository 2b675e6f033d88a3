"""The app at the server: opens the run's folder, finds out who is there, runs the program, says how it ended.

Where the server's folder is says the environment of the SuperLink, never who starts a run.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from filelock import FileLock, Timeout
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from secfpp.crypto.roster import Roster
from secfpp.deploy.flower.names import EXPECTED, JOBS, ROSTER, RUNS, SERVER_FOLDER
from secfpp.deploy.flower.transport import FlowerTransport
from secfpp.deploy.names import STATUS
from secfpp.deploy.runs import open_run
from secfpp.errors import ConfigError, SecFPPError
from secfpp.storage import atomic_write

PROGRAM = "secfpp.deploy.server_process:serve"
PLANNED = "secfpp.deploy.flower.expected:planned_exchanges"

_PREVIOUS_ENDS = 20.0
"""Seconds that the app of a SuperLink which was killed may live on."""


def server_app(program: str = PROGRAM, planned: str = PLANNED) -> ServerApp:
    """The app.

    Args:
        program: ``module:function`` of the transport and the run's folder that returns an exit status.
        planned: ``module:function`` of the run's folder and the number of sites: how many exchanges there will be.
    """

    def main(grid: Grid, context: Context) -> None:
        serve(grid, context, program, planned)

    made = ServerApp()
    made.main()(main)
    return made


def serve(grid: Any, context: Any, program: str, planned: str) -> None:
    """Run a program at the sites of `grid`.

    Raises:
        RuntimeError: it ended with another status than 0, so that Flower counts the run as failed.
        SecFPPError: it could not begin, or failed.
    """
    folder, config = _server_folder(), context.run_config
    job = folder / JOBS / str(context.run_id)
    try:
        with _alone(folder):
            agreed = b64decode(str(config["agreed"]), validate=True)
            run = open_run(folder / RUNS, str(config["run"]), agreed, bool(config["resume"]))
            transport = FlowerTransport(grid, Roster.load(folder / ROSTER))
            expected = {"exchanges": resolve_name(planned)(run, len(transport.sites)), "seconds": transport.ping()}
            _write(job / EXPECTED, {**expected, "sites": transport.sites})
            status = int(resolve_name(program)(transport, run))
    except Exception as error:
        why = str(error) if isinstance(error, SecFPPError) else type(error).__name__
        _write(job / STATUS, {"status": 1, "why": why})
        raise
    _write(job / STATUS, {"status": status, "why": ""})
    if status:
        raise RuntimeError(f"the run ended with status {status}")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Use the server's folder in the ``with`` block; two runs would share the sites' folders too.

    Raises:
        ConfigError: another run does, also after a while.
    """
    try:
        with FileLock(folder / ".lock", timeout=_PREVIOUS_ENDS, mode=0o600):
            yield
    except Timeout as error:
        raise ConfigError("another run is under way: wait for its end, or stop it with flwr stop") from error


def _server_folder() -> Path:
    folder = os.environ.get(SERVER_FOLDER)
    if not folder:
        raise ConfigError(f"{SERVER_FOLDER} is not set: start the SuperLink with the server's folder in it")
    return Path(folder)


def _write(path: Path, about: object) -> None:
    atomic_write(path, json.dumps(about).encode())


app = server_app()
