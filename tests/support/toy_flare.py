"""The sites of `support.toy_sites` behind a real FLARE system; needs FLARE."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tomli_w

from secfpp.deploy.flare.job import Ended, run_job, write_job
from secfpp.runtime.remote import RemoteDriver
from support import toy_sites
from support.bridge import SOCKET, BridgedTransport
from support.flare_parts import bound_kits

RELAY = "support.flare_components.ToyRelay"
SERVER = "support.flare_components.BridgedServer"
_PATIENCE = 600.0


@contextmanager
def flare(folder: Path) -> Iterator[RemoteDriver]:
    """A driver whose sites are those of `folder`, behind FLARE's server and clients on loopback."""
    names = list(toy_sites.CLIENTS)
    bound = bound_kits(folder / "flare", names, RELAY, SERVER, places=folder)
    agreed = tomli_w.dumps({"toy": True}).encode()
    job = write_job(folder / "job", "toy", agreed, names, least=len(names), server=SERVER, relay=RELAY)
    ended: list[Ended] = []
    with bound.federation() as federation:
        federation.start_all()
        arguments = bound.kits.administrator, job, folder / "out", _PATIENCE
        running = threading.Thread(target=lambda: ended.append(run_job(*arguments)))
        running.start()
        run, until = bound.server / "toy", time.monotonic() + 180.0
        while not (run / SOCKET).exists():
            assert time.monotonic() < until and running.is_alive(), "the run did not start"
            time.sleep(0.1)
        time.sleep(0.5)
        transport = BridgedTransport(run)
        try:
            yield toy_sites.opened(transport)
        finally:
            transport.close()
            running.join(120.0)
    assert [one.status for one in ended] == [0]
