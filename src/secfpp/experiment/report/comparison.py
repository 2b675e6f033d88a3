"""What a report says of methods against each other: estimates over seeds, paired differences, the headline."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from secfpp.experiment.results.security_costs import is_twin
from secfpp.experiment.results.significance import detectable, holm, paired_p
from secfpp.experiment.results.statistics import t_interval
from secfpp.experiment.results.text import points

if TYPE_CHECKING:
    from secfpp.runtime.trainer import RunResult

Summary = Mapping[str, Any]


@dataclass(frozen=True)
class Metric:
    """A column of the comparison: its key in the estimates, a `title`, and `about` it in a few words."""

    key: str
    title: str
    about: str


WORST = "worst"
METRICS = (
    Metric("own", "Own", "accuracy on the client's own mix of classes, in its own domain"),
    Metric("own_domain", "Own domain", "accuracy on all classes alike, in the client's own domain"),
    Metric("other_domains", "Other domains", "accuracy on all classes alike, in domains the client never saw"),
    Metric(
        "neighbour", "Neighbour", "accuracy on the classes of the other clients of its domain, none of which it has"
    ),
    Metric(WORST, "Worst client", "own accuracy of the client that has the lowest"),
)
COMPARED = ("own", "own_domain")
"""Keys of those in which tables compare methods seed by seed, unless asked for others."""


@dataclass(frozen=True)
class Estimate:
    """A figure over seeds.

    Attributes:
        mean: over seeds.
        interval: 95 % t interval; None for one seed.
        per_seed: seed -> value.
        bound: one-sided 95 % lower bound, where known.
        p: of a difference, the two-sided p-value of its paired t test, after Holm's correction for all methods that it
            is shown with; None where there is no test.
    """

    mean: float
    interval: tuple[float, float] | None
    per_seed: Mapping[int, float]
    bound: float | None = None
    p: float | None = None

    @property
    def span(self) -> str:
        """The interval as text; empty without one."""
        return f"{points(self.interval[0])} to {points(self.interval[1])}" if self.interval else ""


Estimates = Mapping[str, Mapping[str, Estimate]]
"""Method -> key -> estimate; a key is missing where a method has no such figure."""


def estimates(summary: Summary, results: Sequence[RunResult]) -> dict[str, dict[str, Estimate]]:
    """Every metric of every method in ``summary.json``, and the worst client's own accuracy."""
    found: dict[str, dict[str, Estimate]] = {}
    for name, method in summary["methods"].items():
        found[name] = {
            key: Estimate(
                entry["mean"], _pair(entry["ci95"]), dict(zip(method["seeds"], entry["per_seed"], strict=True))
            )
            for key, entry in method.items()
            if isinstance(entry, Mapping) and "per_seed" in entry
        }
        worst = {r.seed: _lowest(r.metrics["own"]) for r in results if r.method == name and "own" in r.metrics}
        if worst and all(map(math.isfinite, worst.values())):
            values = list(worst.values())
            found[name][WORST] = Estimate(float(np.mean(values)), t_interval(values), worst)
    return found


def shown(table: Estimates) -> list[Metric]:
    """Those of `METRICS` that at least one method has."""
    return [metric for metric in METRICS if any(metric.key in row for row in table.values())]


def changed_by_prior(table: Estimates, metrics: Sequence[Metric]) -> list[Metric]:
    """Those of `metrics` whose figure is another one without the class prior, for any method."""

    def differs(row: Mapping[str, Estimate], key: str) -> bool:
        return f"{key}_no_prior" in row and (key not in row or row[key].mean != row[f"{key}_no_prior"].mean)

    return [metric for metric in metrics if any(differs(row, metric.key) for row in table.values())]


def ranking(table: Estimates, key: str) -> list[str]:
    """Methods by their mean of `key`, best first, on the seeds that all of them have (if there are such)."""
    values = {name: row[key].per_seed for name, row in table.items() if key in row}
    common = set.intersection(*map(set, values.values())) if values else set()
    means = {name: float(np.mean([of[seed] for seed in common or of])) for name, of in values.items()}
    return sorted(means, key=lambda name: -means[name])


def unfinished(summary: Summary) -> dict[str, list[int]]:
    """Methods that lack seeds, and which: those the summary calls ``missing``, and those that only others have."""
    lacking = {name: set(summary["seeds"]) - set(m["seeds"]) for name, m in summary["methods"].items()}
    for cell in summary.get("missing", ()):
        lacking.setdefault(cell["method"], set()).add(cell["seed"])
    return {name: sorted(seeds) for name, seeds in lacking.items() if seeds}


def reference(summary: Summary, table: Estimates, config_toml: str) -> str | None:
    """The method to compare the others with: the settings' ``[method]``, or else the best on ``own``."""
    try:
        named = tomllib.loads(config_toml).get("method")
    except tomllib.TOMLDecodeError:
        named = None
    name = named.get("name") if isinstance(named, Mapping) else None
    if isinstance(name, str) and name in summary["methods"]:
        return name
    return next(iter([*ranking(table, "own"), *summary["methods"]]), None)


def differences(summary: Summary, method: str, key: str) -> dict[str, Estimate]:
    """Paired differences of `method` to every other one, ``method - other`` in points, by the other's name.

    Their p-values are corrected for each other (Holm): they are all that is said of this metric.
    """
    found: dict[str, Estimate] = {}
    for entry in summary["differences"]:
        if entry["metric"] != key or method not in (entry["method"], entry["against"]):
            continue
        sign = 1 if entry["method"] == method else -1
        interval = _pair(entry["ci95"])
        bound = entry.get("lower95" if sign > 0 else "upper95")
        found[entry["against"] if sign > 0 else entry["method"]] = Estimate(
            sign * entry["mean"],
            interval if interval is None or sign > 0 else (-interval[1], -interval[0]),
            {seed: sign * value for seed, value in zip(entry["seeds"], entry["per_seed"], strict=True)},
            None if bound is None else sign * bound,
        )
    return corrected({name: found[name] for name in summary["methods"] if name in found})


def corrected(gaps: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """`gaps`, all paired differences that are said of one metric, with p-values that are corrected for each other."""
    p_values = holm({name: paired_p(list(gap.per_seed.values())) for name, gap in gaps.items()})
    return {name: replace(gap, p=p_values[name]) for name, gap in gaps.items()}


def power_note(figures: Iterable[Estimate]) -> str:
    """What the seeds of some paired differences cannot see, as a sentence; empty without any difference."""
    gaps = [list(figure.per_seed.values()) for figure in figures]
    if not gaps:
        return ""
    if max(map(len, gaps)) < 2:
        return "One seed: nothing can be said about differences, neither that there are any nor that there are none."
    least = sorted(found for of in gaps if (found := detectable(of)) is not None)
    if not least:
        return ""
    seeds = " or ".join(map(str, sorted({len(of) for of in gaps if len(of) > 1})))
    low, high = points(least[0]), points(least[-1])
    span = f"{high} points" if low == high else f"{low} to {high} points, by pair,"
    return f"With these {seeds} seeds, true differences under {span} are seen in less than 80 % of such comparisons."


def power_notes(figures: Mapping[str, Iterable[Estimate]]) -> list[str]:
    """`power_note` of the paired differences of each metric, by its title: a line for each, or one for all."""
    notes = {title: power_note(gaps) for title, gaps in figures.items()}
    if len(set(notes.values())) == 1:
        return [note for note in list(notes.values())[:1] if note]
    return [f"{title}: {note}" for title, note in notes.items() if note]


def paired(table: Estimates, method: str, other: str, key: str) -> Estimate | None:
    """``method - other`` in `key` on the seeds that both have; None where there are none."""
    of, against = (table[name][key].per_seed if key in table[name] else {} for name in (method, other))
    gaps = {seed: of[seed] - against[seed] for seed in of if seed in against}
    return Estimate(float(np.mean(list(gaps.values()))), t_interval(list(gaps.values())), gaps) if gaps else None


def leader(table: Estimates, key: str) -> str | None:
    """The method that is ahead of every other in `key`; None where that may be chance.

    It is ahead if the 95 % interval of the paired difference over seeds is above 0, so that one seed names nobody. A
    method's twin in the clear is no rival, and only one of the two can be named.
    """
    ranked = [name for name in ranking(table, key) if not is_twin(name, table)]
    rivals = [name for name in table if name not in ranked[:1] and not is_twin(name, table)]
    if not rivals or not ranked:
        return None
    return None if any(_unsettled(paired(table, ranked[0], name, key)) for name in rivals) else ranked[0]


def headline(table: Estimates) -> tuple[str, str]:
    """A title and a sentence: which method is ahead on ``own``, by how much, and how sure that is.

    Nobody is said to lead where it may be chance, with the class prior or without it.
    """
    ranked = [name for name in ranking(table, "own") if not is_twin(name, table)]
    if not ranked:
        return "Nothing to compare yet", "No method has been measured on its clients' own data."
    best, value = ranked[0], table[ranked[0]]["own"]
    if len(ranked) == 1:
        return f"{best} reaches {value.mean:.1f} % on its clients' own data", _certainty(value)
    # Of the rivals the first that may be level, or else the next best.
    rival = next((name for name in ranked[1:] if _unsettled(paired(table, best, name, "own"))), ranked[1])
    gap, both = paired(table, best, rival, "own"), f"{value.mean:.1f} %, {rival} {table[rival]['own'].mean:.1f} %"
    if gap is None:
        title = f"{best} reaches {both} on clients' own data"
        return title, "They ran on different seeds, which differ in data too: no fair comparison yet."
    if gap.interval is None:
        return f"{best} {both} on clients' own data: one seed names no leader", _certainty(gap)
    span = f"{points(gap.interval[0], True)} to {points(gap.interval[1], True)}"
    told = f"Paired over {len(gap.per_seed)} seeds the difference is {points(gap.mean, True)} points"
    told = f"{told} (95 % interval {span})"
    if _unsettled(gap):
        title = (
            f"{best} and {rival} are level on clients' own data: {value.mean:.1f} and {table[rival]['own'].mean:.1f} %"
        )
        return title, f"{told}, so the order of the two is not settled."
    if changed_by_prior(table, METRICS[:1]) and leader(table, "own_no_prior") != best:
        title = f"{best} is ahead on clients' own data with the class prior only: {both}"
        return title, f"{told}. Without the class prior it is not, so no method is said to lead."
    title = f"{best} leads on clients' own data: {value.mean:.1f} %, {gap.mean:.1f} points above {rival}"
    return title, f"{told}, so the choice of seeds does not explain it."


def _unsettled(gap: Estimate | None) -> bool:
    """Whether a lead may be chance, or is too small to be seen in the figures."""
    return gap is None or gap.interval is None or gap.interval[0] <= 0 or gap.mean < 0.05


def _certainty(figure: Estimate) -> str:
    if figure.interval is None:
        return (
            f"This is one seed ({next(iter(figure.per_seed))}), so no interval can be given: a gap of a point or two "
            "may be chance. Several seeds settle it."
        )
    return f"Over {len(figure.per_seed)} seeds the 95 % interval is {figure.span}."


def _lowest(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.min()) if len(known) else math.nan


def _pair(interval: Sequence[float] | None) -> tuple[float, float] | None:
    return None if interval is None else (float(interval[0]), float(interval[1]))
