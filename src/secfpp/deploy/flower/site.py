"""The processes of a site: a warm one that does its work, Flower's SuperNode, and a relay between the two."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from secfpp.deploy.flower.identity import node_key, sign_challenge, site_name
from secfpp.deploy.flower.job import OFFLINE, SuperLink, program
from secfpp.deploy.flower.provision import LOOPBACK, free_port
from secfpp.deploy.site_socket import OPENER, serve_until_ended
from secfpp.errors import DataError, SecFPPError
from secfpp.storage import atomic_write

_SECRET = "flower.secret"
_ENDING = 10.0
_AGAIN = 5.0
_HELD = 90.0
"""Seconds for which a SuperNode that ends is started again. A SuperLink takes one that was killed to be there still
until two heartbeats are missing, after a minute, and refuses its key until then."""


def serve_site(folder: Path, opener: str = OPENER, ready: Callable[[], None] | None = None) -> None:
    """Do a site's work until SIGTERM or SIGINT; what it takes is loaded once.

    Args:
        folder: the site's folder, with its key and the roster.
        opener: ``module:function``, called with the folder; returns a `secfpp.deploy.child.Site`.
        ready: called when the site can be asked.

    Raises:
        SecFPPError: the folder has no key of the roster, or is served already; and the opener's.
    """
    site_name(folder)
    serve_until_ended(folder, opener, partial(sign_challenge, folder), ready)


def node_commands(folder: Path, link: SuperLink, port: int) -> tuple[list[list[str]], dict[str, str]]:
    """The commands that connect a site to a SuperLink, to run side by side, and the variables to run them with.

    The first is Flower's SuperNode, the second answers what comes to it by what `serve_site` serves.

    Args:
        folder: the site's folder, with its key and the roster.
        link: to the SuperLink.
        port: of this machine, where the two meet; nobody else can connect.

    Raises:
        ConfigError: the roster does not have the site's key.
        DataError: there is no key, of the site or of its SuperNode, or no roster, or the folder cannot be written.
    """
    site_name(folder)
    secret, meet = folder.absolute() / _SECRET, f"{LOOPBACK}:{port}"
    if not secret.exists():
        try:
            atomic_write(secret, secrets.token_bytes(32))
        except OSError as error:
            raise DataError(f"{secret} cannot be written: {error.strerror}") from error
    trust = ["--insecure"]
    if link.certificates is not None:
        trust = ["--root-certificates", str(link.certificates.absolute())]
        trust += ["--auth-supernode-private-key", str(node_key(folder))]
    node = [str(program("flower-supernode")), "--superlink", link.address, *trust, "--isolation", "process"]
    node += ["--host", LOOPBACK, "--port", str(port), "--superexec-auth-secret-file", str(secret)]
    relay = [sys.executable, "-m", "secfpp.deploy.flower.relay", str(folder.absolute()), meet, str(secret)]
    return [node, relay], dict(OFFLINE)


def connect_site(folder: Path, link: SuperLink, port: int = 0, told: Callable[[str], None] = lambda text: None) -> int:
    """Run SuperNode and relay of a site until SIGTERM or SIGINT, or until one of them ends by itself.

    A SuperNode that ends in the first 90 s is started again: one that was killed before may hold its place so long.

    Args:
        folder: the site's folder, with its key and the roster.
        link: to the SuperLink.
        port: where the two meet on loopback; any free one by default.
        told: given a line when the SuperNode is started again.

    Returns:
        0 if it was ended from outside, else 1.

    Raises:
        ConfigError, DataError: as `node_commands`.
        MissingExtraError: Flower is not installed.
    """
    commands, environment = node_commands(folder, link, port or free_port())
    own = {**os.environ, **environment, "FLWR_HOME": str(folder.absolute() / "flower")}

    def end(number: int, frame: object) -> None:
        raise SystemExit(0)

    before = {one: signal.signal(one, end) for one in (signal.SIGTERM, signal.SIGINT)}
    started: list[subprocess.Popen[bytes]] = []

    def start(command: list[str]) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(command, env=own, stdin=subprocess.DEVNULL))
        return started[-1]

    try:
        (node, relay), until = map(start, commands), time.monotonic() + _HELD
        while relay.poll() is None:
            if node.poll() is not None:
                left = until - time.monotonic()
                if left < 0:
                    return 1
                told(f"The SuperNode is started again, for {left:.0f} s: Flower refuses it for a minute after a kill.")
                time.sleep(_AGAIN)
                node = start(commands[0])
            time.sleep(0.2)
        return 1
    except SystemExit:
        return 0
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        _end(started)


def _end(started: list[subprocess.Popen[bytes]]) -> None:
    """End processes kindly, and then by force."""
    for one in started:
        one.terminate()
    for one in started:
        try:
            one.wait(_ENDING)
        except subprocess.TimeoutExpired:
            one.kill()
            one.wait()


def main() -> None:
    """Run as ``python -m secfpp.deploy.flower.site FOLDER [OPENER]``."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        folder, opener = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else OPENER
        serve_site(folder, opener)
    except SecFPPError as error:
        sys.exit(f"Error: {error}")
    except Exception as error:
        sys.exit(f"The site's work ended with a {type(error).__name__}.")  # its text may hold what is secret


if __name__ == "__main__":
    main()
