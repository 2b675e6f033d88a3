"""Startup kits for a rehearsal: FLARE's own provisioning, for a server, an administrator and sites on this machine."""

from __future__ import annotations

import io
import socket
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secfpp.deploy.flare.binding import SCHEME
from secfpp.errors import ConfigError, DataError, MissingExtraError

ADMINISTRATOR = "admin@rehearsal.local"
ORGANISATION = "rehearsal"
SERVER_NAME = "localhost"
"""Also the address that it listens at, so that nobody else can connect."""


@dataclass(frozen=True)
class Kits:
    """Folders of startup kits.

    Attributes:
        server: the server's.
        administrator: of who submits jobs.
        sites: site to its.
        port: where the server listens.
    """

    server: Path
    administrator: Path
    sites: dict[str, Path]
    port: int


def free_port() -> int:
    """A TCP port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_kits(folder: Path, sites: Sequence[str], port: int | None = None) -> Kits:
    """Make a project with its own certificate authority and all its kits under `folder`.

    Args:
        folder: where; must not hold a project yet.
        sites: names of the sites, as in the roster.
        port: where the server will listen; a free one if None.

    Raises:
        ConfigError: a name that FLARE cannot take.
        MissingExtraError: FLARE is not installed.
        DataError: provisioning failed.
    """
    try:
        from nvflare.apis.utils.format_check import name_check
        from nvflare.lighter.provision import prepare_builders, prepare_project
        from nvflare.lighter.provisioner import Provisioner
    except ImportError as error:
        raise MissingExtraError("FLARE", "flare") from error
    for site in sites:
        if name_check(site, "client")[0]:
            raise ConfigError(
                f"site name {site!r}: FLARE takes letters, digits, '-' and '_' only; rename it in the roster"
            )
    port = free_port() if port is None else port
    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            about = _project(sites, port)
            context = Provisioner(str(folder), prepare_builders(about)).provision(prepare_project(about))
        made = Path(context["current_prod_dir"])
    except (Exception, SystemExit) as error:
        raise DataError(f"FLARE could not make the kits in {folder}: {type(error).__name__}: {error}") from error
    kits = Kits(made / SERVER_NAME, made / ADMINISTRATOR, {site: made / site for site in sites}, port)
    if missing := [str(kit) for kit in (kits.server, kits.administrator, *kits.sites.values()) if not kit.is_dir()]:
        raise DataError(f"FLARE did not make {missing[0]}: {said.getvalue().strip()[-500:]}")
    return kits


def _project(sites: Sequence[str], port: int) -> dict[str, Any]:
    """What a project.yml of FLARE says."""
    server = {"name": SERVER_NAME, "type": "server", "org": ORGANISATION, "fed_learn_port": port, "admin_port": port}
    clients = [{"name": site, "type": "client", "org": ORGANISATION} for site in sites]
    admin = {"name": ADMINISTRATOR, "type": "admin", "org": ORGANISATION, "role": "project_admin"}
    kinds = "nvflare.lighter.impl"
    static = {"config_folder": "config", "scheme": SCHEME}
    return {
        "api_version": 3,
        "name": "rehearsal",
        "description": "SecFPP on one machine",
        "participants": [server, *clients, admin],
        "builders": [
            {"path": f"{kinds}.workspace.WorkspaceBuilder", "args": {"template_file": ["master_template.yml"]}},
            {"path": f"{kinds}.static_file.StaticFileBuilder", "args": static},
            {"path": f"{kinds}.cert.CertBuilder"},
            {"path": f"{kinds}.signature.SignatureBuilder"},
        ],
    }
