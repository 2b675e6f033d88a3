"""A SuperLink and sites as processes of this machine, with TLS: to rehearse a run, and for tests."""

from __future__ import annotations

import ipaddress
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from secfpp.deploy.flower.job import OFFLINE, SuperLink, program
from secfpp.deploy.flower.names import ROSTER, SERVER_FOLDER
from secfpp.deploy.flower.site import node_commands
from secfpp.deploy.processes import Processes
from secfpp.deploy.site_socket import OPENER, SOCKET
from secfpp.errors import DataError
from secfpp.storage import atomic_write

SERVER = "server"
PARTS = ("work", "node", "relay")
_HOST = "127.0.0.1"
_DAYS = 30


class Rehearsal:
    """A SuperLink and the sites of `folders`; a context manager that leaves no process behind.

    Args:
        folder: for the server: its runs, its certificate, the programs' output.
        folders: site to its folder, which is bound.
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
        self.folder, self._folders, self._opener = folder, dict(folders), opener
        path = {"PATH": f"{program('flower-superlink').parent}:/usr/local/bin:/usr/bin:/bin"}
        self._processes = Processes("flower", {**path, **OFFLINE, **(environment or {})})
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(roster, folder / ROSTER)
        self._port = free_port()
        self.link = SuperLink(f"{_HOST}:{self._port}", make_certificates(folder / "tls"))

    def __enter__(self) -> Rehearsal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start_all(self) -> None:
        """Start the SuperLink and all sites.

        Raises:
            DataError: something does not start; says where its output is.
        """
        self.start_server()
        for site in self._folders:
            self.start_site(site)

    def start_server(self, patience: float = 60.0) -> None:
        """Start the SuperLink, and wait until it listens.

        Raises:
            DataError: it does not after `patience` seconds.
        """
        tls = self.folder / "tls"
        command = [str(program("flower-superlink")), "--host", _HOST, "--port", str(self._port)]
        command += ["--ssl-ca-certfile", str(tls / "ca.crt"), "--ssl-certfile", str(tls / "server.crt")]
        command += ["--ssl-keyfile", str(tls / "server.key")]
        own = {SERVER_FOLDER: str(self.folder.absolute()), "FLWR_HOME": str(self.folder.absolute() / "flower")}
        self._processes.start(SERVER, command, self.folder / "superlink", own)
        until = time.monotonic() + patience
        while not _listens(self._port):
            if time.monotonic() > until:
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
            DataError: it does not answer after `patience` seconds; says where its output is.
        """
        folder = self._folders[site].absolute()
        command = [sys.executable, "-m", "secfpp.deploy.flower.site", str(folder), self._opener]
        (folder / SOCKET).unlink(missing_ok=True)
        self._processes.start(f"{site}:work", command, folder / "work", {})
        until = time.monotonic() + patience
        while not (folder / SOCKET).exists():
            if time.monotonic() > until:
                raise DataError(f"site {site!r} did not start: see {folder / 'work' / 'console.log'}")
            time.sleep(0.1)

    def kill(self, site: str, part: str = "") -> None:
        """End a site at once, as if its machine had lost power: its ``work``, its ``node``, its ``relay``, or all."""
        for one in (part,) if part else PARTS:
            self._processes.kill(f"{site}:{one}")

    def kill_server(self) -> None:
        """End the SuperLink at once, with the run that it serves."""
        self._processes.kill(SERVER)

    def running(self) -> list[Any]:
        """All that runs: `psutil.Process` each."""
        return self._processes.running()

    def stop(self) -> None:
        """End everything."""
        self._processes.stop()


def free_port() -> int:
    """A TCP port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def make_certificates(folder: Path) -> Path:
    """Make an authority and a certificate for this machine's loopback in `folder`, if there are none.

    Returns:
        The authority's certificate, a file. Its private key is thrown away.
    """
    if (folder / "ca.crt").exists():
        return folder / "ca.crt"
    authority, server = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    name = "SecFPP rehearsal"
    loopback = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(_HOST))])
    own = _issued(name, name, authority, authority, x509.BasicConstraints(ca=True, path_length=0))
    files = {
        "server.key": server.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "server.crt": _issued("localhost", name, server, authority, loopback),
        "ca.crt": own,
    }
    for file, content in files.items():
        atomic_write(folder / file, content)
    return folder / "ca.crt"


def _issued(
    subject: str, issuer: str, key: EllipticCurvePrivateKey, by: EllipticCurvePrivateKey, more: x509.ExtensionType
) -> bytes:
    """A certificate, PEM."""
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (subject, issuer)]
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(names[0])
        .issuer_name(names[1])
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(more, critical=isinstance(more, x509.BasicConstraints))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )
    return made.sign(by, SHA256()).public_bytes(Encoding.PEM)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((_HOST, port)) == 0
