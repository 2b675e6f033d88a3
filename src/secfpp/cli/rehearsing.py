"""`secfpp rehearse`: a deployed run on this machine, before anybody travels."""

from __future__ import annotations

import tempfile
from pathlib import Path

import typer


def rehearse(
    config: Path | None = typer.Argument(None, metavar="[CONFIG]", help="The experiment; the included one by default."),
    engine: str = typer.Option("processes", help="flare, flower, or processes: sites without an engine."),
    sites: int = typer.Option(4, min=2, help="Sites: the first clients of the data set."),
    out: Path | None = typer.Option(
        None, metavar="DIR", help="Keep sites, logs and results there; else they are deleted."
    ),
    method: str = typer.Option("", metavar="LABEL", help="A method or variant; the config's own if not given."),
    deadline: float = typer.Option(60.0, help="Seconds that a site has for an answer."),
    set_: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help="Change a setting; repeatable."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Run a server and sites as processes of this machine, and compare the end with a simulation, bit by bit.

    Keys, rosters, kits and certificates are real, and made for this. Nothing listens at another address than loopback.
    The exit status is 1 if a bit, a message or a byte differs.
    """
    from secfpp.deploy.rehearsal import prepare, require_engine
    from secfpp.experiment.spec.config import load_config, parse_config
    from secfpp.experiment.spec.layers import overridden

    require_engine(engine)
    settings = load_config(config, set_) if config else parse_config(overridden({}, set_))
    with tempfile.TemporaryDirectory(prefix="secfpp-rehearsal-") as room:
        rehearsal = prepare(out or Path(room) / "rehearsal", settings, sites, method, deadline)
        _play(rehearsal, engine, as_json)
    if out is not None and not as_json:
        typer.echo(f"Sites, logs and results: {out}")


def _play(rehearsal: object, engine: str, as_json: bool) -> None:
    from secfpp.cli.output import print_json
    from secfpp.deploy.rehearsal import Rehearsal, play
    from secfpp.deploy.results import sentences

    assert isinstance(rehearsal, Rehearsal)
    agreed = rehearsal.agreed
    typer.echo(f"{len(rehearsal.sites)} sites, {agreed.algorithm.name}, {agreed.rounds} rounds", err=True)
    played = play(rehearsal, engine, lambda line: typer.echo(f"  {line}", err=True))
    same = not played.differ and not played.costs_differ
    if as_json:
        print_json(
            {
                "engine": engine,
                "sites": len(rehearsal.sites),
                "exchanges": played.exchanges,
                "exchange_median_seconds": played.median,
                "seconds": played.seconds,
                "simulated_seconds": played.simulated,
                "differ": list(played.differ),
                "costs_differ": played.costs_differ,
            }
        )
    else:
        typer.echo("\n".join(sentences(played.summary)))
        typer.echo(
            f"{engine}: {played.seconds:.1f} s for all rounds, {played.exchanges} exchanges of "
            f"{1000 * played.median:.0f} ms (median); in one process {played.simulated:.1f} s"
        )
        bits = "the same bits at every site" if not played.differ else f"other bits: {', '.join(played.differ[:10])}"
        typer.echo(f"{bits}; {'other costs' if played.costs_differ else 'the same messages and bytes'}")
    if not same:
        raise typer.Exit(1)
