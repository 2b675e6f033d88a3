"""The processes of a site: a warm one that does its work, Flower's SuperNode, and a relay between the two."""

from __future__ import annotations

import logging
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

from secfpp.deploy.flower.identity import SiteBinding
from secfpp.deploy.flower.job import OFFLINE, SuperLink, program
from secfpp.deploy.site_socket import OPENER, serve_until_ended
from secfpp.errors import DataError, SecFPPError
from secfpp.storage import atomic_write

_SECRET = "flower.secret"
_LOOPBACK = "127.0.0.1"


def serve_site(folder: Path, opener: str = OPENER, ready: Callable[[], None] | None = None) -> None:
    """Do a site's work until SIGTERM or SIGINT; what it takes is loaded once.

    Args:
        folder: the site's folder, bound to a roster.
        opener: ``module:function``, called with the folder; returns a `secfpp.deploy.child.Site`.
        ready: called when the site can be asked.

    Raises:
        SecFPPError: the folder is not bound, or is served already, or the opener's.
    """
    binding = SiteBinding.load(folder)
    serve_until_ended(folder, opener, binding.sign, ready)


def node_commands(folder: Path, link: SuperLink, port: int) -> tuple[list[list[str]], dict[str, str]]:
    """The commands that connect a site to a SuperLink, to run side by side, and the variables to run them with.

    The first is Flower's SuperNode, the second answers what comes to it by what `serve_site` serves.

    Args:
        folder: the site's folder, bound to a roster.
        link: to the SuperLink.
        port: of this machine, where the two meet; nobody else can connect.

    Raises:
        DataError: the folder is not bound, or cannot be written.
    """
    SiteBinding.load(folder)
    secret, meet = folder.absolute() / _SECRET, f"{_LOOPBACK}:{port}"
    if not secret.exists():
        try:
            atomic_write(secret, secrets.token_bytes(32))
        except OSError as error:
            raise DataError(f"{secret} cannot be written: {error.strerror}") from error
    trust = ["--insecure"] if link.certificates is None else ["--root-certificates", str(link.certificates.absolute())]
    node = [str(program("flower-supernode")), "--superlink", link.address, *trust, "--isolation", "process"]
    node += ["--host", _LOOPBACK, "--port", str(port), "--superexec-auth-secret-file", str(secret)]
    relay = [sys.executable, "-m", "secfpp.deploy.flower.relay", str(folder.absolute()), meet, str(secret)]
    return [node, relay], dict(OFFLINE)


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
