"""``sweep.html``: one self-contained page about a sweep, readable offline and without scripts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from secfpp.experiment.report import plots
from secfpp.experiment.report.client_map import Cell, heat
from secfpp.experiment.report.plots import LogScale, Scale
from secfpp.experiment.sweep import tables
from secfpp.experiment.sweep.figures import CLAIMED

TOGETHER = plots.COLOURS
"""Lines in one chart; more are told apart by a chart each."""
WIDE = 20.0
"""Largest value by smallest from which on an axis is logarithmic."""
Content = Mapping[str, Any]


@dataclass(frozen=True)
class Charts:
    """How one metric moves along one axis, at one combination of the others.

    Attributes:
        axis: its name.
        title: the metric.
        at: the other axes' values; empty without any.
        charts: method, or nothing for all in one, -> chart.
    """

    axis: str
    title: str
    at: str
    charts: Mapping[str, Markup]


@dataclass(frozen=True)
class Heat:
    """One metric at every point: a row for each, with a cell for each method."""

    title: str
    rows: Sequence[tuple[Sequence[str], Sequence[Cell]]]


def render_sweep(content: Content) -> str:
    """The page as HTML.

    Args:
        content: of ``sweep.json``.
    """
    environment = Environment(
        loader=PackageLoader("secfpp.experiment.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"breakable": plots.breakable}
    keys = tables.metrics(content)
    page: str = environment.get_template("sweep.html.j2").render(
        content=content,
        headline=tables.headline(content),
        claim=tables.claim(content),
        missing=tables.missing(content),
        overview=tables.overview(content) if keys else [],
        charts=[found for axis in content["axes"] if axis["values"] for found in charts(content, axis)],
        strokes=[(plots.stroke(index), method) for index, method in enumerate(content["methods"])],
        together=len(content["methods"]) <= TOGETHER,
        maps=maps(content, keys),
        gaps=[(tables.title(key), rows) for key in keys if (rows := tables.gaps(content, key))],
        names=[axis["name"] for axis in content["axes"]],
    )
    return page


def charts(content: Content, axis: Content) -> list[Charts]:
    """What a numeric axis does to each metric compared, at every combination of the other axes."""
    values = dict(zip(axis["labels"], axis["values"], strict=True))
    if len(values) < 2:
        return []
    x = _scale(sorted(values.values()))
    others: dict[tuple[tuple[str, str], ...], list[Content]] = {}
    for point in content["points"]:
        rest = tuple((name, label) for name, label in point["at"].items() if name != axis["name"])
        others.setdefault(rest, []).append(point)
    found = []
    for key in (key for key in CLAIMED if key in content["metrics"]):
        for rest, at in others.items():
            series, spans = _lines(content, at, axis["name"], values, key)
            if not any(len(line) > 1 for line in series.values()):
                continue
            ends = [end for of in spans.values() for _, *pair in of for end in pair]
            y = Scale.around([value for line in series.values() for _, value in line] + ends, about=4)
            title, words = tables.title(key), ", ".join(f"{name}={label}" for name, label in rest)
            focus = [None] if len(series) <= TOGETHER else [method for method, line in series.items() if line]
            drawn = {
                method or "": plots.lines(f"{title} in percent", series, x, y, method, axis["name"], spans)
                for method in focus
            }
            found.append(Charts(axis["name"], title, words, drawn))
    return found


def maps(content: Content, keys: Sequence[str]) -> list[Heat]:
    """Every metric compared at every point, on a colour scale of its own."""
    found = []
    for key in keys:
        rows = []
        for point in content["points"]:
            figures = (point["methods"].get(method, {"figures": {}})["figures"] for method in content["methods"])
            rows.append((list(point["at"].values()), [of[key]["mean"] if key in of else math.nan for of in figures]))
        known = [value for _, values in rows for value in values if math.isfinite(value)]
        if known:
            scale = Scale.around(known)
            found.append(Heat(tables.title(key), [(at, heat(values, scale)) for at, values in rows]))
    return found


def _lines(
    content: Content, points: Sequence[Content], axis: str, values: Mapping[str, float], key: str
) -> tuple[dict[str, list[tuple[float, float]]], dict[str, list[tuple[float, float, float]]]]:
    """Method -> its points from left to right, and its intervals."""
    series: dict[str, list[tuple[float, float]]] = {}
    spans: dict[str, list[tuple[float, float, float]]] = {}
    ordered = sorted(points, key=lambda point: values[point["at"][axis]])
    for method in content["methods"]:
        series[method], spans[method] = [], []
        for point in ordered:
            figure = point["methods"].get(method, {"figures": {}})["figures"].get(key)
            if figure:
                at = float(values[point["at"][axis]])
                series[method].append((at, figure["mean"]))
                if figure["ci95"]:
                    low, high = (min(max(end, 0.0), 100.0) for end in figure["ci95"])
                    spans[method].append((at, low, high))
    return series, spans


def _scale(values: Sequence[float]) -> Scale:
    """The values of an axis as its ticks."""
    wide = values[0] > 0 and values[-1] / values[0] >= WIDE
    return (LogScale if wide else Scale)(tuple(map(float, values)))
