"""`secfpp page`: classify images in a browser, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer

from secfpp.cli.prompts import GREY_WINDOW, PROMPT, Prior

PORT = 8765


def page(
    prompt: Path = typer.Argument(metavar="PROMPT", help=PROMPT),
    examples: Path | None = typer.Option(
        None, metavar="FOLDER", help="Own images, in folders named after classes: the closest to each image are shown."
    ),
    port: int = typer.Option(PORT, min=0, max=65535, help="Port on this machine; 0 is any that is free."),
    prior: Prior | None = typer.Option(
        None, help="Expect classes as often as the client has them (own, where the file knows) or all alike (uniform)."
    ),
    backbone: str | None = typer.Option(None, help="Where the model is, if not under the name it was trained by."),
    grey_window: tuple[float, float] | None = GREY_WINDOW,
) -> None:
    """Open a page on this machine that classifies images with one client's prompt; Ctrl-C ends it.

    Other machines cannot reach it. Images are not written to disk and not logged. Other programs send theirs to
    POST /predict, which /openapi.json describes.
    """
    from secfpp.errors import DataError, MissingExtraError
    from secfpp.grey_depth import require_window
    from secfpp.models.prompt_file import load_prompt

    try:
        from secfpp.page.classifier import Classifier, Examples
        from secfpp.page.server import LOOPBACK, open_port, serve
    except ImportError as error:
        raise MissingExtraError("secfpp page", "page") from error

    require_window(grey_window)
    learned = load_prompt(prompt)
    expected: Literal["own", "uniform"] | None = None if prior is None else "own" if prior is Prior.OWN else "uniform"
    learned.require_prior(expected)
    if examples is not None and not examples.is_dir():
        raise DataError(f"--examples {examples}: no such folder")
    with open_port(port) as own:
        typer.echo(f"loading the model {backbone or learned.backbone!r}", err=True)
        model = learned.model(backbone)
        known = None
        if examples is not None:
            typer.echo(f"encoding the images below {examples}", err=True)
            known = Examples.of(examples, learned, model, grey_window)
        classifier = Classifier(learned, model, expected, grey_window, known)
        address = f"http://{LOOPBACK}:{own.getsockname()[1]}/"
        serve(classifier, own, lambda: typer.echo(f"{address} is open on this machine; Ctrl-C ends it"))
    typer.echo("The page is closed.", err=True)
