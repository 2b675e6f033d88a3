"""`secfpp data show`: who holds which classes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from secfpp.cli.checking import DATA_ROOT

SHADES = " .:-=+*#%@"
"""From no image of a class to as many as anybody has, where numbers do not fit."""


def show(
    config: Path = typer.Argument(metavar="CONFIG.toml", help="The config that names the data."),
    set_: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help="Change a setting, e.g. data.partition=iid."),
    seed: int | None = typer.Option(None, min=0, help="Of the data set; the config's first one if not given."),
    data_root: Path | None = DATA_ROOT,
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Print how many training images of each class each client holds, as a config deals them; nothing is trained."""
    from secfpp.cli.output import print_block, print_json
    from secfpp.experiment.results.holdings import partition_figures, partition_table
    from secfpp.experiment.spec.config import Catalog, load_config

    catalog = Catalog.installed()
    loaded = load_config(config, set_, catalog)
    number = loaded.seeds[0] if seed is None else seed
    dataset = catalog.datasets[loaded.data.name].load(loaded.data.settings, number)
    table = partition_table(dataset)
    figures = partition_figures(table)
    if as_json:
        print_json({"dataset": dataset.name, "seed": number, "figures": figures, **table})
        return
    wide, notes = matrix_rows(table, shutil.get_terminal_size().columns)
    print_block(f"{dataset.name}, seed {number}: training images of each client and class", wide)
    typer.echo(f"\n{notes}\n" + ", ".join(f"{name} {value:g}" for name, value in figures.items()))


def matrix_rows(table: Mapping[str, Any], columns: int) -> tuple[list[list[str]], str]:
    """The matrix with a head, as numbers if they fit in so many columns, else as shades; and how to read it."""
    from secfpp.cli.output import aligned

    classes, clients = table["classes"], table["clients"]
    names = "classes: " + ", ".join(f"{i} {name}" for i, name in enumerate(classes))
    head = ["client", "domain", "images", *map(str, range(len(classes)))]
    rows = [
        [name, own["domain"], str(sum(own["train"])), *(str(n) if n else "." for n in own["train"])]
        for name, own in clients.items()
    ]
    if len(aligned([head, *rows])[0]) <= columns:
        return [head, *rows], names
    most = max(max(own["train"]) for own in clients.values())
    shaded = [
        [name, own["domain"], str(sum(own["train"])), "|" + "".join(_shade(n, most) for n in own["train"]) + "|"]
        for name, own in clients.items()
    ]
    title = "0" if len(classes) < 2 else "0" + f"{len(classes) - 1}".rjust(len(classes) - 1)
    return [["client", "domain", "images", f"|{title}|"], *shaded], f"{SHADES[1]} few to {SHADES[-1]} {most}; {names}"


def _shade(n: int, most: int) -> str:
    return SHADES[-(-n * (len(SHADES) - 1) // max(most, 1))]
