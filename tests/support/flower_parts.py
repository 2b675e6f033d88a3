"""Folders of sites with keys and a roster, and a federation on loopback that runs stand-ins."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from secfpp.crypto.roster import IdentityKey, Roster
from secfpp.deploy.flower.processes import Federation

ECHO = "support.flare_parts:open_echo"
ASKING = "support.flower_apps:asking"
TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Bound:
    """Sites' folders with a roster of fresh keys."""

    folder: Path
    roster: Path
    sites: dict[str, Path]

    @property
    def server(self) -> Path:
        return self.folder / "server"

    def federation(self, opener: str = ECHO, **variables: str) -> Federation:
        environment = {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", **variables}
        return Federation(self.server, self.sites, self.roster, opener, environment)


def bound_sites(folder: Path, names: list[str], sites: Path | None = None) -> Bound:
    keys = {name: IdentityKey.generate() for name in names}
    roster = folder / "roster.toml"
    Roster("rehearsal", 1, {name: key.public for name, key in keys.items()}).save(roster)
    places = {name: (sites or folder / "sites") / name for name in names}
    for name, key in keys.items():
        places[name].mkdir(parents=True)
        key.save(places[name] / "identity.key")
        shutil.copyfile(roster, places[name] / "roster.toml")
    return Bound(folder, roster, places)


def planned(folder: Path, sites: int) -> int:
    return 10 * sites
