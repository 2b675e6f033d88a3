"""The embedded benchmark: functional icons in six visual styles, drawn by independent designers.

A source of pictures is a picture style with a convention table (`secfpp.data.conventions`): the same drawing can mean
another label elsewhere. As it comes, each style has a table of its own, which is then a domain. A seed varies the
tables, the split of independent drawings into train, validation and test, the partition over clients and the
rendering, all inside the fixed downstream pool (`secfpp.data.pools`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from importlib.metadata import version
from itertools import combinations

import numpy as np

from secfpp.cachedir import sub_cache
from secfpp.data.catalog import DatasetSpec
from secfpp.data.conventions import Convention, agreement, conventions, dealt
from secfpp.data.dealing import deal
from secfpp.data.federated import ClientData, FederatedDataset, Split
from secfpp.data.icon_style import PARTS, IconStyle
from secfpp.data.label_shift import rotations
from secfpp.data.partitions.base import Partition, wrong
from secfpp.data.partitions.by_domain import ByDomain
from secfpp.data.pools import (
    DrawingSplit,
    downstream_designers,
    labels,
    pool_digest,
    split_by_designer,
    split_by_drawing,
)
from secfpp.data.styles import DOMAINS
from secfpp.errors import ConfigError, Problem
from secfpp.paging import paged
from secfpp.seeding import Seed, derive
from secfpp.shelf import Shelf
from secfpp.storage import cached_arrays

_VERSION = 1  # of the rendering: raise it when the same seed gives other pictures
_KNOBS = {"alignment": 1.0, "style_strength": 1.0, "label_shift": 0.0}  # and where each is off


@dataclass(frozen=True, kw_only=True)
class IconSettings:
    """Settings of the embedded icon benchmark.

    Attributes:
        rho: share of labels that every domain draws by a common convention, 0..1; at 1 the domains differ
            in style alone.
        alignment: share of each style's clients that follow the style's own convention, 0..1; the others are dealt
            the styles' conventions evenly, so that at 0 looks say nothing about meanings. Below 1 the domains are the
            pairs that occur, called ``chalk/c2``, and the true groups are the conventions, ``c1``, ``c2`` and so on.
        style_strength: 1 draws each style in full; less brings it closer to one that all share, 0 leaves that.
        label_shift: share of triples of labels whose names go round, by another number of steps for each convention,
            0..1; independent of `rho`.
        shots: training images per class and domain.
        validation_shots: validation images per class and domain.
        test_shots: test images per class and domain.
        clients_per_domain: clients for each picture style.
        alpha: Dirichlet concentration of classes over clients, where the partition is by Dirichlet.
        partition: who holds what; ``by_domain`` deals each style's pictures to clients of its own. One that mixes
            styles needs `alignment` = 1.
        domains: picture styles to use.
        designer: hold out all drawings of this designer for test (ph, ri, ei, msc); empty: split each
            concept's independent drawings at random.
    """

    rho: float = 0.4
    alignment: float = 1.0
    style_strength: float = 1.0
    label_shift: float = 0.0
    shots: int = 32
    validation_shots: int = 16
    test_shots: int = 16
    clients_per_domain: int = 5
    alpha: float = 0.3
    partition: Partition = field(default_factory=ByDomain)
    domains: tuple[str, ...] = tuple(DOMAINS)
    designer: str = ""

    def __post_init__(self) -> None:
        problems = [
            Problem(f"data.{name}", getattr(self, name), "must be at least 1")
            for name in ("shots", "validation_shots", "test_shots", "clients_per_domain")
            if getattr(self, name) < 1
        ]
        problems += [
            Problem(f"data.{name}", getattr(self, name), "must be in 0..1")
            for name in ("rho", *_KNOBS)
            if not 0 <= getattr(self, name) <= 1
        ]
        if self.alignment < 1 and len(self.domains) < 2:
            problems.append(Problem("data.alignment", self.alignment, "below 1 it needs two or more domains"))
        problems += wrong(self.partition)
        if self.alignment < 1 and not problems and self.partition.mixes:
            allowed = (
                "mixes styles, but with data.alignment below 1 clients of a style differ: by_domain, or alignment = 1"
            )
            problems.append(Problem("data.partition.kind", self.partition.kind, allowed))
        if not self.alpha > 0:
            problems.append(Problem("data.alpha", self.alpha, "must be positive"))
        if self.designer and self.designer not in downstream_designers():
            problems.append(
                Problem("data.designer", self.designer, f"one of {', '.join(downstream_designers())}, or empty")
            )
        if not self.domains or len(set(self.domains)) < len(self.domains):
            problems.append(Problem("data.domains", self.domains, "name at least one domain, none twice"))
        problems += [
            Problem("data.domains", domain, f"not a domain; choose from {', '.join(DOMAINS)}")
            for domain in self.domains
            if domain not in DOMAINS
        ]
        if problems:
            raise ConfigError(problems)


def load_icons(settings: IconSettings, seed: int) -> FederatedDataset:
    """The federated data set of one seed; pictures are rendered once and then read from the cache."""
    root = derive(seed, "icons")
    split = split_by_designer(settings.designer, root) if settings.designer else split_by_drawing(root)
    options = {label: [c for c in names if c in split.test] for label, names in labels().items()}
    names = tuple(sorted(labels()))
    tables = _tables(settings, names, options, root)
    styles = {
        style: IconStyle(style, names, tables, own, settings, root)
        for style, own in dealt(
            settings.domains, settings.clients_per_domain, settings.alignment, derive(root, "alignment")
        ).items()
    }

    def rendered() -> dict[str, np.ndarray]:
        every = [(style, part) for style in styles.values() for part in PARTS]
        shelf, total = Shelf(), sum(style.size(part) for style, part in every)
        return {
            f"{style.name}.{part}": shelf.keep(style.render(split, part), total)
            for style, part in paged(every, every=1)
        }

    images = _cached(settings, seed, rendered)
    clients, test = _dealt(styles, images, settings, root)
    return FederatedDataset(
        "icons", names, tuple(clients), test, "an icon symbol for {}", _facts(split, [*tables.values()])
    )


def _dealt(
    styles: dict[str, IconStyle], images: dict[str, np.ndarray], settings: IconSettings, root: Seed
) -> tuple[list[ClientData], dict[str, Split]]:
    """Clients, and the test images of their domains."""
    if settings.alignment < 1:
        shelf = Shelf()
        clients = [client for style in styles.values() for client in style.clients(images, shelf)]
        return clients, {domain: own for style in styles.values() for domain, own in style.tests(images).items()}
    shots = {"train": settings.shots, "validation": settings.validation_shots}
    return deal(
        settings.partition,
        {name: style.splits(images) for name, style in styles.items()},
        len(styles[settings.domains[0]].labels),
        clients_per_domain=settings.clients_per_domain,
        alpha=settings.alpha,
        shots=shots,
        seed=root,
    )


def _tables(
    settings: IconSettings, names: Sequence[str], options: dict[str, list[str]], root: Seed
) -> dict[str, Convention]:
    """Each convention's table, by the style whose own it is."""
    tables = conventions(settings.domains, options, settings.rho, derive(root, "conventions"))
    turned = rotations(settings.domains, len(names), settings.label_shift, derive(root, "label-shift"))
    return {
        style: {names[label]: table[names[thing]] for thing, label in enumerate(turned[style])}
        for style, table in tables.items()
    }


def _facts(split: DrawingSplit, tables: list[dict[str, str]]) -> dict[str, object]:
    """What a reader should know of this seed: independent drawings per part, agreement of the conventions."""
    used = {concept for table in tables for concept in table.values()}
    drawings = {part: sum(len(d) for c, d in getattr(split, part).items() if c in used) for part in PARTS}
    pairs = [agreement(a, b) for a, b in combinations(tables, 2)]
    alike = round(float(np.mean(pairs)), 3) if pairs else 1.0
    return {"independent drawings": drawings, "concepts": len(used), "labels drawn alike in two domains": alike}


def _cached(settings: IconSettings, seed: int, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    values = asdict(settings)
    unseen = {name for name, off in _KNOBS.items() if values[name] == off}  # a knob that is off names no new pictures
    if settings.alignment == 1:
        unseen |= {"alpha", "clients_per_domain", "partition"}  # who holds a picture does not matter to it
    elif settings.partition == ByDomain():
        unseen |= {"partition"}
    described = {name: value for name, value in values.items() if name not in unseen}
    if "partition" in described:
        described["partition"] = repr(settings.partition)
    key = [_VERSION, seed, described, pool_digest(), version("QtAwesome"), version("pillow")]
    path = sub_cache("icons") / f"{sha256(json.dumps(key).encode()).hexdigest()[:24]}.safetensors"
    found = cached_arrays(path, make, mapped=True)
    return {name: np.array(own) if name.endswith(".test") else own for name, own in found.items()}


DATASETS = (
    DatasetSpec(
        "icons",
        "functional icons in six styles, rendered from icon fonts (ships with SecFPP)",
        IconSettings,
        load_icons,
    ),
)
