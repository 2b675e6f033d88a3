"""Result tables as data: rows with labels, and for each column a figure with its paired difference to a reference.

`secfpp.experiment.report.table_formats` writes them. A table of one comparison has a row for each method; `stacked`
puts several below each other, with a label more in front.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from secfpp.errors import ConfigError, Problem
from secfpp.experiment.report import comparison
from secfpp.experiment.report.comparison import METRICS, Estimate, Estimates, Metric, Summary
from secfpp.experiment.results.privacy_figures import in_words, promised
from secfpp.experiment.results.security_costs import is_twin
from secfpp.experiment.results.statistics import adjusted_rand_index, can_be_judged
from secfpp.experiment.results.summary import clusters_of, per_client
from secfpp.experiment.results.text import counted
from secfpp.experiment.spec.schema import one_of

if TYPE_CHECKING:
    from secfpp.runtime.trainer import RunResult

WITHOUT_PRIOR = "Without the class prior"
"""The part of a table that has the accuracies without it, if no columns were asked for."""
_SUFFIXES = {
    "_no_prior": ("no prior", "without the class prior"),
    "_selected": ("chosen round", "of each client's best round by its validation images"),
}


@dataclass(frozen=True)
class Column:
    """What the figures of a column are.

    Attributes:
        key: its name for programs, e.g. ``own_no_prior``.
        title: its head.
        about: what it says, in a few words.
        unit: ``%``, ``groups``, ``index``, ``bytes``, ``seconds`` or ``epsilon``.
        compared: whether a page of paper shows the paired differences too.
        part: title of the part of the table that it is in on paper; empty for the first one.
    """

    key: str
    title: str
    about: str
    unit: str
    compared: bool = False
    part: str = ""


@dataclass(frozen=True)
class Figure:
    """What stands in a row and column.

    Attributes:
        value: over seeds; infinite for an epsilon without a bound. Only accuracies have intervals.
        gap: the table's reference minus this one, in points, paired by seed; its p-value is corrected for all rows of
            the same comparison. None for the reference itself, without a reference, and for what is no accuracy.
        leads: whether it is ahead of all others of its comparison, see `comparison.leader`.
    """

    value: Estimate
    gap: Estimate | None = None
    leads: bool = False


@dataclass(frozen=True)
class Row:
    """A method in a comparison: its labels, the seeds that it has, and figures by the key of their column."""

    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    figures: Mapping[str, Figure]


@dataclass(frozen=True)
class ResultTable:
    """A result table, not bound to where it came from.

    Attributes:
        names: what the labels of its rows are, e.g. ``("method",)``.
        columns: in their order.
        rows: in their order; a figure may be missing.
        reference: the label of the method that differences are of, if any.
        about: data set, model, rounds, participation and seeds; of a stacked table, those of each block by its label.
        notes: sentences that a caption should say: settings, seeds, what is bold, which tests.
    """

    names: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    reference: str | None
    about: Mapping[str, Any]
    notes: tuple[str, ...]


def result_table(
    summary: Summary,
    results: Sequence[RunResult],
    reference: str | None,
    methods: Sequence[str] = (),
    keys: Sequence[str] = (),
) -> ResultTable:
    """The table of one comparison.

    Args:
        summary: content of ``summary.json``.
        results: the runs it was made from.
        reference: the method that paired differences are of; None leaves them out.
        methods: labels of the rows; all of the summary, in its order, if not given. Who leads, and p-values, are of
            these alone.
        keys: of the columns. If not given, `METRICS` and `COSTS` as far as there are any, and accuracies without the
            class prior where these are other figures.

    Raises:
        ConfigError: a method or key that the results do not have.
    """
    _require("--methods", methods, summary["methods"], "method with results")
    names = tuple(methods or summary["methods"])
    missing = [cell for cell in summary.get("missing", ()) if not methods or cell["method"] in names]
    summary = {**summary, "methods": {name: summary["methods"][name] for name in names}, "missing": missing}
    table = {
        name: {**row, **_more(summary, results, name)} for name, row in comparison.estimates(summary, results).items()
    }
    columns = _chosen(table, keys) if keys else _usual(table)
    if reference is not None:
        _require("--against", (reference,), table, "method of the table")
    figures = {column.key: _figures(table, column, reference) for column in columns}
    rows = tuple(
        Row((name,), tuple(summary["methods"][name]["seeds"]), {k: of[name] for k, of in figures.items() if name in of})
        for name in names
    )
    about = {name: summary[name] for name in ("dataset", "backbone", "rounds")}
    about |= {"participation": summary.get("participation", 1.0), "seeds": list(summary["seeds"])}
    made = ResultTable(("method",), columns, rows, reference, about, ())
    return replace(made, notes=_notes(made, summary))


def stacked(name: str, blocks: Mapping[str, ResultTable]) -> ResultTable:
    """Tables of several comparisons below each other.

    Args:
        name: what a block's label is, e.g. ``"setting"``; the first of `ResultTable.names`.
        blocks: the tables by that label, at least one; the columns are those that any of them has.

    Raises:
        ValueError: differences of several references, or rows with other labels.
    """
    tables = list(blocks.values())
    if len({(table.reference, table.names) for table in tables}) != 1:
        raise ValueError("one table needs one reference and the same labels in all of its blocks")
    columns = {column.key: column for table in reversed(tables) for column in table.columns}
    order = dict.fromkeys(column.key for table in tables for column in table.columns)
    notes = dict.fromkeys(note for table in tables for note in table.notes)
    common = [note for note in notes if all(note in table.notes for table in tables)]
    own = [f"{label}: {note}" for label, table in blocks.items() for note in table.notes if note not in common]
    return ResultTable(
        (name, *tables[0].names),
        tuple(columns[key] for key in order),
        tuple(replace(row, labels=(label, *row.labels)) for label, table in blocks.items() for row in table.rows),
        tables[0].reference,
        {label: table.about for label, table in blocks.items()},
        (*common, *own),
    )


def _require(option: str, names: Sequence[str], known: Mapping[str, object], what: str) -> None:
    problems = [Problem(option, name, one_of(name, known, what)) for name in names if name not in known]
    if problems:
        raise ConfigError(problems)


COSTS = (
    Column("groups", "Groups", "groups that are used", "groups"),
    Column("ari", "ARI", "agreement of several groups with the true ones: 1 is the same, 0 chance", "index"),
    Column("sent", "Sent", "by a client in the whole run", "bytes"),
    Column("seconds", "Time", "of the whole run, all clients and the server together", "seconds"),
    Column("epsilon", "Epsilon", "the largest of any client, of what the method promises under its unit", "epsilon"),
)


def _more(summary: Summary, results: Sequence[RunResult], name: str) -> dict[str, Estimate]:
    """The figures of `COSTS` that a method has."""
    runs = [run for run in results if run.method == name]
    pairs = {run.seed: pair for run in runs if (pair := clusters_of(run))}
    judged = {seed: pair for seed, pair in pairs.items() if can_be_judged(*pair)}
    found = {
        "groups": {seed: float(len(set(clusters))) for seed, (_, clusters) in pairs.items()},
        "ari": {seed: adjusted_rand_index(*pair) for seed, pair in judged.items()},
        "sent": {run.seed: per_client(run.costs.up, run) for run in runs},
        "seconds": {run.seed: float(run.seconds) for run in runs},
    }
    figures = {key: Estimate(float(np.mean(list(of.values()))), None, of) for key, of in found.items() if of}
    if entry := promised(summary).get(name):
        by_seed = {run["seed"]: _bounded(run["epsilon"]) for run in entry["runs"]}
        figures["epsilon"] = Estimate(_bounded(entry["epsilon"]), None, by_seed)
    return figures


def _bounded(epsilon: float | None) -> float:
    return math.inf if epsilon is None else float(epsilon)


def _usual(table: Estimates) -> tuple[Column, ...]:
    """Those of a table for which no columns were asked."""
    metrics = comparison.shown(table)
    return (
        *(_accuracy(metric, metric.key in comparison.COMPARED) for metric in metrics),
        *(column for column in COSTS if any(column.key in row for row in table.values())),
        *(
            replace(_suffixed(metric, "_no_prior", False), part=WITHOUT_PRIOR)
            for metric in comparison.changed_by_prior(table, metrics)
        ),
    )


def _chosen(table: Estimates, keys: Sequence[str]) -> tuple[Column, ...]:
    costs = {column.key: column for column in COSTS}
    accuracies = {
        column.key: column
        for metric in METRICS
        for column in (_accuracy(metric, True), *(_suffixed(metric, suffix, True) for suffix in _SUFFIXES))
    }
    known = {**accuracies, **costs}
    there = {key: column for key, column in known.items() if any(key in row for row in table.values())}
    _require("--metric", keys, there, "metric of these methods")
    return tuple(there[key] for key in keys)


def _accuracy(metric: Metric, compared: bool) -> Column:
    return Column(metric.key, metric.title, metric.about, "%", compared)


def _suffixed(metric: Metric, suffix: str, compared: bool) -> Column:
    name, about = _SUFFIXES[suffix]
    return Column(f"{metric.key}{suffix}", f"{metric.title}, {name}", f"{metric.about}; {about}", "%", compared)


def _figures(table: Estimates, column: Column, reference: str | None) -> dict[str, Figure]:
    """Those of a column by the method's label."""
    values = {name: row[column.key] for name, row in table.items() if column.key in row}
    if column.unit != "%":
        return {name: Figure(value) for name, value in values.items()}
    others = [name for name in values if name != reference] if reference in values else []
    gaps = {name: comparison.paired(table, str(reference), name, column.key) for name in others}
    tested = comparison.corrected({name: gap for name, gap in gaps.items() if gap})
    best = comparison.leader(table, column.key)
    return {name: Figure(value, tested.get(name), name == best) for name, value in values.items()}


def _notes(table: ResultTable, summary: Summary) -> tuple[str, ...]:
    several, names = len(summary["seeds"]) > 1, [row.labels[0] for row in table.rows]
    accuracies = [column for column in table.columns if column.unit == "%"]
    share = table.about["participation"]
    taking_part = f", {100 * share:.0f} % of the clients in each" if share < 1 else ""
    seeds = f"{counted(len(summary['seeds']), 'seed')} ({', '.join(map(str, summary['seeds']))})"
    told = [
        f"Data {summary['dataset']}, model {summary['backbone']}, {counted(summary['rounds'], 'round')}{taking_part}, "
        f"{seeds}.",
        *_unfinished(summary),
    ]
    if accuracies:
        spread = "mean over clients and seeds, ± half of the 95 % t interval over seeds"
        told.append(f"Accuracy in percent, {spread if several else 'mean over clients; one seed, so no intervals'}.")
    told += [f"{column.title}: {column.about}." for column in table.columns if not column.part]
    if accuracies and several and len(names) > 1:
        twins = " A method's twin in the clear is no rival of it." if any(is_twin(n, names) for n in names) else ""
        told.append(
            "Bold: ahead of every other method that is shown for the same data, as the 95 % interval of the paired "
            f"difference over seeds is above 0; a column without bold has no such method.{twins}"
        )
    if any(column.key == "epsilon" for column in table.columns):
        told += [f"{sentence}." for sentence in in_words(summary)]
    return (*told, *_tests(table, several), *_seconds(table, summary))


def _tests(table: ResultTable, several: bool) -> list[str]:
    """What the differences that are shown are, and what the seeds cannot see of them."""
    gaps = {
        column.title: [figure.gap for row in table.rows if (figure := row.figures.get(column.key)) and figure.gap]
        for column in table.columns
        if column.compared
    }
    shown = {title: found for title, found in gaps.items() if found}
    if not shown:
        return []
    tests = (
        ", with 95 % t intervals; p: of two-sided paired t tests, after Holm's correction for all methods that are "
        "shown for the same data"
    )
    first = f"Differences: {table.reference} minus the method, in points, paired by seed{tests if several else ''}."
    return [first, *comparison.power_notes(shown)]


def _unfinished(summary: Summary) -> list[str]:
    told = [f"{name} on {_seeds(seeds)}" for name, seeds in comparison.unfinished(summary).items()]
    if not told:
        return []
    return [f"Not finished, and missing here: {'; '.join(told)}. Means over different seeds are not comparable."]


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _seconds(table: ResultTable, summary: Summary) -> list[str]:
    times = summary.get("seconds", {"comparable": True})
    if times["comparable"] or all(column.key != "seconds" for column in table.columns):
        return []
    return [f"Times are not to be compared: {times['why']}."]
