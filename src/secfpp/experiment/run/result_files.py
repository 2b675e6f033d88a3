"""The files of a run directory that are made from its finished cells: summary, metrics, costs, report, tables."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from secfpp.errors import ConfigError, DataError, Problem
from secfpp.experiment.report import comparison
from secfpp.experiment.report.holdings_map import holdings_map
from secfpp.experiment.report.page import render_report
from secfpp.experiment.report.samples import Samples
from secfpp.experiment.report.table_formats import FORMATS
from secfpp.experiment.report.tables import ResultTable, result_table
from secfpp.experiment.results.cells import FinishedCell, failure, load_cell
from secfpp.experiment.results.explained import Why, explanations
from secfpp.experiment.results.holdings import partition_figures
from secfpp.experiment.results.published_figures import published_figures
from secfpp.experiment.results.run_directory import RunDirectory
from secfpp.experiment.results.summary import costs_lines, metrics_lines, summarize
from secfpp.experiment.run.timing import times
from secfpp.experiment.spec.plan import Cell, Plan
from secfpp.experiment.spec.published import Published
from secfpp.experiment.spec.schema import build, one_of

if TYPE_CHECKING:
    from secfpp.algorithms.base import FederatedAlgorithm
    from secfpp.runtime.trainer import RunResult


@dataclass
class ResultFiles:
    """The finished cells of a run directory, and the files that are made from them.

    Attributes:
        directory: the run directory.
        plan: what it is to hold.
        cells: what is finished.
    """

    directory: RunDirectory
    plan: Plan
    cells: dict[Cell, FinishedCell]

    def add(self, cell: Cell) -> RunResult:
        """Read a cell that was just finished, and write all result files anew."""
        finished = load_cell(self.directory.path, cell, self.plan.identity(cell))
        if finished is None:
            raise DataError(f"{cell}: its result is gone from {self.directory.path}: train it again")
        self.cells[cell] = finished
        self.write()
        return finished.result

    def ordered(self) -> list[RunResult]:
        """By method in the plan's order, then by seed."""
        return [self.cells[cell].result for cell in self.plan.cells if cell in self.cells]

    def summary(self) -> dict[str, Any]:
        """The content of ``summary.json``."""
        settings = self.plan.settings
        origins = [self.cells[cell] for cell in self.plan.cells if cell in self.cells]
        names = dict.fromkeys(
            name for origin in origins for name in origin.versions if name not in ("workers", "cores")
        )
        seeds = sorted({cell.seed for cell in self.cells})
        partitions = {str(seed): self._partition(seed) for seed in seeds}
        missing = [cell for cell in self.plan.cells if cell not in self.cells]
        share = settings["participation"]
        algorithms = {label: known_algorithm(table) for label, table in self.plan.methods.items()}
        shared = settings["data"]["name"], settings["backbone"]["name"], settings["rounds"]
        told = summarize(*shared, self.ordered(), algorithms, share)
        published = _published(self._config())
        return {
            **told,
            **({"published": published_figures(published, told["methods"], self.plan)} if published else {}),
            "participation": share,
            "missing": [
                {"method": cell.method, "seed": cell.seed, "error": failure(self.directory.path, cell)}
                for cell in missing
            ],
            "versions": {name: _united(o.versions.get(name, "missing") for o in origins) for name in names},
            "seconds": times(origin.versions for origin in origins),
            "git": _united(o.git for o in origins if o.git) or None,
            "data": {seed: _facts(table) for seed, table in partitions.items()},
        }

    def write(self) -> dict[str, Any]:
        """Write summary, metrics and costs; returns the summary."""
        summary, results = self.summary(), self.ordered()
        self.directory.write("metrics.jsonl", metrics_lines(results))
        self.directory.write("costs.jsonl", costs_lines(results))
        self.directory.write_json("summary.json", summary)
        return summary

    def report(self, summary: Mapping[str, Any]) -> str:
        """The report page; something must be finished."""
        stored = self.directory.read_json("samples.json")
        samples = Samples((), (), {}) if stored is None else Samples.from_json(stored)
        seed = min(cell.seed for cell in self.cells)
        table = self._partition(seed)
        held = holdings_map(seed, table) if table.get("clients") else None
        return render_report(summary, self.ordered(), samples, self._config(), held, self.reference(summary))

    def reference(self, summary: Mapping[str, Any], methods: Sequence[str] = ()) -> str | None:
        """The method that paired differences are of: the one asked for, that of the settings, or else the best.

        Args:
            summary: what `summary` gave.
            methods: it is one of these; any if not given.
        """
        shown = {name: of for name, of in summary["methods"].items() if not methods or name in methods}
        if self.directory.against in shown:
            return self.directory.against
        picked = {**summary, "methods": shown}
        return comparison.reference(picked, comparison.estimates(picked, self.ordered()), self._config())

    def table(
        self,
        summary: Mapping[str, Any],
        methods: Sequence[str] = (),
        keys: Sequence[str] = (),
        against: str | None = "",
    ) -> ResultTable:
        """The table of results; see `result_table`.

        Args:
            summary: what `summary` gave.
            methods: labels of the rows; all if not given.
            keys: of the columns; the usual ones if not given.
            against: the method that differences are of; if empty, see `reference`; None leaves differences out.

        Raises:
            ConfigError: a method or key that there are no results of.
        """
        if against == "":
            against = self.reference(summary, methods)
        return result_table(summary, self.ordered(), against, methods, keys)

    def _config(self) -> str:
        """The complete settings as TOML text."""
        try:
            return (self.directory.path / "config.toml").read_text(encoding="utf-8")
        except OSError as error:
            raise DataError(f"{error.filename} cannot be read ({error.strerror}): put it back") from error

    def _partition(self, seed: int) -> dict[str, Any]:
        """What is kept of a seed's data; empty if nothing is."""
        return self.directory.read_json(f"partitions/{seed}.json") or {}

    def pages(self, summary: Mapping[str, Any]) -> dict[str, str]:
        """The report page and the tables, by the names of their files; empty while nothing is finished."""
        if not self.cells:
            return {}
        table = self.table(summary)
        tables = {f"table.{form.ending}": form.write(table) for form in FORMATS.values()}
        return {"report.html": self.report(summary), **tables}

    def write_pages(self, summary: Mapping[str, Any]) -> None:
        """Write the files of `pages`."""
        for name, content in self.pages(summary).items():
            self.directory.write(name, content)


def finished_results(directory: RunDirectory) -> ResultFiles:
    """What is finished in a run directory.

    Raises:
        DataError: a file that cannot be read, or no finished cell yet.
    """
    plan = stored_plan(directory)
    results = ResultFiles(directory, plan, read_cells(directory, plan))
    if not results.cells:
        raise DataError(f"{directory.path}: no method is finished on any seed yet; go on with the run first")
    return results


def explain_directory(directory: RunDirectory, method: str = "", seed: int | None = None) -> tuple[str, list[Why]]:
    """Which method of a run directory is asked about, and why its groups are as they are, by seed.

    Args:
        directory: the run directory.
        method: its label; if empty, that of the settings or else the first that says why.
        seed: this one only; every finished one if None.

    Raises:
        ConfigError: no such method or seed, or one that does not group clients.
        DataError: a file that cannot be read, nothing finished, or results that do not say why.
    """
    plan = stored_plan(directory)
    if method and method not in plan.seeds:
        raise ConfigError([Problem("--method", method, one_of(method, plan.seeds, "method of this run"))])
    seeds = sorted({n for label, of in plan.seeds.items() for n in of if method in ("", label)})
    if seed is not None and seed not in seeds:
        raise ConfigError([Problem("--seed", seed, f"one of this run's: {', '.join(map(str, seeds))}")])
    cells = read_cells(directory, plan, [cell for cell in plan.cells if seed in (None, cell.seed)])
    results = [finished.result for finished in cells.values()]
    if not any(method in ("", result.method) for result in results):
        who, on = f"{method} is not" if method else "no method is", "any seed" if seed is None else f"seed {seed}"
        raise DataError(f"{directory.path}: {who} finished on {on} yet; go on with the run first")
    return explanations(results, method, preferred=plan.settings["method"]["name"])


def stored_plan(directory: RunDirectory) -> Plan:
    """What a run directory is to hold.

    Raises:
        DataError: it does not say so.
    """
    try:
        return Plan.from_json(directory.stored)
    except DataError as error:
        raise DataError(f"{directory.path / 'run.json'}: {error}") from error


def read_cells(directory: RunDirectory, plan: Plan, wanted: Iterable[Cell] | None = None) -> dict[Cell, FinishedCell]:
    """The finished cells of `plan`, or those of them that are `wanted`.

    Raises:
        DataError: a damaged file, or one of other settings.
    """
    cells = plan.cells if wanted is None else wanted
    found = {cell: load_cell(directory.path, cell, plan.identity(cell)) for cell in cells}
    return {cell: finished for cell, finished in found.items() if finished is not None}


def known_algorithm(table: Mapping[str, Any]) -> FederatedAlgorithm | None:
    """The method that a plan's `table` describes; None if this installation has none with these settings."""
    from secfpp.algorithms.base import methods

    settings = dict(table)
    declared = methods().get(settings.pop("name", ""))
    return None if declared is None else build(declared, settings, "method", [])


def _published(config_toml: str) -> Published | None:
    """The published figures that stand in a run's complete settings.

    Raises:
        DataError: settings that somebody has changed so that they cannot be read.
    """
    problems: list[Problem] = []
    try:
        table = tomllib.loads(config_toml).get("published", "none")
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"config.toml of the run is no valid TOML ({error}): put it back") from error
    found: Published | None = None if table == "none" else build(Published, table, "published", problems)
    if problems:
        raise DataError("config.toml of the run: " + "\n".join(map(str, problems)))
    return found


def _facts(table: Mapping[str, Any]) -> dict[str, Any]:
    """What the data set says of itself, and the numbers of its class x client matrix."""
    figures = {"partition": partition_figures(table)} if table.get("clients") else {}
    return {**table.get("facts", {}), **figures}


def _united(values: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(values))
