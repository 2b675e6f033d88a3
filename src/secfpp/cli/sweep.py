"""`secfpp sweep`: methods compared at every combination of the values of some settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from secfpp.cli.checking import DATA_ROOT
from secfpp.cli.training import CONFIG, OUT, SET, parse_labels, parse_seeds

if TYPE_CHECKING:
    from collections.abc import Mapping


def sweep(
    config: Path = CONFIG,
    out: Path = OUT,
    over: list[str] = typer.Option(
        [],
        "--over",
        metavar="KEY=V1,V2,...",
        help="Values of a setting, e.g. data.alpha=0.1,1.0, or some labels of an axis of the config; repeatable.",
    ),
    skip: list[str] = typer.Option(
        [],
        "--skip",
        metavar="KEY=V[,KEY=V]",
        help="Leave out combinations with that value, or with all of those; repeatable.",
    ),
    methods: str = typer.Option(
        "", metavar="A,B,...", help="Methods and variants; those of the config's table `sweep`, or all, if not given."
    ),
    seeds: str = typer.Option("", metavar="SEEDS", help="E.g. 100,101 or 100-104; those of the config if not given."),
    against: str = typer.Option(
        "", "--against", metavar="LABEL", help="The method that others are compared with; the config's if not given."
    ),
    set_: list[str] = SET,
    data_root: Path | None = DATA_ROOT,
    workers: int | None = typer.Option(
        None, min=1, help="Seeds to train side by side; as many as processors and memory allow if not given."
    ),
    threads: int | None = typer.Option(
        None, min=1, help="CPU threads of each worker; 1 if not given and there are several workers."
    ),
    force: bool = typer.Option(False, "--force", help="Start over: replace the results in that directory."),
    as_json: bool = typer.Option(False, "--json", help="Print sweep.json instead of tables."),
) -> None:
    """Compare methods at every combination of the values of some settings, and show how the figures move.

    Values of a setting of methods become variants of those that have it; for any other setting each combination is a
    comparison of its own, in OUT/points, which `secfpp report` and `why` read. All settings, and the data of each
    comparison's first seed, are checked before anything is trained.

    The same command again goes on with what is not finished; with more values, methods or seeds it adds them. If a
    cell (a method on a seed) fails, the others are trained all the same, and the command ends with status 1.
    """
    from secfpp.cli.output import print_json
    from secfpp.cli.progress import open_progress
    from secfpp.experiment.results.run_directory import open_run_directory
    from secfpp.experiment.spec.config import load_table
    from secfpp.experiment.spec.layers import merge
    from secfpp.experiment.sweep.make import run_sweep
    from secfpp.experiment.sweep.points import plan_sweep

    table = load_table(config, set_)
    if threads:
        table = merge(table, {"backbone": {"threads": threads}})
    planned = plan_sweep(
        table,
        over,
        skip=skip,
        methods=parse_labels(methods) if methods else (),
        seeds=parse_seeds(seeds) if seeds else (),
        against=against,
    )
    with open_run_directory(out, "sweep", force=force, resume=not force) as directory, open_progress() as progress:
        outcome = run_sweep(planned, directory, progress, workers=workers)
    if as_json:
        print_json(outcome.content)
    else:
        _print(outcome.content, out)
    outcome.require_success()


def _print(content: Mapping[str, Any], out: Path) -> None:
    """The figures at every point, what they say of the reference, and where the page is."""
    from secfpp.cli.output import ascii_signs, print_block
    from secfpp.experiment.sweep import tables

    note = "one seed: no intervals" if len(content["seeds"]) == 1 else "+- half a 95 % interval over seeds"
    for key in tables.metrics(content):
        rows = [[ascii_signs(cell) for cell in row] for row in tables.matrix(content, key)]
        print_block(f"{tables.title(key).lower()}, accuracy in %, mean over clients ({note})", rows)
    typer.echo("")
    for line in (*tables.claim(content), *([told] if (told := tables.missing(content)) else [])):
        typer.echo(ascii_signs(line))
    typer.echo(f"\nTables: {(out / 'sweep.md').resolve()}\nPage: {(out / 'sweep.html').resolve()}")
