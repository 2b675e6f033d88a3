"""The content of ``sweep.json``: every figure at every point, and where another method beats the reference.

A difference is ``method - reference`` in percentage points, paired by seed. Its p-value is corrected (Holm) for all
differences of that metric at all points. A method beats the reference in a metric where the 95 % interval of the
difference is above 0; variants of the reference's own method are no rivals, though their differences are there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from secfpp.experiment.report.comparison import METRICS, Estimate, estimates, paired
from secfpp.experiment.results.significance import holm, paired_p
from secfpp.experiment.results.statistics import t_interval
from secfpp.experiment.sweep.points import Point, Sweep

FORMAT = "secfpp-sweep-1"
CLAIMED = ("own", "own_domain")
"""The metrics in which methods are compared."""
BARE = "_no_prior"
"""Behind the key of a metric: without the class prior."""
ZERO = 1e-9
Summary = Mapping[str, Any]


def gather(sweep: Sweep, summaries: Mapping[str, Summary]) -> dict[str, Any]:
    """The content of ``sweep.json``.

    Args:
        sweep: what was asked for.
        summaries: folder of a comparison -> content of its ``summary.json``, of those that have begun.

    Returns:
        ``format``, ``reference``, ``methods``, ``seeds``, ``metrics``; ``axes``, each with ``name``, ``labels``,
        ``values`` (null unless all are numbers) and ``of`` (``method`` or ``run``); ``points``, see below;
        ``missing``, the cells that are not finished; ``claim``: in what the reference is ``beaten`` at how
        many ``of`` the points that have an interval for a difference to a rival.

        A point has ``at`` (axis -> label), ``directory``, ``reference`` (its name there), ``dataset``, ``methods``,
        ``differences`` and ``beaten``. A method has ``label`` (its name in that directory), ``rival`` (whether it is
        another method than the reference) and ``figures``: metric -> ``mean``, ``ci95``, ``per_seed`` in percent. A
        difference has ``method``, ``metric``, ``mean``, ``ci95``, ``per_seed``, ``p`` and ``p_holm``. ``beaten`` has
        for each of `BEATEN` the methods that beat the reference.
    """
    points = [_point(point, sweep, summaries.get(point.place)) for point in sweep.points]
    _correct(points)
    for point in points:
        point["beaten"] = _beaten(point)
    found = {key for point in points for row in point["methods"].values() for key in row["figures"]}
    return {
        "format": FORMAT,
        "reference": sweep.reference,
        "methods": list(sweep.methods),
        "seeds": list(sweep.seeds),
        "metrics": [f"{metric.key}{end}" for end in ("", BARE) for metric in METRICS if f"{metric.key}{end}" in found],
        "axes": [
            {
                "name": axis.name,
                "labels": list(axis.labels),
                "values": None if axis.numbers is None else list(axis.numbers),
                "of": "method" if axis.of_method else "run",
            }
            for axis in sweep.axes
        ],
        "points": points,
        "missing": _missing(sweep, summaries),
        "claim": {key: _claim(points, key) for key in BEATEN},
    }


BEATEN = (*CLAIMED, "both", *(f"{key}{BARE}" for key in (*CLAIMED, "both")))
"""What a point says of the reference: which methods beat it in what."""


def _point(point: Point, sweep: Sweep, summary: Summary | None) -> dict[str, Any]:
    """A point as ``sweep.json`` has it, but for what depends on all points."""
    rows = _rows(point, sweep, summary) if summary else {}
    gaps = []
    for method in rows:
        for key in (f"{metric}{end}" for metric in CLAIMED for end in ("", BARE)):
            if method != sweep.reference in rows and (gap := paired(rows, method, sweep.reference, key)):
                p = paired_p(list(gap.per_seed.values()))
                gaps.append({"method": method, "metric": key, **_table(gap), "p": p})
    return {
        "at": dict(point.at),
        "directory": f"points/{point.place}",
        "reference": point.labels[sweep.reference],
        "dataset": summary["dataset"] if summary else None,
        "methods": {
            method: {
                "label": point.labels[method],
                "rival": sweep.algorithms[method] != sweep.algorithms[sweep.reference],
                "figures": {key: _table(figure) for key, figure in row.items()},
            }
            for method, row in rows.items()
        },
        "differences": gaps,
    }


def _rows(point: Point, sweep: Sweep, summary: Summary) -> dict[str, dict[str, Estimate]]:
    """Method -> metric -> figure on the seeds of the sweep; nothing of methods that are not finished on any."""
    known = estimates(summary, ())
    rows: dict[str, dict[str, Estimate]] = {}
    for method in sweep.methods:
        for key, figure in known.get(point.labels[method], {}).items():
            values = {seed: figure.per_seed[seed] for seed in sweep.seeds if seed in figure.per_seed}
            if values:
                numbers = list(values.values())
                rows.setdefault(method, {})[key] = Estimate(float(np.mean(numbers)), t_interval(numbers), values)
    return rows


def _table(figure: Estimate) -> dict[str, Any]:
    per_seed = {str(seed): value for seed, value in figure.per_seed.items()}
    return {"mean": figure.mean, "ci95": figure.interval and list(figure.interval), "per_seed": per_seed}


def _correct(points: Sequence[dict[str, Any]]) -> None:
    """Add ``p_holm`` to every difference; one that several points show is one test."""
    tests: dict[str, dict[tuple[str, ...], float | None]] = {}
    places = []
    for point in points:
        for gap in point["differences"]:
            test = point["directory"], point["methods"][gap["method"]]["label"], point["reference"]
            tests.setdefault(gap["metric"], {})[test] = gap["p"]
            places.append((gap, test))
    corrected = {metric: holm(of) for metric, of in tests.items()}
    for gap, test in places:
        gap["p_holm"] = corrected[gap["metric"]][test]


def _beaten(point: Mapping[str, Any]) -> dict[str, list[str]]:
    """Metric, or ``both`` -> the rivals that beat the reference."""
    found: dict[str, list[str]] = {key: [] for key in BEATEN}
    for gap in point["differences"]:
        if gap["ci95"] and gap["ci95"][0] > ZERO and is_rival(point, gap["method"]):
            found[gap["metric"]].append(gap["method"])
    for end in ("", BARE):
        own, domain = (found[f"{key}{end}"] for key in CLAIMED)
        found[f"both{end}"] = [method for method in own if method in domain]
    return found


def is_rival(point: Mapping[str, Any], method: str) -> bool:
    """Whether that method is another one than the reference, and no variant of it."""
    return bool(point["methods"][method]["rival"])


def _claim(points: Sequence[Mapping[str, Any]], key: str) -> dict[str, int]:
    """At how many of the points where it can be told the reference is beaten."""
    metric = key.replace("both", CLAIMED[0])
    told = [
        point
        for point in points
        if any(g["metric"] == metric and g["ci95"] and is_rival(point, g["method"]) for g in point["differences"])
    ]
    return {"beaten": sum(bool(point["beaten"][key]) for point in told), "of": len(told)}


def _missing(sweep: Sweep, summaries: Mapping[str, Summary]) -> list[dict[str, Any]]:
    """The cells that are not finished, with the error of those that failed."""
    found = []
    for place in sweep.places:
        summary = summaries.get(place.folder) or {"methods": {}, "missing": []}
        errors = {(cell["method"], cell["seed"]): cell["error"] for cell in summary["missing"]}
        for label in place.labels:
            done = summary["methods"].get(label, {"seeds": []})["seeds"]
            for seed in (seed for seed in sweep.seeds if seed not in done):
                cell = {"at": dict(place.at), "method": label, "seed": seed, "error": errors.get((label, seed))}
                found.append(cell)
    return found
