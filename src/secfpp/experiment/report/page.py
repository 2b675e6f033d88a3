"""``report.html``: one self-contained page about a run, readable on any screen, offline and without scripts."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from secfpp.experiment.report import comparison, plots
from secfpp.experiment.report.client_map import client_map
from secfpp.experiment.report.comparison import Estimate, Estimates, Metric, Summary
from secfpp.experiment.report.groupings import groupings
from secfpp.experiment.report.holdings_map import HoldingsMap
from secfpp.experiment.report.plots import Dot, Line, Scale
from secfpp.experiment.report.samples import Samples, guesses
from secfpp.experiment.report.some_clients import told
from secfpp.experiment.report.why_charts import explained
from secfpp.experiment.results import published_figures
from secfpp.experiment.results.privacy_figures import epsilon_in_words
from secfpp.experiment.results.refused import in_words
from secfpp.experiment.results.security_costs import (
    ALL,
    IN_THE_CLEAR,
    PHASES,
    Cost,
    PhaseCosts,
    all_phase_costs,
    is_twin,
)
from secfpp.experiment.results.text import amount, duration, p_value, points

if TYPE_CHECKING:
    from secfpp.runtime.trainer import RunResult

ZERO = 1e-9
"""Points that are no difference: rounding."""
NEAR = 10.0
"""Paired differences beyond this many points are arrows at the edge, so that close methods can be told apart."""
TOGETHER = 6
"""More lines than this get a small chart each."""
_LEAKY = {"distances": "distances, of which the server and a few clients compute every client's descriptor"}


@dataclass(frozen=True)
class Rounds:
    """Charts of one figure by round: one for all methods together (under no name), or one for each.

    `last` is the figure after each method's last round, in words.
    """

    title: str
    charts: Mapping[str, Markup]
    last: Mapping[str, str]


@dataclass(frozen=True)
class Gaps:
    """The paired differences of one metric, as a chart and as figures by the other method's name.

    `power` says what so few seeds cannot see.
    """

    metric: Metric
    chart: Markup
    figures: Mapping[str, Estimate]
    power: str


@dataclass(frozen=True)
class Promise:
    """What others learn of a method's clients, in words; `parts` tells it by phase where phases differ."""

    method: str
    reveal: str
    holders: str
    threshold: str
    parts: Mapping[str, str]


def render_report(
    summary: Summary,
    results: Sequence[RunResult],
    samples: Samples,
    config_toml: str,
    held: HoldingsMap | None = None,
    reference: str | None = None,
) -> str:
    """The page as HTML text; also of a comparison that is not finished.

    Args:
        summary: content of ``summary.json``.
        results: the runs it was made from; methods may lack seeds that others have.
        samples: images to show.
        config_toml: the complete settings.
        held: who holds which classes.
        reference: the method that the others are compared with; if None, see `comparison.reference`.
    """
    environment = Environment(
        loader=PackageLoader("secfpp.experiment.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "points": points,
        "amount": amount,
        "duration": duration,
        "p_value": p_value,
        "breakable": plots.breakable,
    }
    table = comparison.estimates(summary, results)
    reference = reference or comparison.reference(summary, table, config_toml)
    metrics = comparison.shown(table)
    times = summary.get("seconds", {"comparable": True})
    priced, unpriced = all_phase_costs(summary["methods"])
    if not times["comparable"]:
        priced, unpriced = ([_without_ratio(line) for line in lines] for lines in (priced, unpriced))
    n_clients = len({client for result in results for client in result.clients})
    page: str = environment.get_template("report.html.j2").render(
        summary=summary,
        headline=comparison.headline(table),
        lacking=comparison.unfinished(summary),
        refused=in_words(summary),
        table=table,
        metrics=metrics,
        columns=_columns(table, metrics),
        newcomers={name: late for name, of in summary["methods"].items() if (late := of.get("newcomers"))},
        selected=[m for m in metrics if any(f"{m.key}_selected" in row for row in table.values())],
        winners={column.key: comparison.leader(table, column.key) for column in _columns(table, metrics)},
        dots={metric: _dots(table, metric) for metric in metrics},
        reference=reference,
        gaps=_gaps(summary, metrics, reference),
        near=NEAR,
        published=summary.get("published"),
        beside=published_figures,
        rounds=by_round(results),
        strokes=[(plots.stroke(index), name) for index, name in enumerate(_trained(results))],
        clients=client_map(results, reference) if reference else None,
        held=held,
        groupings=groupings(results),
        explained=explained(results, reference),
        samples=samples,
        guesses=guesses(samples, results),
        chosen=_chosen(table, reference),
        revealed=_revealed(summary),
        promised=_promised(summary),
        priced=priced,
        unpriced=unpriced,
        all_phases=ALL,
        times=times,
        facts=data_facts(summary),
        command=command(summary),
        n_clients=n_clients,
        some=told(n_clients),
        n_domains=len({domain for result in results for domain in result.domains}),
        config=config_toml,
    )
    return page


def _without_ratio(line: PhaseCosts) -> PhaseCosts:
    """Costs whose seconds stand alone."""
    return replace(line, seconds=Cost(line.seconds.value))


def data_facts(summary: Summary) -> list[str]:
    """What the data set says of its first seed, e.g. ``drawings: train 181, test 121``."""
    facts = summary.get("data", {}).get(str(summary["seeds"][0]), {}) if summary["seeds"] else {}
    return [
        f"{name}: " + (", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else str(value))
        for name, value in facts.items()
    ]


def command(summary: Summary) -> str:
    """What to type to get the same again."""
    methods, seeds = list(summary["methods"]), ",".join(map(str, summary["seeds"]))
    if len(methods) == 1:
        words = ["run", "config.toml", "--method", methods[0]]
    else:
        words = ["compare", "config.toml", "--methods", ",".join(methods), "--seeds", seeds]
    return shlex.join(["secfpp", *words, "--out", "DIR"])


def by_round(results: Sequence[RunResult]) -> list[Rounds]:
    """Charts of what the rows of the runs tell per round, averaged over clients and seeds."""
    found = []
    methods = _trained(results)
    for key, title, form in (
        ("validation", "Validation accuracy, %", ".1f"),
        ("own", "Own accuracy, %", ".1f"),
        ("loss", "Training loss", ".2f"),
    ):
        series = {method: _mean_by_round(results, method, key) for method in methods}
        drawn = {method: line for method, line in series.items() if len(line) > 1}
        if not drawn:
            continue
        x = _round_scale([number for line in drawn.values() for number, _ in line])
        y = Scale.around((value for line in drawn.values() for _, value in line), about=4)
        if len(methods) <= TOGETHER:
            charts = {"": plots.lines(title, series, x, y)}
        else:
            ends = Scale((x.ticks[0], x.ticks[-1]))
            charts = {method: plots.lines(title, series, ends, y, focus=method) for method in drawn}
        found.append(Rounds(title, charts, {method: format(line[-1][1], form) for method, line in drawn.items()}))
    return found


def _trained(results: Sequence[RunResult]) -> list[str]:
    """The methods of several rounds: of one round there is no course."""
    return list(dict.fromkeys(result.method for result in results if len({row["round"] for row in result.rows}) > 1))


def _mean_by_round(results: Sequence[RunResult], method: str, key: str) -> Line:
    values: dict[int, list[float]] = {}
    for row in (row for result in results if result.method == method for row in result.rows):
        value = row.get(key)
        if isinstance(value, (int, float)) and np.isfinite(value):
            values.setdefault(int(str(row["round"])), []).append(float(value))
    return [(number, float(np.mean(values[number]))) for number in sorted(values)]


def _round_scale(numbers: Sequence[float]) -> Scale:
    """The first and the last round, and round numbers that are not too near to them."""
    first, last = min(numbers), max(numbers)
    inner = (tick for tick in plots.ticks(first, last) if tick == int(tick))
    gap = (last - first) / 12
    return Scale((first, *(tick for tick in inner if first + gap < tick < last - gap), last))


def _columns(table: Estimates, metrics: Sequence[Metric]) -> list[Metric]:
    """The metrics, each followed by itself without the class prior if that is another figure."""
    columns = []
    for metric in metrics:
        columns.append(metric)
        if comparison.changed_by_prior(table, [metric]):
            columns.append(Metric(f"{metric.key}_no_prior", f"{metric.title}, no prior", metric.about))
    return columns


def _dots(table: Estimates, metric: Metric) -> Markup:
    """The interval chart of one metric; methods are in the order of their own accuracy."""
    order = comparison.ranking(table, "own")
    best = comparison.leader(table, metric.key)
    without = f"{metric.key}_no_prior" if comparison.changed_by_prior(table, [metric]) else None
    rows, values = [], []
    for name in [*order, *(name for name in table if name not in order)]:
        figure, ring = table[name].get(metric.key), table[name].get(without or "")
        if figure is None:
            rows.append(Dot(name))
            continue
        values += [*figure.per_seed.values(), *(figure.interval or ()), *([ring.mean] if ring else ())]
        rows.append(_dot(name, figure, False, ring.mean if ring else None, "best" if name == best else ""))
    return plots.intervals(f"{metric.title}, %", rows, Scale.around(np.clip(values, 0, 100)))


def _dot(name: str, figure: Estimate, signed: bool, ring: float | None = None, kind: str = "") -> Dot:
    note = " to ".join(points(end, True) for end in figure.interval or ()) if signed else ""
    seeds = tuple(figure.per_seed.values()) if len(figure.per_seed) > 1 else ()
    return Dot(name, figure.mean, points(figure.mean, signed), note, figure.interval, seeds, ring, kind)


def _gaps(summary: Summary, metrics: Sequence[Metric], reference: str | None) -> list[Gaps]:
    """Where some differences have intervals; the rows with the smallest lead first."""
    found = []
    for metric in metrics if reference else ():
        figures = comparison.differences(summary, str(reference), metric.key)
        if not any(gap.interval for gap in figures.values()):
            continue
        near = [f for f in figures.values() if abs(f.mean) <= NEAR] or list(figures.values())
        ends = [end for f in near for end in (f.mean, *(f.interval or ()))]
        if any(abs(f.mean) <= NEAR for f in near):
            ends = [min(max(end, -NEAR), NEAR) for end in ends]
        widest = max(map(abs, ends))
        scale = Scale.around((min(*ends, -widest / 10), max(*ends, widest / 10)), about=4)
        rows = []
        for name, gap in sorted(figures.items(), key=lambda item: item[1].mean):
            low, high = gap.interval or (-1, 1)
            rows.append(_dot(name, gap, True, kind="above" if low > ZERO else "below" if high < -ZERO else ""))
        chart = plots.intervals(f"{reference} ahead, {metric.title}, points", rows, scale)
        found.append(Gaps(metric, chart, figures, comparison.power_note(figures.values())))
    return found


def _chosen(table: Estimates, reference: str | None) -> list[str]:
    """The methods whose predictions are shown at once: a floor, the reference, and the best or second best."""
    ranked = [name for name in comparison.ranking(table, "own") if not is_twin(name, table)]
    wanted = [name for name in ("zero_shot", reference) if name in table]
    rival = next((name for name in ranked if name not in wanted), None)
    return [str(name) for name in [*wanted, rival] if name is not None]


def _revealed(summary: Summary) -> list[Promise]:
    """What others learn of the clients, for every method that tells them something."""
    found = []
    for name, method in summary["methods"].items():
        table = method["security"]
        if "reveal" not in table:
            continue
        parts = {phase: _in_words(part) for phase in PHASES.values() if isinstance(part := table.get(phase), Mapping)}
        reveal, holders, threshold = (_word(table[key]) for key in IN_THE_CLEAR)
        revealed = _LEAKY.get(reveal, reveal) if table["reveal"] is not None else "not stated"
        found.append(Promise(name, revealed, holders, threshold, parts))
    return found


@dataclass(frozen=True)
class Noise:
    """What a method is promised under differential privacy, in words; `rounds` tells the epsilon so far by round."""

    method: str
    epsilon: str
    about: str
    covers: str
    not_covered: str
    rounds: str


def _promised(summary: Summary) -> list[Noise]:
    """The epsilon of every method from whose clients something leaves."""
    found = []
    for name, method in summary["methods"].items():
        entry = method.get("privacy", {"epsilon": 0.0})
        if entry["epsilon"] == 0.0:
            continue
        about, rounds = "", ""
        if entry["mechanism"]:
            budget = "" if entry["budget"] is None else f", budget {entry['budget']:g}"
            about = f"by {entry['unit']}, {entry['adjacency']}, at delta {entry['delta']:g}{budget}"
            first = entry["runs"][0]
            rounds = ", ".join(f"round {at['round']}: {_epsilon(at)}" for at in first["rounds"])
            rounds += f"; all runs on these data: {', '.join(_epsilon(run['data']) for run in entry['runs'])}"
        covers, beside = (", ".join(entry[key]) for key in ("covers", "not_covered"))
        found.append(Noise(name, _epsilon(entry), about, covers or "nothing", beside, rounds))
    return found


def _epsilon(entry: Mapping[str, Any]) -> str:
    return epsilon_in_words(entry, "\N{INFINITY}")


def _in_words(part: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {_word(value)}" for key, value in part.items() if value is not None)


def _word(value: object) -> str:
    return "\N{EN DASH}" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
