"""What a sweep found, as tables: for Markdown, the terminal, papers and programs. All are made from ``sweep.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from secfpp.experiment.report.comparison import METRICS, Estimate
from secfpp.experiment.report.tables import WITHOUT_PRIOR, Column, Figure, ResultTable, Row
from secfpp.experiment.results.text import counted, p_value, points
from secfpp.experiment.sweep.figures import BARE, CLAIMED, is_rival

DASH = "\N{EN DASH}"
Content = Mapping[str, Any]
Rows = list[list[str]]


def title(key: str) -> str:
    """The name of a metric."""
    known = {metric.key: metric.title for metric in METRICS}
    return known[key.removesuffix(BARE)] + (", no prior" if key.endswith(BARE) else "")


def about(key: str) -> str:
    """What a metric says, in a few words."""
    known = {metric.key: metric.about for metric in METRICS}
    return known[key.removesuffix(BARE)] + ("; without the class prior" if key.endswith(BARE) else "")


def differs(content: Content, key: str) -> bool:
    """Whether any method has another figure without the class prior."""
    rows = [row["figures"] for point in content["points"] for row in point["methods"].values()]
    return any(f"{key}{BARE}" in row and row[f"{key}{BARE}"] != row.get(key) for row in rows)


def metrics(content: Content) -> list[str]:
    """The metrics in which methods are compared, each also without the class prior where that is another figure."""
    found = [key for key in CLAIMED if key in content["metrics"]]
    return [*found, *(f"{key}{BARE}" for key in found if differs(content, key))]


def headline(content: Content) -> str:
    """What is compared, in a few words."""
    others = counted(len(content["methods"]) - 1, "other method")
    return f"{content['reference']} and {others} at {counted(len(content['points']), 'point')}"


def claim(content: Content) -> list[str]:
    """Whether any other method beats the reference, in sentences."""
    if not any(entry["of"] for entry in content["claim"].values()):
        return ["No other method can be compared by differences yet: that takes two seeds of both."]
    found = []
    for key, entry in content["claim"].items():
        what = (
            title(key) if key in content["metrics"] else "Both at once" + (", no prior" if key.endswith(BARE) else "")
        )
        at = [(point, point["beaten"][key]) for point in content["points"] if point["beaten"][key]]
        where = "; ".join(f"{place(point)} ({', '.join(methods)})" for point, methods in at)
        told = f"{what}: {content['reference']} is beaten at {entry['beaten']} of {counted(entry['of'], 'point')}"
        found += [told + (f": {where}." if at else ".")] if entry["of"] else []
    return found


def missing(content: Content) -> str:
    """What is not finished, as a sentence; empty if nothing."""
    cells = content["missing"]
    failed = sum(cell["error"] is not None for cell in cells)
    told = f"Not finished: {len(cells)} methods x seeds" + (f", {failed} of which failed" if failed else "")
    return f"{told}. The same command goes on." if cells else ""


def place(point: Content) -> str:
    """The values of a point."""
    return ", ".join(f"{name}={label}" for name, label in point["at"].items())


def overview(content: Content) -> Rows:
    """For each point: the reference, and the rival that is nearest to it or furthest above, in each metric compared."""
    keys = metrics(content)
    names = [axis["name"] for axis in content["axes"]]
    rows = [[*names, *(cell for key in keys for cell in (title(key), "best other, points more"))]]
    for point in content["points"]:
        own = point["methods"].get(content["reference"], {"figures": {}})["figures"]
        row = [point["at"][name] for name in names]
        for key in keys:
            rivals = [gap for gap in point["differences"] if gap["metric"] == key and is_rival(point, gap["method"])]
            best = max(rivals, key=lambda gap: float(gap["mean"]), default=None)
            row += [figure(own.get(key)), f"{best['method']} {difference(best)}" if best else DASH]
        rows.append(row)
    return rows


def matrix(content: Content, key: str) -> Rows:
    """One metric: points in rows, methods in columns."""
    names = [axis["name"] for axis in content["axes"]]
    rows = [[*names, *content["methods"]]]
    for point in content["points"]:
        figures = [point["methods"].get(method, {"figures": {}})["figures"].get(key) for method in content["methods"]]
        rows.append([*(point["at"][name] for name in names), *map(figure, figures)])
    return rows


def gaps(content: Content, key: str) -> Rows:
    """Differences to the reference in one metric: points in rows, the other methods in columns; empty without any."""
    names = [axis["name"] for axis in content["axes"]]
    others = [method for method in content["methods"] if method != content["reference"]]
    rows = [[*names, *others]]
    for point in content["points"]:
        found = {gap["method"]: gap for gap in point["differences"] if gap["metric"] == key}
        rows.append([*(point["at"][name] for name in names), *(difference(found.get(method)) for method in others)])
    return rows if others else []


def figure(entry: Content | None) -> str:
    """A figure in percent, with half its 95 % interval."""
    if entry is None:
        return DASH
    half = "" if entry["ci95"] is None else f" ±{(entry['ci95'][1] - entry['ci95'][0]) / 2:.1f}"
    return points(entry["mean"]) + half


def difference(gap: Content | None) -> str:
    """A difference in points, its interval, and its corrected p-value."""
    if gap is None:
        return DASH
    if gap["ci95"] is None:
        return points(gap["mean"], signed=True)
    low, high = (points(end, signed=True) for end in gap["ci95"])
    return f"{points(gap['mean'], signed=True)} ({low} to {high}), p {p_value(gap['p_holm'])}"


def markdown(content: Content) -> str:
    """``sweep.md``."""
    seeds = ", ".join(map(str, content["seeds"]))
    parts = [f"# {headline(content)}"]
    parts += [f"Accuracy in percent, means over clients and seeds {seeds}; ± is half a 95 % interval over seeds."]
    parts += [*([missing(content)] if content["missing"] else []), "\n".join(f"* {line}" for line in claim(content))]
    parts += [f"## {content['reference']} and the best other method", _block(overview(content))]
    for key in metrics(content):
        parts += [f"## {title(key)}", _block(matrix(content, key))]
        if rows := gaps(content, key):
            about = (
                f"More than {content['reference']}, in points, paired by seed; p after Holm's correction for the table:"
            )
            parts += [about, _block(rows)]
    return "\n\n".join(parts) + "\n"


def as_result_table(content: Content) -> ResultTable:
    """All of it as one table for `secfpp.experiment.report.table_formats`: a row for each point and method.

    Its differences are the reference minus the method, as in tables of one comparison.
    """
    names = tuple(axis["name"] for axis in content["axes"])
    rows, blocks, shown = [], {}, metrics(content)
    for point in content["points"]:
        at = tuple(point["at"][name] for name in names)
        found = {(gap["method"], gap["metric"]): gap for gap in point["differences"]}
        for method, row in point["methods"].items():
            figures = {
                key: Figure(_estimate(entry), _turned(found.get((method, key))))
                for key, entry in row["figures"].items()
            }
            seeds = sorted({int(seed) for entry in row["figures"].values() for seed in entry["per_seed"]})
            rows.append(Row((*at, method), tuple(seeds), figures))
        blocks[place(point)] = {"dataset": point["dataset"], "seeds": content["seeds"]}
    columns = [
        Column(key, title(key), about(key), "%", key in shown, WITHOUT_PRIOR if key.endswith(BARE) else "")
        for key in content["metrics"]
        if not key.endswith(BARE) or differs(content, key.removesuffix(BARE))
    ]
    reference = content["reference"]
    notes = [
        f"Accuracy in percent, mean over clients and seeds {', '.join(map(str, content['seeds']))}, ± half of "
        "the 95 % t interval over seeds.",
        f"Differences: {reference} minus the method, in points, paired by seed; p: of two-sided paired t tests, after "
        "Holm's correction for all methods at all points.",
        *([missing(content)] if content["missing"] else []),
        *claim(content),
    ]
    return ResultTable((*names, "method"), tuple(columns), tuple(rows), reference, blocks, tuple(notes))


def _estimate(entry: Content, sign: int = 1) -> Estimate:
    ends = sorted(sign * end for end in entry["ci95"] or ())
    return Estimate(
        sign * entry["mean"],
        (ends[0], ends[1]) if ends else None,
        {int(seed): sign * value for seed, value in entry["per_seed"].items()},
        p=entry.get("p_holm"),
    )


def _turned(gap: Content | None) -> Estimate | None:
    """A difference of a sweep, ``method - reference``, the other way round."""
    return None if gap is None else _estimate(gap, -1)


def _block(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, with a head."""
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
