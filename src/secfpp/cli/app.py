"""The program `secfpp`: its commands, and how errors reach the user."""

from __future__ import annotations

import warnings
from typing import Any

import typer
from typer.core import TyperGroup

from secfpp import __version__
from secfpp.cli import (
    agreeing,
    attack,
    audit,
    cache,
    data,
    deploying,
    doctor,
    flower,
    keys,
    listing,
    page,
    privacy,
    prompts,
    rehearsing,
    sites,
    sweep,
    tables,
    training,
    transcript,
    why,
)
from secfpp.cli.going_on import going_on
from secfpp.errors import (
    ConfigError,
    DataError,
    DiskFullError,
    LeakyProtocolWarning,
    MissingExtraError,
    SecFPPError,
)

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130
_WORDS = "secfpp.words"


class _Commands(TyperGroup):
    """Turns errors into one readable message; takes ``--debug`` anywhere on the line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--debug" in args:
            args = ["--debug", *(word for word in args if word != "--debug")]
        ctx.meta[_WORDS] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SecFPPError as error:
            if ctx.params.get("debug"):
                raise
            typer.echo(f"Error: {_indented(str(error))}", err=True)
            if isinstance(error, DiskFullError):
                _say_how_to_go_on(ctx, "make room, then go on with")
            raise typer.Exit(
                BAD_INPUT if isinstance(error, (ConfigError, DataError, MissingExtraError)) else FAILED
            ) from error
        except KeyboardInterrupt as error:
            typer.echo("Interrupted.", err=True)
            _say_how_to_go_on(ctx, "What was finished is kept, a half-trained method from its last round; go on with")
            raise typer.Exit(INTERRUPTED) from error


def _say_how_to_go_on(ctx: Any, told: str) -> None:
    """The command that goes on, if the one that was stopped trains something."""
    if command := going_on(ctx.meta[_WORDS]):
        typer.echo(f"{told}:\n  {command}", err=True)


def warn_plainly() -> None:
    """Show this package's own warnings as one line, once, without a place in the source that says nothing to users."""
    usual, told = warnings.formatwarning, set[str]()

    def formatted(message: Any, category: type[Warning], *where: Any, **more: Any) -> str:
        if category.__module__ != LeakyProtocolWarning.__module__:
            return usual(message, category, *where, **more)
        line = f"Warning: {message}\n"
        new = line not in told
        told.add(line)
        return line if new else ""

    warnings.formatwarning = formatted


def _indented(message: str) -> str:
    """A message of one line as it is; several lines below each other."""
    lines = message.splitlines()
    return message if len(lines) < 2 else "\n  ".join([f"{len(lines)} problems", *lines])


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Secure federated prompt personalization for CLIP-like vision-language models. Start with: secfpp demo",
)
app.command()(training.demo)
app.command()(training.run)
app.command()(training.compare)
app.command()(sweep.sweep)
app.command()(training.report)
app.command()(tables.table)
app.command()(why.why)
app.command()(audit.audit)
app.command()(attack.attack)
app.command()(transcript.transcript)
app.command()(prompts.predict)
app.command()(page.page)
app.command()(prompts.export)
app.command("import")(prompts.import_)
app.add_typer(keys.keys, name="keys")
app.command()(agreeing.agree)
app.add_typer(sites.site, name="site")
app.add_typer(deploying.serve, name="serve")
sites.site.command("serve")(flower.site_serve)
sites.site.command("flower-key")(flower.site_flower_key)
sites.site.command("flower")(flower.site_flower)
deploying.serve.command("flower-link")(flower.serve_flower_link)
deploying.serve.command("flower-node")(flower.serve_flower_node)
deploying.serve.command("flower")(flower.serve_flower)
app.command()(rehearsing.rehearse)
app.add_typer(privacy.privacy, name="privacy")
app.add_typer(data.data, name="data")
app.command("list")(listing.list_)
app.command()(doctor.doctor)
app.command()(cache.cache)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"secfpp {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
    ),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback behind an error; may stand anywhere."),
) -> None:
    """Options of every command."""
