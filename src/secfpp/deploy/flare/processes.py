"""FLARE's processes on this machine: started as a project would, and surely ended.

FLARE's workers are sessions of their own and outlive a killed parent by half a minute. So all that is started here,
and all that it starts in turn, inherits a mark in its environment, and is found by it.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from secfpp.deploy.flare.binding import OUTCOME_WAIT
from secfpp.deploy.flare.provision import ORGANISATION, Kits
from secfpp.errors import MissingExtraError

SERVER = "server"
_MARK = "SECFPP_FLARE_PART"
_PATIENCE = 3.0


class Federation:
    """Server and sites of `kits` as processes; a context manager that leaves none behind.

    Args:
        kits: bound kits.
        environment: variables for all processes beside those of this one.
    """

    def __init__(self, kits: Kits, environment: Mapping[str, str] | None = None) -> None:
        try:
            import psutil
        except ImportError as error:
            raise MissingExtraError("FLARE", "flare") from error
        self._psutil: Any = psutil
        self._kits = kits
        self._environment = dict(environment or {})
        self._token = secrets.token_hex(8)
        self._started: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []

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
        environment = {**os.environ, **OUTCOME_WAIT, **self._environment, _MARK: f"{self._token}:{part}"}
        log = (kit / "console.log").open("ab")
        started = subprocess.Popen(
            [*command, "--set", *settings],
            cwd=kit,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._started.append((started, log))

    def processes(self, part: str | None = None) -> list[Any]:
        """The running processes of one part, or of all: `psutil.Process` each, parents, workers and their children."""
        wanted = None if part is None else f"{self._token}:{part}"
        found = []
        for process in self._psutil.process_iter():
            try:
                mark = process.environ().get(_MARK, "")
                dead = process.status() == self._psutil.STATUS_ZOMBIE
            except self._psutil.Error:
                continue
            if not dead and (mark == wanted if wanted else mark.startswith(f"{self._token}:")):
                found.append(process)
        return found

    def kill(self, part: str) -> None:
        """End all processes of `part` at once, as if its machine had lost power."""
        self._end(part, signal.SIGKILL)

    def stop(self) -> None:
        """End everything, kindly and then by force."""
        self._end(None, signal.SIGTERM)
        until = time.monotonic() + _PATIENCE
        while self.processes() and time.monotonic() < until:
            self._reap()
            time.sleep(0.1)
        self._end(None, signal.SIGKILL)
        for started, log in self._started:
            started.wait()
            log.close()
        self._started.clear()

    def _end(self, part: str | None, how: signal.Signals) -> None:
        for _ in range(10):  # a process that is just being started is found the next time
            found = self.processes(part)
            for process in found:
                try:
                    process.send_signal(how)
                except self._psutil.Error:
                    continue
            if how != signal.SIGKILL or not found:
                return
            self._reap()
            time.sleep(0.05)

    def _reap(self) -> None:
        for started, _ in self._started:
            started.poll()
