"""What a report shows of why clients were grouped as they were: charts and a table for each method that says so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from secfpp.experiment.report import plots
from secfpp.experiment.report.client_map import Cell, heat
from secfpp.experiment.report.plots import Dot, Scale
from secfpp.experiment.report.some_clients import drawn
from secfpp.experiment.results.explained import LEVELS, Client, Members, Why, group_name
from secfpp.experiment.results.text import points

if TYPE_CHECKING:
    from secfpp.runtime.trainer import RunResult

LONG = 40
"""Charts with more rows than this scroll in their place."""


@dataclass(frozen=True)
class LevelTable:
    """Accuracy by level: its heads, and a row of cells by group."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, int, tuple[Cell, ...]], ...]


@dataclass(frozen=True)
class Explained:
    """Why one method's groups are as they are.

    Attributes:
        methods: its label, and those of methods that say the very same.
        verdict: in words, over all seeds.
        runs: one per seed; the charts are of the first, but for kappa.
        gains: what the group is worth to each client, by group; None where nobody knows.
        long: whether that may have many rows.
        candidates: scores of the numbers of groups that were tried; None if none were compared.
        kappa: on every seed, beside what chance gives; None without any.
        levels: what each level gives, the groups as small dots.
        table: the same by group.
    """

    methods: tuple[str, ...]
    verdict: str
    runs: tuple[Why, ...]
    gains: Markup | None
    long: bool
    candidates: Markup | None
    kappa: Markup | None
    levels: Markup | None
    table: LevelTable


def explained(results: Sequence[RunResult], reference: str | None = None) -> list[Explained]:
    """Every method that says why, the `reference` first; those that say the same are one."""
    found: list[tuple[tuple[Why, ...], list[str]]] = []
    labels = dict.fromkeys(result.method for result in results)
    for label in sorted(labels, key=lambda name: name != reference):
        runs = tuple(why for r in results if r.method == label and (why := Why.of(r)))
        same = next((names for known, names in found if known == runs), None)
        if same:
            same.append(label)
        elif runs:
            found.append((runs, [label]))
    return [_explained(tuple(names), runs) for runs, names in found]


def _explained(methods: tuple[str, ...], runs: tuple[Why, ...]) -> Explained:
    first = runs[0]
    verdict = first.verdict
    if len(runs) > 1:
        verdict = f"groups are used on {sum(run.useful for run in runs)} of {len(runs)} seeds"
    return Explained(
        methods,
        verdict[:1].upper() + verdict[1:],
        runs,
        _gains(first),
        len(first.clients) + len(first.groups) > LONG,
        _candidates(first),
        _kappa(runs),
        _levels(first),
        _table(first),
    )


def _gains(run: Why) -> Markup | None:
    """A row per client that is shown below its group's mean, and all clients' mean on top, with one-sided bounds.

    A group of one client is one row.
    """
    everybody = run.everybody
    if everybody.gain is None:
        return None
    error = run.test.error if run.test else 0.05
    rows = [_mean_gain("all clients", everybody, error)]
    members_of = {client.client: str(number) for number, of in run.groups.items() for client in of.clients}
    shown = drawn(list(members_of), list(members_of.values()))
    for number, members in run.groups.items():
        if len(members.clients) == 1:
            rows.append(_mean_gain(f"{group_name(number)}: {members.clients[0].client}", members, error))
        else:
            own = [client for client in members.clients if client.client in shown]
            rows += [_mean_gain(group_name(number), members, error), *map(_client_gain, own)]
    margin = run.test.margin if run.test else None
    known = [end for row in rows if row.value is not None for end in (row.value, *(row.interval or ()))]
    scale = Scale.around([*known, 0.0, *([] if margin is None else [margin])])
    title = "Gain by the group, points" + ("" if margin is None else f" ({margin:g} asked for)")
    return plots.intervals(title, rows, scale, mark=margin, head=True)


def _mean_gain(name: str, members: Members, error: float) -> Dot:
    """A mean with a bar that begins at its one-sided bound."""
    if members.gain is None:
        return Dot(name, kind="mean")
    low = members.least_gain(error)
    note = "" if low is None else f"at least {points(low, True)}"
    interval = None if low is None else (low, members.gain)
    return Dot(name, members.gain, points(members.gain, True), note, interval, kind="mean")


def _client_gain(client: Client) -> Dot:
    if client.gain is None:
        return Dot(client.client, kind="one")
    return Dot(client.client, client.gain, points(client.gain, True), kind="one")


def _candidates(run: Why) -> Markup | None:
    """Scores, with the agreement that chance may give as a bar that ends at zero."""
    if not run.candidates:
        return None
    rows = []
    for one in run.candidates:
        noise = (-one.allowance, 0.0) if one.k > 1 and one.allowance > 0 else None
        name = "1 group" if one.k == 1 else f"{one.k} groups"
        rows.append(Dot(name, one.score, points(one.score, True), "", noise, kind="best" if one.k == run.best else ""))
    ends = [end for row in rows for end in (row.value or 0.0, *(row.interval or ()))]
    return plots.intervals("Agreement beyond chance", rows, Scale.around(ends, about=4))


def _kappa(runs: Sequence[Why]) -> Markup | None:
    rows, values = [], [0.0]
    for run in runs:
        name = f"seed {run.seed}" if len(runs) > 1 else "kappa"
        if run.kappa is None:
            rows.append(Dot(name, note="one group"))
            continue
        values += [run.kappa, *run.kappa_null]
        chance = f"chance up to {points(max(run.kappa_null), digits=2)}" if run.kappa_null else ""
        rows.append(Dot(name, run.kappa, points(run.kappa, digits=2), chance, None, run.kappa_null, kind="best"))
    if all(run.kappa is None for run in runs):
        return None
    return plots.intervals("Kappa", rows, Scale.around(values, about=4))


def _levels(run: Why) -> Markup | None:
    """The mean over clients by level, with what it adds to the one before; groups as small dots."""
    everybody, groups = run.everybody, run.groups.values() if len(run.groups) > 1 else ()
    rows: list[Dot] = []
    before, values = None, []
    for level in run.levels:
        value = everybody.levels[level]
        assert value is not None
        seeds = tuple(known for members in groups if (known := members.levels[level]) is not None)
        note = "" if before is None else points(value - before, True)
        rows.append(Dot(LEVELS[level], value, points(value), note, None, seeds))
        values += [value, *seeds]
        before = value
    return plots.intervals("Accuracy on own validation images, %", rows, Scale.around(values)) if rows else None


def _table(run: Why) -> LevelTable:
    parts = {"all clients": run.everybody}
    if len(run.groups) > 1:
        parts |= {group_name(number): members for number, members in run.groups.items()}
    figures = ([members.levels[level] for level in run.levels] for members in parts.values())
    values = [[math.nan if value is None else value for value in row] for row in figures]
    known = [value for row in values for value in row if math.isfinite(value)]
    if not known:
        return LevelTable((), ())
    scale = Scale.around(known)
    rows = zip(parts.items(), values, strict=True)
    return LevelTable(
        tuple(LEVELS[level].removeprefix("+ ") for level in run.levels),
        tuple((name, len(members.clients), heat(row, scale)) for (name, members), row in rows),
    )
