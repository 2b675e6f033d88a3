"""``audit.html``: one self-contained page about an audit, readable offline and without scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from secfpp.experiment.report import plots
from secfpp.experiment.report.plots import Dot, LogScale, Scale
from secfpp.experiment.results.text import duration

TOGETHER = 6
"""Curves in one chart."""
RATES = LogScale((0.001, 0.01, 0.1, 1.0))


@dataclass(frozen=True)
class Curves:
    """One chart of ROC curves on logarithmic axes, with its legend."""

    title: str
    chart: Markup
    legend: Sequence[tuple[Markup, str]]


def render_audit(summary: Mapping[str, Any]) -> str:
    """The page as HTML.

    Args:
        summary: content of ``audit.json``.
    """
    environment = Environment(
        loader=PackageLoader("secfpp.experiment.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"breakable": plots.breakable, "duration": duration, "rate": rate, "span": span}
    page: str = environment.get_template("audit.html.j2").render(
        summary=summary, headline=headline(summary), dots=dots(summary["rows"]), curves=curves(summary["rows"])
    )
    return page


def headline(summary: Mapping[str, Any]) -> str:
    """What was found, in a sentence a target."""
    method = summary["targets"][-1]
    told = [row for row in summary["rows"] if row["target"] == method]
    if not told:
        return f"{method}: not attacked yet"
    best = max(told, key=lambda row: float(row["auc"]))
    server = [row for row in told if row["adversary"] == "server"]
    text = f"{method}: {best['adversary']} with {best['seen']} reaches AUC {best['auc']:.2f}"
    if server:
        most = max(server, key=lambda row: float(row["auc"]))
        text += f", the server at most {most['auc']:.2f} ({most['seen']})"
    return text


def dots(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, Markup]]:
    """An interval chart of AUC for each target."""
    scale, found = Scale((0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)), []
    for target in dict.fromkeys(row["target"] for row in rows):
        shown = [
            Dot(
                f"{row['adversary']}, {row['seen']}: {row['attack']}",
                row["auc"],
                f"{row['auc']:.3f}",
                span(row["auc_ci95"]),
                tuple(row["auc_ci95"]),
                kind={"tells members": "below", "not informative": "one"}.get(row["verdict"], ""),
            )
            for row in rows
            if row["target"] == target
        ]
        found.append((str(target), plots.intervals(f"AUC on {target}", shown, scale, mark=0.5)))
    return found


def curves(rows: Sequence[Mapping[str, Any]]) -> list[Curves]:
    """ROC curves of what each adversary sees: of each target's best attack."""
    found = []
    for adversary, seen in dict.fromkeys((row["adversary"], row["seen"]) for row in rows):
        best: dict[str, Mapping[str, Any]] = {}
        for row in rows:
            old = best.get(row["target"])
            if (row["adversary"], row["seen"]) == (adversary, seen) and (old is None or row["auc"] > old["auc"]):
                best[row["target"]] = row
        series = {
            f"{target}: {row['attack']}": [(x, y) for x, y in row["roc"] if x >= RATES.ticks[0]]
            for target, row in list(best.items())[:TOGETHER]
        }
        series["chance"] = [(tick, tick) for tick in RATES.ticks]
        title = f"{adversary}, {seen}"
        chart = plots.lines("true positive rate", series, RATES, RATES, by="false positive rate")
        legend = [(plots.stroke(index), name) for index, name in enumerate(series)]
        found.append(Curves(title, chart, legend))
    return found


def rate(value: float | None) -> str:
    """A share in percent; a dash where there is none."""
    return "\N{EN DASH}" if value is None else f"{100 * value:.1f} %"


def span(interval: Sequence[float] | None) -> str:
    """An interval in words; empty where there is none."""
    return "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
