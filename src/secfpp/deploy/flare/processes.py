"""FLARE's processes on this machine: started as a project would, and surely ended."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from secfpp.deploy.flare.binding import OUTCOME_WAIT
from secfpp.deploy.flare.provision import ORGANISATION, Kits
from secfpp.deploy.processes import Processes

SERVER = "server"


class Federation:
    """Server and sites of `kits` as processes; a context manager that leaves none behind.

    Args:
        kits: bound kits.
        environment: variables for all processes beside those of this one.
    """

    def __init__(self, kits: Kits, environment: Mapping[str, str] | None = None) -> None:
        self._kits = kits
        self._processes = Processes("flare", environment)

    def __enter__(self) -> Federation:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start_all(self) -> None:
        """Start the server and all sites."""
        self.start_server()
        for site in self._kits.sites:
            self.start_site(site)

    def start_server(self) -> None:
        """Start the server."""
        self._start(SERVER, self._kits.server, "server.server_train", "fed_server.json", [])

    def start_site(self, site: str, kit: Path | None = None) -> None:
        """Start one site, with its own kit or another one."""
        self._start(site, kit or self._kits.sites[site], "client.client_train", "fed_client.json", [f"uid={site}"])

    def _start(self, part: str, kit: Path, module: str, startup: str, extra: list[str]) -> None:
        settings = ["secure_train=true", *extra, f"org={ORGANISATION}", "config_folder=config"]
        command = [sys.executable, "-u", "-m", f"nvflare.private.fed.app.{module}", "-m", str(kit), "-s", startup]
        self._processes.start(part, [*command, "--set", *settings], kit, OUTCOME_WAIT)

    def processes(self, part: str | None = None) -> list[Any]:
        """The running processes of one part, or of all: `psutil.Process` each, parents, workers and their children."""
        return self._processes.running(part)

    def kill(self, part: str) -> None:
        """End all processes of `part` at once, as if its machine had lost power."""
        self._processes.kill(part)

    def stop(self) -> None:
        """End everything, kindly and then by force."""
        self._processes.stop()
