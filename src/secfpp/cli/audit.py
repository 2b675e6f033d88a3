"""`secfpp audit`: attack what a config's methods reveal, and tell what came of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from secfpp.cli.training import CONFIG, DEVICE, JSON, SET, on_device, parse_labels, parse_seeds
from secfpp.errors import SecFPPError

if TYPE_CHECKING:
    from secfpp.experiment.audit.make import Pace, Tell

OUT = Path("runs/audit")
EVERY = 10.0
"""Seconds between two lines where there is no terminal."""


def audit(
    config: Path = CONFIG,
    out: Path = typer.Option(OUT, help="Directory for the results; an audit there goes on."),
    quick: bool = typer.Option(False, "--quick", help="One seed, one group of clients, 16 shadow prompts: minutes."),
    targets: str = typer.Option(
        "", metavar="A,B,...", help="Methods to attack; promptfl, coop_local and the config's if not given."
    ),
    seeds: str = typer.Option("", metavar="SEEDS", help="E.g. 300-304; those of the config if not given."),
    shadows: int = typer.Option(64, help="Shadow prompts of each client, an even number."),
    victims: int = typer.Option(0, help="Clients to attack, at least; whole groups. 0: all."),
    shadow_dtype: str = typer.Option("bfloat16", help="bfloat16 or float32, in which shadow prompts are trained."),
    device: str = DEVICE,
    set_: list[str] = SET,
    force: bool = typer.Option(False, "--force", help="Start over: replace the results in that directory."),
    as_json: bool = JSON,
) -> None:
    """Attack the membership of images in what each method sends, keeps and predicts.

    Methods are trained on a random half of every client's images; attacks are to tell that half from the other.
    The same command again goes on where it was stopped. The results say how long an audit of everything takes.
    If an attack refutes what a method claims of itself, the command ends with status 1.
    """
    from secfpp.cli.output import print_json
    from secfpp.experiment.audit.make import Audit, default_targets, run_audit
    from secfpp.experiment.results.run_directory import open_run_directory
    from secfpp.experiment.spec.config import load_config

    settings = on_device(load_config(config, set_), device)
    if seeds:
        settings = replace(settings, seeds=parse_seeds(seeds))
    labels = parse_labels(targets, "--targets") if targets else default_targets(settings)
    wanted = Audit(labels, shadows, victims, shadow_dtype)
    if quick:
        wanted, settings = wanted.quick, replace(settings, seeds=settings.seeds[:1])
    with open_run_directory(out, "audit", force=force, resume=not force) as directory, _progress() as tell:
        summary = run_audit(settings, wanted, directory, tell)
    if as_json:
        print_json(summary)
    else:
        print_audit(summary, out / "audit.html")
    require_unrefuted(summary)


def require_unrefuted(summary: Mapping[str, Any]) -> None:
    """Raise an error that lists claims which attacks refuted.

    Raises:
        SecFPPError: there are such.
    """
    from secfpp.experiment.audit.rows import REFUTED

    if refuted := [row for row in summary["rows"] if row["verdict"] == REFUTED]:
        told = "\n".join(
            f"{row['target']}: {row['attack']} by {row['adversary']} proves epsilon >= {row['epsilon_lower']:.2f}, "
            f"{row['epsilon_upper']:.2f} is claimed"
            for row in refuted
        )
        raise SecFPPError(told)


def print_audit(summary: Mapping[str, Any], page: Path) -> None:
    """The rows of an audit as a table, and where its page is."""
    from secfpp.cli.output import print_block
    from secfpp.experiment.results.text import duration

    of_run = summary["of"] == "run"
    heads = ["target", "adversary", "sees", "attack", "AUC", "95 % interval", "TPR at 1 %", "0.1 %", "worst", "eps >="]
    heads += ["start", "gain", "95 % interval"] if of_run else []
    table = [[*heads, "verdict"]]
    for row in summary["rows"]:
        rates = ["-" if row[name] is None else f"{100 * row[name]:.1f}" for name in ("tpr_1", "tpr_01")]
        worst = "-" if row["worst"] is None else f"{row['worst']['auc']:.2f}"
        words = [row[name] for name in ("target", "adversary", "seen", "attack")]
        low, high = row["auc_ci95"]
        figures = [f"{row['auc']:.3f}", f"{low:.3f} to {high:.3f}", *rates, worst, f"{row['epsilon_lower']:.2f}"]
        if of_run:
            low, high = row["gain_ci95"]
            figures += [f"{row['control']['auc']:.3f}", f"{row['gain']:.3f}", f"{low:.3f} to {high:.3f}"]
        table.append([*words, *figures, row["verdict"]])
    seeds = ", ".join(map(str, summary["seeds"]))
    typer.echo(f"\n{summary['dataset']}, model {summary['backbone']}, {summary['rounds']} rounds, seeds {seeds}")
    if of_run:
        typer.echo("members: training images; others: test images of the same domain and classes, another split")
        typer.echo(
            "start: the same attack on the public start prompt; how far it is from 0.5 is of the split, not the run"
        )
    else:
        typer.echo(f"{summary['shadows']} shadow prompts; trained on a random half of each client's images")
    print_block("is an image among those trained on? intervals over clients; rates in %", table)
    stolen = [["target", "thief", "has", "agreement", "start", "gain", "95 % interval", "distance", "verdict"]]
    for row in summary["thefts"]:
        shares = [f"{100 * row[name]:.1f}" for name in ("agreement", "untouched", "gain")]
        low, high = (100 * end for end in row["gain_ci95"])
        distance = "-" if row["distance"] is None else f"{row['distance']:.2f}"
        words = [row[name] for name in ("target", "adversary", "seen")]
        stolen.append([*words, *shares, f"{low:.1f} to {high:.1f}", distance, row["verdict"]])
    if len(stolen) > 1:
        print_block("stolen predictions: how often thief and client agree, in %", stolen)
    inverted = [["target", "clients in the mean", "cosine", "95 % interval", "verdict"]]
    for row in summary["inversions"]:
        low, high = row["cosine_ci95"]
        span = f"{low:.3f} to {high:.3f}"
        inverted.append([row["target"], str(row["size"]), f"{row['cosine']:.3f}", span, row["verdict"]])
    if len(inverted) > 1:
        print_block("mean image recovered from uploads: cosine with the truth, 0 is chance", inverted)
    guessed = [["target", "property", "measure", "guessed", "base"]]
    for row in summary["properties"]:
        guessed.append([row["target"], row["name"], row["measure"], f"{row['found']:.3f}", f"{row['base']:.3f}"])
    if len(guessed) > 1:
        print_block("properties of clients, from what is public", guessed)
    if out := {cell: count for cell, count in summary.get("left_out", {}).items() if count}:
        typer.echo("\nclients with too few images, left out: " + "; ".join(f"{c}: {n}" for c, n in out.items()))
    if summary.get("full_seconds"):
        typer.echo(f"\nall clients with 64 shadow prompts: about {duration(summary['full_seconds'])} a seed")
    typer.echo(f"\nPage: {page.resolve()}")


@contextmanager
def _progress() -> Iterator[Tell]:
    """A line that changes on a terminal, one now and then elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines().tell
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield lambda what, pace: status.update(_words(what, pace))


class _Lines:
    """A line every few seconds."""

    def __init__(self) -> None:
        self._said = -EVERY

    def tell(self, what: str, pace: Pace) -> None:
        """Say it if nothing was said for a while."""
        if (now := time.monotonic()) - self._said >= EVERY:
            self._said = now
            typer.echo(_words(what, pace), err=True)


def _words(what: str, pace: Pace) -> str:
    from secfpp.experiment.results.text import duration

    left = pace.left()
    told = f"[{pace.done}/{pace.total}] {what}" if pace.total else what
    return told if left is None else f"{told}, about {duration(left)} left"
