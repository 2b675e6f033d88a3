"""A rehearsal on a real Flower system: everything that a deployment has, on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from secfpp.deploy.agreed import Agreed
from secfpp.deploy.flower.job import FlowerError, run_app, write_app
from secfpp.deploy.flower.processes import Federation
from secfpp.deploy.names import AGREED, RESULTS
from secfpp.deploy.site_folder import ROSTER, SiteFolder
from secfpp.protocol.program import ClientId

PATIENCE = 3600.0
"""Seconds that a rehearsal may take."""


def run_on_flower(
    root: Path, sites: Mapping[ClientId, SiteFolder], agreed: Agreed, told: Callable[[str], None]
) -> None:
    """Start a SuperLink and the sites, run, follow, fetch; leaves results in ``results`` and no process.

    Args:
        root: of the rehearsal, with its roster and agreed file.
        sites: client to its site.
        agreed: the run.
        told: given a line for each thing that happens.

    Raises:
        MissingExtraError: Flower is not installed.
        FlowerError: the run failed.
    """
    server, app = root / "server", write_app(root / "app", agreed.run, (root / AGREED).read_bytes())
    environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    folders = {name: site.path for name, site in sites.items()}
    with Federation(server, folders, root / ROSTER, environment=environment) as federation:
        federation.start_all()
        told(f"started: a SuperLink at {federation.link.address}, {len(sites)} sites, each in processes of its own")
        ended = run_app(federation.link, server, app, agreed.run, root / RESULTS, PATIENCE, told)
    if ended.status:
        raise FlowerError(f"the run failed: {ended.why or ended.engine}; logs are in {server / 'superlink'}")
