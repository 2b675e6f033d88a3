"""The sites of `support.toy_sites` behind a real Flower system; needs Flower."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tomli_w

from secfpp.deploy.flower.job import Ended, run_app, write_app
from secfpp.runtime.remote import RemoteDriver
from support import toy_sites
from support.bridge import SOCKET, BridgedTransport
from support.flower_parts import bound_sites

BRIDGED = "support.flower_apps:bridged"
_PATIENCE = 600.0


@contextmanager
def flower(folder: Path) -> Iterator[RemoteDriver]:
    """A driver whose sites are those of `folder`, behind a SuperLink, SuperNodes and relays on loopback."""
    bound = bound_sites(folder, list(toy_sites.CLIENTS), sites=folder)
    app = write_app(folder / "app", "toy", tomli_w.dumps({"toy": True}).encode(), server=BRIDGED)
    ended: list[Ended] = []
    with bound.federation(toy_sites.OPENER) as federation:
        federation.start_all()
        arguments = federation.link, bound.server, app, "toy", folder / "out", _PATIENCE
        running = threading.Thread(target=lambda: ended.append(run_app(*arguments)))
        running.start()
        run, until = bound.server / "runs" / "toy", time.monotonic() + 120.0
        while not (run / SOCKET).exists():
            assert time.monotonic() < until and running.is_alive(), "the run did not start"
            time.sleep(0.1)
        time.sleep(0.5)
        transport = BridgedTransport(run, federation.start_work)
        try:
            yield toy_sites.opened(transport)
        finally:
            transport.close()
            running.join(60.0)
    assert [one.status for one in ended] == [0]
