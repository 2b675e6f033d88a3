"""Made-up results, algorithms and data sets, for tests of experiments and of the command line."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar, Self

import numpy as np
import pytest
import torch

from secfpp.data.federated import ClientData, FederatedDataset, Split
from secfpp.errors import ConfigError, Problem
from secfpp.experiment.spec.config import Catalog
from secfpp.models.prompt import SoftPrompt
from secfpp.runtime.costs import Costs
from secfpp.runtime.trainer import RunResult


class Grouping(ABC):
    """Stands for a clusterer."""

    kind: ClassVar[str]

    @abstractmethod
    def groups(self) -> int: ...


@dataclass(frozen=True)
class Single(Grouping):
    kind: ClassVar[str] = "single"

    def groups(self) -> int:
        return 1


@dataclass(frozen=True)
class Means(Grouping):
    kind: ClassVar[str] = "means"
    k_max: int = 8
    k: int | None = None

    def __post_init__(self) -> None:
        if self.k_max < 1:
            raise ConfigError([Problem("k_max", self.k_max, "should be at least 1")])

    def groups(self) -> int:
        return self.k or self.k_max


@dataclass(frozen=True)
class Training:
    lr: float = 0.02
    steps: int = 5

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ConfigError([Problem("lr", self.lr, "should be above 0")])


class Method:
    """What the experiment asks of methods."""

    trained: ClassVar[bool] = True
    prompt: ClassVar[SoftPrompt] = SoftPrompt()

    def for_rounds(self, rounds: int) -> Self:
        return self

    def require(self, clients: int) -> None:
        if clients < 2:
            raise ConfigError([Problem("clients", clients, "at least 2")])

    def forewarn(self, clients: int, numbers: int) -> str:
        return ""


@dataclass(frozen=True, kw_only=True)
class Pooled(Method):
    """One prompt for all."""

    name: ClassVar[str] = "pooled"
    class_prior: bool = True
    training: Training = Training()


@dataclass(frozen=True, kw_only=True)
class Grouped(Method):
    """One prompt per group."""

    name: ClassVar[str] = "grouped"
    class_prior: bool = True
    training: Training = field(default_factory=lambda: Training(lr=0.01))
    grouping: Grouping = field(default_factory=lambda: Means(k_max=6))
    spare: Grouping | None = None
    betas: tuple[float, ...] = (0.9, 0.99)


@dataclass(frozen=True)
class ToySettings:
    rho: float = 0.4
    shots: int = 32


@dataclass(frozen=True)
class ToySpec:
    settings: type
    description: str = "coloured squares"

    def load(self, settings: ToySettings, seed: int) -> FederatedDataset:
        return toy_dataset(seed)


def catalog() -> Catalog:
    methods: Any = {"pooled": Pooled, "grouped": Grouped}
    datasets: Any = {"toy": ToySpec(ToySettings)}
    return Catalog(methods, datasets)


def toy_dataset(seed: int = 0, n_domains: int = 2) -> FederatedDataset:
    rng = np.random.default_rng(seed)

    def split(n: int) -> Split:
        return Split(rng.integers(0, 255, (n, 6, 6, 3)).astype(np.uint8), np.arange(n) % 3)

    domains = [f"domain {d}" for d in range(n_domains)]
    clients = tuple(ClientData(f"{d}/{i}", d, split(3), split(3)) for d in domains for i in range(2))
    return FederatedDataset("toy", ("cat", "dog", "<b>"), clients, {d: split(3) for d in domains})


@dataclass(frozen=True)
class FakeSpec:
    name: str = "mini"
    digest: str = "abc123"
    text_dim: int = 4


def fake_result(
    method: str = "grouped",
    seed: int = 0,
    own: float = 60.0,
    clustered: bool = True,
    rounds: int = 4,
    domains: tuple[str, ...] = ("clipart", "sketch"),
    per_domain: int = 3,
) -> RunResult:
    """A result whose `own` accuracies are `own` -2, 0 and +2 over the clients of each domain."""
    rng = np.random.default_rng(seed)
    clients = tuple(f"{domain}-{index}" for domain in domains for index in range(per_domain))
    of = tuple(domain for domain in domains for _ in range(per_domain))
    spread = np.tile(np.linspace(-2, 2, per_domain), len(domains))
    metrics = {
        "own": own + spread,
        "own_domain": own - 5 + spread,
        "other_domains": own - 15 + spread,
        "own_no_prior": own - 8 + spread,
        "own_domain_no_prior": own - 6 + spread,
    }
    rows = tuple(
        {"round": r, "client": client, "loss": 3.0 / (r + 1), "own": own - rounds + r}
        for r in range(1, rounds + 1)
        for client in clients
    )
    cluster = tuple(domains.index(domain) for domain in of)
    centres = rng.normal(size=(len(domains), 16)) * 4
    sent, received = dict.fromkeys(clients, 41_000), dict.fromkeys(clients, 52_000)
    costs = Costs(exchanges=40, messages=1200, up=sent, down=received, seconds={"training": 1.5})
    return RunResult(
        method,
        seed,
        rounds,
        clients,
        of,
        metrics,
        rows,
        cluster if clustered else None,
        centres[list(cluster)] + rng.normal(size=(len(clients), 16)) * 0.5 if clustered else None,
        costs,
        12.5 + seed,
        rng.normal(size=(len(clients), 4, 8)).astype(np.float32),
    )


@dataclass
class World:
    """What stood in for model, data and training was asked to do.

    `before_training` may raise, and one class name be `unreadable`.
    """

    backbones: list[dict[str, Any]] = field(default_factory=list)
    trained: list[tuple[str, int]] = field(default_factory=list)
    chunks: list[int] = field(default_factory=list)
    algorithms: dict[str, object] = field(default_factory=dict)
    encoded: list[int] = field(default_factory=list)
    before_training: Callable[[str], None] = str
    says: Callable[[Any], None] = repr
    unreadable: str = ""

    def load_backbone(self, name: str, **settings: Any) -> Any:
        if name == "absent":
            raise ConfigError([Problem("backbone.name", name, "no such model; try mini")])
        self.backbones.append({"name": name, **settings})
        return SimpleNamespace(
            spec=FakeSpec(name),
            features=self.features,
            class_tokens=self.class_tokens,
        )

    def features(self, images: np.ndarray) -> torch.Tensor:
        self.encoded.append(len(images))
        return torch.zeros(len(images), 4)

    def class_tokens(self, names: Sequence[str], n_ctx: int) -> None:
        if self.unreadable in names:
            raise ConfigError([Problem("class name", self.unreadable, "cannot be read")])

    def train(
        self,
        dataset: object,
        backbone: object,
        algorithm: object,
        *,
        method: str,
        seed: int,
        rounds: int,
        on_round: Any,
        on_exchange: Any,
        participation: float,
        checkpoint: Path,
        transcript: Any,
        chunk: int = 32,
        engine: Any = None,
    ) -> Any:
        self.before_training(method)
        if transcript is not None:
            self.says(transcript)
        self.trained.append((method, seed))
        self.algorithms[method] = algorithm
        self.chunks.append(chunk)
        for number in range(1, rounds + 1):
            on_exchange(number, 1, ("clusterer", "method"))
            on_round(SimpleNamespace(round=number, rounds=rounds, loss=1 / number, seconds=0.1, metrics=None))
        own = {"grouped": 60.0, "pooled": 55.0}.get(method, 50.0) + seed / 10
        return fake_result(method, seed, own, method == "grouped", rounds)


def toy_world(monkeypatch: pytest.MonkeyPatch, extra_methods: tuple[str, ...] = ()) -> World:
    """Put toy methods and data, and a training that only pretends, in place of the real ones."""
    world, known = World(), catalog()
    methods = {**known.methods, **dict.fromkeys(extra_methods, Pooled)}
    contents: dict[str, dict[str, object]] = {
        "secfpp.algorithms.base": {"methods": lambda: methods},
        "secfpp.data.catalog": {"datasets": lambda: {**known.datasets, "icons": known.datasets["toy"]}},
        "secfpp.models.backbone": {"load_backbone": world.load_backbone},
        "secfpp.runtime.trainer": {"train": world.train},
    }
    for name, members in contents.items():
        module = ModuleType(name)
        vars(module).update({**vars(import_module(name)), **members})
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # nobody pulls the plug here, and waiting for disks is slow
    return world
