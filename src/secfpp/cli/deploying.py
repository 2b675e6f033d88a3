"""`secfpp site flare` and `secfpp serve flare`: sites and server of a run on NVIDIA FLARE."""

from __future__ import annotations

from pathlib import Path

import typer

from secfpp.cli.sites import site

serve = typer.Typer(no_args_is_help=True, help="The server of a run.")

KIT = typer.Option(..., metavar="KIT", exists=True, file_okay=False, help="The startup kit, as FLARE provisioned it.")
ROSTER = typer.Option(..., metavar="FILE", help="The roster of the run.")


@site.command("flare")
def site_flare(
    folder: Path = typer.Argument(metavar="DIR", exists=True, file_okay=False, help="The site's folder."),
    kit: Path = KIT,
    key: Path | None = typer.Option(None, metavar="FILE", help="The site's private key; DIR/identity.key by default."),
    roster: Path | None = typer.Option(None, metavar="FILE", help="The roster; DIR/roster.toml by default."),
) -> None:
    """Make a client's kit run this site and nothing else; again after each new roster.

    It takes no code from jobs then, streams no logs, and lets no administrator read files here. Start it with the
    kit's own startup/start.sh.
    """
    from secfpp.crypto.roster import IdentityKey, Roster, fingerprint
    from secfpp.deploy.flare.binding import bind_site
    from secfpp.errors import ConfigError

    own, known = IdentityKey.load(key or folder / "identity.key"), Roster.load(roster or folder / "roster.toml")
    name = next((name for name, public in known.keys.items() if public == own.public), None)
    if name is None:
        raise ConfigError(
            f"the roster of {known.run!r} has no site with this key ({fingerprint(own.public)}): get the newest roster"
        )
    bound = bind_site(folder, kit, name, own, known)
    typer.echo(f"{name}  {folder}")
    typer.echo(f"certificate SHA-256 {bound.digest}, signed for roster {known.fingerprint}")
    typer.echo(f"Start it with: {kit / 'startup' / 'start.sh'}")


@serve.command("flare-kit")
def serve_flare_kit(
    folder: Path = typer.Argument(metavar="DIR", file_okay=False, help="Where the server keeps its runs."),
    kit: Path = KIT,
    roster: Path = ROSTER,
) -> None:
    """Make a server's kit run our server and nothing else, for the sites of the roster."""
    from secfpp.deploy.flare.binding import OUTCOME_WAIT, bind_server

    bind_server(folder, kit, roster)
    (variable, value), *_ = OUTCOME_WAIT.items()
    typer.echo(f"Start it with: {variable}={value} {kit / 'startup' / 'start.sh'}")


@serve.command("flare")
def serve_flare(
    config: Path = typer.Option(..., metavar="agreed.toml", help="What all sites agreed to."),
    kit: Path = typer.Option(..., metavar="ADMINKIT", exists=True, file_okay=False, help="An administrator's kit."),
    roster: Path = ROSTER,
    out: Path = typer.Option(..., metavar="DIR", file_okay=False, help="Where the results go."),
    resume: bool = typer.Option(False, "--resume", help="Go on with this run after its server or job was lost."),
    hours: float = typer.Option(24.0, min=0.01, help="Give up after so many hours, and end the job."),
) -> None:
    """Hand a run in at the FLARE server, follow it to its end, and fetch its results.

    The exit status is 0 only if all rounds were done, whatever FLARE says of the job.
    """
    import tempfile

    from secfpp.crypto.roster import Roster
    from secfpp.deploy.agreed import Agreed
    from secfpp.deploy.flare.job import run_job, write_job
    from secfpp.deploy.results import sentences_of
    from secfpp.errors import ConfigError

    agreed, known = Agreed.load(config), Roster.load(roster)
    agreed.require_roster(known)
    if out.exists() and any(out.iterdir()) and not resume:
        raise ConfigError(f"{out} is not empty: choose another --out, or go on with --resume")
    with tempfile.TemporaryDirectory() as room:
        job = write_job(
            Path(room) / "job", agreed.run, config.read_bytes(), list(known.keys), least=agreed.fewest, resume=resume
        )
        ended = run_job(kit, job, out, 3600 * hours, lambda status: typer.echo(f"FLARE: {status}"))
    if ended.status:
        typer.echo(f"Error: {ended.why}", err=True)
        typer.echo("If the server or a site was lost: run it again with --resume", err=True)
        raise typer.Exit(ended.status)
    for sentence in sentences_of(out):
        typer.echo(sentence)
    typer.echo(f"Results: {out}")
