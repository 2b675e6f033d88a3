"""`secfpp demo` and `secfpp run`: train methods, keep and show the results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from secfpp.experiment.config import ExperimentConfig

DEMO_METHODS = ("zero_shot", "random_prompt", "promptfl", "coop_local", "secfpp")
DEMO_OUT = Path("runs/demo")


def demo(
    out: Path = typer.Option(DEMO_OUT, help="Directory for the results; an earlier demo there is replaced."),
    seed: int = typer.Option(0, min=0, help="Seed of data, partition and training."),
    rounds: int = typer.Option(20, min=1, help="Training rounds."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, ..."),
    threads: int | None = typer.Option(None, min=1, help="CPU threads; all of them if not given."),
    force: bool = typer.Option(False, "--force", help="Replace another run's results in that directory."),
    as_json: bool = typer.Option(False, "--json", help="Print the summary as JSON instead of a table."),
) -> None:
    """Compare five methods on the embedded benchmark with the embedded model: about a minute, offline.

    A demo replaces the results of an earlier demo in its directory without asking; anything else that
    lies there is left alone, and results of another command are replaced with --force only.
    """
    from secfpp.experiment.config import parse_config

    model = {"device": device} | ({} if threads is None else {"threads": threads})
    config = parse_config({"seed": seed, "rounds": rounds, "backbone": model})
    _train(config, DEMO_METHODS, out, "demo", force=force, as_json=as_json)


def run(
    config: Path = typer.Argument(metavar="CONFIG.toml", help="The experiment."),
    out: Path = typer.Option(..., help="Directory for the results."),
    set_: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", help="Change a setting, e.g. --set method.training.lr=0.002; repeatable."
    ),
    force: bool = typer.Option(False, "--force", help="Replace the results in that directory."),
    as_json: bool = typer.Option(False, "--json", help="Print the summary as JSON instead of a table."),
) -> None:
    """Train the method of a config on each of its seeds."""
    from secfpp.experiment.config import load_config

    settings = load_config(config, set_)
    _train(settings, (settings.method.name,), out, "run", force=force, as_json=as_json)


def _train(
    config: ExperimentConfig, methods: tuple[str, ...], out: Path, command: str, *, force: bool, as_json: bool
) -> None:
    from secfpp.cli.output import print_json, print_results
    from secfpp.cli.progress import open_progress
    from secfpp.experiment.run_directory import open_run_directory
    from secfpp.experiment.runner import run_experiment

    with (
        open_run_directory(out, command, force=force, own=command == "demo") as directory,
        open_progress() as progress,
    ):
        summary = run_experiment(config, methods, directory, progress)
    if as_json:
        print_json(summary)
    else:
        print_results(summary, out)
