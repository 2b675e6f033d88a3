"""`secfpp why`: why a method's clients were grouped as they were."""

from __future__ import annotations

from pathlib import Path

import typer


def why(
    directory: Path = typer.Argument(metavar="RUN", help="A directory that run, compare or demo made."),
    method: str = typer.Option(
        "", metavar="LABEL", help="The method; that of the config, or the first that says why, if not given."
    ),
    seed: int | None = typer.Option(None, min=0, help="This seed only; all of them if not given."),
    client: str = typer.Option("", metavar="NAME", help="Also what groups are to this client."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of tables."),
) -> None:
    """Tell why clients were grouped as they were, or not at all, and what that is worth to them.

    Most of it is known to a simulation only: no party of a real federation sees it.
    """
    from secfpp.cli import explaining
    from secfpp.cli.output import print_json
    from secfpp.experiment.results.run_directory import open_results
    from secfpp.experiment.run.result_files import explain_directory

    with open_results(directory) as results:
        label, runs = explain_directory(results, method, seed)
    named = explaining.one_client(runs, client) if client else []
    if as_json:
        print_json(explaining.as_table(label, runs, client))
        return
    if len(runs) > 1:
        explaining.print_seeds(label, runs)
    else:
        explaining.print_run(label, runs[0])
    if named:
        explaining.print_client(client, named)
