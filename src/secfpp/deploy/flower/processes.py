"""A SuperLink and sites as processes of this machine, with TLS: to rehearse a run, and for tests."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from secfpp.deploy.flower.identity import make_node_key
from secfpp.deploy.flower.job import DATABASE, OFFLINE, SuperLink, connected, make_server, program
from secfpp.deploy.flower.provision import LOOPBACK, free_port, make_certificates
from secfpp.deploy.flower.site import node_commands
from secfpp.deploy.processes import Processes
from secfpp.deploy.site_socket import OPENER, SOCKET
from secfpp.errors import DataError

SERVER = "server"
PARTS = ("work", "node", "relay")


class Federation:
    """A SuperLink and the sites of `folders`; a context manager that leaves no process behind.

    Args:
        folder: for the server: its runs, its certificate, the programs' output.
        folders: site to its folder, with its key and roster.
        roster: file of the roster.
        opener: what makes a site's work, see `secfpp.deploy.child.Child`.
        environment: variables for all processes beside those of this one.
    """

    def __init__(
        self,
        folder: Path,
        folders: Mapping[str, Path],
        roster: Path,
        opener: str = OPENER,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        folder = folder.absolute()  # programs run in folders of their own
        self.folder, self._folders, self._opener = folder, dict(folders), opener
        self._processes = Processes("flower", {**OFFLINE, **(environment or {})})
        self._server = make_server(folder, roster)
        self._port = free_port()
        self.link = SuperLink(f"{LOOPBACK}:{self._port}", make_certificates(folder / "tls"))

    def __enter__(self) -> Federation:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start_all(self) -> None:
        """Start the SuperLink, list the keys of all sites there, and start these.

        Raises:
            DataError: something does not start; says where its output is.
            FlowerError: the SuperLink does not take a key.
        """
        self.start_server()
        with connected(self.link) as control:
            for folder in self._folders.values():
                control.register(make_node_key(folder))
        for site in self._folders:
            self.start_site(site)

    def start_server(self, patience: float = 60.0) -> None:
        """Start the SuperLink, and wait until it listens.

        Raises:
            DataError: it has ended, or does not after `patience` seconds; says where its output is.
        """
        tls = self.folder / "tls"
        command = [str(program("flower-superlink")), "--host", LOOPBACK, "--port", str(self._port)]
        command += ["--ssl-ca-certfile", str(tls / "ca.crt"), "--ssl-certfile", str(tls / "server.crt")]
        command += ["--ssl-keyfile", str(tls / "server.key"), "--database", str(self.folder / DATABASE)]
        command.append("--enable-supernode-auth")
        started = self._processes.start(SERVER, command, self.folder / "superlink", self._server)
        until = time.monotonic() + patience
        while not _listens(self._port):
            if time.monotonic() > until or started.poll() is not None:
                raise DataError(f"the SuperLink did not start: see {self.folder / 'superlink' / 'console.log'}")
            time.sleep(0.1)

    def start_site(self, site: str) -> None:
        """Start one site: its work, its SuperNode and the relay between them."""
        self.start_work(site)
        folder = self._folders[site].absolute()
        commands, environment = node_commands(folder, self.link, free_port())
        own = {**environment, "FLWR_HOME": str(folder / "flower")}
        for part, command in zip(("node", "relay"), commands, strict=True):
            self._processes.start(f"{site}:{part}", command, folder / part, own)

    def start_work(self, site: str, patience: float = 60.0) -> None:
        """Start a site's work alone.

        Raises:
            DataError: it has ended, or does not answer after `patience` seconds; says where its output is.
        """
        folder = self._folders[site].absolute()
        command = [sys.executable, "-m", "secfpp.deploy.flower.site", str(folder), self._opener]
        (folder / SOCKET).unlink(missing_ok=True)
        started = self._processes.start(f"{site}:work", command, folder / "work", {})
        until = time.monotonic() + patience
        while not (folder / SOCKET).exists():
            if time.monotonic() > until or started.poll() is not None:
                raise DataError(f"site {site!r} did not start: see {folder / 'work' / 'console.log'}")
            time.sleep(0.1)

    def kill(self, site: str, part: str = "") -> None:
        """End a site at once, as if its machine had lost power: its ``work``, its ``node``, its ``relay``, or all."""
        for one in (part,) if part else PARTS:
            self._processes.kill(f"{site}:{one}")

    def kill_server(self) -> None:
        """End the SuperLink at once, with the run that it serves."""
        self._processes.kill(SERVER)

    def running(self, part: str | None = None) -> list[Any]:
        """What runs, of `SERVER`, of one part of a site, ``SITE:PART``, or of all: `psutil.Process` each."""
        return self._processes.running(part)

    def stop(self) -> None:
        """End everything."""
        self._processes.stop()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0
