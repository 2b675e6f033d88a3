"""Progress on standard error: a live bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from secfpp.experiment.runner import Progress
    from secfpp.runtime.trainer import RoundRecord, RunResult

LINES_PER_METHOD = 4


class PlainProgress:
    """A line per method and a few per training; nothing that needs a terminal."""

    def __init__(self) -> None:
        self._at = ""

    def preparing(self, what: str) -> None:
        """Say what takes a while."""
        _say(what)

    def method_started(self, method: str, seed: int, rounds: int, cell: int, cells: int) -> None:
        """Remember the position, which every line of this method carries."""
        self._at = f"[{cell}/{cells}] {method}, seed {seed}"

    def round_done(self, method: str, seed: int, record: RoundRecord) -> None:
        """A line for every few rounds and the last."""
        every = max(1, record.rounds // LINES_PER_METHOD)
        if record.round % every == 0 or record.round == record.rounds:
            _say(f"{self._at}: round {record.round}/{record.rounds}{_loss(record.loss)}, {record.seconds:.1f} s")

    def method_done(self, result: RunResult) -> None:
        """A line with the outcome."""
        _say(f"{self._at}: {_outcome(result)}")


class LiveProgress:
    """A bar for the method in training; each finished method leaves a line above it."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._task: TaskID = bar.add_task("starting", total=None, detail="")

    def preparing(self, what: str) -> None:
        """Show what takes a while beside a bar without end."""
        self._bar.update(self._task, description=what, detail="", total=None)

    def method_started(self, method: str, seed: int, rounds: int, cell: int, cells: int) -> None:
        """Start the bar anew."""
        self._bar.reset(self._task, total=rounds, description=f"{cell}/{cells} {method}, seed {seed}", detail="")

    def round_done(self, method: str, seed: int, record: RoundRecord) -> None:
        """Move the bar by one round."""
        self._bar.update(self._task, completed=record.round, total=record.rounds, detail=_loss(record.loss)[2:])

    def method_done(self, result: RunResult) -> None:
        """Leave a line with the outcome."""
        self._bar.console.print(
            f"{result.method}, seed {result.seed}: {_outcome(result)}", markup=False, highlight=False
        )


@contextmanager
def open_progress() -> Iterator[Progress]:
    """The display that suits standard error; cleaned up whatever happens."""
    if not sys.stderr.isatty():
        yield PlainProgress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield LiveProgress(bar)


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _loss(loss: float) -> str:
    return "" if loss != loss else f", loss {loss:.3f}"


def _outcome(result: RunResult) -> str:
    own = float(result.metrics["own"].mean())
    found = "" if result.assignment is None else f", {len(set(result.assignment) - {-1})} clusters"
    return f"own accuracy {own:.1f} %{found}, {result.seconds:.1f} s"
