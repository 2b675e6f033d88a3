"""``report.html``: one self-contained page about a run, readable on any screen, offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from secfpp.experiment import plots
from secfpp.experiment.samples import Samples, sample_images
from secfpp.experiment.text import amount, duration, points

if TYPE_CHECKING:
    from secfpp.runtime.trainer import RunResult

__all__ = ["Samples", "render_report", "sample_images"]

Summary = Mapping[str, Any]

METRICS = {
    "own": ("Own", "accuracy on the client's own mix of classes, in its own domain"),
    "own_domain": ("Own domain", "accuracy on all classes alike, in the client's own domain"),
    "other_domains": ("Other domains", "accuracy on all classes alike, in the domains the client never saw"),
}


def render_report(summary: Summary, results: Sequence[RunResult], samples: Samples, config_toml: str) -> str:
    """The page as HTML text.

    Args:
        summary: content of ``summary.json``.
        results: the runs it was made from.
        samples: images to show.
        config_toml: the complete settings.
    """
    environment = Environment(
        loader=PackageLoader("secfpp.experiment"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"points": points, "amount": amount, "duration": duration, "breakable": breakable}
    shown = [metric for metric in METRICS if all(metric in m for m in summary["methods"].values())]
    first, with_rows = results[0], {result.method for result in results if result.rows}
    page: str = environment.get_template("report.html.j2").render(
        summary=summary,
        headline=headline(summary),
        metrics={metric: METRICS[metric] for metric in shown},
        bare={metric: f"{metric}_no_prior" for metric in shown if _has(summary, f"{metric}_no_prior")},
        winners={metric: best_method(summary, metric) for metric in shown},
        charts=_charts(summary, shown),
        gaps=_gaps(summary, shown),
        rounds=_by_round(results),
        legend=[(plots.stroke(i), name) for i, name in enumerate(summary["methods"]) if name in with_rows],
        clusters=_clusters(results, summary),
        samples=samples,
        facts=data_facts(summary),
        n_clients=len(first.clients),
        n_domains=len(set(first.domains)),
        config=config_toml,
    )
    return page


def best_method(summary: Summary, metric: str) -> str:
    """The method with the highest mean."""
    means: dict[str, float] = {name: float(method[metric]["mean"]) for name, method in summary["methods"].items()}
    return max(means, key=means.__getitem__)


def headline(summary: Summary) -> tuple[str, str]:
    """A title and a sentence: which method is ahead on ``own``, by how much, and how sure that is."""
    methods, seeds = summary["methods"], summary["seeds"]
    best = best_method(summary, "own")
    value = methods[best]["own"]["mean"]
    if len(methods) == 1:
        title = f"{best} reaches {value:.1f} % on its clients' own data"
        return title, _certainty(seeds, methods[best]["own"]["ci95"])
    second = max((name for name in methods if name != best), key=lambda name: float(methods[name]["own"]["mean"]))
    gap, interval = _gap(summary, best, second, "own")
    tie = interval is not None and interval[0] <= 0
    if tie or gap < 0.05:
        title = f"{best} and {second} are level on clients' own data: {value:.1f} %"
    else:
        title = f"{best} leads on clients' own data: {value:.1f} %, {gap:.1f} points above {second}"
    if interval is None:
        return title, _certainty(seeds, None)
    sure = "so the order of the two is not settled" if tie else "so the choice of seeds does not explain it"
    span = f"{interval[0]:+.1f} to {interval[1]:+.1f}"
    return title, f"Paired over {len(seeds)} seeds the difference is {gap:+.1f} points (95 % interval {span}), {sure}."


def data_facts(summary: Summary) -> list[str]:
    """What the data set says of its first seed, e.g. ``drawings: train 181, test 121``."""
    facts = summary.get("data", {}).get(str(summary["seeds"][0]), {})
    return [
        f"{name}: " + (", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else str(value))
        for name, value in facts.items()
    ]


def breakable(name: str) -> Markup:
    """A name that may be broken after ``_`` and ``+`` in a narrow column."""
    return Markup(str(escape(name)).replace("_", "_<wbr>").replace("+", "+<wbr>"))


def _certainty(seeds: Sequence[int], interval: Sequence[float] | None) -> str:
    if interval is None:
        return (
            f"This is one seed ({seeds[0]}), so no interval can be given: a gap of a point or two may be chance. "
            "Several seeds settle it."
        )
    return f"Over {len(seeds)} seeds the 95 % interval is {interval[0]:.1f} to {interval[1]:.1f}."


def _has(summary: Summary, metric: str) -> bool:
    return all(metric in method for method in summary["methods"].values())


def _gap(summary: Summary, method: str, against: str, metric: str) -> tuple[float, Sequence[float] | None]:
    """The paired difference of two methods, whichever way round it was stored."""
    for entry in summary["differences"]:
        if entry["metric"] == metric and {entry["method"], entry["against"]} == {method, against}:
            interval = entry["ci95"]
            if entry["method"] == method:
                return entry["mean"], interval
            return -entry["mean"], interval and (-interval[1], -interval[0])
    return summary["methods"][method][metric]["mean"] - summary["methods"][against][metric]["mean"], None


def _charts(summary: Summary, metrics: Sequence[str]) -> dict[str, Markup]:
    methods = summary["methods"]
    figures = [(m[metric]["ci95"] or (0, m[metric]["mean"]))[1] for m in methods.values() for metric in metrics]
    charts = {}
    for metric in metrics:
        best = best_method(summary, metric)
        rows = [plots.Bar(name, m[metric]["mean"], m[metric]["ci95"], name == best) for name, m in methods.items()]
        charts[metric] = plots.bars(METRICS[metric][0], rows, maximum=max(*figures, 1.0))
    return charts


def _gaps(summary: Summary, metrics: Sequence[str]) -> dict[str, Any] | None:
    """Paired differences of the leader to every other method, when there are intervals to show."""
    if len(summary["seeds"]) < 2 or len(summary["methods"]) < 2:
        return None
    leader = best_method(summary, "own")
    others = [name for name in summary["methods"] if name != leader]
    return {
        "leader": leader,
        "rows": {name: [_gap(summary, leader, name, metric) for metric in metrics] for name in others},
    }


def _by_round(results: Sequence[RunResult]) -> dict[str, Markup]:
    """Charts of what the rows of the runs tell per round, averaged over clients and seeds."""
    charts = {}
    titles = {"loss": "Training loss", "validation": "Validation accuracy, %", "own": "Own accuracy, %"}
    for key, title in titles.items():
        series: dict[str, list[tuple[float, float]]] = {}
        for method in dict.fromkeys(result.method for result in results):
            by_round: dict[int, list[float]] = {}
            for row in (row for result in results if result.method == method for row in result.rows):
                value = row.get(key)
                if isinstance(value, (int, float)) and np.isfinite(value):
                    by_round.setdefault(int(str(row["round"])), []).append(float(value))
            series[method] = [(number, float(np.mean(by_round[number]))) for number in sorted(by_round)]
        if any(len(line) > 1 for line in series.values()):
            charts[title] = plots.lines(title, series)
    return charts


def _clusters(results: Sequence[RunResult], summary: Summary) -> list[dict[str, Any]]:
    """A picture per method that clustered its clients, from its first seed."""
    pictures: dict[str, dict[str, Any]] = {}
    for result in results:
        if result.assignment is None or result.descriptors is None or result.method in pictures:
            continue
        plane, found = plots.principal_plane(result.descriptors), sorted(set(result.assignment) - {-1})
        pictures[result.method] = {
            "method": result.method,
            "seed": result.seed,
            "picture": plots.scatter(plane, result.domains, result.assignment, result.clients),
            "domains": [(plots.marker(i), domain) for i, domain in enumerate(dict.fromkeys(result.domains))],
            "sizes": [(plots.marker(None, c), result.assignment.count(c)) for c in found],
            "agreement": summary["methods"][result.method]["clusters"],
        }
    return list(pictures.values())
