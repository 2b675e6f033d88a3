"""The picture of who holds which classes: clients below each other, classes side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from secfpp.experiment.report.client_map import LEVELS
from secfpp.experiment.report.some_clients import drawn
from secfpp.experiment.results.holdings import matrix

TALL, FLAT = 16, 7
"""Height in pixels of a client's row, and of one of many."""
MANY = 40
"""Clients from which on rows are flat."""
WIDTH = 26
"""Width in pixels of a class's column, at most."""


@dataclass(frozen=True)
class HoldingsMap:
    """Training images of each client and class, for a report.

    Attributes:
        seed: of the data set.
        classes: from left to right.
        domains: each with a drawing of its clients that are shown, in rows.
        legend: ``(level, low, high)``: numbers of images that have a colour.
    """

    seed: int
    classes: tuple[str, ...]
    domains: Mapping[str, Markup]
    legend: tuple[tuple[int, int, int], ...]


def holdings_map(seed: int, table: Mapping[str, Any]) -> HoldingsMap:
    """The picture of what `secfpp.experiment.results.holdings.partition_table` gave."""
    held, names = matrix(table), list(table["clients"])
    most = int(held.max())
    steps = np.ceil(held * (LEVELS - 1) / max(most, 1)).astype(int)  # 0 is none, and is not drawn
    domains: dict[str, list[int]] = {}
    shown = drawn(names, [own["domain"] for own in table["clients"].values()])
    for row, (name, own) in enumerate(table["clients"].items()):
        if name in shown:
            domains.setdefault(own["domain"], []).append(row)
    height = FLAT if len(names) > MANY else TALL
    drawings = {
        domain: _drawing([names[row] for row in rows], held[rows], steps[rows], table["classes"], height)
        for domain, rows in domains.items()
    }
    known = sorted({int(step) for step in steps.ravel() if step})
    legend = tuple((step, int(held[steps == step].min()), int(held[steps == step].max())) for step in known)
    return HoldingsMap(seed, tuple(table["classes"]), drawings, legend)


def _drawing(names: Sequence[str], held: np.ndarray, steps: np.ndarray, classes: Sequence[str], height: int) -> Markup:
    rows = Markup("").join(
        Markup('<g transform="translate(0 {})"><path class="none" d="M0 0H{}V.92H0Z"/>{}<title>{}</title></g>').format(
            row, len(classes), _cells(steps[row]), _told(name, held[row], classes)
        )
        for row, name in enumerate(names)
    )
    spoken = "; ".join(_told(name, own, classes) for name, own in zip(names, held, strict=True))
    return Markup(
        '<svg class="held" style="height:{}px;max-width:{}px" viewBox="0 0 {} {}" preserveAspectRatio="none" '
        'role="img" aria-label="{}">{}</svg>'
    ).format(height * len(names), WIDTH * len(classes), len(classes), len(names), spoken, rows)


def _cells(steps: np.ndarray) -> Markup:
    """A row's cells, one path for each colour."""
    path = Markup('<path class="h{}" d="{}"/>')
    return Markup("").join(
        path.format(step, "".join(f"M{column} 0h.94v.92h-.94Z" for column in np.flatnonzero(steps == step)))
        for step in sorted(set(steps.tolist()) - {0})
    )


def _told(name: str, held: np.ndarray, classes: Sequence[str]) -> str:
    most = sorted(np.flatnonzero(held).tolist(), key=lambda label: -held[label])
    parts = [f"{classes[label]} {held[label]}" for label in most[:8]]
    more = [f"{len(most) - 8} more classes"] if len(most) > 8 else []
    return f"{name}, {held.sum()} images: {', '.join(parts + more)}"
