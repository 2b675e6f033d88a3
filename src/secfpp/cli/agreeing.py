"""`secfpp agree`: the file that all parties of a deployed run agree on."""

from __future__ import annotations

from pathlib import Path

import typer


def agree(
    config: Path = typer.Argument(metavar="CONFIG", help="A config as for secfpp run; its images stay out."),
    roster: Path = typer.Option(..., metavar="FILE", help="Who takes part; made by secfpp keys roster."),
    classes: str = typer.Option(
        ...,
        metavar="NAMES",
        help="All class names in order: a file with one per line, a list with commas, or 'data' for those of the "
        "config's data set.",
    ),
    out: Path = typer.Option(Path("agreed.toml"), metavar="FILE", help="The file to write."),
    method: str = typer.Option("", metavar="LABEL", help="A method or variant; the config's own if not given."),
    template: str = typer.Option(
        "", metavar="TEXT", help="The prompt that training starts from, with {} for the class at its end."
    ),
    fewest: int | None = typer.Option(
        None, min=2, help="Sites with which a round is run at least; as few as the method takes if not given."
    ),
    deadline: float = typer.Option(60.0, help="Seconds that a site has for an answer."),
    image_size: int | None = typer.Option(
        None, min=8, help="Side in pixels at which all sites read images; as the config's data if not given."
    ),
    grey_window: tuple[float, float] | None = typer.Option(
        None,
        metavar="LOW HIGH",
        help="Which grey values of more than 8 bits are black and white at all sites; else as the config says.",
    ),
    figures: bool = typer.Option(False, "--figures", help="Average sites' accuracies, and tell the server the mean."),
    set_: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help="Change a value of the config; repeatable."),
    force: bool = typer.Option(False, "--force", help="Replace an existing file."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Make the file that all parties agree on before a run: nobody writes hashes by hand."""
    from secfpp.cli.output import print_json
    from secfpp.cli.prompts import class_list, require_free
    from secfpp.crypto.roster import Roster
    from secfpp.deploy.agreeing import WHOLE, agreed_from, leaves, pixels_of
    from secfpp.experiment.run.training import load_dataset
    from secfpp.experiment.spec.config import load_config
    from secfpp.models.backbone import load_backbone

    require_free(out, force)
    settings, who = load_config(config, set_), Roster.load(roster)
    if classes == WHOLE:
        dataset = load_dataset(settings, settings.seeds[0])
        names, start, pixels = list(dataset.classes), dataset.template, pixels_of(dataset)
    else:
        names, start = class_list(classes), str(getattr(settings.data.settings, "template", "a photo of a {}"))
        pixels = pixels_of(settings.data.settings)
    if image_size is not None:
        pixels["image_size"] = image_size
    if grey_window is not None:
        pixels["grey_window"] = grey_window
    model = load_backbone(settings.backbone.name, device="cpu")
    made = agreed_from(
        settings,
        who,
        names,
        template or start,
        model.spec.digest,
        method=method,
        fewest=fewest,
        deadline=deadline,
        figures=figures,
        **pixels,
    )
    model.class_tokens(made.classes, made.algorithm.prompt.n_ctx)  # names that the model refuses are refused here
    made.save(out)
    if as_json:
        print_json({"path": str(out), "digest": made.digest, "agreed": made.table, "leaves": leaves(made)})
        return
    typer.echo(f"wrote {out}: run {made.run}, {made.algorithm.name}, {made.rounds} rounds, {len(names)} classes,")
    typer.echo(f"  {len(who.keys)} sites, rounds with {made.fewest} or more; model {made.backbone},")
    typer.echo(f"  images of {made.image_size} pixels")
    typer.echo(f"\ndigest, the same for everyone:\n{made.digest}")
    typer.echo("\nSend it and the roster to every site, where it is looked at and kept with:")
    typer.echo(f"  secfpp site agree DIR {out} --roster {roster}")
