"""Verified groups and polls over a real Flower system: the bits of one process, also where a site is missing."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from secfpp.deploy.flower.job import Ended, run_app, write_app
from secfpp.deploy.names import AGREED
from secfpp.deploy.rehearsal import Rehearsal, differing, play, prepare
from secfpp.deploy.results import Served
from secfpp.deploy.server_process import run_at_sites
from secfpp.deploy.site_folder import SiteFolder
from secfpp.experiment.run.training import load_dataset
from secfpp.experiment.spec.config import parse_config
from secfpp.models.backbone import load_backbone
from secfpp.protocol import wire
from secfpp.protocol.program import ClientState
from secfpp.runtime.envelope import Part, Request
from secfpp.runtime.remote import Transport
from support.bridge import SOCKET, BridgedTransport
from support.flower_parts import TESTS
from support.sites import sites_here
from support.verified_runs import VERIFIED

pytest.importorskip("flwr")
pytestmark = pytest.mark.slow
SITES = 9
"""One may go missing, and two groups of four are left."""
PATIENCE = 3600.0
CONFIG = parse_config({name: VERIFIED[name] for name in ("data", "method")})


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """For Flower's command line, which looks whether an app names modules that exist; bits depend on threads."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def ready(folder: Path, rounds: int = 1) -> Rehearsal:
    return prepare(folder, replace(CONFIG, rounds=rounds), SITES, deadline=300.0)


def test_a_run_over_flower_gives_the_bits_and_bytes_of_one_process(tmp_path: Path) -> None:
    rehearsal = ready(tmp_path / "r")
    played = play(rehearsal, "flower", print)
    assert (played.differ, played.costs_differ) == ((), False)
    assert {"clusterer", "poll"} <= played.summary["costs"]["components"].keys()


@dataclass
class Hostile:
    """A server that tells false values in round 1, and one site that is not reached any more in the middle of round 2.

    Args:
        carrier: what carries honest messages.
        gone: the site.
    """

    carrier: Transport
    gone: str
    lied: int = 0
    asked: int = 0
    missed: int = 0

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(self.carrier.sites)

    def start(self, site: str) -> None:
        self.carrier.start(site)

    def exchange(self, messages: Mapping[str, bytes], deadline: float) -> Mapping[str, bytes]:
        sent = {}
        for name, data in messages.items():
            request = Request.decode(data)
            if request.round == 2 and name == self.gone:
                self.asked += any(part.step == "clusterer.verify" for part in request.parts)
                if self.asked > 1:
                    self.missed += 1
                    continue
            sent[name] = replace(request, parts=tuple(self._told(request, part) for part in request.parts)).encode()
        return self.carrier.exchange(sent, deadline)

    def _told(self, request: Request, part: Part) -> Part:
        message = wire.decode(part.data) if part.step.startswith("clusterer") else {}
        if request.round != 1 or "opened.1" not in message:
            return part
        self.lied += 1
        told = message["opened.1"].copy()
        told[0] ^= np.uint64(1)
        return replace(part, data=bytes(wire.encode({**message, "opened.1": told})))


@contextmanager
def on_flower(rehearsal: Rehearsal) -> Iterator[BridgedTransport]:
    """The sites of a rehearsal in processes of their own; what carries messages to them."""
    from secfpp.deploy.flower.processes import Federation

    root, run = rehearsal.root, rehearsal.agreed.run
    server = root / "server"
    app = write_app(root / "app", run, (root / AGREED).read_bytes(), server="support.flower_apps:bridged")
    environment = {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    folders = {name: site.path for name, site in rehearsal.sites.items()}
    ended: list[Ended] = []
    with Federation(server, folders, rehearsal.roster, environment=environment) as federation:
        federation.start_all()
        arguments = federation.link, server, app, run, root / "out", PATIENCE
        running = threading.Thread(target=lambda: ended.append(run_app(*arguments)))
        running.start()
        place, until = server / "runs" / run, time.monotonic() + 300.0
        assert len(str(place / SOCKET)) < 108, "too long for a socket's path: take a shorter --basetemp"
        while not (place / SOCKET).exists():
            assert time.monotonic() < until and running.is_alive(), "the run did not start"
            time.sleep(0.1)
        time.sleep(0.5)
        transport = BridgedTransport(place, federation.start_work)
        try:
            yield transport
        finally:
            transport.close()
            running.join(120.0)
    assert [one.status for one in ended] == [0]


def ended_with(served: Served) -> object:
    """What a server knows at the end, but for times."""
    refusals = {(one.party, one.reason, one.round) for one in served.refusals}
    return served.cluster_of, refusals, served.lost, served.behind, {**served.costs.as_dict(), "seconds": 0}


def states(rehearsal: Rehearsal) -> dict[str, ClientState]:
    """What each site kept last."""
    agreed, kept = rehearsal.agreed, {}
    for name, site in rehearsal.sites.items():
        found = site.store(agreed).load(agreed.algorithm.planned(agreed.rounds))
        assert found is not None
        kept[name] = found[1]
    return kept


def test_a_lying_server_and_a_missing_site_have_over_flower_what_they_have_in_one_process(tmp_path: Path) -> None:
    over = ready(tmp_path / "r", rounds=4)
    shutil.copytree(over.root / "sites", tmp_path / "s")
    here = replace(over, root=tmp_path, sites={name: SiteFolder(tmp_path / "s" / name) for name in over.sites})
    agreed, whole, gone = over.agreed, load_dataset(CONFIG, CONFIG.seeds[0]), min(over.sites)
    with sites_here(here.sites, agreed, whole, load_backbone("mini", device="cpu")) as local:
        hostile = Hostile(local, gone)
        expected = run_at_sites(hostile, agreed, tmp_path / "server")
    assert hostile.lied and hostile.missed
    assert {(one.reason, one.round) for one in expected.refusals} == {("tampering", 1)}
    assert expected.cluster_of is not None
    assert len({(name.rpartition("-")[0], group) for name, group in expected.cluster_of.items()}) == 2
    with on_flower(over) as carrier:
        served = run_at_sites(Hostile(carrier, gone), agreed, over.root / "kept")
    assert ended_with(served) == ended_with(expected)
    assert differing(over, states(here)) == ()
