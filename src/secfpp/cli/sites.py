"""`secfpp site`: one client of a deployed run on its own machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from secfpp.crypto.roster import Roster
    from secfpp.deploy.agreed import Agreed
    from secfpp.deploy.site_folder import SiteFolder

site = typer.Typer(no_args_is_help=True, help="This site of a deployed run: its images, key, limits and log.")

DIR = typer.Argument(metavar="DIR", help="The site's folder.")
JSON = typer.Option(False, "--json", help="Print JSON.")


@site.command("init")
def init(
    directory: Path = typer.Argument(metavar="DIR", help="A new folder for the site."),
    name: str = typer.Option(..., metavar="NAME", help="The site's name, as all parties of a run use it."),
    data: Path | None = typer.Option(
        None, metavar="PATH", help="The images: a folder of CLASS/IMAGE, or a table, .csv, .tsv or .parquet."
    ),
    root: Path | None = typer.Option(None, metavar="DIR", help="The folder that paths in the table are relative to."),
    rehearse: Path | None = typer.Option(
        None, metavar="CONFIG", help="Instead of own images: play the client NAME of this config's data set."
    ),
    backbone: str = typer.Option("mini", help="The model: mini, a folder with a checkpoint, or a name on the hub."),
    as_json: bool = JSON,
) -> None:
    """Make a site: its key, which stays here, the public key to send, and site.toml with what it allows."""
    from secfpp.cli.output import print_json
    from secfpp.crypto.roster import fingerprint
    from secfpp.deploy.site_data import class_names
    from secfpp.deploy.site_folder import SiteFolder

    settings, seed = _data(data, root, rehearse)
    classes = class_names(settings, name, seed, Path())
    model = str(Path(backbone).resolve()) if Path(backbone).is_dir() else backbone
    made = SiteFolder.create(directory, name, settings, model)
    mark = fingerprint(made.identity.public)
    if as_json:
        print_json({"name": name, "fingerprint": mark, "path": str(directory), "classes": classes})
        return
    typer.echo(f"{name}  {mark}")
    for file, what in (
        ("identity.key", "private: stays here, with a copy in a safe place"),
        ("identity.pub", "public: send it to whoever makes the roster"),
        ("site.toml", "what this site allows: read it with whoever answers for the data"),
    ):
        typer.echo(f"{directory / file}  {what}")
    typer.echo(f"\nclasses here: {', '.join(classes)}")
    typer.echo(f"Then, with the roster and the agreed file: secfpp site agree {directory} agreed.toml")


@site.command("agree")
def agree(
    directory: Path = DIR,
    file: Path = typer.Argument(metavar="AGREED", help="What was agreed on, made by secfpp agree."),
    roster: Path = typer.Option(Path("roster.toml"), metavar="FILE", help="Who takes part, and their public keys."),
    as_json: bool = JSON,
) -> None:
    """Check a run against this site's limits, images and model; if all is well, keep it and print what to compare."""
    from secfpp.crypto.roster import Roster
    from secfpp.deploy.agreed import Agreed
    from secfpp.deploy.site_folder import SiteFolder

    own, agreed, who = SiteFolder(directory), Agreed.load(file), Roster.load(roster)
    own.agree(agreed, who)
    _print_agreed(own, agreed, who, as_json)


@site.command("show")
def show(directory: Path = DIR, as_json: bool = JSON) -> None:
    """Print who this site is, what it allows, and the run that it agreed to."""
    from secfpp.cli.output import aligned, print_json
    from secfpp.crypto.roster import fingerprint
    from secfpp.deploy.site_folder import AGREED, SiteFolder
    from secfpp.experiment.spec.schema import dump

    own = SiteFolder(directory)
    mark, data = fingerprint(own.identity.public), own.file.data
    place = data.folder or data.table or data.dataset
    has = (directory / AGREED).exists()
    if as_json:
        run = _about(own, own.agreed(), own.roster()) if has else None
        print_json({"name": own.name, "fingerprint": mark, "data": place, "limits": dump(own.file.limits), "run": run})
        return
    typer.echo(f"{own.name}  {mark}\nimages: {place}\n\nlimits")
    for line in aligned([[name, _said(value)] for name, value in dump(own.file.limits).items()]):
        typer.echo(f"  {line}")
    if has:
        typer.echo("")
        _print_agreed(own, own.agreed(), own.roster(), False)
    else:
        typer.echo(f"\nNo run is agreed to. With the file and the roster: secfpp site agree {directory} agreed.toml")


@site.command("check")
def check(directory: Path = DIR, as_json: bool = JSON) -> None:
    """Try everything that a run would need here, without a server; fails if something would not work."""
    from secfpp.cli.output import print_json
    from secfpp.deploy.site_folder import SiteFolder
    from secfpp.errors import SecFPPError

    findings: list[dict[str, Any]] = []
    for what, look in _checks(SiteFolder(directory)):
        try:
            findings.append({"what": what, "ok": True, "found": look()})
        except (SecFPPError, OSError) as error:
            findings.append({"what": what, "ok": False, "found": str(error)})
        if not as_json:
            last = findings[-1]
            typer.secho("ok   " if last["ok"] else "fail ", nl=False, fg="green" if last["ok"] else "red")
            typer.echo(f"{what:<10}" + last["found"].replace("\n", f"\n{'':<15}"))
    if as_json:
        print_json(findings)
    if not all(finding["ok"] for finding in findings):
        raise typer.Exit(1)


@site.command("log")
def log(
    directory: Path = DIR,
    run: str = typer.Option("", metavar="NAME", help="The run; all of them if not given."),
    each: bool = typer.Option(False, "--each", help="A line for each request."),
    as_json: bool = typer.Option(False, "--json", help="Print all lines as JSON."),
) -> None:
    """List who asked this site for what, what left it, and what it refused."""
    from secfpp.cli.output import print_json
    from secfpp.deploy.site_folder import SiteFolder
    from secfpp.deploy.site_log import logs

    own = SiteFolder(directory)
    found = [own.log(run)] if run else logs(directory / "log")
    if as_json:
        print_json({one.run: list(one.lines()) for one in found})
        return
    if not found:
        typer.echo("nobody asked for anything")
    for one in found:
        typer.secho(f"{one.run}  ({one.path})", bold=True)
        lines = list(one.lines())
        for text in map(_line, lines) if each else _summed(lines):
            typer.echo(f"  {text}")


def _data(data: Path | None, root: Path | None, rehearse: Path | None) -> tuple[Any, int]:
    """The settings of the images, and a seed for those that are simulated."""
    from secfpp.data.tables import is_table
    from secfpp.deploy.site_file import SiteData
    from secfpp.experiment.spec.config import load_config
    from secfpp.experiment.spec.schema import dump

    if (data is None) == (rehearse is None):
        raise typer.BadParameter("give the images with --data PATH, or a config with --rehearse CONFIG")
    if rehearse is not None:
        config = load_config(rehearse)
        return SiteData(dataset=config.data.name, settings=dump(config.data.settings)), config.seeds[0]
    assert data is not None
    if not is_table(data):
        return SiteData(folder=str(data.expanduser().resolve())), 0
    folder = str(root.expanduser().resolve()) if root else ""
    return SiteData(table=str(data.expanduser().resolve()), root=folder), 0


def _about(own: SiteFolder, agreed: Agreed, roster: Roster) -> dict[str, Any]:
    from secfpp.crypto.roster import fingerprint
    from secfpp.deploy.agreeing import leaves

    return {
        "run": agreed.run,
        "digest": agreed.digest,
        "roster": roster.fingerprint,
        "clients": {name: fingerprint(public) for name, public in roster.keys.items()},
        "leaves": leaves(agreed),
        "tells_metrics": own.file.limits.tell_metrics,
        "agreed": agreed.table,
    }


def _print_agreed(own: SiteFolder, agreed: Agreed, roster: Roster, as_json: bool) -> None:
    from secfpp.cli.output import print_json

    about = _about(own, agreed, roster)
    if as_json:
        print_json(about)
        return
    typer.echo(f"run {agreed.run}: {agreed.algorithm.name}, {agreed.rounds} rounds, {len(roster.keys)} sites,")
    typer.echo(f"  rounds with {agreed.fewest} or more, {len(agreed.classes)} classes, model {agreed.backbone},")
    grey = "" if agreed.grey_window is None else f", grey values {agreed.grey_window[0]:g} to {agreed.grey_window[1]:g}"
    typer.echo(f"  images of {agreed.image_size} pixels{grey}")
    typer.echo("\nwhat leaves this site in this run")
    beside = ", not covered by differential privacy" if agreed.algorithm.privacy_terms else ""
    told = [f"its accuracies, and how many images they are of: to the server{beside}"] * about["tells_metrics"]
    for text in (*about["leaves"], *told):
        typer.echo(f"  - {text}")
    typer.echo("Images, labels, image features, its private prompt and how often it has each class stay here.")
    typer.echo("\ncompare by phone with the other sites, not with the server alone")
    typer.echo(f"  digest of what is agreed   {agreed.digest}")
    typer.echo(f"  roster, version {roster.version:<11}{roster.fingerprint}")
    for name, mark in about["clients"].items():
        typer.echo(f"  {name}{' (this site)' if name == own.name else ''}  {mark}")


def _checks(own: SiteFolder) -> Iterator[tuple[str, Callable[[], str]]]:
    """What a run needs, in the order in which it needs it."""
    from secfpp.crypto.roster import fingerprint

    def agreed() -> str:
        run, roster = own.agreed(), own.roster()
        run.require_roster(roster)
        if problems := own.problems(run, roster):
            return _fail(problems)
        return f"run {run.run}, digest {run.digest[:12]}..., within the limits of site.toml"

    def images() -> str:
        data = own.data(own.agreed())
        (client,) = data.clients
        counts = f"{len(client.train)} for training, {len(client.validation)} for validation"
        have = sum(count > 0 for count in client.train.histogram(len(data.classes)))
        return f"{counts}, {len(data.test[client.domain])} for the test; {have} of {len(data.classes)} classes"

    def model() -> str:
        spec = own.backbone(own.agreed()).spec
        return f"{spec.name}, content {spec.digest[:12]}..., as agreed"

    def start() -> str:
        run = own.agreed()
        context = own.context(run)
        run.algorithm.client_state(context)
        at = own.store(run).rounds
        return f"keys, roster and ledgers are readable; state of round {at[-1]}" if at else "ready for a first round"

    def writing() -> str:
        own.log(own.agreed().run).note("secfpp site check")
        return f"{own.path / 'log'} can be written"

    yield "key", lambda: f"{own.name}  {fingerprint(own.identity.public)}"
    yield "agreed", agreed
    yield "images", images
    yield "model", model
    yield "start", start
    yield "log", writing


def _fail(problems: Any) -> str:
    from secfpp.errors import ConfigError

    raise ConfigError(problems)


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value).lower()


def _line(line: dict[str, Any]) -> str:
    """A line of the log in words."""
    head = f"{line['at'][:19]}  {line.get('peer') or '-'}  "
    if line["what"] != "request":
        return head + (line.get("text") or f"a run was asked for: {line.get('digest', '')[:12]}")
    steps = ", ".join(
        step["step"] + (f" ({step['failed']})" if "failed" in step else "") for step in line.get("steps", ())
    )
    ended = f", refused: {line['refused']} {line.get('why', '')}".rstrip() if "refused" in line else ""
    told = f"{line.get('kind', 'not readable')} {line.get('round', '')}: {steps}".rstrip(": ")
    return f"{head}{told}, {line['received']} B in, {line['sent']} B out{ended}"


def _summed(lines: list[dict[str, Any]]) -> Iterator[str]:
    """What happened in a run: who asked, what left by step, what was refused or failed."""
    from collections import Counter

    from secfpp.cli.output import aligned
    from secfpp.experiment.results.text import amount

    asked = [line for line in lines if line["what"] == "request"]
    if not asked:
        yield "no request"
        return
    peers = Counter(line.get("peer") or "unnamed" for line in asked)
    done = ("ask", "last", "commit")
    rounds = [line["round"] for line in asked if line.get("kind") in done and "refused" not in line]
    yield f"{asked[0]['at'][:19]} to {asked[-1]['at'][:19]}, asked by {', '.join(peers)}"
    yield f"{len(asked)} requests, rounds {min(rounds)} to {max(rounds)}" if rounds else f"{len(asked)} requests"
    table: dict[str, list[int]] = {}
    for line in asked:
        for step in line.get("steps", ()):
            row = table.setdefault(step["step"], [0, 0, 0])
            for i, value in enumerate((1, step["in"], step["out"])):
                row[i] += value
    total = [
        [
            "all, with envelopes",
            str(len(asked)),
            *(amount(sum(line[k] for line in asked)) for k in ("received", "sent")),
        ]
    ]
    rows = [[name, str(n), amount(came), amount(left)] for name, (n, came, left) in sorted(table.items())]
    yield from aligned([["message", "times", "came", "left"], *rows, *total])
    troubles = Counter(
        (line.get("kind", "not readable"), line["refused"], line.get("why", "")) for line in asked if "refused" in line
    )
    for (kind, reason, why), times in sorted(troubles.items()):
        yield f"refused {times} x {kind}: {reason}" + (f" ({why})" if why else "")
    failed = Counter((s["step"], s["failed"]) for line in asked for s in line.get("steps", ()) if "failed" in s)
    for (name, kind), times in sorted(failed.items()):
        yield f"failed {times} x {name}: {kind}"
