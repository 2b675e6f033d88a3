"""Stand-ins for a site's work and a server's program, and a federation on loopback that runs them.

The classes are let in by allow lists that tests write; what the package itself writes names its own classes only.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from secfpp.crypto.roster import IdentityKey, Roster
from secfpp.deploy.flare.binding import bind_server, bind_site
from secfpp.deploy.flare.processes import Federation
from secfpp.deploy.flare.provision import Kits, make_kits
from secfpp.errors import DataError

RELAY = "support.flare_components.EchoRelay"
SERVER = "support.flare_components.AskingServer"
TESTS = Path(__file__).parents[1]


class EchoSite:
    """Replies what it is asked; a request may make it slow or kill it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pid").write_text(str(os.getpid()))

    def handle(self, message: bytes) -> bytes:
        """``sleep:SECONDS`` sleeps first, ``die`` ends the process at once."""
        if message == b"die":
            os._exit(3)
        if message.startswith(b"sleep:"):
            time.sleep(float(message[6:]))
        return message

    def close(self) -> None:
        (self.folder / "closed").touch()


def open_echo(folder: Path) -> EchoSite:
    return EchoSite(folder)


def ask_as_told(transport: object, folder: Path) -> int:
    """Make the exchanges that ``agreed.toml`` lists, write what came back; waits for the file ``go`` where told."""
    from tomllib import loads

    steps = loads((folder / "agreed.toml").read_text())["steps"]
    told: list[dict[str, object]] = []
    (folder / "results").mkdir(exist_ok=True)
    for step in steps:
        while step.get("wait") and not (folder / step["wait"]).exists():
            time.sleep(0.05)
        to = step.get("to", list(transport.sites))  # type: ignore[attr-defined]
        special = step.get("special", {})
        for _ in range(step.get("times", 1)):
            messages = {site: special.get(site, "").encode() or bytes(step.get("size", 100)) for site in to}
            began = time.perf_counter()
            replies = transport.exchange(messages, step.get("deadline", 30.0))  # type: ignore[attr-defined]
            spent = time.perf_counter() - began
            same = all(reply == messages[site] for site, reply in replies.items())
            told.append({"replies": sorted(replies), "same": same, "seconds": spent})
        (folder / "results" / "told.json").write_text(json.dumps(told))
    return int(steps[-1].get("status", 0))


@dataclass(frozen=True)
class Bound:
    """Kits that are bound, and the folders they are bound to."""

    kits: Kits
    roster: Path
    server: Path
    sites: dict[str, Path]

    def federation(self) -> Federation:
        path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
        return Federation(self.kits, {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"})


def bound_kits(
    folder: Path, names: list[str], relay: str = RELAY, server: str = SERVER, places: Path | None = None
) -> Bound:
    """Provisioned and bound kits with a roster of fresh keys."""
    keys = {name: IdentityKey.generate() for name in names}
    roster = Roster("rehearsal", 1, {name: key.public for name, key in keys.items()})
    roster.save(folder / "roster.toml")
    kits = make_kits(folder / "kits", names)
    sites = {name: (places or folder / "sites") / name for name in names}
    for name, key in keys.items():
        sites[name].mkdir(parents=True)
        bind_site(sites[name], kits.sites[name], name, key, roster, relay)
    (folder / "runs").mkdir()
    bind_server(folder / "runs", kits.server, folder / "roster.toml", server)
    return Bound(kits, folder / "roster.toml", folder / "runs", sites)


def refuse(folder: Path) -> EchoSite:
    raise DataError("no data here")


def fail(folder: Path) -> EchoSite:
    raise KeyError("secret")
