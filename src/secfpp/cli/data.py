"""`secfpp data`: data sets before anything is trained on them."""

from __future__ import annotations

import typer

from secfpp.cli import checking, showing

data = typer.Typer(no_args_is_help=True, help="A data set before anything is trained on it.")
data.command("check")(checking.check)
data.command("show")(showing.show)
