"""A site's folder: all that one client of a deployed run knows, keeps and writes.

``site.toml`` is its own settings, ``identity.key`` (mode 0600) and ``identity.pub`` its keys, ``agreed.toml`` and
``roster.toml`` its copies of what was agreed. A run writes ``state/``, ``log/``, ``privacy/`` and
``prompt.safetensors``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from secfpp.algorithms.training import ClientContext
from secfpp.crypto.roster import IdentityKey, Roster, fingerprint, public_line
from secfpp.data.federated import FederatedDataset
from secfpp.deploy.agreed import Agreed
from secfpp.deploy.site_data import alone, class_names, load_site_data, require_classes
from secfpp.deploy.site_file import SiteData, SiteFile, write_site_file
from secfpp.deploy.site_log import SiteLog
from secfpp.errors import ConfigError, DataError, Problem
from secfpp.experiment.results.summary import client_prompt, novelty_of
from secfpp.models.backbone import Backbone, load_backbone
from secfpp.models.compiling import compile_problems
from secfpp.models.devices import device_problems
from secfpp.privacy.ledger import PrivacyLedger, RunLedger
from secfpp.protocol.program import ClientState
from secfpp.runtime.contexts import dataset_digest
from secfpp.runtime.evaluation import measure, validation_accuracy
from secfpp.runtime.learned import learned, predicting, prompts_of
from secfpp.runtime.site_store import SiteStore
from secfpp.secure.ledger import Ledger
from secfpp.secure.session import Party
from secfpp.seeding import derive
from secfpp.storage import atomic_write

KEY, AGREED, ROSTER, PROMPT = "identity.key", "agreed.toml", "roster.toml", "prompt.safetensors"


class SiteFolder:
    """One site on its own disk; data and model are read once.

    Args:
        path: the folder.

    Raises:
        DataError: there is no ``site.toml``.
        ConfigError: it has values that cannot work.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = SiteFile.load(path / "site.toml")
        self._backbone: Backbone | None = None
        self._data: tuple[str, FederatedDataset] | None = None

    @classmethod
    def create(cls, path: Path, name: str, data: SiteData, backbone: str = "mini") -> SiteFolder:
        """Make a site: its key, with the public one to send around, and its ``site.toml``.

        Raises:
            ConfigError: there is one, or the name cannot be a client's.
            DataError: it cannot be written.
        """
        key = IdentityKey.generate()
        line = public_line(name, key.public)
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            if (path / KEY).exists() or (path / "site.toml").exists():
                raise ConfigError(f"{path} is a site already: choose another folder")
            key.save(path / KEY)
            atomic_write(path / "identity.pub", f"{line}\n".encode())
        except OSError as error:
            raise DataError(f"{path} cannot be written: {error.strerror}. Choose another folder") from error
        write_site_file(path / "site.toml", name, data, backbone)
        return cls(path)

    @property
    def name(self) -> str:
        """The client's name."""
        return self.file.name

    @property
    def identity(self) -> IdentityKey:
        """The client's private key.

        Raises:
            DataError: it is not there, or others may read it.
        """
        return IdentityKey.load(self.path / KEY)

    def agreed(self) -> Agreed:
        """The run that this site agreed to.

        Raises:
            DataError: none yet.
            ConfigError: the file was changed so that it cannot work.
        """
        return Agreed.load(self.path / AGREED)

    def roster(self) -> Roster:
        """The clients of the run and their keys.

        Raises:
            DataError: none yet, or damaged.
        """
        return Roster.load(self.path / ROSTER)

    def log(self, run: str) -> SiteLog:
        """The log of a run."""
        return SiteLog(self.path / "log", run)

    @contextmanager
    def in_use(self, patience: float = 0.0) -> Iterator[None]:
        """Take part in a run in the ``with`` block; one process at a time.

        Args:
            patience: seconds to wait at most for the end of another process.

        Raises:
            ConfigError: another one does, and has not ended by then.
        """
        lock = FileLock(self.path / ".lock", timeout=patience, mode=0o600, thread_local=False)
        try:
            with lock:
                yield
        except Timeout as error:
            raise ConfigError(f"{self.path} is in use: another process answers for this site; end it first") from error

    def problems(self, agreed: Agreed, roster: Roster) -> list[Problem]:
        """What forbids a run here: limits, a missing device or compiler, the roster. Nothing slow is looked at."""
        found = self.file.limits.problems(agreed, len(roster.keys), self.file.text)
        model = self.file.backbone
        found += device_problems(model.device, "site.toml: backbone.device")
        if model.compile:
            found += compile_problems(model.device, "site.toml: backbone.compile")
        public = self.identity.public
        if self.name not in roster.keys:
            found.append(Problem("name", self.name, f"one in the roster, which has {', '.join(roster.keys)}"))
        elif roster.keys[self.name] != public:
            listed = fingerprint(roster.keys[self.name])
            allowed = f"the key of {KEY}, or a roster with it: secfpp keys roster replace; listed is {listed}"
            found.append(Problem(f"the key of {self.name!r}", fingerprint(public), allowed))
        return found

    def require(self, agreed: Agreed, roster: Roster) -> None:
        """Refuse a run that cannot or may not be done here; the quick checks come first, then images and model.

        Raises:
            ConfigError: limits, roster, key or model; what there is of a kind is named together.
            DataError: images that cannot be used, or classes that were not agreed on.
        """
        agreed.require_roster(roster)
        if found := self.problems(agreed, roster):
            raise ConfigError(found)
        if self._data is None or self._data[0] != agreed.digest:
            if self.file.data.dataset:
                self.data(agreed)
            else:
                own = class_names(self.file.data, self.name, agreed.seed, self.path)
                require_classes(own, agreed.classes, str(self.path))
        self.backbone(agreed)

    def know(self, dataset: FederatedDataset, backbone: Backbone, agreed: Agreed) -> None:
        """Take data and model that are in memory already, of which this site would load the same.

        Args:
            dataset: of all clients of a simulated data set.
            backbone: the loaded model.
            agreed: the run that they are for.
        """
        self._backbone = backbone
        self._data = (agreed.digest, alone(dataset, self.name, agreed))

    def agree(self, agreed: Agreed, roster: Roster) -> None:
        """Keep a run as agreed on, after `require`.

        Raises:
            ConfigError, DataError: see `require`, or the site takes part in a run right now; nothing is written then.
        """
        self.require(agreed, roster)
        with self.in_use():
            roster.save(self.path / ROSTER)
            agreed.save(self.path / AGREED)
            self.log(agreed.run).note(f"agreed to {agreed.digest}")

    def backbone(self, agreed: Agreed) -> Backbone:
        """The model, loaded once.

        Raises:
            ConfigError: no such model, or another than the agreed one.
        """
        if self._backbone is None:
            own = self.file.backbone
            place = self.path / own.name
            name = str(place) if place.is_dir() else own.name
            self._backbone = load_backbone(
                name, device=own.device, threads=own.threads, dtype=own.dtype, compile=own.compile
            )
        spec = self._backbone.spec
        if spec.digest != agreed.backbone_digest:
            allowed = f"the model {agreed.backbone!r} with the content {agreed.backbone_digest}; here is {spec.digest}"
            raise ConfigError([Problem("site.toml: backbone.name", spec.name, allowed)])
        return self._backbone

    def data(self, agreed: Agreed) -> FederatedDataset:
        """This site's images as a data set of one client, which is a domain of its own; read once.

        Raises:
            ConfigError, DataError: see `secfpp.deploy.site_data.load_site_data`.
        """
        if self._data is None or self._data[0] != agreed.digest:
            self._data = (agreed.digest, load_site_data(self.file.data, self.name, agreed, self.path))
        return self._data[1]

    def context(self, agreed: Agreed) -> ClientContext:
        """What the client's steps work with.

        Raises:
            ConfigError, DataError: images, model, key, roster or ledgers that cannot be used.
        """
        (client,) = self.data(agreed).clients  # before the model: reading takes memory that is free again by then
        backbone, algorithm = self.backbone(agreed), agreed.algorithm
        start = algorithm.prompt.initial(backbone, agreed.template, derive(agreed.seed, "start"))
        return ClientContext(
            client=self.name,
            data=client,
            group=0,
            backbone=backbone,
            tokens=backbone.class_tokens(agreed.classes, len(start)),
            seed=agreed.seed,
            start=start,
            template=agreed.template,
            party=self.party(agreed),
            ledger=self.privacy_ledger(agreed),
        )

    def party(self, agreed: Agreed) -> Party:
        """The client's keys. Messages of sites that agreed to anything else are not authentic here.

        Raises:
            ConfigError: the roster is not the agreed one.
            DataError: key, roster or ledger cannot be read.
        """
        roster = self.roster()
        agreed.require_roster(roster)
        bound = replace(roster, run=f"{roster.run}/{agreed.digest}")
        ledger = Ledger.at(self.state_folder(agreed) / "rounds.json")
        return Party(self.name, self.identity, bound, ledger=ledger, least_colluding=self.file.limits.least_colluding)

    def privacy_ledger(self, agreed: Agreed) -> RunLedger | None:
        """Where releases under differential privacy are written down; None if the run promises nothing.

        All runs at this site share one ledger, whatever images it had at the time.

        Raises:
            DataError: a damaged ledger.
        """
        terms, most = agreed.algorithm.privacy_terms, self.file.limits.epsilon
        if terms is None:
            return None
        if most is not None:
            terms = replace(terms, budget=min(most, math.inf if terms.budget is None else terms.budget))
        whose = f"site-{sha256(self.name.encode()).hexdigest()[:32]}"
        ledger = PrivacyLedger.open(self.path / "privacy" / "ledger.jsonl", whose, terms)
        return RunLedger(ledger, f"{agreed.run}, {agreed.digest[:12]}")

    def state_folder(self, agreed: Agreed) -> Path:
        """Where the state of a run is kept."""
        return self.path / "state" / agreed.digest[:16]

    def store(self, agreed: Agreed) -> SiteStore:
        """The states of this site in a run, bound to all that they depend on here: agreement, model and images.

        Raises:
            ConfigError, DataError: images or model that cannot be used.
        """
        parts = (agreed.digest, self.name, self.backbone(agreed).spec.digest, dataset_digest(self.data(agreed)))
        return SiteStore(self.state_folder(agreed), sha256(repr(parts).encode()).hexdigest())

    def write_prompt(self, agreed: Agreed, context: ClientContext, state: ClientState) -> dict[str, Any]:
        """Write ``prompt.safetensors``, as a simulation of all sites would for this client.

        Returns:
            This site's own figures: accuracies in percent (None where no image tells), of ``test`` as the metric
            ``own``, of ``validation``, and numbers of images.

        Raises:
            DataError: the file cannot be written.
        """
        algorithm, data = agreed.algorithm, self.data(agreed)
        (client,) = data.clients
        prompts = prompts_of(algorithm, [context], {context.client: state})
        texts, visual = predicting(algorithm, [context], {context.client: state}, prompts)
        prompt = client_prompt(
            learned(algorithm, [context], prompts, visual),
            0,
            context.backbone.spec,
            novelty_of(client, context.backbone),
            classes=agreed.classes,
            client=self.name,
            domain=client.domain,
            method=algorithm.name,
            seed=agreed.seed,
            rounds=algorithm.planned(agreed.rounds),
            image_size=client.train.images.shape[1],
            grey_window=data.grey_window,
        )
        try:
            prompt.save(self.path / PROMPT)
        except OSError as error:
            raise DataError(f"{self.path / PROMPT} cannot be written: {error.strerror}. Make it writable") from error
        own = measure([context], texts, data.test, algorithm.predictor, visual)["own"]
        (validation,) = validation_accuracy([context], texts, algorithm.predictor, visual)
        return {
            "test": _finite(own[0]),
            "validation": _finite(validation),
            "images": {
                "train": len(client.train),
                "validation": len(client.validation),
                "test": len(data.test[client.domain]),
            },
        }

    def told(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        """What of its figures the site tells the server; nothing unless its limits allow it."""
        return dict(figures) if self.file.limits.tell_metrics else {}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
