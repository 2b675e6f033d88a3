"""Sites with small pictures, and what they agree on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from secfpp.algorithms.base import FederatedAlgorithm
from secfpp.algorithms.secfpp import SecFPP
from secfpp.crypto.roster import Roster
from secfpp.deploy.agreed import Agreed
from secfpp.deploy.site_file import SiteData
from secfpp.deploy.site_folder import SiteFolder
from secfpp.models.backbone import Backbone
from support.picture_folders import picture_tree

CLASSES = ("bird", "cat", "dog")
NAMES = ("anna", "ben", "cleo", "dora")


def pictures(root: Path, names: Sequence[str] = NAMES, count: int = 8) -> Path:
    """Folders CLIENT/CLASS with `count` pictures of each class; of the last client one class less."""
    for name in names:
        own = CLASSES[:2] if name == names[-1] else CLASSES
        picture_tree(root / name, dict.fromkeys(own, count))
    return root


def make_sites(folder: Path, data: Path, names: Sequence[str] = NAMES, size: int = 16) -> dict[str, SiteFolder]:
    """Sites with the folders of these names below `data`."""
    return {
        name: SiteFolder.create(folder / name, name, SiteData(folder=str(data / name), size=size)) for name in names
    }


def roster_of(sites: dict[str, SiteFolder], run: str = "trial") -> Roster:
    """The sites' roster."""
    return Roster(run, 1, {name: site.identity.public for name, site in sites.items()})


def agreed_on(
    roster: Roster, backbone: Backbone, algorithm: FederatedAlgorithm | None = None, **changes: Any
) -> Agreed:
    """A run of these sites."""
    values = {
        "run": roster.run,
        "roster": roster.fingerprint,
        "seed": 3,
        "rounds": 2,
        "fewest": 4,
        "deadline": 30.0,
        "template": "a photo of a {}",
        "classes": CLASSES,
        "backbone": "mini",
        "backbone_digest": backbone.spec.digest,
        "algorithm": algorithm or SecFPP(),
    }
    return Agreed(**{**values, **changes})
