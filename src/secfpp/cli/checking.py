"""`secfpp data check`: what is wrong with a data set, and what a model makes of it untrained."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from secfpp.data.checks import Findings
    from secfpp.experiment.spec.config import ExperimentConfig
    from secfpp.models.backbone import Backbone
    from secfpp.runtime.first_look import FirstLook

SHOWN = 10
"""Pairs and classes that the printed table names; JSON names all."""


def use_data_root(root: Path | None) -> Path | None:
    """Let collections be looked for there, in this process and its workers; for an option's ``callback``."""
    from secfpp.data.collection import ROOT_VARIABLE

    if root is not None:
        os.environ[ROOT_VARIABLE] = str(root)
    return root


DATA_ROOT = typer.Option(
    None, "--data-root", metavar="DIR", callback=use_data_root, help="Where collections of images lie on this machine."
)


def check(
    target: Path = typer.Argument(metavar="CONFIG.toml|FOLDER|TABLE", help="An experiment, or own images."),
    set_: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help="Change a setting; repeatable."),
    layout: str = typer.Option("", help="The levels of a FOLDER, e.g. domain/class; guessed if not given."),
    backbone: str = typer.Option("", metavar="NAME", help="The model; of a CONFIG its own, of own images none."),
    images: int = typer.Option(500, min=0, help="Test images of a domain that the model looks at; 0 is all."),
    bits: int = typer.Option(10, min=0, max=128, help="Bits of 128 in which images that look the same differ at most."),
    seed: int | None = typer.Option(None, min=0, help="Of the partition; the first of the config if not given."),
    data_root: Path | None = DATA_ROOT,
    as_json: bool = typer.Option(False, "--json", help="Print JSON, with everything that was found."),
) -> None:
    """Look at every image of a data set: broken files, empty and uneven classes, near duplicates across parts.

    The accuracy of the model's hand-written prompt stands beside chance: where they are alike, class names and labels
    may disagree. Ends with 1 if there is something that a run would stop at, else with 0.
    """
    from secfpp.cli.output import print_json

    config = _config(target, set_, layout, backbone)
    with_model = bool(backbone) or target.suffix == ".toml"
    findings, look = _looked(config, images, bits, config.seeds[0] if seed is None else seed, with_model)
    if as_json:
        print_json(_table(config, findings, look))
    else:
        _print(config, findings, look)
    if findings.problems:
        raise typer.Exit(1)


def _config(target: Path, set_: list[str], layout: str, backbone: str) -> ExperimentConfig:
    """The experiment to look at; own images become one."""
    from secfpp.data.folder_survey import guess_layout
    from secfpp.data.tables import is_table
    from secfpp.errors import ConfigError
    from secfpp.experiment.spec.config import load_config, parse_config
    from secfpp.experiment.spec.layers import overridden

    if not target.exists():
        raise ConfigError(f"{target}: no such file or folder; give a config, or own images: a folder or a table")
    model = [f"backbone.name={backbone}"] if backbone else []
    if target.is_dir():
        own = {"name": "folder", "root": str(target), "layout": layout or guess_layout(target)}
    elif is_table(target):
        own = {"name": "table", "file": str(target)}
    else:
        return load_config(target, [*set_, *model])
    return parse_config(overridden({"data": own}, [*set_, *model]))


def _looked(
    config: ExperimentConfig, images: int, bits: int, seed: int, with_model: bool
) -> tuple[Findings, FirstLook | None]:
    """What was found, and what the model makes of the data if they can be used at all."""
    from secfpp.data.catalog import datasets
    from secfpp.data.checks import Findings, broken_images, look_at_arrays, look_at_files
    from secfpp.data.collection import CollectionSettings, with_parts
    from secfpp.data.folders import FolderSettings
    from secfpp.errors import ConfigError, DataError
    from secfpp.experiment.run.training import load_dataset
    from secfpp.runtime.first_look import first_look

    spec, settings = datasets()[config.data.name], config.data.settings
    findings = Findings({})
    if spec.survey is not None:
        try:
            collection = spec.survey(settings)
            if isinstance(settings, CollectionSettings):
                collection = with_parts(collection, settings.validation, settings.test)
            findings = look_at_files(collection, bits)
        except DataError as error:
            findings.problems += error.findings
            if isinstance(settings, FolderSettings):
                findings.problems += broken_images(Path(settings.root).expanduser())
    if findings.problems:
        return findings, None
    try:
        dataset = load_dataset(config, seed)
    except (ConfigError, DataError) as error:
        findings.problems += error.findings if isinstance(error, DataError) else [str(error)]
        return findings, None
    if spec.survey is None:
        findings = look_at_arrays(dataset, bits)
    if not with_model:
        return findings, None
    look = None
    try:
        model = _model(config)
    except ConfigError as error:
        findings.told.append(f"no model has looked at the images: {error}")
        return findings, None
    try:
        look = first_look(dataset, model, images, seed)
        said = "the hand-written prompt is no better than guessing: do class names and labels agree?"
        findings.told += [f"{domain}: {said}" for domain in look.near_chance()]
    except ConfigError as error:
        findings.problems += str(error).splitlines()
    return findings, look


def _model(config: ExperimentConfig) -> Backbone:
    from secfpp.models.backbone import load_backbone

    model = config.backbone
    return load_backbone(
        model.name, device=model.device, threads=model.threads, dtype=model.dtype, compile=model.compile
    )


def _table(config: ExperimentConfig, findings: Findings, look: FirstLook | None) -> dict[str, Any]:
    return {
        "data": config.data.name,
        "usable": not findings.problems,
        "problems": findings.problems,
        "remarks": findings.remarks,
        "images": findings.images,
        "classes": findings.classes,
        "imbalance": findings.imbalance,
        "twins": [asdict(pair) for pair in findings.twins],
        "zero_shot": look and {"backbone": config.backbone.name, **asdict(look)},
    }


def _print(config: ExperimentConfig, findings: Findings, look: FirstLook | None) -> None:
    from secfpp.cli.output import print_block
    from secfpp.data.holdings import PARTS

    if findings.classes:
        typer.echo(f"{config.data.name}: {findings.images:,} images of {len(findings.classes)} classes")
    else:
        typer.echo(f"{config.data.name}: images are not counted before its problems are mended")
    parts = [part for part in (*PARTS, "open") if any(own.get(part) for own in findings.classes.values())]
    ordered = sorted(findings.classes.items(), key=lambda item: (sum(item[1].values()), item[0]))
    shown = ordered if len(ordered) <= SHOWN else [*ordered[: SHOWN // 2], *ordered[-SHOWN // 2 :]]
    if parts:
        title = "images by class" + ("" if shown is ordered else f", the {SHOWN // 2} smallest and largest classes")
        print_block(title, [["class", *parts], *([name, *(str(own.get(p, 0)) for p in parts)] for name, own in shown)])
    if "open" in parts:
        typer.echo("open: not split yet; a run does that, or give the data a split")
    if findings.twins:
        typer.echo("\nimages that look the same, by the bits in which their hashes differ")
    for pair in findings.twins[:SHOWN]:
        one, other = (f"{at} ({label})" for at, label in zip((pair.first, pair.second), pair.labels, strict=True))
        typer.echo(f"  {pair.bits:>2}  {one}\n      {other}")
    if look:
        rows = [[domain, f"{accuracy:.1f}", str(look.images[domain])] for domain, accuracy in look.accuracy.items()]
        print_block(
            f"hand-written prompt, model {config.backbone.name}, accuracy in % (chance {look.chance:.1f})",
            [["domain", "accuracy", "images"], *rows],
        )
    for title, found in (("remarks", findings.remarks), ("problems", findings.problems)):
        if found:
            typer.echo(f"\n{title}: {len(found)}")
            for line in found:
                typer.echo(f"  {line}")
    typer.echo("\nnot usable: a run would stop at these problems" if findings.problems else "\nusable")
