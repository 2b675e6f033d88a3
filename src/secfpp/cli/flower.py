"""`secfpp site serve`, `secfpp site flower` and `secfpp serve flower`: sites and server of a run on Flower."""

from __future__ import annotations

from pathlib import Path

import typer

DIR = typer.Argument(metavar="DIR", exists=True, file_okay=False, help="The site's folder.")
SUPERLINK = typer.Option(..., metavar="HOST:PORT", help="Where the SuperLink listens.")
CERTIFICATES = typer.Option(
    ..., metavar="FILE", exists=True, dir_okay=False, help="Of the authority that the SuperLink's certificate is from."
)


def site_serve(folder: Path = DIR) -> None:
    """Do this site's work for an engine until it is interrupted; images and model are loaded once."""
    import logging

    from secfpp.deploy.flower.site import serve_site

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    serve_site(folder, ready=lambda: typer.echo(f"{folder} is served; connect it with secfpp site flower"))


def site_flower(
    folder: Path = DIR,
    superlink: str = SUPERLINK,
    certificates: Path = CERTIFICATES,
    port: int = typer.Option(0, metavar="PORT", help="A port of this machine's loopback; any free one by default."),
) -> None:
    """Connect this site to a SuperLink until it is interrupted; secfpp site serve does the work beside it.

    No code that comes with a run is carried out here: requests go to secfpp site serve as they are.
    """
    from secfpp.deploy.flower.job import SuperLink
    from secfpp.deploy.flower.site import connect_site

    raise typer.Exit(connect_site(folder, SuperLink(superlink, certificates), port))


def serve_flower_link(
    folder: Path = typer.Argument(metavar="DIR", file_okay=False, help="Where the server keeps its runs."),
    roster: Path = typer.Option(..., metavar="FILE", help="The roster of the run."),
) -> None:
    """Make the server's folder for the sites of the roster, and print how to start a SuperLink with it."""
    from secfpp.deploy.flower.job import DATABASE, OFFLINE, make_server, program

    own = make_server(folder, roster)
    words = " ".join(f"{name}={value}" for name, value in {**own, **OFFLINE}.items() if name != "PATH")
    link = program("flower-superlink")
    tls = "--ssl-ca-certfile CA.crt --ssl-certfile SERVER.crt --ssl-keyfile SERVER.key"
    kept = f"--database {folder.absolute() / DATABASE}"
    typer.echo(f"Start it with: PATH={link.parent}:$PATH {words} {link} {tls} {kept}")


def serve_flower(
    config: Path = typer.Option(..., metavar="agreed.toml", help="What all sites agreed to."),
    folder: Path = typer.Option(
        ..., "--server", metavar="DIR", exists=True, file_okay=False, help="The server's folder, see flower-link."
    ),
    superlink: str = SUPERLINK,
    certificates: Path = CERTIFICATES,
    out: Path = typer.Option(..., metavar="DIR", file_okay=False, help="Where the results go."),
    resume: bool = typer.Option(False, "--resume", help="Go on with this run after its server was lost."),
    hours: float = typer.Option(24.0, min=0.01, help="Give up after so many hours, and stop the run."),
) -> None:
    """Run what was agreed at the sites of the SuperLink of this machine; how long it will take is said first.

    The exit status is 0 only if all rounds were done, whatever Flower says of the run.
    """
    import tempfile

    from secfpp.crypto.roster import Roster
    from secfpp.deploy.agreed import Agreed
    from secfpp.deploy.flower.job import SuperLink, run_app, write_app
    from secfpp.deploy.flower.names import ROSTER
    from secfpp.deploy.results import sentences_of
    from secfpp.errors import ConfigError

    agreed = Agreed.load(config)
    agreed.require_roster(Roster.load(folder / ROSTER))
    if out.exists() and any(out.iterdir()) and not resume:
        raise ConfigError(f"{out} is not empty: choose another --out, or go on with --resume")
    with tempfile.TemporaryDirectory() as room:
        app = write_app(Path(room) / "app", agreed.run, config.read_bytes(), resume=resume)
        link = SuperLink(superlink, certificates)
        ended = run_app(link, folder, app, agreed.run, out, 3600 * hours, typer.echo)
    if ended.status:
        typer.echo(f"Error: {ended.why or ended.engine}", err=True)
        typer.echo("If the server or a site was lost: run it again with --resume", err=True)
        raise typer.Exit(ended.status)
    for sentence in sentences_of(out):
        typer.echo(sentence)
    typer.echo(f"Results: {out}")
