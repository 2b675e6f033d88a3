"""Result tables as text: for papers, and as CSV and JSON for programs; ``docs/compare.md`` tells of each."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from secfpp.experiment.report.comparison import Estimate
from secfpp.experiment.report.paper_tables import latex, markdown
from secfpp.experiment.report.tables import Column, Figure, ResultTable, Row

SCHEMA = "secfpp.table/1"
"""What JSON tables say they are; the number rises when a key goes or changes its meaning."""


@dataclass(frozen=True)
class Format:
    """How a table is written: the `ending` of its files, and what gives the text."""

    ending: str
    write: Callable[[ResultTable], str]


def csv_rows(table: ResultTable) -> str:
    """One line for each row and column that there is a figure of; what is not known is empty."""
    gaps = ("against", "difference", "difference_low", "difference_high", "p")
    lines: list[Sequence[object]] = [(*table.names, "metric", "unit", "mean", "low", "high", "seeds", "leads", *gaps)]
    for row, column, figure in _filled(table):
        value, gap = figure.value, figure.gap
        compared = (table.reference, gap.mean, *(gap.interval or ("", "")), gap.p) if gap else ("",) * len(gaps)
        known = (value.mean, *(value.interval or ("", "")), len(value.per_seed), figure.leads)
        lines.append((*row.labels, column.key, column.unit, *known, *compared))
    return _csv(lines)


def csv_by_seed(table: ResultTable) -> str:
    """One line for each row, column and seed: the value, and the difference on that seed."""
    lines: list[Sequence[object]] = [(*table.names, "metric", "unit", "seed", "value", "against", "difference")]
    for row, column, figure in _filled(table):
        gaps = figure.gap.per_seed if figure.gap else {}
        for seed, value in figure.value.per_seed.items():
            compared = (table.reference, gaps[seed]) if seed in gaps else ("", "")
            lines.append((*row.labels, column.key, column.unit, seed, value, *compared))
    return _csv(lines)


def as_json(table: ResultTable) -> str:
    """All of it, by the schema of ``docs/compare.md``."""
    content = {
        "schema": SCHEMA,
        "about": table.about,
        "labels": table.names,
        "reference": table.reference,
        "columns": [{"key": c.key, "title": c.title, "about": c.about, "unit": c.unit} for c in table.columns],
        "rows": [
            {
                "labels": dict(zip(table.names, row.labels, strict=True)),
                "seeds": row.seeds,
                "figures": {key: _json_figure(figure) for key, figure in row.figures.items()},
            }
            for row in table.rows
        ],
        "notes": table.notes,
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


FORMATS: Mapping[str, Format] = {
    "markdown": Format("md", markdown),
    "latex": Format("tex", latex),
    "csv": Format("csv", csv_rows),
    "json": Format("json", as_json),
}


def _filled(table: ResultTable) -> Iterator[tuple[Row, Column, Figure]]:
    return (
        (row, column, row.figures[column.key])
        for row in table.rows
        for column in table.columns
        if column.key in row.figures
    )


def _csv(lines: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def _json_figure(figure: Figure) -> dict[str, Any]:
    gap = figure.gap
    return {
        **_estimate(figure.value),
        "leads": figure.leads,
        "difference": {**_estimate(gap), "p": gap.p} if gap else None,
    }


def _estimate(value: Estimate) -> dict[str, Any]:
    return {
        "mean": _finite(value.mean),
        "ci95": list(value.interval) if value.interval else None,
        "per_seed": {str(seed): _finite(one) for seed, one in value.per_seed.items()},
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
