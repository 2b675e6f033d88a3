"""What commands print: aligned plain text for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from secfpp.experiment.report import comparison
from secfpp.experiment.report.comparison import Estimate
from secfpp.experiment.results import privacy_figures, published_figures
from secfpp.experiment.results.privacy_figures import epsilon_in_words, promised
from secfpp.experiment.results.refused import in_words
from secfpp.experiment.results.text import amount, counted, duration, p_value, points


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(value, indent=2))


def aligned(rows: Sequence[Sequence[str]], gap: int = 3) -> list[str]:
    """Rows as lines with columns below each other: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        (" " * gap)
        .join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        .rstrip()
        for row in rows
    ]


ACCURACIES = {"own": "own", "own_domain": "own domain", "other_domains": "other domains", "neighbour": "neighbour"}
"""Metrics that are printed, with the heads of their columns."""


def results_table(summary: Mapping[str, Any]) -> list[list[str]]:
    """The comparison as rows of text, with a head; accuracies in percent.

    Epsilons are there only where a method promises something under differential privacy; the last column, the number of
    seeds, only while methods differ in them.
    """
    methods = summary["methods"]
    metrics = [metric for metric in ACCURACIES if any(metric in method for method in methods.values())]
    heads = [ACCURACIES[metric] for metric in metrics]
    promises = promised(summary)
    uneven = len({tuple(method["seeds"]) for method in methods.values()}) > 1
    rows = [["method", *heads, "worst client", "groups", "ARI", "sent/client", "time"]]
    rows[0] += [*["epsilon"] * bool(promises), *["seeds"] * uneven]
    for name, method in methods.items():
        clusters = method["clusters"]
        ari = clusters["ari"] if clusters else None
        found = [f"{clusters['k']:g}" if clusters else "-", "-" if ari is None else f"{ari:.2f}"]
        worst, sent, seconds = method["own"]["worst"], method["bytes"]["client_up"], method["seconds"]
        accuracies = [_with_interval(method.get(metric)) for metric in metrics]
        rows.append([name, *accuracies, f"{worst:.1f}", *found, amount(sent), duration(seconds)])
        rows[-1] += [epsilon_in_words(promises[name], "inf")] if promises else []
        rows[-1] += [str(len(method["seeds"]))] * uneven
    return rows


def bare_table(summary: Mapping[str, Any]) -> list[list[str]]:
    """The accuracies without the class prior, with a head; empty where that changes no method's."""
    methods = summary["methods"].items()
    metrics = [metric for metric in ACCURACIES if any(f"{metric}_no_prior" in method for _, method in methods)]
    if all(method.get(m) == method.get(f"{m}_no_prior", method.get(m)) for _, method in methods for m in metrics):
        return []
    rows = [[name, *(_with_interval(method.get(f"{m}_no_prior")) for m in metrics)] for name, method in methods]
    return [["method", *(ACCURACIES[metric] for metric in metrics)], *rows]


def newcomers_table(summary: Mapping[str, Any]) -> list[list[str]]:
    """How many clients joined after training, on average over seeds, and their accuracies; with a head, or empty."""
    late = {name: method["newcomers"] for name, method in summary["methods"].items() if method.get("newcomers")}
    metrics = [metric for metric in ACCURACIES if any(metric in entry for entry in late.values())]
    rows = [
        [name, f"{entry['clients']:g}", *(_with_interval(entry.get(metric)) for metric in metrics)]
        for name, entry in late.items()
    ]
    return [["method", "clients", *(ACCURACIES[metric] for metric in metrics)], *rows] if rows else []


def differences_table(summary: Mapping[str, Any], method: str) -> list[list[str]]:
    """Paired differences of `method` against every other one, with a head, in percentage points.

    Of each metric: the mean, its two-sided 95 % interval, the one-sided 95 % lower bound, and the p-value, corrected
    for all methods of the column.
    """
    of = {metric: comparison.differences(summary, method, metric) for metric in comparison.COMPARED}
    rows = [
        [other, *(cell for gaps in of.values() for cell in _difference(gaps.get(other)))]
        for other in summary["methods"]
        if any(other in gaps for gaps in of.values())
    ]
    heads = [cell for metric in comparison.COMPARED for cell in (ACCURACIES[metric], "95 % interval", "at least", "p")]
    return [["against", *heads], *rows] if rows else []


def power_notes(summary: Mapping[str, Any], method: str) -> list[str]:
    """What the seeds of `differences_table` cannot see: a line for each metric, or one for all."""
    return comparison.power_notes(
        {ACCURACIES[m]: comparison.differences(summary, method, m).values() for m in comparison.COMPARED}
    )


def print_results(summary: Mapping[str, Any], report: Path, against: str | None = None) -> None:
    """The tables of a run, what is missing, and where the report is.

    Args:
        summary: content of ``summary.json``.
        report: the report's path.
        against: the method whose paired differences to all others are shown; None leaves them out.
    """
    seeds = summary["seeds"]
    named = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    typer.echo(f"\n{summary['dataset']}, model {summary['backbone']}, {counted(summary['rounds'], 'round')}, {named}")
    note = "one seed: no intervals" if len(seeds) == 1 else "+- half a 95 % interval over seeds"
    print_block(f"accuracy in %, mean over clients ({note})", results_table(summary))
    if any((method["clusters"] or {}).get("ari") is not None for method in summary["methods"].values()):
        typer.echo("ARI: agreement of groups with the true ones where several are used; 1 is the same, 0 chance")
    if not summary.get("seconds", {"comparable": True})["comparable"]:
        typer.echo(f"time: not to be compared, {summary['seconds']['why']}")
    for line in (*decisions(summary), *in_words(summary), *privacy_figures.in_words(summary)):
        typer.echo(line)
    print_block("without class prior", bare_table(summary))
    print_block("newcomers: clients that joined after training, and are in no figure above", newcomers_table(summary))
    if against is not None:
        about = "at least: one-sided 95 % bound; p: paired t test, Holm-corrected"
        print_block(
            f"{against} minus the others, in points, paired by seed ({about})", differences_table(summary, against)
        )
        for note in power_notes(summary, against):
            typer.echo(note)
    if published := summary.get("published"):
        print_published(published)
    if missing := summary.get("missing"):
        typer.echo(f"\nmissing: {len(missing)} of {len(missing) + _cells(summary)} methods x seeds")
        for cell in missing:
            typer.echo(f"  {cell['method']}, seed {cell['seed']}: {cell['error'] or 'not finished'}")
    typer.echo(f"\nReport: {report.resolve()}")


def published_table(entry: Mapping[str, Any]) -> list[list[str]]:
    """The entry ``published`` of a summary as rows of text, with a head; empty if no method of it was run."""
    noise = any(ours["noise"] for figure in entry["figures"] for ours in figure["ours"])
    rows = [["method", "called there", "accuracy", "theirs", "here", "difference"]]
    rows[0] += ["epsilon printed", "epsilon here"] * noise
    for figure in entry["figures"]:
        for ours in figure["ours"]:
            names = [ours["label"], figure["called"]]
            epsilons = [word or "-" for word in published_figures.epsilons(figure, ours, "inf")] * noise
            for name, found in ours["accuracies"].items():
                mean, theirs = None if found["mean"] is None else found, f"{found['theirs']:.2f}"
                gap = "-" if mean is None else signed(found["difference"])
                cells = [published_figures.ACCURACIES[name], theirs, _with_interval(mean), gap]
                rows.append([*names, *cells, *epsilons])
                names, epsilons = ["", ""], ["", ""] * noise
    return rows if len(rows) > 1 else []


def print_published(entry: Mapping[str, Any]) -> None:
    """Published figures with what the run has beside them, and the settings that differ."""
    typer.echo(f"\nbeside published figures: {entry['source']}\n{entry['table']} ({entry['url']})")
    print_block("accuracy in %, mean over clients; difference: here minus theirs, in points", published_table(entry))
    for line in (*published_figures.remarks(entry), *published_figures.notes(entry)):
        typer.echo(line)
    if about := published_figures.settings_in_words(entry):
        typer.echo(about)
    rows = published_figures.settings_rows(entry)
    print_block("", [["setting", "theirs", "here", "methods"], *map(list, rows)] if rows else [])


def decisions(summary: Mapping[str, Any]) -> list[str]:
    """Why one group is used where groups were looked for, a line for each; methods that say the same share it."""
    found: dict[str, list[str]] = {}
    for name, method in summary["methods"].items():
        told = (method["clusters"] or {}).get("decisions", [""] * len(method["seeds"]))
        for seed, why in zip(method["seeds"], map(ascii_signs, told), strict=True):
            if why.endswith(": one group used"):
                found.setdefault(why if len(summary["seeds"]) == 1 else f"seed {seed}: {why}", []).append(name)
    return [f"{', '.join(names)}: {why}" for why, names in found.items()]


def print_block(title: str, rows: Sequence[Sequence[str]]) -> None:
    """A table with a head below a title; nothing where there are no rows."""
    if rows:
        typer.echo(f"\n{title}\n" if title else "")
        head, *lines = aligned(rows)
        typer.secho(head, bold=True)
        for line in lines:
            typer.echo(line)


def _cells(summary: Mapping[str, Any]) -> int:
    return sum(len(method["seeds"]) for method in summary["methods"].values())


def _with_interval(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "-"
    interval = figure["ci95"]
    return f"{figure['mean']:.1f}" + (f" +-{(interval[1] - interval[0]) / 2:.1f}" if interval else "")


def _difference(gap: Estimate | None) -> tuple[str, str, str, str]:
    if gap is None:
        return "-", "-", "-", "-"
    span = f"{signed(gap.interval[0])} to {signed(gap.interval[1])}" if gap.interval else "-"
    bound = "-" if gap.bound is None else signed(gap.bound)
    return signed(gap.mean), span, bound, "-" if gap.p is None else p_value(gap.p)


def signed(value: float) -> str:
    """A difference in points, in plain ASCII for terminals; none that rounds to zero has a sign."""
    return ascii_signs(points(value, signed=True))


def ascii_signs(text: str) -> str:
    """`text` with signs that every terminal has."""
    return text.replace("\N{MINUS SIGN}", "-").replace("\N{PLUS-MINUS SIGN}", "+-")
