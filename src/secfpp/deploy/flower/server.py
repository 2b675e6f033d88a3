"""The app at the server: opens the run's folder, finds out who is there, runs the program, says how it ended.

Where the server's folder is says the environment of the SuperLink, never who starts a run.
"""

from __future__ import annotations

import json
import logging
import os
from base64 import b64decode
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

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

_log = logging.getLogger(__name__)


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


def _server_folder() -> Path:
    folder = os.environ.get(SERVER_FOLDER)
    if not folder:
        raise ConfigError(f"{SERVER_FOLDER} is not set: start the SuperLink with the server's folder in it")
    return Path(folder)


def _write(path: Path, about: object) -> None:
    atomic_write(path, json.dumps(about).encode())


app = server_app()
