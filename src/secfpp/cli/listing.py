"""`secfpp list`: what a config can name."""

from __future__ import annotations

import inspect
from enum import StrEnum

import typer


class Group(StrEnum):
    """What can be listed."""

    METHODS = "methods"
    DATASETS = "datasets"
    BACKBONES = "backbones"


BACKBONES = {
    "mini": "the embedded CLIP for 48-pixel icons; needs no download",
    "<directory>": "a checkpoint on this disk, in the format of Hugging Face or open_clip; or a .pt of OpenAI",
    "<hub name>": "any CLIP of the Hugging Face hub, e.g. openai/clip-vit-base-patch16; downloaded once",
}


def list_(
    what: Group = typer.Argument(metavar="methods|datasets|backbones", help="What to list."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """List methods and their variants, datasets, or backbones that a config can name."""
    from secfpp.cli.output import print_json

    found = dict(sorted(_described(what).items())) if what is not Group.BACKBONES else BACKBONES
    if as_json:
        print_json([{"name": name, "description": about} for name, about in found.items()])
        return
    width = max(map(len, found), default=0)
    for name, about in found.items():
        typer.echo(f"{name:<{width}}  {about}")


def _described(what: Group) -> dict[str, str]:
    from secfpp.experiment.spec.config import Catalog

    catalog = Catalog.installed()
    if what is Group.METHODS:
        from secfpp.experiment.spec.variants import KNOWN, root

        variants = {name: f"{v.base}: {v.about}" for name, v in KNOWN.items() if root(name) in catalog.methods}
        return {name: first_line(cls) for name, cls in catalog.methods.items()} | variants
    return {name: spec.description for name, spec in catalog.datasets.items()}


def first_line(thing: object) -> str:
    """The first sentence of a docstring, without its full stop."""
    return (inspect.getdoc(thing) or "").partition("\n")[0].removesuffix(".")
