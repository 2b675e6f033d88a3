"""`secfpp site serve`, `secfpp site flower` and `secfpp serve flower`: sites and server of a run on Flower."""

from __future__ import annotations

from pathlib import Path

import typer

from secfpp.cli.deploying import agreed_run, end

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


def site_flower_key(folder: Path = DIR) -> None:
    """Make the key by which a SuperLink knows this site's SuperNode, unless there is one."""
    from secfpp.deploy.flower.identity import make_node_key

    public = make_node_key(folder)
    typer.echo(f"{public}: send it to the operator of the server, who lists it with secfpp serve flower-node")


def serve_flower_node(
    keys: list[Path] = typer.Argument(
        metavar="KEY.pub...", exists=True, dir_okay=False, help="What sites made with secfpp site flower-key."
    ),
    superlink: str = SUPERLINK,
    certificates: Path = CERTIFICATES,
) -> None:
    """List keys of SuperNodes at the SuperLink of this machine: only those that are listed can connect."""
    from secfpp.deploy.flower.job import SuperLink, connected

    with connected(SuperLink(superlink, certificates)) as control:
        for key in keys:
            control.register(key)
            typer.echo(f"{key} is listed")


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

    raise typer.Exit(connect_site(folder, SuperLink(superlink, certificates), port, typer.echo))


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
    kept = f"--database {folder.absolute() / DATABASE} --enable-supernode-auth"
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
    from secfpp.deploy.flower.job import SuperLink, run_app, write_app
    from secfpp.deploy.flower.names import ROSTER

    agreed = agreed_run(config, Roster.load(folder / ROSTER), out, resume)
    with tempfile.TemporaryDirectory() as room:
        app = write_app(Path(room) / "app", agreed.run, config.read_bytes(), resume=resume)
        link = SuperLink(superlink, certificates)
        ended = run_app(link, folder, app, agreed.run, out, 3600 * hours, typer.echo)
    end(ended.status, ended.why or ended.engine, out)
