"""The map of clients by metric and method: who gains and who does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from secfpp.experiment.report.comparison import METRICS
from secfpp.experiment.report.plots import Scale
from secfpp.experiment.report.some_clients import drawn

if TYPE_CHECKING:
    from secfpp.runtime.trainer import RunResult

LEVELS = 9
"""Steps of the colour scale: CSS classes ``h0`` (lowest) to ``h8``."""


@dataclass(frozen=True)
class Cell:
    """A figure in percent, and its step on the colour scale; both None where there is none."""

    value: float | None = None
    level: int | None = None


@dataclass(frozen=True)
class Group:
    """A domain: the mean over its clients, and those of them that are shown, each with one cell per column."""

    domain: str
    mean: tuple[Cell, ...]
    clients: tuple[tuple[str, tuple[Cell, ...]], ...]


@dataclass(frozen=True)
class ClientMap:
    """Clients in rows; in columns every metric of one method, then the own accuracy of every method.

    Attributes:
        reference: the method whose metrics are shown.
        metrics: their titles.
        methods: the methods in the second part (empty if there is only one).
        groups: the rows.
        legend: ``(level, low, high)`` of each step of the colour scale, in percent.
    """

    reference: str
    metrics: tuple[str, ...]
    methods: tuple[str, ...]
    groups: tuple[Group, ...]
    legend: tuple[tuple[int, float, float], ...]


def client_map(results: Sequence[RunResult], reference: str) -> ClientMap | None:
    """Means over seeds for every client; None where nothing was measured.

    Args:
        results: the runs.
        reference: the method whose metrics are shown beside the own accuracy of all methods.
    """
    values = _by_client(results)
    metrics = [m for m in METRICS if (reference, m.key) in values]
    methods = [m for m in dict.fromkeys(result.method for result in results) if (m, "own") in values]
    columns = [(reference, metric.key) for metric in metrics]
    if methods != [reference]:
        columns += [(method, "own") for method in methods]
    known = [value for column in columns for value in values[column].values() if np.isfinite(value)]
    if not known:
        return None
    scale = Scale.around(known)
    domains = {c: d for r in reversed(results) for c, d in zip(r.clients, r.domains, strict=True)}
    groups, shown = [], drawn(list(domains), list(domains.values()))
    for domain in dict.fromkeys(domain for r in results for domain in r.domains):
        rows = {c: [values[k].get(c, np.nan) for k in columns] for c, of in domains.items() if of == domain}
        if rows:
            table = np.array(list(rows.values()))
            mean = [column[np.isfinite(column)].mean() if np.isfinite(column).any() else np.nan for column in table.T]
            members = tuple((client, heat(row, scale)) for client, row in rows.items() if client in shown)
            groups.append(Group(domain, heat(mean, scale), members))
    edges = np.linspace(scale.ticks[0], scale.ticks[-1], LEVELS + 1)
    return ClientMap(
        reference,
        tuple(metric.title for metric in metrics),
        tuple(method for method, _ in columns[len(metrics) :]),
        tuple(groups),
        tuple((level, float(edges[level]), float(edges[level + 1])) for level in range(LEVELS)),
    )


def _by_client(results: Sequence[RunResult]) -> Mapping[tuple[str, str], Mapping[str, float]]:
    """``(method, metric)`` -> client -> mean over the seeds where it is known."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for result in results:
        for metric, values in result.metrics.items():
            for client, value in zip(result.clients, values, strict=True):
                if np.isfinite(value):
                    found.setdefault((result.method, metric), {}).setdefault(client, []).append(float(value))
    return {key: {client: float(np.mean(v)) for client, v in of.items()} for key, of in found.items()}


def heat(values: Iterable[float], scale: Scale) -> tuple[Cell, ...]:
    """`values` with their steps on the colour scale; not a number: no figure."""
    return tuple(
        Cell(float(v), min(int(scale.at(v) * LEVELS / 100), LEVELS - 1)) if np.isfinite(v) else Cell() for v in values
    )
