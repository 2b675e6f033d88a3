"""Drawing conventions: which concept stands for a functional label in which design system.

Real design systems disagree on what a label looks like ("favorite" is a star here, a heart there).
A convention table maps each label to one concept; no concept serves two labels of one table. The
knob rho sets which share of a domain's table is forced to agree with a common table: at rho 1 all
domains draw alike, at lower rho the same image means different labels in different domains
(synthetic concept shift).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from secfpp.data.glyphs import read_table
from secfpp.errors import ConfigError, DataError, Problem
from secfpp.seeding import Seed, derive

Convention = dict[str, str]
"""label -> concept, one to one."""

_FORBIDDEN = 1e6


@cache
def label_options() -> dict[str, tuple[str, ...]]:
    """Label -> the concepts that may draw it."""
    return {label: tuple(names.split(",")) for label, names in read_table("labels.tsv")}


def convention(options: Mapping[str, Sequence[str]], seed: Seed, fixed: Mapping[str, str] | None = None) -> Convention:
    """A random one-to-one table that keeps the `fixed` pairs.

    Raises:
        DataError: no such table exists.
    """
    from scipy.optimize import linear_sum_assignment  # 40 MB, which own images do not need

    labels = sorted(options)
    concepts = sorted({concept for names in options.values() for concept in names})
    column = {concept: j for j, concept in enumerate(concepts)}
    cost = np.full((len(labels), len(concepts)), _FORBIDDEN)
    generator = seed.numpy()
    for i, label in enumerate(labels):
        for concept in options[label]:
            cost[i, column[concept]] = generator.random()
    for label, concept in (fixed or {}).items():
        row = labels.index(label)
        cost[row] = _FORBIDDEN
        cost[row, column[concept]] = -1.0
    rows, columns = linear_sum_assignment(cost)
    if len(rows) < len(labels) or cost[rows, columns].max() >= _FORBIDDEN:
        raise DataError("no one-to-one table of labels and concepts keeps the fixed pairs: give labels more concepts")
    return {labels[i]: concepts[j] for i, j in zip(rows, columns, strict=True)}


def conventions(
    domains: Sequence[str], options: Mapping[str, Sequence[str]], rho: float, seed: Seed
) -> dict[str, Convention]:
    """One table per domain; a share `rho` of each, drawn independently, is forced to the common table.

    Raises:
        ConfigError: `rho` is not in 0..1.
    """
    if not 0 <= rho <= 1:
        raise ConfigError([Problem("data.rho", rho, "the agreement of the domains' conventions must be in 0..1")])
    common = convention(options, derive(seed, "common"))
    labels = sorted(options)
    tables = {}
    for domain in domains:
        chosen = derive(seed, "kept", domain).numpy().permutation(len(labels))[: round(rho * len(labels))]
        kept = {labels[i]: common[labels[i]] for i in chosen}
        tables[domain] = convention(options, derive(seed, "table", domain), kept)
    return tables


def dealt(styles: Sequence[str], clients: int, alignment: float, seed: Seed) -> dict[str, list[str]]:
    """The convention that each client of each style follows, named after the style whose own it is.

    A share `alignment` of a style's clients, chosen at random, keep its own; the others are dealt one style's after
    the other, beginning with another style's. Every convention has as many clients as every style.

    Raises:
        ConfigError: `alignment` is not in 0..1.
    """
    if not 0 <= alignment <= 1:
        raise ConfigError([Problem("data.alignment", alignment, "the share of clients that keep theirs, in 0..1")])
    circle = derive(seed, "circle").numpy().permutation(len(styles))
    kept = round(alignment * clients)
    found = {}
    for place, style in enumerate(circle):
        own = [styles[style]] * clients
        for step, client in enumerate(derive(seed, styles[style]).numpy().permutation(clients)[kept:]):
            own[client] = styles[circle[(place + 1 + step) % len(styles)]]
        found[styles[style]] = own
    return {style: found[style] for style in styles}


def agreement(first: Convention, second: Convention) -> float:
    """Share of labels that two tables draw alike."""
    return float(np.mean([first[label] == second[label] for label in first]))
