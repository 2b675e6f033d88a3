"""What commands print: aligned plain text for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from secfpp.experiment.text import amount, duration


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


def results_table(summary: Mapping[str, Any]) -> list[list[str]]:
    """The comparison as rows of text, with a head; accuracies in percent."""
    from secfpp.experiment.report import METRICS

    methods = summary["methods"]
    metrics = {key: title for key, (title, _) in METRICS.items() if all(key in method for method in methods.values())}
    rows = [
        ["method", *(t.lower() for t in metrics.values()), "worst client", "clusters", "ARI", "sent/client", "time"]
    ]
    for name, method in methods.items():
        clusters = method["clusters"]
        found = [f"{clusters['k']:g}", f"{clusters['ari']:.2f}"] if clusters else ["-", "-"]
        accuracies = [_with_interval(method[metric]) for metric in metrics]
        worst, sent, seconds = method["own"]["worst"], method["bytes"]["client_up"], method["seconds"]
        rows.append([name, *accuracies, f"{worst:.1f}", *found, amount(sent), duration(seconds)])
    return rows


def print_results(summary: Mapping[str, Any], out: Path) -> None:
    """The table of a finished run, and where to look."""
    seeds = summary["seeds"]
    named = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    typer.echo(f"\n{summary['dataset']}, model {summary['backbone']}, {summary['rounds']} rounds, {named}")
    note = "one seed: no intervals" if len(seeds) == 1 else "+- half a 95 % interval over seeds"
    typer.echo(f"accuracy in %, mean over clients ({note})\n")
    head, *rows = aligned(results_table(summary))
    typer.secho(head, bold=True)
    for row in rows:
        typer.echo(row)
    typer.echo(f"\nReport: {(out / 'report.html').resolve()}")


def _with_interval(figure: Mapping[str, Any]) -> str:
    interval = figure["ci95"]
    return f"{figure['mean']:.1f}" + (f" +-{(interval[1] - interval[0]) / 2:.1f}" if interval else "")
