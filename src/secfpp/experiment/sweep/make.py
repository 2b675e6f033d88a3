"""A sweep made: everything checked first, then one comparison after the other, then what it all comes to.

Each comparison is a run directory of its own, ``points/FOLDER``, which ``secfpp report`` and others read. What is
finished there is not trained again, so that a sweep which was stopped goes on. All other files are made from the
``summary.json`` of the comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import tomli_w

from secfpp.errors import ConfigError, DiskFullError, SecFPPError
from secfpp.experiment.report.table_formats import FORMATS
from secfpp.experiment.results.run_directory import RunDirectory, open_run_directory, stored_in
from secfpp.experiment.results.text import counted
from secfpp.experiment.run.result_files import read_cells
from secfpp.experiment.run.runner import Progress, run_experiment
from secfpp.experiment.run.training import described, load_dataset, require_fit
from secfpp.experiment.spec.plan import Cell, Plan
from secfpp.experiment.sweep.figures import gather
from secfpp.experiment.sweep.page import render_sweep
from secfpp.experiment.sweep.points import Place, Sweep, in_words, where
from secfpp.experiment.sweep.tables import as_result_table, markdown

if TYPE_CHECKING:
    from secfpp.models.backbone import Backbone
    from secfpp.runtime.trainer import RoundRecord, RunResult

POINTS = "points"
"""The folder of a sweep that holds its comparisons."""


@dataclass(frozen=True)
class Outcome:
    """What came of a sweep: the content of ``sweep.json``, and what failed, in words."""

    content: dict[str, Any]
    failures: tuple[str, ...]

    def require_success(self) -> None:
        """Raise if anything failed.

        Raises:
            SecFPPError: names all that failed.
        """
        if self.failures:
            raise SecFPPError("\n".join(self.failures))


def run_sweep(sweep: Sweep, directory: RunDirectory, progress: Progress, *, workers: int | None = 1) -> Outcome:
    """Train what is missing of a sweep, and write its results, which are complete after each comparison.

    Settings, models, stored results and the data of each comparison's first seed are checked before anything is
    trained. A cell that fails keeps no other from being trained.

    Args:
        sweep: what to train.
        directory: where results go.
        progress: told what happens.
        workers: processes that train seeds of one comparison side by side, see `run_experiment`.

    Raises:
        ConfigError: settings or data that cannot be, each with the values of the sweep that ask for them.
        DiskFullError: there is no room for what is to be kept.
    """
    left, total = _check(sweep, directory, progress)
    progress.note(_told(left, total, len(sweep.points)))
    plan = {"axes": {axis.name: list(axis.labels) for axis in sweep.axes}, "methods": list(sweep.methods)}
    directory.start(tomli_w.dumps(sweep.table), plan)
    watcher = _Watcher(progress, total, total - sum(left.values()))
    failures: list[str] = []
    try:
        for place in sweep.places:
            write(sweep, directory)
            failures += _train(place, sweep.reference, directory, watcher, workers)
    except BaseException as error:
        if not isinstance(error, DiskFullError):
            _conclude(sweep, directory)
        raise
    return Outcome(_conclude(sweep, directory), tuple(failures))


def _train(place: Place, against: str, directory: RunDirectory, watcher: _Watcher, workers: int | None) -> list[str]:
    """Train what a comparison lacks; what failed, in words."""
    watcher.at = in_words(place.at)
    try:
        with open_run_directory(directory.path / POINTS / place.folder, "compare", resume=True) as inside:
            inside.against = against
            outcome = run_experiment(place.config, place.labels, inside, watcher, workers=workers)
    except DiskFullError:
        raise
    except SecFPPError as error:
        watcher.note(f"FAILED: {error}")
        return [watcher.named(str(error))]
    return [f"{watcher.named(str(cell))}: {described(error)}" for cell, error in outcome.failures.items()]


def _conclude(sweep: Sweep, directory: RunDirectory) -> dict[str, Any]:
    """Write the results, and in ``run.json`` whether that was all; returns the content of ``sweep.json``."""
    content = write(sweep, directory)
    directory.mark("unfinished" if content["missing"] else "finished")
    return content


def write(sweep: Sweep, directory: RunDirectory) -> dict[str, Any]:
    """Write ``sweep.json`` and what shows it, from the comparisons' summaries; returns its content."""
    folders = {place.folder for place in sweep.places}
    summaries = {folder: directory.read_json(f"{POINTS}/{folder}/summary.json") for folder in folders}
    content = gather(sweep, {folder: summary for folder, summary in summaries.items() if summary})
    directory.write_json("sweep.json", content)
    directory.write("sweep.md", markdown(content))
    for name in ("latex", "csv"):
        form = FORMATS[name]
        directory.write(f"sweep.{form.ending}", form.write(as_result_table(content)))
    directory.write("sweep.html", render_sweep(content))
    return content


def _told(left: Mapping[str, int], total: int, points: int) -> str:
    """How much there is to train."""
    cells, where = sum(left.values()), f"of {counted(len(left), 'comparison')}, {counted(points, 'point')}"
    if not cells:
        return f"nothing to train: all {total} methods x seeds {where} are finished"
    done = f", {total - cells} are finished" if cells < total else ""
    return f"{cells} methods x seeds to train at {sum(map(bool, left.values()))} {where}{done}"


def _check(sweep: Sweep, directory: RunDirectory, progress: Progress) -> tuple[dict[str, int], int]:
    """How many cells each comparison lacks, and how many there are in all.

    Raises:
        ConfigError: anything that cannot be, with the values that ask for it.
    """
    models: dict[Any, Backbone] = {}
    failing: dict[str, list[Mapping[str, str]]] = {}
    left, total = dict[str, int](), 0
    for number, place in enumerate(sweep.places, 1):
        total += len(place.labels) * len(sweep.seeds)
        try:
            missing = _missing(place, directory, models)
            left[place.folder] = len(missing)
            if missing:
                what = f"{place.config.data.name!r}, seed {sweep.seeds[0]}"
                progress.preparing(f"checking {number}/{len(sweep.places)} {in_words(place.at)}: the data set {what}")
                for note in _misfits(place, missing, models[_model(place)], sweep.seeds[0]):
                    progress.note(f"{in_words(place.at)}: {note}" if place.at else note)
        except DiskFullError:
            raise
        except SecFPPError as error:
            failing.setdefault(str(error), []).append(place.at)
    if failing:
        everywhere = [place.at for place in sweep.places]
        raise ConfigError("\n".join(_line(text, where(at, everywhere)) for text, at in failing.items()))
    return left, total


def _line(text: str, at: str) -> str:
    """An error, the values that it comes with, and how to do without them."""
    told = text.replace("\n", "; ")
    return (
        f"{at}: {told}; or leave this out: --skip '{at}'" if at and ";" not in at else f"{at}: {told}" if at else told
    )


def _model(place: Place) -> Any:
    model = place.config.backbone
    return model.name, model.device, model.threads, model.dtype, model.compile


def _missing(place: Place, directory: RunDirectory, models: dict[Any, Backbone]) -> list[Cell]:
    """The cells of a comparison that are not finished."""
    from secfpp.models.backbone import load_backbone

    if _model(place) not in models:
        name, device, threads, dtype, compiled = _model(place)
        models[_model(place)] = load_backbone(name, device=device, threads=threads, dtype=dtype, compile=compiled)
    wanted = Plan.of(place.config, place.config.choose(place.labels), models[_model(place)].spec.digest)
    path = directory.path / POINTS / place.folder
    stored = None if directory.stored is None else stored_in(path)
    if stored is None:
        return list(wanted.cells)
    plan = Plan.from_json(stored).joined(wanted)
    done = read_cells(RunDirectory(path, "compare", stored), plan, wanted.cells)
    return [cell for cell in wanted.cells if cell not in done]


def _misfits(place: Place, missing: Sequence[Cell], backbone: Backbone, seed: int) -> list[str]:
    """What is worth knowing of methods on the data of a comparison's first seed; which do not fit them."""
    dataset = load_dataset(place.config, seed)
    told = dict[str, None]()
    for label in dict.fromkeys(cell.method for cell in missing):
        try:
            told |= dict.fromkeys(sorted(require_fit(place.config, Cell(label, seed), dataset, backbone)))
        except SecFPPError as error:
            told[f"{label} cannot be trained: {described(error)}"] = None
    return list(told)


@dataclass
class _Watcher:
    """Tells of cells with the values of the sweep beside their methods, counted over all comparisons.

    Attributes:
        progress: who is told.
        total: cells of the sweep.
        begun: of these finished or begun.
        at: the values of the comparison that is being trained.
    """

    progress: Progress
    total: int
    begun: int
    at: str = ""

    def named(self, what: str) -> str:
        """A method or cell, with the values of the sweep."""
        return f"{self.at}: {what}" if self.at else what

    def preparing(self, what: str) -> None:
        self.progress.preparing(what)

    def note(self, what: str) -> None:
        self.progress.note(self.named(what))

    def method_started(self, method: str, seed: int, rounds: int, cell: int, cells: int) -> None:
        self.begun += 1
        self.progress.method_started(self.named(method), seed, rounds, self.begun, self.total)

    def working(self, method: str, seed: int, what: str) -> None:
        self.progress.working(self.named(method), seed, what)

    def round_done(self, method: str, seed: int, record: RoundRecord) -> None:
        self.progress.round_done(self.named(method), seed, record)

    def method_done(self, result: RunResult) -> None:
        self.progress.method_done(replace(result, method=self.named(result.method)))

    def method_failed(self, method: str, seed: int, message: str) -> None:
        self.progress.method_failed(self.named(method), seed, message)
