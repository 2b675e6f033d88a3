"""A federated data set of the user's own images: settings, who gets which files, and reading them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from secfpp.cachedir import sub_cache
from secfpp.data.dealing import USUAL_MINIMUM, Table, joined, tables
from secfpp.data.federated import ClientData, FederatedDataset, Split
from secfpp.data.holdings import PARTS, Holding, Part, Picture
from secfpp.data.partitions.base import Partition, Pool, wrong
from secfpp.data.partitions.by_domain import ByDomain
from secfpp.data.splits import holding_seed, order_in, split
from secfpp.errors import ConfigError, DataError, Problem
from secfpp.grey_depth import GreyWindow, window_problems
from secfpp.images import MEMORY_GIB, SIZE, read_scaled
from secfpp.seeding import Seed, derive


@dataclass(frozen=True, kw_only=True)
class OwnSettings:
    """How own images are split, shared out and read.

    Attributes:
        clients_per_domain: clients for each domain that images are dealt to, where no clients are named.
        alpha: Dirichlet concentration of classes over them, where the partition is by Dirichlet; small is uneven.
        partition: how they are dealt, where no clients are named; ``by_domain`` gives each domain clients of its own.
        validation: share of each class's images for validation, at least one image; where no split is given.
        test: share of each class's images for the test, at least one image; where no split is given.
        shots: most training images per class, and client or domain; 0 is all.
        min_classes: fewest classes of a client that is named.
        size: side in pixels of the squares that images are brought to; the model's own size or larger.
        memory_gib: most memory for them, in GiB; `size` and `shots` make do with less.
        grey_window: grey values of more than 8 bits that are black and white, e.g. 0 and 4095; if not given, the range
            of the bits in use over all images.
        template: a hand-written prompt with ``{}`` for the class at its end, from which training starts.
    """

    clients_per_domain: int = 5
    alpha: float = 0.3
    partition: Partition = field(default_factory=ByDomain)
    validation: float = 0.2
    test: float = 0.2
    shots: int = 0
    min_classes: int = 2
    size: int = SIZE
    memory_gib: float = MEMORY_GIB
    grey_window: tuple[float, float] | None = None
    template: str = "a photo of a {}"

    spills: ClassVar[bool] = False
    """Whether images that do not fit in memory go into a file of the cache."""

    @property
    def most(self) -> dict[Part, int]:
        """Most images of each part per class, and client or domain; 0 is all."""
        return {"train": self.shots, "validation": 0, "test": 0}

    def __post_init__(self) -> None:
        if problems := self.problems():
            raise ConfigError(problems)

    def problems(self) -> list[Problem]:
        """All values that cannot work."""
        found = [
            Problem(f"data.{name}", getattr(self, name), f"must be at least {least}")
            for name, least in (("clients_per_domain", 1), ("shots", 0), ("min_classes", 1), ("size", 8))
            if getattr(self, name) < least
        ]
        found += [
            Problem(f"data.{name}", getattr(self, name), "must be positive")
            for name in ("alpha", "memory_gib")
            if not getattr(self, name) > 0
        ]
        found += [
            Problem(f"data.{name}", getattr(self, name), "a share between 0 and 1, ends excluded")
            for name in ("validation", "test")
            if not 0 < getattr(self, name) < 1
        ]
        if not found and self.validation + self.test >= 1:
            found.append(Problem("data.test", self.test, f"with validation = {self.validation} leaves no training"))
        return found + wrong(self.partition) + window_problems(self.grey_window, "data.grey_window")


@dataclass(frozen=True)
class _Plan:
    """Who gets which pictures: client -> training and validation; and the test."""

    domain: str
    clients: dict[str, tuple[list[Picture], list[Picture]]]
    test: list[Picture]


def federated(
    name: str,
    holdings: Sequence[Holding],
    settings: OwnSettings,
    seed: int,
    facts: Mapping[str, object],
    classes: Sequence[str] = (),
) -> FederatedDataset:
    """The data set of these pictures, which are split, dealt where they name no client, and read.

    Args:
        name: of the data set.
        holdings: whose pictures are whose.
        settings: how to split, deal and read.
        seed: of split and dealing.
        facts: for the report; the number of images and the scale of grey values are added.
        classes: all class names in order; those of the pictures, sorted, if not given.

    Raises:
        DataError: a group on two sides, too few images for the clients, more than fit in memory, files that cannot be
            read, a domain without test images.
    """
    classes = tuple(classes or sorted({picture.label for holding in holdings for picture in holding.pictures}))
    parts = split(holdings, settings.validation, settings.test, seed)
    plans = _plans(holdings, parts, classes, settings, seed)
    bundles = [bundle for plan in plans for bundle in (*_training(plan), plan.test)]
    pictures = [picture for bundle in bundles for picture in bundle]
    images, window = read_scaled(
        [picture.source for picture in pictures],
        settings.size,
        settings.memory_gib,
        settings.grey_window,
        spill=sub_cache("images") if settings.spills else None,
    )
    number = {name: i for i, name in enumerate(classes)}
    labels = np.array([number[picture.label] for picture in pictures], dtype=np.int64)
    ends = np.cumsum([len(bundle) for bundle in bundles])[:-1]
    splits = map(Split, np.split(images, ends), np.split(labels, ends))
    clients: list[ClientData] = []
    tests: dict[str, list[Split]] = {}
    for plan in plans:
        clients += [ClientData(name, plan.domain, next(splits), next(splits)) for name in plan.clients]
        tests.setdefault(plan.domain, []).append(next(splits))
    return FederatedDataset(
        name,
        classes,
        tuple(clients),
        {domain: joined(own) for domain, own in tests.items()},
        settings.template,
        {**facts, "images": len(pictures), **_scale(window)},
        grey_window=window,
    )


def _plans(
    holdings: Sequence[Holding],
    parts: Sequence[Sequence[Part]],
    classes: Sequence[str],
    settings: OwnSettings,
    seed: int,
) -> list[_Plan]:
    """Who gets what: pictures of clients are theirs, those of domains are dealt."""
    held = [_ordered(holding, own, settings, seed) for holding, own in zip(holdings, parts, strict=True)]
    named = next((holding for holding in holdings if holding.client), None)
    if named and settings.partition != ByDomain():
        raise DataError(
            f"{named.place}: these images are client {named.client!r}'s, so that data.partition = "
            f"{settings.partition.kind!r} has nothing to deal: leave it out, or give domains and classes alone"
        )
    if settings.partition.mixes and len(holdings) > 1:
        (table,) = tables(settings.partition, [holding.domain for holding in holdings], settings.clients_per_domain)
        together = {part: [picture for own in held for picture in own[part]] for part in PARTS}
        return [_dealt("all domains", table, together, classes, settings, derive(seed, "folder", table.domain, ""))]
    plans = []
    for holding, own in zip(holdings, held, strict=True):
        if holding.client:
            plans.append(_Plan(holding.domain, {holding.client: (own["train"], own["validation"])}, own["test"]))
        else:
            (table,) = tables(settings.partition, [holding.domain], settings.clients_per_domain)
            plans.append(_dealt(holding.place, table, own, classes, settings, holding_seed(seed, holding)))
    return plans


def _ordered(holding: Holding, parts: Sequence[Part], settings: OwnSettings, seed: int) -> dict[Part, list[Picture]]:
    """A holding's pictures of each part in order, class by class, no more of a class than asked for."""
    part_of = dict(zip(holding.pictures, parts, strict=True))
    held: dict[Part, list[Picture]] = {part: [] for part in PARTS}
    for label, pictures in holding.by_class().items():
        shuffled = [pictures[i] for i in order_in(seed, holding, label, len(pictures))]
        for part, own in held.items():
            found = [picture for picture in shuffled if part_of[picture] == part]
            own += found[: settings.most[part] or None]
    return held


def _dealt(
    place: str,
    table: Table,
    held: Mapping[Part, list[Picture]],
    classes: Sequence[str],
    settings: OwnSettings,
    seed: Seed,
) -> _Plan:
    """The pictures of each client; where shares are drawn nobody has less than half an even share, or nothing."""
    names = table.names
    if (fewest := min(len(held["train"]), len(held["validation"]))) < len(names):
        raise DataError(
            f"{place}: too few images for {len(names)} clients: set data.clients_per_domain to at most "
            f"{fewest * settings.clients_per_domain // len(names)}, or add images"
        )
    labels = {picture.label for own in held.values() for picture in own}
    number = {label: i for i, label in enumerate(label for label in classes if label in labels)}
    pool = Pool(
        {part: np.array([number[picture.label] for picture in held[part]]) for part in PARTS[:2]},
        len(number),
        names,
        seed,
        settings.alpha,
        {part: max(1, min(USUAL_MINIMUM, len(held[part]) // (2 * len(names)))) for part in PARTS[:2]},
    )
    dealt = settings.partition.split(pool)
    pictures = ([[held[part][i] for i in own] for own in dealt[part]] for part in PARTS[:2])
    return _Plan(table.domain, dict(zip(names, zip(*pictures, strict=True), strict=True)), held["test"])


def _training(plan: _Plan) -> Iterator[list[Picture]]:
    """Training and validation of each client in turn."""
    for train, validation in plan.clients.values():
        yield train
        yield validation


def _scale(window: GreyWindow | None) -> dict[str, object]:
    return {} if window is None else {"grey values of more than 8 bits": f"{window[0]:g} black, {window[1]:g} white"}
