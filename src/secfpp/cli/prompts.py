"""`secfpp predict`, `secfpp export` and `secfpp import`: what a client does with its prompt."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

if TYPE_CHECKING:
    import numpy as np

    from secfpp.models.prompt_file import ClientPrompt


class Prior(StrEnum):
    """How often classes are expected."""

    OWN = "own"
    UNIFORM = "uniform"


class Target(StrEnum):
    """What a prompt can be written as."""

    COOP = "coop"
    SAFETENSORS = "safetensors"


class Level(StrEnum):
    """Which of a client's two prompts."""

    PERSONAL = "personal"
    DOMAIN = "domain"


class Source(StrEnum):
    """What a prompt can be made from."""

    COOP = "coop"


GREY_WINDOW = typer.Option(
    None, metavar="LOW HIGH", help="Which grey values of more than 8 bits are black and white, if not as in training."
)
PROMPT = "A client's prompt: runs/NAME/prompts/METHOD/SEED/CLIENT.safetensors."
FULL_STOP = (
    "CoOp puts a full stop behind class names; this prompt was learned without, so its scores may differ a little there"
)
ONE_LEVEL = (
    "The client predicts with two prompts, {where} with one, here the {level} one: expect less accuracy on {classes}"
)
NO_VISUAL = "The client also predicts with class means of image features, {where} without: expect much less accuracy"
UNLIKE = (
    "{count} of {total} are unlike the client's training images (novelty above {threshold:.2f}): labels mean little"
)
SAY_IT = "; --class-contexts IMAGES makes a prompt that says the same"
TWICE = "no prompt can tell them apart: add a word that says what is meant, such as 'crane bird' and 'crane machine'"
WEAK = {Level.PERSONAL: "classes that the client has few images of, or none", Level.DOMAIN: "the classes that it has"}


def predict(
    images: list[Path] = typer.Argument(metavar="IMAGES...", help="Image files, and folders with images at any depth."),
    prompt: Path = typer.Option(..., metavar="FILE", help=PROMPT),
    prior: Prior | None = typer.Option(
        None, help="Expect classes as often as the client has them (own, where the file knows) or all alike (uniform)."
    ),
    top: int = typer.Option(1, min=1, metavar="N", help="Show the N best classes of each image."),
    backbone: str | None = typer.Option(None, help="Where the model is, if not under the name it was trained by."),
    grey_window: tuple[float, float] | None = GREY_WINDOW,
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    as_csv: bool = typer.Option(False, "--csv", help="Print CSV, one line per image and class."),
) -> None:
    """Classify images with one client's prompt: labels and probabilities as a table, JSON or CSV."""
    from secfpp.cli.output import aligned, print_json
    from secfpp.images import files_in
    from secfpp.models.prompt_file import load_prompt

    if as_json and as_csv:
        raise typer.BadParameter("give --json or --csv, not both")
    learned = load_prompt(prompt)
    paths = files_in(images)
    expected: Literal["own", "uniform"] | None = None if prior is None else "own" if prior is Prior.OWN else "uniform"
    pixels = learned.pixels(paths, grey_window)
    model = learned.model(backbone)
    scores = learned.predict_proba(pixels, backbone=model, prior=expected)
    best = [_best(learned.classes, row, top) for row in scores.tolist()]
    novelty: list[float | None] = [None] * len(paths)
    unlike: list[bool | None] = [None] * len(paths)
    if (threshold := learned.novelty_threshold) is not None:
        values = learned.novelty(pixels, backbone=model)
        novelty, unlike = values.astype(float).round(6).tolist(), (values > threshold).tolist()
    if as_json:
        used = prior or (Prior.UNIFORM if learned.log_prior is None else Prior.OWN)
        found = [
            {"image": str(path), **row[0], "top": row, "novelty": value, "unlike_training": above}
            for path, row, value, above in zip(paths, best, novelty, unlike, strict=True)
        ]
        about = {"prompt": str(prompt), "client": learned.client, "prior": used.value, "novelty_threshold": threshold}
        print_json({**about, "images": found})
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["image", "rank", "label", "probability", "novelty", "unlike_training"])
        for path, row, *said in zip(paths, best, novelty, unlike, strict=True):
            writer.writerows([path, rank, *each.values(), *said] for rank, each in enumerate(row, 1))
    else:
        head = ["image", *(word for rank in range(len(best[0])) for word in (_rank(rank), "probability"))]
        cells = [
            [str(path), *(word for each in row for word in (each["label"], f"{each['probability']:.3f}"))]
            for path, row in zip(paths, best, strict=True)
        ]
        if threshold is not None:
            head.append("novelty")
            for line, value, above in zip(cells, novelty, unlike, strict=True):
                line.append(f"{value:.2f}{' (unlike)' if above else ''}")
        first, *rest = aligned([head, *cells])
        typer.secho(first, bold=True)
        typer.echo("\n".join(rest))
        if count := unlike.count(True):
            typer.echo(UNLIKE.format(count=count, total=len(paths), threshold=threshold))


def export(
    prompt: Path = typer.Argument(metavar="PROMPT", help=PROMPT),
    to: Target = typer.Option(..., help="coop: the layout of CoOp's checkpoints; safetensors: this package's own."),
    out: Path = typer.Option(
        ..., metavar="FILE", help="File to write; CoOp looks for DIR/prompt_learner/model.pth.tar-EPOCH."
    ),
    level: Level | None = typer.Option(
        None, help="Of a client's two prompts one alone; coop has room for one: the personal, if not told otherwise."
    ),
    no_prior: bool = typer.Option(
        False, "--no-prior", help="Leave out what tells the client's classes; of two prompts that leaves one."
    ),
    class_contexts: Path | None = typer.Option(
        None,
        metavar="IMAGES",
        help="Fit a prompt alone, with a context for each single class, that predicts as the client does on the images "
        "of this folder; labels are not needed. As private as the images.",
    ),
    prior: Prior = typer.Option(
        Prior.UNIFORM, help="With --class-contexts: own puts into them how often the client has each class."
    ),
    grey_window: tuple[float, float] | None = GREY_WINDOW,
    backbone: str | None = typer.Option(None, help="For coop: where the model is, if not under its name."),
    force: bool = typer.Option(False, "--force", help="Replace an existing file."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Write a client's prompt for another program, or without what it says of the client's classes.

    A prompt file is private. It may hold how often the client has each class, which it has enough of, class means of
    image features and the mean of all (--no-prior leaves all that out; CoOp's layout has no place for it), and it holds
    the names of client, domain and classes. Its personal prompt was learned on the client's images and may tell
    something about them to whoever has the file. Its domain prompt is an average over the client's group, the others of
    which know it.
    """
    from secfpp.errors import ConfigError, Problem
    from secfpp.models.coop_checkpoint import to_coop
    from secfpp.models.prompt_file import load_prompt

    require_free(out, force)
    if class_contexts is None and prior is Prior.OWN:
        raise ConfigError([Problem("--prior", prior.value, "only with --class-contexts")])
    if class_contexts is not None and no_prior:
        allowed = "not with --no-prior: they tell the client's classes"
        raise ConfigError([Problem("--class-contexts", str(class_contexts), allowed)])
    learned = load_prompt(prompt)
    notes, facts = list[str](), dict[str, object]()
    where = "CoOp's own predictor" if to is Target.COOP else "this file"
    if level is not None or no_prior or (to is Target.COOP and class_contexts is None):
        kept = level or Level.PERSONAL
        if learned.domain_prompt is not None:
            notes.append(ONE_LEVEL.format(where=where, level=kept.value, classes=WEAK[kept]))
        learned = learned.one_level("domain" if kept is Level.DOMAIN else "personal")
    if learned.visual_weights is not None and (no_prior or (to is Target.COOP and class_contexts is None)):
        notes.append(NO_VISUAL.format(where=where) + ("" if no_prior else SAY_IT))
    if no_prior:
        learned = learned.without_prior()
    levels = [(level or Level.PERSONAL).value] if learned.domain_prompt is None else [each.value for each in Level]
    if class_contexts is not None:
        pixels = learned.pixels(class_contexts, grey_window)
        learned, facts["agreement"] = _fitted(learned, pixels, backbone, to, prior)
    if to is Target.COOP and learned.class_template == "{}":
        notes.append(FULL_STOP)
    content = to_coop(learned, backbone) if to is Target.COOP else learned.to_bytes()
    own_file = to is Target.SAFETENSORS
    facts |= {
        "levels": levels,
        "class_frequencies": own_file and learned.log_prior is not None,
        "familiar_classes": own_file and learned.familiar is not None,
        "visual_part": own_file and learned.visual_weights is not None,
        "image_mean": own_file and learned.image_mean is not None,
        "class_contexts": learned.prompt.ndim == 3,
    }
    _write(out, content, as_json, notes=notes, format=to.value, **facts)


def _fitted(
    whole: ClientPrompt, pixels: np.ndarray, backbone: str | None, to: Target, prior: Prior
) -> tuple[ClientPrompt, float]:
    """A prompt alone that predicts as `whole` does on images `pixels`, and the share of these on which it does."""
    from secfpp.models.class_contexts import fit_class_contexts
    from secfpp.models.coop_checkpoint import coop_template

    model = whole.model(backbone)
    template = coop_template(whole, model) if to is Target.COOP else whole.class_template
    how: Literal["own", "uniform"] = "own" if prior is Prior.OWN else "uniform"
    alone = fit_class_contexts(whole, pixels, model, prior=how, class_template=template)
    expected = whole.predict(pixels, backbone=model, prior=how)
    found = alone.predict(pixels, backbone=model, prior="uniform")
    return alone, sum(map(str.__eq__, found, expected)) / len(found)


def import_(
    file: Path = typer.Argument(metavar="FILE", help="CoOp's prompt_learner/model.pth.tar-EPOCH, model-best.pth.tar."),
    source: Source = typer.Option(..., "--from", help="Whose layout it has."),
    classes: str = typer.Option(
        ...,
        metavar="NAMES",
        help="Class names in CoOp's order: a file with one per line, or a list with commas; none twice, since no "
        "prompt could tell them apart: 'crane bird' and 'crane machine', not 'crane' and 'crane'.",
    ),
    backbone: str = typer.Option(..., help="The CLIP it was trained with, e.g. openai/clip-vit-base-patch16."),
    out: Path = typer.Option(..., metavar="FILE", help="Prompt file to write (.safetensors)."),
    client: str = typer.Option("", help="Whose it shall be."),
    force: bool = typer.Option(False, "--force", help="Replace an existing file."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Make a prompt file from a checkpoint of CoOp; names and model are compared with what the file says."""
    from secfpp.models.backbone import load_backbone
    from secfpp.models.coop_checkpoint import from_coop

    require_free(out, force)
    names = class_list(classes)
    learned = from_coop(file, names, load_backbone(backbone), client)
    shape = list(learned.prompt.shape)
    _write(out, learned.to_bytes(), as_json, format=f"from {source.value}", classes=len(names), shape=shape)


def _best(classes: Sequence[str], scores: Sequence[float], top: int) -> list[dict[str, Any]]:
    order = sorted(range(len(classes)), key=lambda i: -scores[i])[:top]
    return [{"label": classes[i], "probability": round(scores[i], 6)} for i in order]


def _rank(index: int) -> str:
    return "label" if index == 0 else f"label {index + 1}"


def class_list(given: str) -> list[str]:
    """Class names from a file with one per line, or from a list with commas.

    Raises:
        ConfigError: there are fewer than two, or one is given twice.
    """
    from secfpp.data.rules import repeated
    from secfpp.errors import ConfigError, Problem

    path = Path(given).expanduser()
    try:
        words = path.read_text(encoding="utf-8").splitlines() if path.is_file() else given.split(",")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Problem("--classes", given, f"cannot be read as text: {error}")]) from error
    names = [word.strip() for word in words if word.strip()]
    if len(names) < 2:
        raise ConfigError([Problem("--classes", given, "a file with one name per line, or two names or more, commas")])
    what = "line" if path.is_file() else "name"
    numbered = [(number, word.strip()) for number, word in enumerate(words, 1) if word.strip()]
    if twice := [
        Problem("--classes", names[second], f"{what}s {numbered[first][0]} and {numbered[second][0]}: {TWICE}")
        for first, second in repeated(names)
    ]:
        raise ConfigError(twice)
    return names


def require_free(out: Path, force: bool) -> None:
    """Refuse to write over a file unless that is wanted.

    Raises:
        ConfigError: a folder, or a file that is there and not to be replaced.
    """
    from secfpp.errors import ConfigError, Problem

    if out.is_dir():
        raise ConfigError([Problem("--out", str(out), "is a directory: give the name of a file")])
    if out.exists() and not force:
        raise ConfigError([Problem("--out", str(out), "exists already: choose another name, or replace it by --force")])


def _write(out: Path, content: bytes, as_json: bool, *, notes: Sequence[str] = (), **facts: object) -> None:
    from secfpp.cli.output import print_json
    from secfpp.errors import ConfigError, Problem
    from secfpp.experiment.results.text import amount
    from secfpp.storage import atomic_write

    try:
        atomic_write(out, content)
    except OSError as error:
        raise ConfigError([Problem("--out", str(out), f"cannot be written: {error.strerror}")]) from error
    if as_json:
        print_json({"path": str(out), "bytes": len(content), **facts, "notes": list(notes)})
    else:
        typer.echo(f"wrote {out} ({amount(len(content))})")
        secrets = {
            "class_frequencies": "how often the client has each class",
            "familiar_classes": "which it knows well",
            "visual_part": "class means of its images",
            "image_mean": "the mean of all of them",
        }
        if held := [words for fact, words in secrets.items() if facts.get(fact)]:
            typer.echo(f"It holds {' and '.join(held)}; --no-prior leaves that out.")
        if facts.get("class_contexts"):
            typer.echo("Its contexts of single classes tell which the client has, and are as private as its images.")
        if "agreement" in facts:
            typer.echo(f"Of the images given, {facts['agreement']:.1%} get the class that the client predicts.")
        for note in notes:
            typer.echo(f"{note}.")
