"""Personal prompts for all clients of a data set in one object, with the habits of scikit-learn.

Parameters are kept as they are given and checked by `Personalizer.fit`; what is learned has a name that ends in ``_``.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from secfpp.algorithms.base import FederatedAlgorithm, methods
from secfpp.data.federated import FederatedDataset
from secfpp.data.folders import FolderSettings, load_folder
from secfpp.data.tables import TableSettings, is_table, load_table
from secfpp.errors import ConfigError, DataError, MemoryWarning, NoiseWarning, NotFittedError, Problem
from secfpp.experiment.results.fitted import Fitted, load_fitted, save_fitted
from secfpp.experiment.results.summary import client_prompts, novelties
from secfpp.experiment.run.memory import require_memory
from secfpp.experiment.spec.schema import build, dump, one_of
from secfpp.experiment.spec.variants import KNOWN, variants
from secfpp.models.backbone import Backbone, load_backbone, require_model
from secfpp.runtime.trainer import RoundRecord, RunResult, train

if TYPE_CHECKING:
    from secfpp.images import ImagesLike
    from secfpp.models.prompt_file import ClientPrompt

Data: TypeAlias = "FederatedDataset | str | os.PathLike[str] | FolderSettings | TableSettings"
"""A data set, a folder ``CLIENT/CLASS/*.jpg``, a table of images, or settings of either."""
Prior: TypeAlias = Literal["own", "uniform"] | None
_GROUP_SIZES = ("min_cluster_size", "min_responders", "fewest")


class Personalizer:
    """Learns a prompt for every client of a data set, and predicts with it.

    Example:
        ``Personalizer("secfpp", rounds=20, local_lr=0.001).fit("photos").predict("hospital-a", "new.jpg")``

    Args:
        method: name of a method (`secfpp.methods`) or variant (`secfpp.variants`), or one with its settings, e.g.
            ``SecFPP(local_lr=0.001)``.
        rounds: of training.
        backbone: the frozen model: a name as `load_backbone` takes it, or a loaded one.
        seed: of everything random: the split of a folder, the training.
        settings: of the method, by field name; a table where a setting has settings of its own, e.g.
            ``training={"steps": 10}`` or ``training=LocalTraining(steps=10)``; of a part that has several kinds the
            kind alone will do, ``clusterer="oracle"``.

    Attributes:
        clients_: names of the clients, sorted.
        classes_: names of the classes, in the order of `predict_proba`'s columns.
        prompts_: client -> `ClientPrompt`, which can be saved and predicts on its own.
        clusters_: client -> number of its cluster, or None if the method has no clusters (-1: in none).
        metrics_: accuracies on the data set's test images, 0..1: name -> client -> value; see `RunResult.metrics`.
        result_: the `RunResult`, with costs and everything by round.
        backbone_: the loaded model.
    """

    clients_: tuple[str, ...]
    classes_: tuple[str, ...]
    prompts_: dict[str, ClientPrompt]
    clusters_: dict[str, int] | None
    metrics_: dict[str, dict[str, float]]
    result_: RunResult
    backbone_: Backbone

    def __init__(
        self,
        method: str | FederatedAlgorithm = "secfpp",
        *,
        rounds: int = 20,
        backbone: str | Backbone = "mini",
        seed: int = 0,
        **settings: Any,
    ) -> None:
        self.method = method
        self.rounds = rounds
        self.backbone = backbone
        self.seed = seed
        self.settings = settings

    def fit(self, data: Data, *, on_round: Callable[[RoundRecord], None] | None = None) -> Personalizer:
        """Train on the data of all clients, all played in this process.

        Args:
            data: a data set, a folder ``CLIENT/CLASS/*.jpg``, a table (.csv, .tsv, .parquet), or settings of either.
            on_round: called after each round, e.g. to show progress.

        Returns:
            This object.

        Raises:
            ConfigError: parameters that cannot work, all of them; too few clients for the method, or so many that
                grouping them takes more memory than this machine has; a `MemoryWarning` tells of 1 GiB or more.
            DataError: images or folders that cannot be used; names them.
        """
        algorithm = self._algorithm().for_rounds(int(self.rounds))
        dataset = self._dataset(data)
        clients = len(dataset.clients)
        _require_group(algorithm, clients)
        model = load_backbone(self.backbone) if isinstance(self.backbone, str) else self.backbone
        if algorithm.trained and (told := require_memory(algorithm, clients, len(dataset.classes), int(self.seed))):
            warnings.warn(told, MemoryWarning, stacklevel=2)
        if noisy := algorithm.forewarn(clients, algorithm.prompt.n_ctx * model.spec.text_dim):
            warnings.warn(noisy, NoiseWarning, stacklevel=2)
        result = train(
            dataset,
            model,
            algorithm,
            method=self.method if isinstance(self.method, str) else algorithm.name,
            seed=int(self.seed),
            rounds=int(self.rounds),
            on_round=on_round,
        )
        return self._know(
            Fitted(
                self._parameters(),
                result,
                dataset.classes,
                dataset.image_size,
                model.spec.name,
                model.spec.digest,
                novelties(dataset, model),
                dataset.grey_window,
            ),
            model,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all that was learned to one file, readable by its owner only; the model is named in it, not held.

        Args:
            path: an existing file is replaced.

        Raises:
            NotFittedError: before `fit`.
        """
        if not hasattr(self, "result_"):
            raise NotFittedError("there is nothing to save before training: call fit(data) first")
        save_fitted(Path(path), replace(self._fitted, parameters=self._parameters()))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, backbone: str | Backbone | None = None) -> Personalizer:
        """A fitted one that `save` wrote; no code that the file may hold is run.

        Args:
            path: of the file.
            backbone: the model, or its name; by default it is loaded by the name it was trained under.

        Raises:
            ConfigError: no such model or method.
            DataError: no such file, a damaged one, or another model than it was fitted with.
        """
        fitted = load_fitted(Path(path))
        known_as = fitted.backbone if backbone is None else backbone
        given, problems = fitted.parameters, list[Problem]()
        method: Any = given["method"]
        if isinstance(method, Mapping):
            table = dict(method)
            name = table.pop("name")
            if name not in methods():
                raise ConfigError([Problem("method", name, one_of(name, methods(), "method"))])
            method = build(methods()[name], table, "method", problems)
        if problems:
            raise ConfigError(problems)
        made = cls(method, rounds=given["rounds"], backbone=known_as, seed=given["seed"], **given["settings"])
        model = load_backbone(known_as) if isinstance(known_as, str) else known_as
        require_model(model, fitted.backbone, fitted.digest)
        return made._know(fitted, model)

    def _know(self, fitted: Fitted, model: Backbone) -> Personalizer:
        """Keep what was learned."""
        result, clients = fitted.result, fitted.result.clients
        self._fitted, self.backbone_, self.result_ = fitted, model, result
        self.clients_, self.classes_ = clients, fitted.classes
        self.prompts_ = client_prompts(
            result, model.spec, fitted.classes, fitted.image_size, fitted.known, fitted.grey_window
        )
        self.clusters_ = None if result.assignment is None else dict(zip(clients, result.assignment, strict=True))
        self.metrics_ = {
            name: dict(zip(clients, (values / 100).tolist(), strict=True)) for name, values in result.metrics.items()
        }
        return self

    def _parameters(self) -> dict[str, Any]:
        """The parameters as tables, names and numbers; the model by its name."""
        method = self.method if isinstance(self.method, str) else {"name": self.method.name, **dump(self.method)}
        return {"method": method, "rounds": self.rounds, "seed": self.seed, "settings": dump(self.settings)}

    def predict(self, client: str, images: ImagesLike, *, prior: Prior = None) -> list[str]:
        """The class of each image by the prompt of `client`; see `predict_proba`."""
        return self._prompt(client).predict(images, backbone=self.backbone_, prior=prior)

    def predict_proba(self, client: str, images: ImagesLike, *, prior: Prior = None) -> np.ndarray:
        """Probability of each of `classes_` for each image, float32 [n, n_cls].

        Args:
            client: whose prompt to use, one of `clients_`.
            images: files, folders (all images below), Pillow images or uint8 arrays; one or several. Grey values of
                more than 8 bits are scaled as those in training were.
            prior: ``own`` expects the classes as often as the client has them, ``uniform`` all alike; by default
                ``own`` if the method predicts so.

        Raises:
            NotFittedError: before `fit`.
            ConfigError: no such client.
            DataError: images that cannot be read.
        """
        return self._prompt(client).predict_proba(images, backbone=self.backbone_, prior=prior)

    def novelty(self, client: str, images: ImagesLike) -> np.ndarray:
        """How unlike the training images of `client` each image is, float32 [n]; see `ClientPrompt.novelty`."""
        return self._prompt(client).novelty(images, backbone=self.backbone_)

    def unlike_training(self, client: str, images: ImagesLike) -> np.ndarray:
        """Whether each image is so unlike those of `client` that a label for it means little, bool [n]."""
        return self._prompt(client).unlike_training(images, backbone=self.backbone_)

    def score(self, data: Data) -> float:
        """Accuracy 0..1 on `data`'s test images, mean over its clients; see `scores`."""
        return float(np.mean(list(self.scores(data).values())))

    def scores(self, data: Data) -> dict[str, float]:
        """Each client's accuracy 0..1 on the test images of its domain, its classes weighted as it has them.

        Args:
            data: may have fewer clients and classes than it was fitted to. Clients without a test image of their
                classes count as nan.

        Raises:
            NotFittedError: before `fit`.
            DataError: unknown classes or clients.
        """
        known, classes = set(self.clients_), set(self.classes_)
        dataset = self._dataset(data)
        strange = [c.name for c in dataset.clients if c.name not in known] + sorted(set(dataset.classes) - classes)
        if strange:
            raise DataError(f"not known from fit: {', '.join(strange)}. Fit anew with data that has them")
        found: dict[str, float] = {}
        for client in dataset.clients:
            test, n_classes = dataset.test[client.domain], len(dataset.classes)
            guessed = np.array(self.predict(client.name, test.images))
            hits = guessed == np.array(dataset.classes)[test.labels]
            counts = test.histogram(n_classes)
            accuracies = np.bincount(test.labels[hits], minlength=n_classes) / np.maximum(counts, 1)
            weights = np.where(counts > 0, client.train.histogram(n_classes), 0)
            found[client.name] = float(weights @ accuracies / weights.sum()) if weights.sum() else float("nan")
        return found

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """All parameters, as given. `deep` changes nothing: parameters have none of their own."""
        return {name: getattr(self, name) for name in _own_parameters()} | self.settings

    def set_params(self, **params: Any) -> Personalizer:
        """Change parameters; they are checked when `fit` is called."""
        for name, value in params.items():
            if name in _own_parameters():
                setattr(self, name, value)
            else:
                self.settings = {**self.settings, name: value}
        return self

    def __repr__(self) -> str:
        method = repr(self.method) if isinstance(self.method, str) else f"{type(self.method).__name__}(...)"
        changed = [
            f"{name}={value.spec.name if name == 'backbone' and not isinstance(value, str) else value!r}"
            for name, value in self.get_params().items()
            if name != "method" and (name in self.settings or value != _own_parameters()[name])
        ]
        return f"Personalizer({', '.join([method, *changed])})"

    if not TYPE_CHECKING:  # so that type checkers know the attributes by their declarations

        def __getattr__(self, name: str) -> Any:
            if name in Personalizer.__annotations__:
                raise NotFittedError(f"{name} is known after training: call fit(data) first")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _algorithm(self) -> FederatedAlgorithm:
        problems: list[Problem] = []
        for name, least in (("rounds", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
                problems.append(Problem(name, value, f"a whole number, at least {least}"))
        table = {n: dump(v) if is_dataclass(v) and not isinstance(v, type) else v for n, v in self.settings.items()}
        algorithm: FederatedAlgorithm | None = None
        if isinstance(self.method, FederatedAlgorithm):
            algorithm = build(type(self.method), table, "method", problems, self.method) if table else self.method
        elif self.method in methods():
            algorithm = build(methods()[self.method], table, "method", problems)
        elif self.method in KNOWN:
            base = variants()[self.method]
            algorithm = build(type(base), table, "method", problems, base) if table else base
        else:
            problems.append(Problem("method", self.method, one_of(self.method, {*methods(), *KNOWN}, "method")))
        if problems or algorithm is None:
            raise ConfigError(problems)
        return algorithm

    def _dataset(self, data: Data) -> FederatedDataset:
        if isinstance(data, FederatedDataset):
            return data
        if isinstance(data, TableSettings) or (not isinstance(data, FolderSettings) and is_table(data)):
            return load_table(data, int(self.seed))
        return load_folder(data, int(self.seed))

    def _prompt(self, client: str) -> ClientPrompt:
        if client not in self.prompts_:
            raise ConfigError([Problem("client", client, one_of(client, self.clients_, "client"))])
        return self.prompts_[client]


def _own_parameters() -> dict[str, Any]:
    """Parameters that are not the method's, with their defaults."""
    declared = signature(Personalizer).parameters.values()
    return {p.name: p.default for p in declared if p.kind is not p.VAR_KEYWORD}


def _require_group(algorithm: FederatedAlgorithm, n_clients: int) -> None:
    """Refuse fewer clients than the method's smallest group, before anything is trained.

    Raises:
        ConfigError: with what can be done.
    """
    too_large = {path: size for path, size in _group_sizes(algorithm) if size > n_clients}
    if not too_large:
        return
    lowered = ", ".join(f"{part}={_smaller(getattr(algorithm, part), name, n_clients)}" for part, name in too_large)
    remedy = (
        f"the method {algorithm.name!r} works in groups of at least {max(too_large.values())}, so that nobody's prompt "
        "is averaged with too few others: bring more clients, take method='coop_local' (everybody learns alone), or "
        f"give up that protection: {lowered}"
    )
    raise ConfigError([Problem("clients", n_clients, remedy)])


def _smaller(component: object, name: str, size: int) -> dict[str, object]:
    """Settings with which `component` accepts groups of `size`."""
    if name == "fewest":
        return {"kind": "plain"}
    colluders = getattr(component, "threshold", None)
    if not isinstance(colluders, int) or colluders + 2 <= size:
        return {name: size}
    if size >= 3:
        return {name: size, "threshold": size - 2}
    return {"kind": "plain", name: size}


def _group_sizes(algorithm: FederatedAlgorithm) -> Iterator[tuple[tuple[str, str], int]]:
    """The smallest groups that parts of the method accept: ``(("aggregator", "min_responders"), 4)``."""
    for part in fields(algorithm):
        component = getattr(algorithm, part.name)
        for name in _GROUP_SIZES:
            if isinstance(size := getattr(component, name, None), int):
                yield (part.name, name), size
