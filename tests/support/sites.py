"""Sites with small pictures, and what they agree on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from secfpp.algorithms.base import FederatedAlgorithm
from secfpp.algorithms.secfpp import SecFPP
from secfpp.algorithms.training import LocalTraining
from secfpp.crypto.roster import Roster
from secfpp.data.federated import FederatedDataset
from secfpp.deploy.agreed import Agreed
from secfpp.deploy.site_file import SiteData
from secfpp.deploy.site_folder import SiteFolder
from secfpp.deploy.site_process import OpenSite
from secfpp.models.backbone import Backbone
from secfpp.runtime.envelope import Request
from secfpp.runtime.remote import LocalTransport
from support.picture_folders import picture_tree

CLASSES = ("bird", "cat", "dog")
NAMES = ("anna", "ben", "cleo", "dora")
FAST = SecFPP(training=LocalTraining(steps=1, batch=4), effort=1.0)


def pictures(root: Path, names: Sequence[str] = NAMES, count: int = 8) -> Path:
    """Folders CLIENT/CLASS with `count` pictures of each class; of the last client one class less."""
    for name in names:
        own = CLASSES[:2] if name == names[-1] else CLASSES
        picture_tree(root / name, dict.fromkeys(own, count))
    return root


def make_sites(folder: Path, data: Path, names: Sequence[str] = NAMES) -> dict[str, SiteFolder]:
    """Sites with the folders of these names below `data`."""
    return {name: SiteFolder.create(folder / name, name, SiteData(folder=str(data / name))) for name in names}


def roster_of(sites: dict[str, SiteFolder], run: str = "trial") -> Roster:
    """The sites' roster."""
    return Roster(run, 1, {name: site.identity.public for name, site in sites.items()})


def agreed_on(
    roster: Roster, backbone: Backbone, algorithm: FederatedAlgorithm | None = None, **changes: Any
) -> Agreed:
    """A run of these sites."""
    about = {"run": roster.run, "roster": roster.fingerprint, "backbone_digest": backbone.spec.digest}
    return asked(algorithm, **{**about, **changes})


def asked(algorithm: FederatedAlgorithm | None = None, **changes: Any) -> Agreed:
    """A run of nobody, of small pictures."""
    values = {
        "run": "trial",
        "roster": "ABCD",
        "seed": 3,
        "rounds": 2,
        "fewest": 4,
        "deadline": 30.0,
        "template": "a photo of a {}",
        "classes": CLASSES,
        "backbone": "mini",
        "backbone_digest": "00",
        "algorithm": algorithm or SecFPP(),
        "image_size": 16,
    }
    return Agreed(**{**values, **changes})


class Here(LocalTransport):
    """Sites of this process, which may be cut off for single requests, or started again.

    Args:
        opens: name to what opens the site.
    """

    def __init__(self, opens: Mapping[str, Callable[[], OpenSite]]) -> None:
        self._opens = dict(opens)
        self.open = {name: opened() for name, opened in self._opens.items()}
        self.cut: Callable[[str, Request], bool] = lambda name, request: False
        super().__init__({})
        self._listen()

    def exchange(self, messages: Mapping[str, bytes], deadline: float) -> Mapping[str, bytes]:
        reached = {name: data for name, data in messages.items() if not self.cut(name, Request.decode(data))}
        return super().exchange(reached, deadline)

    def start(self, name: str) -> None:
        """Start a site again: what it had in memory is gone."""
        self.open[name].close()
        self.open[name] = self._opens[name]()
        self._listen()

    def close(self) -> None:
        for site in self.open.values():
            site.close()

    def _listen(self) -> None:
        self.handlers = {name: site.handle for name, site in sorted(self.open.items())}


@contextmanager
def sites_here(
    sites: Mapping[str, SiteFolder], agreed: Agreed, whole: FederatedDataset, backbone: Backbone
) -> Iterator[Here]:
    """The sites in this process, with images and model that are in memory already."""

    def opens(path: Path) -> Callable[[], OpenSite]:
        def opened() -> OpenSite:
            folder = SiteFolder(path)
            folder.know(whole, backbone, agreed)
            return OpenSite(folder)

        return opened

    here = Here({name: opens(site.path) for name, site in sites.items()})
    try:
        yield here
    finally:
        here.close()
