"""`secfpp demo`, `run`, `compare` and `report`: train methods, keep and show the results."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from secfpp.cli.checking import DATA_ROOT
from secfpp.errors import ConfigError, Problem

if TYPE_CHECKING:
    from secfpp.experiment.results.run_directory import RunDirectory
    from secfpp.experiment.run.shards import Shard
    from secfpp.experiment.spec.config import ExperimentConfig
    from secfpp.runtime.engine import Engine

DEMO_METHODS = (
    "zero_shot",
    "random_prompt",
    "class_means_local",
    "class_means",
    "promptfl",
    "coop_local",
    "coop_local+means",
    "secfpp",
    "secfpp+clear",
)
DEMO_OUT = Path("runs/demo")
CONFIG = typer.Argument(metavar="CONFIG.toml", help="The experiment.")
OUT = typer.Option(..., help="Directory for the results.")
SET = typer.Option(
    [], "--set", metavar="KEY=VALUE", help="Change a setting, e.g. --set method.training.lr=0.002; repeatable."
)
JSON = typer.Option(False, "--json", help="Print the summary as JSON instead of a table.")
RESUME = typer.Option(False, "--resume", help="Go on with the run in that directory, if there is one.")
NEW_LEDGER = typer.Option(
    False, "--new-ledger", help="Begin another privacy ledger of the data; what earlier runs released does not count."
)
DETERMINISTIC = typer.Option(
    False, "--deterministic", help="The bits of a deployed run: one client at a time, on one thread; slower."
)
ENGINE = typer.Option(
    "",
    "--engine",
    metavar="ray",
    help="Spread a run's clients over the cluster at RAY_ADDRESS, or this machine's cores.",
)
DEVICE = typer.Option(
    "", "--device", metavar="NAME", help="Where the model computes: auto, cpu, cuda or cuda:N; else as the config says."
)
TENSORBOARD = typer.Option(False, "--tensorboard", help="Write event files to DIR/tensorboard too.")


def demo(
    out: Path = typer.Option(DEMO_OUT, help="Directory for the results; an earlier demo there is replaced."),
    seed: int = typer.Option(0, min=0, help="Seed of data, partition and training."),
    rounds: int = typer.Option(20, min=1, help="Training rounds."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, ..."),
    threads: int | None = typer.Option(None, min=1, help="CPU threads; all of them if not given."),
    resume: bool = RESUME,
    force: bool = typer.Option(False, "--force", help="Replace another run's results in that directory."),
    as_json: bool = JSON,
) -> None:
    """Compare all methods on the embedded benchmark with the embedded model: one to two minutes, offline.

    A demo replaces the results of an earlier demo in its directory without asking; anything else that
    lies there is left alone, and results of another command are replaced with --force only. One that was
    stopped goes on with --resume.
    """
    from secfpp.experiment.results.run_directory import open_run_directory
    from secfpp.experiment.spec.config import parse_config

    _require_one(force, resume)
    model = {"device": device} | ({} if threads is None else {"threads": threads})
    config = parse_config({"seed": seed, "rounds": rounds, "backbone": model})
    with open_run_directory(out, "demo", force=force, own=not resume, resume=resume) as directory:
        _train(config, DEMO_METHODS, directory, as_json=as_json)


def run(
    config: Path = CONFIG,
    out: Path = OUT,
    set_: list[str] = SET,
    method: str = typer.Option("", metavar="LABEL", help="Train this method or variant, not the config's own method."),
    resume: bool = RESUME,
    data_root: Path | None = DATA_ROOT,
    transcript: Path | None = typer.Option(
        None, metavar="DIR", help="Write every message there as it is sent; secfpp transcript DIR lists them."
    ),
    tensorboard: bool = TENSORBOARD,
    new_ledger: bool = NEW_LEDGER,
    deterministic: bool = DETERMINISTIC,
    device: str = DEVICE,
    engine: str = ENGINE,
    force: bool = typer.Option(False, "--force", help="Replace the results in that directory."),
    as_json: bool = JSON,
) -> None:
    """Train one method of a config on each of its seeds.

    A run that was stopped, by whatever means, goes on with --resume and ends with the results of one that was
    not; the settings must be those it began with.
    """
    from secfpp.experiment.results.run_directory import open_run_directory
    from secfpp.experiment.spec.config import load_config

    _require_one(force, resume)
    settings = on_device(load_config(config, set_), device)
    if deterministic:
        settings = replace(settings, backbone=settings.backbone.deterministic)
    with open_run_directory(out, "run", force=force, resume=resume) as directory:
        label = method or settings.method.name
        _train(
            settings,
            (label,),
            directory,
            as_json=as_json,
            tensorboard=tensorboard,
            transcript=transcript,
            new_ledger=new_ledger,
            engine=engine,
        )


def compare(
    config: Path = CONFIG,
    out: Path = OUT,
    methods: str = typer.Option(
        "",
        metavar="A,B,...",
        help="Methods and variants to compare; every method and the config's variants if not given.",
    ),
    seeds: str = typer.Option("", metavar="SEEDS", help="E.g. 100,101 or 100-104; those of the config if not given."),
    set_: list[str] = SET,
    data_root: Path | None = DATA_ROOT,
    workers: int | None = typer.Option(
        None, min=1, help="Seeds to train side by side; as many as processors and memory allow if not given."
    ),
    threads: int | None = typer.Option(
        None, min=1, help="CPU threads of each worker; 1 if not given and there are several workers."
    ),
    against: str = typer.Option(
        "",
        "--against",
        metavar="LABEL",
        help="Paired differences of this method; the config's own, or else the best one, if not given.",
    ),
    tensorboard: bool = TENSORBOARD,
    new_ledger: bool = NEW_LEDGER,
    deterministic: bool = DETERMINISTIC,
    device: str = DEVICE,
    engine: str = ENGINE,
    shard: str = typer.Option(
        "", metavar="I/N", help="Train only the I-th of N parts, to OUT/shards; without it, finished parts are used."
    ),
    force: bool = typer.Option(False, "--force", help="Start over: replace the results in that directory."),
    as_json: bool = JSON,
) -> None:
    """Train methods and variants of a config on the same seeds, and compare them by paired differences.

    The same command again goes on with what is not finished; with more methods or seeds it adds them. If a cell
    (a method on a seed) fails, the others are trained all the same, and the command ends with status 1.

    Several machines with a common disk share the work by --shard 1/8 to --shard 8/8, in any order. The same command
    without --shard then puts the results together, and trains what is missing.

    Results do not depend on the number of workers; the last bits of a result may depend on --threads.
    """
    from secfpp.experiment.results.run_directory import open_run_directory, open_shard
    from secfpp.experiment.spec.config import load_config

    part = _shard(shard, force, new_ledger)
    if engine and workers not in (None, 1):
        raise ConfigError([Problem("--workers", workers, "1, or leave it out: --engine trains one seed at a time")])
    settings = on_device(load_config(config, set_), device)
    if seeds:
        settings = replace(settings, seeds=parse_seeds(seeds))
    labels = parse_labels(methods) if methods else settings.labels()
    if against and against not in labels:
        raise ConfigError([Problem("--against", against, f"one of the methods compared: {', '.join(labels)}")])
    if threads:
        settings = replace(settings, backbone=replace(settings.backbone, threads=threads))
    if deterministic:
        if threads not in (None, 1):
            raise ConfigError([Problem("--threads", threads, "1, or leave it out: --deterministic means one thread")])
        settings = replace(settings, backbone=settings.backbone.deterministic)
    with (
        open_shard(out, part.folder, "compare")
        if part
        else open_run_directory(out, "compare", force=force, resume=not force)
    ) as directory:
        directory.against = against
        _train(
            settings,
            labels,
            directory,
            as_json=as_json,
            workers=workers,
            differences=not part,
            tensorboard=tensorboard,
            new_ledger=new_ledger,
            shard=part,
            engine=engine,
        )


def report(
    directory: Path = typer.Argument(metavar="DIR", help="A directory that run, compare or demo made."),
    out: Path | None = typer.Option(None, help="Write the page there, and nothing to DIR."),
    as_json: bool = JSON,
) -> None:
    """Make the report and the tables of a run anew from its stored results, also while some are missing."""
    from secfpp.cli.output import print_json, print_results
    from secfpp.experiment.results.run_directory import open_results
    from secfpp.experiment.run.result_files import finished_results
    from secfpp.storage import atomic_write

    page = out or directory / "report.html"
    with open_results(directory) as results:
        files = finished_results(results)
        summary = files.summary()
        try:
            if out:
                atomic_write(page, files.report(summary).encode())
            else:
                files.write_pages(summary)
        except OSError as error:
            raise ConfigError([Problem("--out", str(page), f"cannot be written ({error.strerror})")]) from error
    if as_json:
        print_json(summary)
    else:
        print_results(summary, page)


def on_device(config: ExperimentConfig, device: str) -> ExperimentConfig:
    """`config` with what ``--device`` names as its ``backbone.device``; the same if it was not given."""
    return replace(config, backbone=replace(config.backbone, device=device)) if device else config


def parse_seeds(text: str) -> tuple[int, ...]:
    """``100,101`` or ``100-104`` or both mixed, as numbers.

    Raises:
        ConfigError: something else, or a seed named twice.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise ConfigError([Problem("--seeds", text, "numbers from 0 and rising ranges, e.g. 100,101 or 100-104")])
        seeds += range(int(first), int(last or first) + 1)
    if len(set(seeds)) < len(seeds):
        raise ConfigError([Problem("--seeds", text, "should name each seed once")])
    return tuple(seeds)


def parse_labels(text: str, option: str = "--methods", what: str = "method") -> tuple[str, ...]:
    """``a,b`` as labels of something, given with an option; a comma inside a label is not supported here.

    Raises:
        ConfigError: an empty label, or one named twice.
    """
    labels = tuple(word.strip() for word in text.split(","))
    if not all(labels) or len(set(labels)) < len(labels):
        raise ConfigError([Problem(option, text, f"should name each {what} once, with commas between")])
    return labels


def _shard(text: str, force: bool, new_ledger: bool) -> Shard | None:
    """The part that ``--shard`` asks for, if any.

    Raises:
        ConfigError: no such part, or options that shards would each follow for all of them.
    """
    from secfpp.experiment.run.shards import Shard

    if not text:
        return None
    shard, problems = Shard.parse(text), []
    if force:
        problems.append(Problem("--force", True, "not with --shard: choose another --out, or delete the directory"))
    if new_ledger:
        problems.append(Problem("--new-ledger", True, "not with --shard, as each would begin one"))
    if problems:
        raise ConfigError(problems)
    return shard


def _require_one(force: bool, resume: bool) -> None:
    if force and resume:
        raise ConfigError([Problem("--force", True, "either --force or --resume: start over, or go on")])


def _for_engine(name: str, config: ExperimentConfig) -> ExperimentConfig:
    """`config` as an engine computes it.

    Raises:
        ConfigError: no such engine, or settings that it cannot follow.
        MissingExtraError: it is not installed.
    """
    from secfpp.cluster.engine import settings_for_ray

    if name != "ray":
        raise ConfigError([Problem("--engine", name, "ray, or leave it out")])
    return replace(config, backbone=settings_for_ray(config.backbone))


def _engine(name: str, config: ExperimentConfig) -> AbstractContextManager[Engine | None]:
    """What `name` stands for; nothing is this process."""
    if not name:
        return nullcontext()
    from secfpp.cluster.engine import ray_engine

    return ray_engine(config.backbone)


def _train(
    config: ExperimentConfig,
    labels: Sequence[str],
    directory: RunDirectory,
    *,
    as_json: bool,
    workers: int | None = 1,
    differences: bool = False,
    tensorboard: bool = False,
    transcript: Path | None = None,
    new_ledger: bool = False,
    shard: Shard | None = None,
    engine: str = "",
) -> None:
    from secfpp.cli.output import print_json, print_results
    from secfpp.cli.progress import open_progress
    from secfpp.experiment.run.runner import run_experiment

    if engine:
        config = _for_engine(engine, config)
    with open_progress() as progress, _engine(engine, config) as place:
        outcome = run_experiment(
            config,
            labels,
            directory,
            progress,
            workers=workers,
            tensorboard=tensorboard,
            transcript=transcript,
            new_ledger=new_ledger,
            shard=shard,
            engine=place,
        )
    if as_json:
        print_json(outcome.summary)
    elif outcome.summary["methods"]:
        print_results(outcome.summary, directory.path / "report.html", outcome.reference if differences else None)
    outcome.require_success()
