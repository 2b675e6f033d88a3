"""`secfpp attack`: attack what a finished run left, and tell what came of it."""

from __future__ import annotations

from pathlib import Path

import typer

from secfpp.cli.audit import print_audit, require_unrefuted
from secfpp.cli.training import JSON, parse_labels, parse_seeds
from secfpp.errors import ConfigError


def attack(
    directory: Path = typer.Argument(metavar="RUN", help="A directory that run, compare or demo made."),
    methods: str = typer.Option("", metavar="A,B,...", help="Methods to attack; all that were trained if not given."),
    seeds: str = typer.Option("", metavar="SEEDS", help="E.g. 300-304; all of the run if not given."),
    again: bool = typer.Option(False, "--again", help="Attack also what was attacked before."),
    as_json: bool = JSON,
) -> None:
    """Attack the membership of images in the prompts and predictions of a run that is there; trains nothing.

    Test images of a client's domain stand for images that were not trained on. They are of another split, so each
    attack is made on the public start prompt too: only what is above that counts. `secfpp audit` deals halves
    of the training images itself, trains anew and attacks far more, messages included.
    If an attack refutes what a method claims of itself, the command ends with status 1.
    """
    from secfpp.cli.output import print_json
    from secfpp.experiment.audit.attack import attack_run
    from secfpp.experiment.results.run_directory import open_results

    if directory.is_file():
        told = "a prompt or a saved Personalizer alone does not say what it was trained on"
        raise ConfigError(f"{directory}: is a file: give the directory of the run that made it; {told}")
    labels = parse_labels(methods) if methods else ()
    with open_results(directory) as results:
        summary = attack_run(
            results, labels, parse_seeds(seeds) if seeds else (), lambda what: typer.echo(what, err=True), again=again
        )
    if as_json:
        print_json(summary)
    else:
        print_audit(summary, directory / "audit.html")
    require_unrefuted(summary)
