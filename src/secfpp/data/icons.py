"""The embedded benchmark: functional icons in six visual domains, drawn by independent designers.

Each domain is a picture style with a convention table of its own (`secfpp.data.conventions`): the same
drawing can mean another label elsewhere. A seed varies the tables, the split of independent drawings into
train, validation and test, the partition over clients and the rendering, all inside the fixed
downstream pool (`secfpp.data.pools`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from importlib.metadata import version
from itertools import combinations

import numpy as np

from secfpp.cachedir import sub_cache
from secfpp.data.conventions import agreement, conventions
from secfpp.data.federated import ClientData, FederatedDataset, Split
from secfpp.data.glyphs import Glyph, rasterise
from secfpp.data.partition import dirichlet_shares, split_by_shares
from secfpp.data.pools import (
    Drawings,
    DrawingSplit,
    downstream_designers,
    labels,
    pool_digest,
    split_by_designer,
    split_by_drawing,
)
from secfpp.data.styles import DOMAINS, render
from secfpp.errors import ConfigError, Problem
from secfpp.seeding import Seed, derive
from secfpp.storage import cached_arrays

_VERSION = 1  # of the rendering: raise it when the same seed gives other pictures
PARTS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class IconSettings:
    """Settings of the embedded icon benchmark.

    Attributes:
        rho: share of labels that every domain draws by a common convention, 0..1; at 1 the domains differ
            in style alone.
        shots: training images per class and domain.
        validation_shots: validation images per class and domain.
        test_shots: test images per class and domain.
        clients_per_domain: clients of each domain.
        alpha: Dirichlet concentration of classes over a domain's clients.
        domains: picture styles to use.
        designer: hold out all drawings of this designer for test (ph, ri, ei, msc); empty: split each
            concept's independent drawings at random.
    """

    rho: float = 0.4
    shots: int = 32
    validation_shots: int = 16
    test_shots: int = 16
    clients_per_domain: int = 5
    alpha: float = 0.3
    domains: tuple[str, ...] = tuple(DOMAINS)
    designer: str = ""

    def __post_init__(self) -> None:
        problems = [
            Problem(f"data.{name}", getattr(self, name), "must be at least 1")
            for name in ("shots", "validation_shots", "test_shots", "clients_per_domain")
            if getattr(self, name) < 1
        ]
        if not 0 <= self.rho <= 1:
            problems.append(Problem("data.rho", self.rho, "must be in 0..1"))
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
    tables = conventions(settings.domains, options, settings.rho, derive(root, "conventions"))
    names = tuple(sorted(labels()))
    shots = dict(zip(PARTS, (settings.shots, settings.validation_shots, settings.test_shots), strict=True))

    def pictures() -> dict[str, np.ndarray]:
        return {
            f"{domain}.{part}": _render_part(
                getattr(split, part), [tables[domain][n] for n in names], domain, part, shots, root
            )
            for domain in settings.domains
            for part in PARTS
        }

    images = _cached(settings, seed, pictures)
    clients: list[ClientData] = []
    for domain in settings.domains:
        clients += _clients(domain, images, len(names), settings, derive(root, "partition", domain))
    test = {d: Split(images[f"{d}.test"], _labels_of(len(names), settings.test_shots)) for d in settings.domains}
    facts = _facts(split, [tables[domain] for domain in settings.domains])
    return FederatedDataset("icons", names, tuple(clients), test, "an icon symbol for {}", facts)


def _render_part(
    drawings: dict[str, Drawings], concepts: Sequence[str], domain: str, part: str, shots: dict[str, int], root: Seed
) -> np.ndarray:
    """Pictures uint8 [n_classes * shots, 48, 48, 3], class by class: a drawing at random, then a glyph of it."""
    rng = derive(root, "glyphs", domain, part).numpy()
    glyphs: list[Glyph] = []
    for concept in concepts:
        for _ in range(shots[part]):
            drawing = drawings[concept][rng.integers(len(drawings[concept]))]
            glyphs.append(drawing[rng.integers(len(drawing))])
    known = sorted(set(glyphs))
    masks = rasterise(known)
    row = {glyph: i for i, glyph in enumerate(known)}
    return render(masks[[row[glyph] for glyph in glyphs]], domain, derive(root, "render", domain, part))


def _labels_of(n_classes: int, shots: int) -> np.ndarray:
    return np.repeat(np.arange(n_classes, dtype=np.int64), shots)


def _clients(
    domain: str, images: dict[str, np.ndarray], n_classes: int, settings: IconSettings, seed: Seed
) -> list[ClientData]:
    names = [f"{domain}-{i}" for i in range(settings.clients_per_domain)]
    shares = dirichlet_shares(n_classes, len(names), settings.alpha, seed)
    parts = []
    for part, shots in (("train", settings.shots), ("validation", settings.validation_shots)):
        target = _labels_of(n_classes, shots)
        held = split_by_shares(target, shares, derive(seed, part), minimum=min(8, shots), names=names)
        parts.append([Split(images[f"{domain}.{part}"][ids], target[ids]) for ids in held])
    return [ClientData(name, domain, *both) for name, *both in zip(names, *parts, strict=True)]


def _facts(split: DrawingSplit, tables: list[dict[str, str]]) -> dict[str, object]:
    """What a reader should know of this seed: independent drawings per part, agreement of the conventions."""
    used = {concept for table in tables for concept in table.values()}
    drawings = {part: sum(len(d) for c, d in getattr(split, part).items() if c in used) for part in PARTS}
    pairs = [agreement(a, b) for a, b in combinations(tables, 2)]
    alike = round(float(np.mean(pairs)), 3) if pairs else 1.0
    return {"independent drawings": drawings, "concepts": len(used), "labels drawn alike in two domains": alike}


def _cached(settings: IconSettings, seed: int, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    described = {
        f.name: asdict(settings)[f.name] for f in fields(settings) if f.name not in ("alpha", "clients_per_domain")
    }
    key = [_VERSION, seed, described, pool_digest(), version("QtAwesome"), version("pillow")]
    path = sub_cache("icons") / f"{sha256(json.dumps(key).encode()).hexdigest()[:24]}.safetensors"
    return cached_arrays(path, make)
