"""Run methods on seeds and keep the results: the one place behind ``demo``, ``run`` and ``compare``.

The unit of work is a cell, one method on one seed (`secfpp.experiment.results.cells`). Every result file is made from
the stored cells alone, so that a run which was stopped and went on, one that several workers shared, and one whose
report is made anew later, all end with the same files.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import tomli_w

from secfpp.errors import DiskFullError, SecFPPError
from secfpp.experiment.report.samples import sample_images
from secfpp.experiment.results.cells import error_file, tidy
from secfpp.experiment.results.run_directory import RunDirectory
from secfpp.experiment.results.tensorboard import require_tensorboard, write_events
from secfpp.experiment.run.machine import fitting_workers, resident_memory
from secfpp.experiment.run.memory import grouping_memory
from secfpp.experiment.run.result_files import ResultFiles, read_cells
from secfpp.experiment.run.shards import Shard, finished_by_shards, take_over, unfinished_shards
from secfpp.experiment.run.training import Event, SeedTask, described, load_dataset, train_seed
from secfpp.experiment.run.workers import train_in_processes
from secfpp.experiment.spec.config import ExperimentConfig, to_table
from secfpp.experiment.spec.plan import Cell, Plan

if TYPE_CHECKING:
    from secfpp.data.federated import FederatedDataset
    from secfpp.runtime.engine import Engine
    from secfpp.runtime.trainer import RoundRecord, RunResult


class Progress(Protocol):
    """What watches a run; calls of one cell come in order, those of cells in training at once mix."""

    def preparing(self, what: str) -> None:
        """Something that takes a while, before or between trainings."""
        ...

    def note(self, what: str) -> None:
        """Something worth knowing before training begins."""
        ...

    def method_started(self, method: str, seed: int, rounds: int, cell: int, cells: int) -> None:
        """Training of `method` begins, as number `cell` of `cells` (those finished earlier counted too), from 1."""
        ...

    def working(self, method: str, seed: int, what: str) -> None:
        """Something begins inside a round of a method's training."""
        ...

    def round_done(self, method: str, seed: int, record: RoundRecord) -> None:
        """A round is over."""
        ...

    def method_done(self, result: RunResult) -> None:
        """A method is trained and evaluated on one seed, and its results are on disk."""
        ...

    def method_failed(self, method: str, seed: int, message: str) -> None:
        """Training of a method ended with an error."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        summary: the content of ``summary.json``.
        failures: the cells that this run tried in vain, each with its error.
        tried: how many cells it tried.
        reference: the method that the report compares the others with; None if nothing is finished.
    """

    summary: dict[str, Any]
    failures: Mapping[Cell, Exception]
    tried: int
    reference: str | None = None

    def require_success(self) -> None:
        """Raise the error of a run's only cell, or one that lists all cells that failed.

        Raises:
            SecFPPError: a cell failed.
        """
        if not self.failures:
            return
        error = next(iter(self.failures.values()))
        if self.tried == 1 and isinstance(error, SecFPPError):
            raise error
        raise SecFPPError("\n".join(f"{c}: {described(e)}" for c, e in self.failures.items())) from error


def run_experiment(
    config: ExperimentConfig,
    labels: Sequence[str],
    directory: RunDirectory,
    progress: Progress,
    *,
    workers: int | None = 1,
    tensorboard: bool = False,
    transcript: Path | None = None,
    new_ledger: bool = False,
    shard: Shard | None = None,
    engine: Engine | None = None,
) -> Outcome:
    """Train every method in `labels` on every seed of `config`, writing results as they come.

    In a directory with a stored run (see `open_run_directory`) it goes on: finished cells are not trained again,
    a half-trained one continues from its last round, new methods and seeds are added. Model and data are
    loaded, and labels and earlier results checked, before anything in `directory` changes. After each cell all
    result files are written anew, each atomically. A cell that fails does not keep the others from being trained.

    Args:
        config: the experiment.
        labels: methods and variants, in the order in which results list them.
        directory: where results go.
        progress: told what happens.
        workers: processes that train seeds side by side; 1 trains in this process, None takes as many as processors
            and memory allow, and one on a GPU. Several have one thread each if ``backbone.threads`` is not given. With
            equal threads, results do not depend on it.
        tensorboard: write event files too, see `secfpp.experiment.results.tensorboard`.
        transcript: folder in which to write every message of what is trained, see
            `secfpp.experiment.results.transcripts`.
        new_ledger: begin another privacy ledger of the data, which does not count what earlier runs released.
        shard: train only this part, in a directory of `open_shard`. Without it, what shards have finished is taken
            over.
        engine: where the clients are, if not in this process, which then trains one seed at a time.

    Raises:
        ConfigError: unknown labels, settings that model or data refuse, or other settings than the stored run has.
        DataError: earlier results that cannot be read, or data that cannot be used.
        DiskFullError: there is no room for what is to be kept.
        MissingExtraError: `tensorboard` without the package of that name.
    """
    from secfpp.models.backbone import load_backbone
    from secfpp.models.devices import device_named

    started = time.perf_counter()
    if tensorboard:
        require_tensorboard()
    chosen, model = config.choose(labels), config.backbone
    progress.preparing(f"loading the model {model.name!r}")
    backbone = load_backbone(
        model.name, device=model.device, threads=model.threads, dtype=model.dtype, compile=model.compile
    )
    wanted = Plan.of(config, chosen, backbone.spec.digest)
    if shard:
        wanted = shard.part(wanted, config.seeds)
    if directory.whole:
        Plan.from_json(directory.whole).joined(wanted)
    plan = Plan.from_json(directory.stored).joined(wanted) if directory.stored else wanted
    results = ResultFiles(directory, plan, read_cells(directory, plan) if directory.stored else {})
    found = finished_by_shards(directory, plan, results.cells)
    done = results.cells.keys() | found.keys()
    begun = datetime.now(UTC) if new_ledger else None
    tasks = [
        SeedTask(directory.path, config, plan, seed, labels, tensorboard, transcript, new_ledger=begun)
        for seed in config.seeds
        if (labels := tuple(cell.method for cell in wanted.cells if cell.seed == seed and cell not in done))
    ]
    dataset, samples = None, None
    if tasks and (others := unfinished_shards(directory)):
        progress.note(f"shards still running, or stopped: {', '.join(others)}; what they lack is trained here")
    if tasks:
        progress.preparing(f"loading the data set {config.data.name!r}, seed {tasks[0].seed}")
        dataset = load_dataset(config, tasks[0].seed)
        backbone.class_tokens(dataset.classes, 0)  # names that the model refuses would fail each cell
        samples = sample_images(dataset, tasks[0].seed)
    directory.start(_complete_toml(config, plan), plan.to_json())
    take_over(directory, found)
    results.cells.update((cell, each.finished) for cell, each in found.items())
    if samples and directory.read_json("samples.json") is None:
        directory.write_json("samples.json", samples.to_json())
    if dataset is not None and workers is None:
        shared = str(device_named(model.device)) != "cpu"  # workers would share a GPU and its memory
        workers = 1 if shared else fitting_workers(len(tasks), model.threads or 1, _memory(tasks, dataset))
    side_by_side = 1 if engine else min(workers or 1, len(tasks))
    if side_by_side > 1:
        tasks = [_side_by_side(task, side_by_side, model.threads or 1) for task in tasks]
    for task in tasks:
        for cell in task.cells:
            error_file(directory.path, cell).unlink(missing_ok=True)
    for cell in results.cells:  # a run may have been killed between a cell and its tidying
        tidy(directory.path, cell)
    tried = sum(len(task.cells) for task in tasks)
    watcher = _Watcher(results, progress, config.rounds, tried)
    try:
        if side_by_side > 1:
            del dataset, backbone  # the workers have their own
            train_in_processes(tasks, side_by_side, watcher.see)
        else:
            for task in tasks:
                train_seed(task, backbone, watcher.see, dataset, engine)
                dataset = None
    except BaseException as error:
        if not isinstance(error, DiskFullError):
            _conclude(results, directory)
        raise
    summary = _conclude(results, directory)
    if tensorboard:
        for result in results.ordered():
            write_events(directory.path, result)
    summary["wall_seconds"] = time.perf_counter() - started
    directory.write_json("summary.json", summary)
    progress.preparing("writing the report")
    results.write_pages(summary)
    return Outcome(summary, watcher.failures, tried, results.reference(summary))


def _memory(tasks: Sequence[SeedTask], dataset: FederatedDataset) -> int:
    """Bytes that a worker takes at its peak."""
    from secfpp.runtime.trainer import per_round

    config, clients = tasks[0].config, per_round(len(dataset.clients), tasks[0].config.participation)
    chosen = config.choose(sorted({label for task in tasks for label in task.labels})).values()
    grouping = (grouping_memory(method, clients, len(dataset.classes), tasks[0].seed) for method in chosen)
    return resident_memory() + max(grouping, default=0)


def _side_by_side(task: SeedTask, workers: int, threads: int) -> SeedTask:
    config = task.config
    config = replace(config, backbone=replace(config.backbone, threads=threads))
    return replace(task, config=config, workers=workers)


def _conclude(results: ResultFiles, directory: RunDirectory) -> dict[str, Any]:
    """Write the result files, and in ``run.json`` whether that was all; returns the summary."""
    summary = results.write()
    directory.mark("unfinished" if summary["missing"] else "finished")
    return summary


@dataclass
class _Watcher:
    """Passes events on to the progress display, takes finished cells in, remembers failures."""

    results: ResultFiles
    progress: Progress
    rounds: int
    left: int
    failures: dict[Cell, Exception] = field(default_factory=dict)
    begun: int = 0

    def see(self, event: Event) -> None:
        method, seed = event.cell
        if event.kind == "preparing":
            self.progress.preparing(event.text)
        elif event.kind == "note":
            self.progress.note(event.text)
        elif event.kind == "started":
            total = len(self.results.plan.cells)
            self.begun += 1
            self.progress.method_started(method, seed, self.rounds, total - self.left + self.begun, total)
        elif event.kind == "exchange":
            self.progress.working(method, seed, event.text)
        elif event.kind == "round" and event.record is not None:
            self.progress.round_done(method, seed, event.record)
        elif event.kind == "finished":
            self.progress.method_done(self.results.add(event.cell))
        elif event.kind == "failed":
            self.failures[event.cell] = event.error or SecFPPError(event.text)
            self.progress.method_failed(method, seed, event.text)
        elif event.kind == "full":
            raise DiskFullError(event.text)


def _complete_toml(config: ExperimentConfig, plan: Plan) -> str:
    """`config` as TOML, with the seeds and variants that the directory has from earlier commands."""
    table = to_table(config)
    earlier = {
        label: {"base": settings["name"], **{key: value for key, value in settings.items() if key != "name"}}
        for label, settings in plan.methods.items()
        if label != settings["name"]
    }
    table["seeds"] = sorted({cell.seed for cell in plan.cells})
    table["variants"] = {**earlier, **table["variants"]}
    return tomli_w.dumps(table)
