"""`secfpp cache`: image features, rendered images and what searches find in noise, kept on disk."""

from __future__ import annotations

from enum import StrEnum

import typer


class Action(StrEnum):
    """What to do with the cache."""

    WHERE = "where"
    SIZE = "size"
    CLEAR = "clear"


def cache(
    action: Action = typer.Argument(
        Action.SIZE, metavar="where|size|clear", help="Show its place or size, or empty it."
    ),
    only: str | None = typer.Option(None, help="Clear this part only: features, icons, images or noise."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show or empty the cache of image features, rendered images and searches of noise; all of it can be made again."""
    from secfpp.cachedir import cache_root, cache_sizes, clear_cache
    from secfpp.cli.output import aligned, print_json
    from secfpp.experiment.results.text import amount

    root = str(cache_root())
    if action is Action.WHERE:
        print_json({"path": root}) if as_json else typer.echo(root)
    elif action is Action.CLEAR:
        freed = clear_cache(only)
        print_json({"path": root, "freed": freed}) if as_json else typer.echo(f"freed {amount(freed)} in {root}")
    elif as_json:
        print_json({"path": root, "bytes": cache_sizes()})
    else:
        sizes = cache_sizes()
        rows = [[name, amount(size)] for name, size in sizes.items()]
        typer.echo("\n".join([root, *aligned([*rows, ["total", amount(sum(sizes.values()))]])]))
