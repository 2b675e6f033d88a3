"""What `secfpp why` prints: a verdict, sentences and small tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import typer

from secfpp.cli.output import print_block, signed
from secfpp.errors import ConfigError, Problem
from secfpp.experiment.results.explained import LEVELS, Client, Members, Why, group_name, mean
from secfpp.experiment.spec.schema import one_of

FEW = 12
"""So many clients at most have a row each without being asked for."""


def print_run(label: str, run: Why) -> None:
    """One seed in full."""
    typer.echo(f"{label}, seed {run.seed}")
    typer.secho(run.verdict, bold=True)
    print_block(
        "how many groups: agreement of their members, beyond what chance may give; the largest score is taken",
        _candidates(run),
    )
    if sentences := _sentences(run):
        typer.echo("\n" + "\n".join(sentences))
    levels = run.levels
    parts = {"all clients": run.everybody}
    if len(run.groups) > 1:
        parts |= {group_name(number): members for number, members in run.groups.items()}
    rows = [[name, str(len(members.clients)), *_figures(members, levels)] for name, members in parts.items()]
    title = "gain by the group in points, and accuracy in % with more and more to predict with; own validation images"
    print_block(title, [["", "clients", *_heads(levels)], *rows])
    if len(run.clients) <= FEW:
        rows = [[one.client, _group(one), *_figures(one, levels)] for one in run.clients]
        print_block("the same by client", [["", "group", *_heads(levels)], *rows])


def print_seeds(label: str, runs: Sequence[Why]) -> None:
    """A line for each seed, and means."""
    typer.echo(f"{label}, {len(runs)} seeds")
    typer.secho(f"groups are used on {sum(run.useful for run in runs)} of {len(runs)} seeds", bold=True)
    for run in runs:
        typer.echo(f"  seed {run.seed}: {run.verdict}")
    levels = _levels(runs)
    columns: dict[str, tuple[list[float | None], str]] = {
        "found": ([run.found for run in runs], ".3g"),
        "used": ([run.used for run in runs], ".3g"),
        "kappa": ([run.kappa for run in runs], ".2f"),
        "chance": ([max(run.kappa_null, default=None) for run in runs], ".2f"),
        "gain": ([run.test.mean if run.test else None for run in runs], "+"),
        "at least": ([run.test.low if run.test else None for run in runs], "+"),
        **{LEVELS[level]: ([run.everybody.levels[level] for run in runs], ".1f") for level in levels},
    }
    table = [
        [head, *(figure(value, form) for value in [*values, mean(values)])] for head, (values, form) in columns.items()
    ]
    names = ["seed", *(str(run.seed) for run in runs), "mean"]
    title = (
        "groups; kappa, and the largest by chance; gain by the group in points; accuracy in %, own validation images"
    )
    print_block(title, list(map(list, zip(names, *table, strict=True))))


def print_client(name: str, found: Sequence[tuple[Why, Client]]) -> None:
    """What groups are to one client, on every seed that has it."""
    levels = _levels([run for run, _ in found])
    rows = [[str(run.seed), _group(one), *_figures(one, levels)] for run, one in found]
    print_block(f"{name}: the same figures", [["seed", "group", *_heads(levels)], *rows])


def one_client(runs: Sequence[Why], name: str) -> list[tuple[Why, Client]]:
    """The client's part in every run that has it.

    Raises:
        ConfigError: no run has it.
    """
    found = [(run, one) for run in runs for one in run.clients if one.client == name]
    if not found:
        known = {one.client for run in runs for one in run.clients}
        raise ConfigError([Problem("--client", name, one_of(name, known, "client of this run"))])
    return found


def as_table(label: str, runs: Sequence[Why], client: str = "") -> dict[str, Any]:
    """All of it, or the rows of one client only, ready for JSON."""
    tables = [asdict(run) for run in runs]
    for table in tables:
        table["clients"] = [row for row in table["clients"] if client in ("", row["client"])]
    return {"method": label, "runs": tables}


def figure(value: float | None, form: str = ".1f") -> str:
    """A number that may be unknown; ``+`` is a difference in points."""
    return "-" if value is None else signed(value) if form == "+" else format(value, form)


def _candidates(run: Why) -> list[list[str]]:
    rows = []
    for one in run.candidates:
        reached = [figure(one.agreement), figure(one.allowance)] if one.k > 1 else ["-", "-"]
        rows.append([f"{one.k} *" if one.k == run.best else str(one.k), *reached, figure(one.score, "+")])
    return [["groups", "agreement", "by chance", "score"], *rows] if rows else []


def _sentences(run: Why) -> list[str]:
    """The size of the effect and the test of its use."""
    found = []
    if run.kappa is not None:
        null = run.kappa_null
        chance = f"; by chance {max(null):.2f} at most, in {len(null)} permutations" if null else ""
        found.append(f"kappa {run.kappa:.2f}: what groups disagree, as a share of what tells classes apart{chance}")
    if test := run.test:
        found.append(
            f"gain by the group {signed(test.mean)} points, mean over {test.n} clients; at least {signed(test.low)} "
            f"with {test.confidence} confidence, {test.margin:g} asked for"
        )
    return found


def _levels(runs: Sequence[Why]) -> list[str]:
    known = {level for run in runs for level in run.levels}
    return [level for level in LEVELS if level in known]


def _heads(levels: Sequence[str]) -> list[str]:
    return ["gain", *(LEVELS[level] for level in levels)]


def _figures(of: Client | Members, levels: Sequence[str]) -> list[str]:
    return [figure(of.gain, "+"), *(figure(of.levels[level]) for level in levels)]


def _group(client: Client) -> str:
    return str(client.group) if client.group >= 0 else "none"
