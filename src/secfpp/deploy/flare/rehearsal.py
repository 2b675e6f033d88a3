"""A rehearsal on a real NVIDIA FLARE system: everything that a deployment has, on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from secfpp.crypto.roster import Roster
from secfpp.deploy.agreed import Agreed
from secfpp.deploy.flare.binding import bind_server, bind_site
from secfpp.deploy.flare.job import JobError, run_job, write_job
from secfpp.deploy.flare.processes import Federation
from secfpp.deploy.flare.provision import make_kits
from secfpp.deploy.names import AGREED, RESULTS
from secfpp.deploy.site_folder import ROSTER, SiteFolder
from secfpp.protocol.program import ClientId

PATIENCE = 1800.0
"""Seconds that a rehearsal may take."""


def run_on_flare(root: Path, sites: Mapping[ClientId, SiteFolder], agreed: Agreed, told: Callable[[str], None]) -> None:
    """Provision, bind, start, submit, follow, fetch; leaves results in ``results`` and no process.

    Args:
        root: of the rehearsal, with its roster and agreed file.
        sites: client to its site.
        agreed: the run.
        told: given a line for each thing that happens.

    Raises:
        MissingExtraError: FLARE is not installed.
        JobError: the run failed.
    """
    roster = Roster.load(root / ROSTER)
    kits = make_kits(root / "kits", list(sites))
    for name, site in sites.items():
        bind_site(site.path, kits.sites[name], name, site.identity, roster)
    (root / "server").mkdir(exist_ok=True)
    bind_server(root / "server", kits.server, root / ROSTER)
    told(f"provisioned: a server, {len(sites)} sites, an administrator; port {kits.port} of this machine")
    content = (root / AGREED).read_bytes()
    job = write_job(root / "job", agreed.run, content, list(sites), least=len(sites))
    with Federation(kits, {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}) as federation:
        federation.start_all()
        told("started: server and sites, each in processes of its own")
        ended = run_job(kits.administrator, job, root / RESULTS, PATIENCE, lambda status: told(f"FLARE: {status}"))
    if ended.status:
        raise JobError(f"the run failed: {ended.why or ended.engine}; logs are in {root / 'kits'}")
