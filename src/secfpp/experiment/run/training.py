"""Train the methods of one seed, one after the other, keeping each result as a cell.

The data of a seed are loaded once for all its methods. What happens is told as events, which travel between
processes or not: `train_seed` is what a worker does, and what a run in this process does.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from traceback import format_exc
from typing import TYPE_CHECKING, Literal

import torch

from secfpp.errors import ConfigError, DataError, DataWarning, DiskFullError, SecFPPError
from secfpp.experiment.results.cells import FinishedCell, checkpoint_file, note_failure, save_cell
from secfpp.experiment.results.holdings import partition_table
from secfpp.experiment.results.run_directory import RunDirectory, git_revision, versions
from secfpp.experiment.results.summary import novelties, prompt_files
from secfpp.experiment.results.tensorboard import live_events
from secfpp.experiment.results.transcripts import record
from secfpp.experiment.run.memory import require_memory
from secfpp.experiment.run.timing import load
from secfpp.experiment.spec.config import ExperimentConfig
from secfpp.experiment.spec.plan import Cell, Plan
from secfpp.experiment.spec.settable import as_set
from secfpp.models.devices import computed_on
from secfpp.paging import paged
from secfpp.storage import atomic_write

if TYPE_CHECKING:
    from secfpp.algorithms.base import FederatedAlgorithm
    from secfpp.data.federated import FederatedDataset
    from secfpp.models.backbone import Backbone
    from secfpp.protocol.transcript import Transcript
    from secfpp.runtime.engine import Engine
    from secfpp.runtime.trainer import RoundRecord


@dataclass(frozen=True)
class SeedTask:
    """What is left to train on one seed.

    Attributes:
        directory: the run directory.
        config: the experiment.
        plan: the run directory's plan.
        seed: the seed.
        labels: the methods, in the order of training.
        tensorboard: whether to write each round to event files too.
        transcript: where to write every message, if anywhere.
        workers: how many tasks are trained side by side.
        new_ledger: begin another privacy ledger of the data, unless theirs was begun after this time.
    """

    directory: Path
    config: ExperimentConfig
    plan: Plan
    seed: int
    labels: tuple[str, ...]
    tensorboard: bool = False
    transcript: Path | None = None
    workers: int = 1
    new_ledger: datetime | None = None

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells to train, in order."""
        return tuple(Cell(label, self.seed) for label in self.labels)

    def without(self, ended: set[Cell]) -> SeedTask:
        """The same task with these cells left out."""
        return replace(self, labels=tuple(cell.method for cell in self.cells if cell not in ended))


@dataclass(frozen=True)
class Event:
    """Something that happened to a task.

    Attributes:
        kind: ``preparing`` (`text` says what), ``note`` (`text` is worth knowing), ``started``, ``exchange`` (begins;
            `text` says what for), ``round`` (with `record`), ``finished`` (the cell is on disk), ``failed`` (`text` is
            the message, `error` the exception if it is from this process), ``full`` (a worker's disk is: it has ended
            with the message `text`).
        cell: the cell it happened to; the first of the task while it prepares.
        text: see `kind`.
        record: what a progress display shows of a round.
        error: see `kind`.
    """

    kind: Literal["preparing", "note", "started", "exchange", "round", "finished", "failed", "full"]
    cell: Cell
    text: str = ""
    record: RoundRecord | None = None
    error: Exception | None = None


Emit = Callable[[Event], None]
_ACTIVITIES = {
    "method": "training",
    "session": "agreeing on keys",
    "clusterer": "clustering",
    "aggregator": "averaging",
    "poll": "polling",
}


def train_seed(
    task: SeedTask,
    backbone: Backbone,
    emit: Emit,
    dataset: FederatedDataset | None = None,
    engine: Engine | None = None,
) -> None:
    """Train every cell of `task`; a cell that fails is noted and told, and the next one begins.

    Args:
        task: what to train.
        backbone: the frozen model.
        emit: told of everything that happens, in order.
        dataset: the data of the task's seed, if they are loaded already.
        engine: where clients are, if not in this process.

    Raises:
        DiskFullError: there is no room for what is to be kept.
    """
    from secfpp.runtime.contexts import dataset_digest

    try:
        if dataset is None:
            emit(Event("preparing", task.cells[0], f"loading the data set {task.config.data.name!r}, seed {task.seed}"))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)  # told when the run began, with the first seed's data
                dataset = load_dataset(task.config, task.seed)
        task = _feasible(task, dataset, backbone, emit, engine)
        if not task.cells:
            return
        digest = dataset_digest(dataset)
        _keep_partition(task, dataset, digest)
        _begin_ledger(task, dataset)
        emit(
            Event(
                "preparing",
                task.cells[0],
                f"encoding the images of seed {task.seed} (once: they are kept in the cache)",
            )
        )
        encode_images(dataset, backbone)
    except Exception as error:
        for cell in task.cells:
            _fail(task, cell, error, emit)
        return
    for cell in task.cells:
        try:
            _train_cell(task, cell, backbone, dataset, digest, emit, engine)
        except Exception as error:
            _fail(task, cell, error, emit)


def _feasible(
    task: SeedTask, dataset: FederatedDataset, backbone: Backbone, emit: Emit, engine: Engine | None
) -> SeedTask:
    """The task without cells whose settings do not fit the clients or class names: they fail before any encoding."""
    failed, told = set(), set[str]()
    for cell in task.cells:
        try:
            told |= require_fit(task.config, cell, dataset, backbone, engine)
        except SecFPPError as error:
            _fail(task, cell, error, emit)
            failed.add(cell)
    for note in sorted(told):
        emit(Event("note", task.cells[0], f"seed {task.seed}: {note}"))
    return task.without(failed)


def require_fit(
    config: ExperimentConfig, cell: Cell, dataset: FederatedDataset, backbone: Backbone, engine: Engine | None = None
) -> set[str]:
    """Raise unless a method can be trained on the clients and class names of a data set; what is worth knowing of it.

    Raises:
        SecFPPError: it cannot.
    """
    from secfpp.runtime.trainer import per_round

    algorithm, told = config.choose([cell.method])[cell.method].for_rounds(config.rounds), set[str]()
    clients = per_round(len(dataset.clients), config.participation)
    if engine:
        engine.require(algorithm)
    if algorithm.trained:
        told.add(require_memory(algorithm, clients, len(dataset.classes), cell.seed))
        algorithm.require(clients)
        if warning := algorithm.forewarn(clients, algorithm.prompt.n_ctx * backbone.spec.text_dim):
            told.add(f"{cell.method}: {warning}")
    backbone.class_tokens(dataset.classes, algorithm.prompt.n_ctx)
    return told - {""}


def load_dataset(config: ExperimentConfig, seed: int) -> FederatedDataset:
    """The federated data set of `config` for one seed.

    Raises:
        DataError: data that cannot be used, or a loader of another package that gives something else.
    """
    from secfpp.data.catalog import datasets
    from secfpp.data.federated import FederatedDataset, hold_out

    dataset = datasets()[config.data.name].load(config.data.settings, seed)
    if not isinstance(dataset, FederatedDataset):
        raise DataError(
            f"the data set {config.data.name!r}: its loader gives {type(dataset).__name__}, not a FederatedDataset: "
            "mend the package that it is from"
        )
    return hold_out(dataset, config.held_out, seed) if config.held_out else dataset


def encode_images(dataset: FederatedDataset, backbone: Backbone) -> None:
    """Put every image's features into the cache, so that no method pays for them in its seconds."""
    for client in paged((*dataset.clients, *dataset.newcomers)):
        for split in (client.train, client.validation):
            if len(split):
                backbone.features(split.images)
    for split in dataset.test.values():
        backbone.features(split.images)


def _train_cell(
    task: SeedTask,
    cell: Cell,
    backbone: Backbone,
    dataset: FederatedDataset,
    digest: str,
    emit: Emit,
    engine: Engine | None,
) -> None:
    from secfpp.runtime.trainer import train

    emit(Event("started", cell))
    algorithm = task.config.choose([cell.method])[cell.method]
    with (
        live_events(task.directory, cell) if task.tensorboard else nullcontext() as events,
        _recorded(task, cell, algorithm) as transcript,
    ):

        def on_round(record: RoundRecord) -> None:
            if events is not None:
                events.round_done(record)
            emit(Event("round", cell, record=record))

        def on_exchange(round_: int, number: int, components: Sequence[str]) -> None:
            doing = " and ".join(_ACTIVITIES.get(component, component) for component in components)
            emit(Event("exchange", cell, text=f"round {round_}/{task.config.rounds}, exchange {number}: {doing}"))

        result = train(
            dataset,
            backbone,
            algorithm,
            method=cell.method,
            seed=cell.seed,
            rounds=task.config.rounds,
            participation=task.config.participation,
            chunk=task.config.backbone.chunk,
            checkpoint=checkpoint_file(task.directory, cell),
            transcript=transcript,
            on_round=on_round,
            on_exchange=on_exchange,
            engine=engine,
        )
    size = dataset.clients[0].train.images.shape[1]
    known = novelties(dataset, backbone)
    for name, content in paged(prompt_files(result, backbone.spec, dataset.classes, size, known, dataset.grey_window)):
        atomic_write(task.directory / name, content)
    model = task.config.backbone
    made_by = versions() | computed_on(model.device, model.dtype, model.compile)
    made_by |= load(engine.processes if engine else task.workers, torch.get_num_threads())
    finished = FinishedCell(result, digest, made_by, git_revision())
    save_cell(task.directory, finished, task.plan.identity(cell))
    del result, finished  # whoever is told reads it again
    emit(Event("finished", cell))


def _recorded(task: SeedTask, cell: Cell, algorithm: FederatedAlgorithm) -> AbstractContextManager[Transcript | None]:
    """The transcript of a cell, which goes on where the cell does; nothing if none is asked for."""
    if task.transcript is None:
        return nullcontext()
    return record(task.transcript, cell, algorithm, go_on=checkpoint_file(task.directory, cell).exists())


def _keep_partition(task: SeedTask, dataset: FederatedDataset, digest: str) -> None:
    """Write ``partitions/SEED.json``, after checking that what is finished was trained on the same data."""
    from secfpp.runtime.privacy import fingerprint

    directory, name = RunDirectory(task.directory, ""), f"partitions/{task.seed}.json"
    stored = directory.read_json(name)
    if stored is not None and stored.get("digest") != digest:
        raise DataError(
            f"seed {task.seed}: the data are not those that {task.directory / name} was written for, "
            "so that results would mix; give the old data back, choose another --out, or start over with --force"
        )
    if stored is None:
        about = {"digest": digest, "pictures": fingerprint(dataset), "facts": dict(dataset.facts)}
        directory.write_json(name, {**about, **partition_table(dataset)})


def _begin_ledger(task: SeedTask, dataset: FederatedDataset) -> None:
    """Begin another ledger of the data if that is asked for, and a method of the task is going to charge it."""
    from secfpp.runtime.privacy import ledger_of

    if task.new_ledger is None:
        return
    for method in task.config.choose(task.labels).values():
        if terms := method.privacy_terms:
            ledger_of(dataset, terms, new=task.new_ledger)


def described(error: Exception) -> str:
    """The message of an error; with its type where nobody wrote the message for a user."""
    return str(error) if isinstance(error, SecFPPError) else f"{type(error).__name__}: {error}"


def _fail(task: SeedTask, cell: Cell, error: Exception, emit: Emit) -> None:
    if isinstance(error, DiskFullError):
        raise error  # nothing else could be kept either
    if isinstance(error, ConfigError):
        error = as_set(error, task.config, cell.method)
    message = described(error)
    note_failure(task.directory, cell, message, format_exc())
    emit(Event("failed", cell, text=message, error=error))
