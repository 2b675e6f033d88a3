"""`secfpp transcript`: what one party saw of a run, message by message."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from secfpp.experiment.results.transcripts import Row
    from secfpp.protocol.transcript_file import StoredMessage

FORMS = {"clear": "in the clear", "masked": "under masks", "sealed": "sealed"}


def transcript(
    directory: Path = typer.Argument(metavar="DIR", help="What was given to secfpp run --transcript."),
    party: str = typer.Option("server", metavar="NAME", help="Whose messages: server, or a client's name."),
    method: str = typer.Option("", metavar="LABEL", help="The method; the first by name if not given."),
    seed: int | None = typer.Option(None, min=0, help="The seed; the lowest if not given."),
    each: bool = typer.Option(False, "--each", help="A line for each message instead of one for messages of a kind."),
    as_json: bool = typer.Option(False, "--json", help="Print all that is known of each message as JSON."),
) -> None:
    """List what a party sent and got in a run: message, sender, reader, bytes and content, by phase.

    The bytes themselves are not kept: every message has its SHA-256 in --json.
    """
    from secfpp.cli.output import print_json
    from secfpp.experiment.results import transcripts
    from secfpp.experiment.results.text import amount, counted

    found = transcripts.seen(transcripts.stored(directory, method, seed), party)
    about = found[0].about if found else {}
    if as_json:
        messages = [transcripts.as_json(one) for one in found]
        print_json({"method": about.get("method"), "seed": about.get("seed"), "party": party, "messages": messages})
        return
    if not found:
        typer.echo("nothing was sent")
        return
    size = amount(sum(one.message.size for one in found))
    typer.echo(
        f"{about['method']}, seed {about['seed']}: {party} sent and got {counted(len(found), 'message')}, {size}"
    )
    if each:
        _print_each(found)
    else:
        _print_rows(transcripts.rows(found))


def _print_rows(rows: Sequence[Row]) -> None:
    from secfpp.experiment.results.text import amount, counted

    above = ("", "")
    for row in rows:
        if row.phase != above[0]:
            typer.secho(f"\n{row.phase}", bold=True)
        if (row.phase, row.step) != above:
            typer.echo(f"  {row.step}" + (f": {row.purpose}" if row.purpose else ""))
        above = row.phase, row.step
        clients = row.clients[0] if len(row.clients) == 1 else counted(len(row.clients), "client")
        way = f"server -> {clients}" if row.direction == "down" else f"{clients} -> server"
        first, last = row.rounds
        rounds = f"round {first}" if first == last else f"rounds {first} to {last}"
        typer.echo(f"    {way}, {rounds}: {counted(row.messages, 'message')}, {amount(row.size)}")
        for form, words in FORMS.items():
            if form in row.content:
                to = "the server" if row.direction == "up" else "the client"
                read = "other clients only" if form == "sealed" and row.direction == "up" else to
                typer.echo(f"      {words}, read by {read}: {', '.join(row.content[form])}")
        if not row.content:
            typer.echo("      nothing but that it is there")


def _print_each(found: Sequence[StoredMessage]) -> None:
    from secfpp.cli.output import print_block
    from secfpp.experiment.results.transcripts import form, phase

    table = [["exchange", "round", "phase", "message", "sender", "receiver", "bytes", "content"]]
    for one in found:
        m = one.message
        content = ", ".join(f"{name} {kind}{list(shape)}" for name, kind, shape in m.arrays if form(name) != "sealed")
        sealed = sum(form(name) == "sealed" for name, _, _ in m.arrays)
        content += f"{', ' if content and sealed else ''}{sealed} sealed" if sealed else ""
        lost = "" if m.delivered else " (lost)"
        where = [str(m.exchange), str(m.round), phase(one), m.step + lost, m.sender, m.receiver, str(m.size), content]
        table.append(where)
    print_block("", table)
