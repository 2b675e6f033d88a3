"""A data set from folders of images on the user's disk.

`FolderSettings.layout` says what the levels of folders below `root` are, for example ``hospital-a/pneumonia/17.png``
with ``client/class``. Everything that can be wrong with the folders is found before the first image is decoded.
Images are split by a seed, client by client (or domain by domain) and class by class, so that adding a client leaves
the splits of the others as they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from secfpp.data.federated import ClientData, FederatedDataset, Split
from secfpp.data.folder_survey import Holding, Layout, survey
from secfpp.data.partition import dirichlet_shares, split_by_shares
from secfpp.errors import ConfigError, DataError, Problem
from secfpp.images import MEMORY_GIB, SIZE, read_images
from secfpp.seeding import Seed, derive

Item = tuple[Path, str]
"""An image file and the name of its class."""


@dataclass(frozen=True, kw_only=True)
class FolderSettings:
    """Where the images lie and how they are shared out.

    Attributes:
        root: the top folder.
        layout: the levels of folders below it. ``client/class``: every first-level folder is a client with images of
            its own, and a domain of its own. ``domain/client/class``: clients whose domain is known.
            ``domain/class`` and ``class``: a simulation, in which the images of a domain (or all) are dealt to clients.
        clients_per_domain: clients that a domain's images are dealt to, where the layout names no clients.
        alpha: Dirichlet concentration of classes over them; small is uneven.
        validation: share of each class's images for validation, at least one image.
        test: share of each class's images for the test, at least one image.
        shots: most training images per class, and client or domain; 0 is all.
        min_classes: fewest classes of a client that the layout names.
        size: side in pixels of the squares that images are brought to; the model's own size or larger.
        memory_gib: most memory for them, in GiB; `size` and `shots` make do with less.
        template: a hand-written prompt with ``{}`` for the class at its end, from which training starts.
    """

    root: str
    layout: Layout = "client/class"
    clients_per_domain: int = 5
    alpha: float = 0.3
    validation: float = 0.2
    test: float = 0.2
    shots: int = 0
    min_classes: int = 2
    size: int = SIZE
    memory_gib: float = MEMORY_GIB
    template: str = "a photo of a {}"

    def __post_init__(self) -> None:
        problems = [
            Problem(f"data.{name}", getattr(self, name), f"must be at least {least}")
            for name, least in (("clients_per_domain", 1), ("shots", 0), ("min_classes", 1), ("size", 8))
            if getattr(self, name) < least
        ]
        problems += [
            Problem(f"data.{name}", getattr(self, name), "must be positive")
            for name in ("alpha", "memory_gib")
            if not getattr(self, name) > 0
        ]
        problems += [
            Problem(f"data.{name}", getattr(self, name), "a share between 0 and 1, ends excluded")
            for name in ("validation", "test")
            if not 0 < getattr(self, name) < 1
        ]
        if not problems and self.validation + self.test >= 1:
            problems.append(Problem("data.test", self.test, f"with validation = {self.validation} leaves no training"))
        if self.layout not in get_args(Layout):
            problems.append(Problem("data.layout", self.layout, f"one of {', '.join(get_args(Layout))}"))
        if not self.root:
            problems.append(Problem("data.root", self.root, "the folder with the images"))
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True)
class _Plan:
    """Who gets which files: client -> training and validation; and the test."""

    domain: str
    clients: dict[str, tuple[list[Item], list[Item]]]
    test: list[Item]


def load_folder(source: str | os.PathLike[str] | FolderSettings, seed: int = 0) -> FederatedDataset:
    """The federated data set in a folder of images; the same for the same files, settings and seed.

    Args:
        source: the top folder, read with the layout ``client/class``, or settings.
        seed: of the split, and of the partition where the layout has one.

    Raises:
        ConfigError: settings that cannot work.
        DataError: folders that are not as the layout says, too few images or too many, or files that cannot be
            read; names them with the remedy.
    """
    settings = source if isinstance(source, FolderSettings) else FolderSettings(root=os.fspath(source))
    root = Path(settings.root).expanduser()
    holdings, passed_over = survey(root, settings.layout, settings.min_classes)
    classes = tuple(sorted({name for holding in holdings for name in holding.images}))
    plans = [_plan(holding, settings, derive(seed, "folder", holding.domain, holding.client)) for holding in holdings]
    parts = [part for plan in plans for part in (*_training(plan), plan.test)]
    items = [item for part in parts for item in part]
    images = read_images([path for path, _ in items], settings.size, settings.memory_gib)
    number = {name: i for i, name in enumerate(classes)}
    labels = np.array([number[name] for _, name in items], dtype=np.int64)
    ends = np.cumsum([len(part) for part in parts])[:-1]
    splits = map(Split, np.split(images, ends), np.split(labels, ends))
    clients: list[ClientData] = []
    tests: dict[str, list[Split]] = {}
    for plan in plans:
        clients += [ClientData(name, plan.domain, next(splits), next(splits)) for name in plan.clients]
        tests.setdefault(plan.domain, []).append(next(splits))
    facts = {"layout": settings.layout, "images": len(items), "files passed over": passed_over}
    test = {domain: _joined(own) for domain, own in tests.items()}
    return FederatedDataset(root.resolve().name, classes, tuple(clients), test, settings.template, facts)


def _plan(holding: Holding, settings: FolderSettings, seed: Seed) -> _Plan:
    """Split a holding class by class, and deal it to clients if it is a domain's."""
    train: list[Item] = []
    validation: list[Item] = []
    test: list[Item] = []
    for name, paths in sorted(holding.images.items()):
        order = derive(seed, "split", name).numpy().permutation(len(paths))
        n_train, n_validation = split_sizes(len(paths), settings.validation, settings.test)
        shuffled = [(paths[i], name) for i in order]
        held = shuffled[:n_train]
        train += held[: settings.shots] if settings.shots else held
        validation += shuffled[n_train : n_train + n_validation]
        test += shuffled[n_train + n_validation :]
    if holding.client:
        return _Plan(holding.domain, {holding.client: (train, validation)}, test)
    names = [f"{holding.domain}-{i}" for i in range(settings.clients_per_domain)]
    if (fewest := min(len(train), len(validation))) < len(names):
        raise DataError(
            f"{holding.folder}: too few images for {len(names)} clients: "
            f"set data.clients_per_domain to at most {fewest}, or add images"
        )
    shares = dirichlet_shares(len(holding.images), len(names), settings.alpha, seed)
    dealt = [_dealt(part, shares, derive(seed, key)) for key, part in (("train", train), ("validation", validation))]
    return _Plan(holding.domain, dict(zip(names, zip(*dealt, strict=True), strict=True)), test)


def split_sizes(n: int, validation: float, test: float) -> tuple[int, int]:
    """Training and validation images of a class of `n` >= 3; each part of the three has at least one."""
    n_test = min(max(1, round(test * n)), n - 2)
    n_validation = min(max(1, round(validation * n)), n - n_test - 1)
    return n - n_test - n_validation, n_validation


def _dealt(items: list[Item], shares: np.ndarray, seed: Seed) -> list[list[Item]]:
    """The items of each client; nobody is left with less than half an even share, or with nothing."""
    known = sorted({name for _, name in items})
    labels = np.array([known.index(name) for _, name in items])
    least = max(1, min(8, len(items) // (2 * shares.shape[1])))
    return [[items[i] for i in held] for held in split_by_shares(labels, shares, seed, minimum=least)]


def _training(plan: _Plan) -> Iterator[list[Item]]:
    """Training and validation of each client in turn."""
    for train, validation in plan.clients.values():
        yield train
        yield validation


def _joined(splits: Sequence[Split]) -> Split:
    if len(splits) == 1:
        return splits[0]
    return Split(np.concatenate([s.images for s in splits]), np.concatenate([s.labels for s in splits]))
