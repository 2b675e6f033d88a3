"""Progress on standard error: live bars on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from secfpp.experiment.run.runner import Progress
    from secfpp.runtime.trainer import RoundRecord, RunResult

LINES_PER_METHOD = 4
PATIENCE = 5.0
"""Seconds of silence about a method after which a line says what it is at."""
Key = tuple[str, int]


@dataclass
class Estimate:
    """How much time is left, from what the cells of this session took so far.

    Attributes:
        clock: seconds that only rise.
        total: cells of the run.
        before: cells that were finished before this session.
    """

    clock: Callable[[], float] = time.monotonic
    total: int = 0
    before: int = 0
    _began: float | None = None
    _ended: int = 0
    _trained: bool = False
    _share: dict[Key, float] = field(default_factory=dict)

    def start(self, key: Key, cell: int, cells: int) -> None:
        """A cell begins, number `cell` of `cells`."""
        if self._began is None:
            self._began, self.before = self.clock(), cell - 1
        self.total = cells
        self._share[key] = 0.0

    def advance(self, key: Key, share: float) -> None:
        """A cell is done to this share, 0..1."""
        self._share[key], self._trained = share, True

    def end(self, key: Key) -> None:
        """A cell is done, or failed."""
        if self._share.pop(key, None) is not None:
            self._ended += 1

    @property
    def done(self) -> float:
        """Cells done, with those in training counted by their share."""
        return self.before + self._ended + sum(self._share.values())

    def left(self) -> str:
        """E.g. ``", about 12 min left"``; empty while nothing is known, and at the end."""
        worked = self.done - self.before
        if self._began is None or not self._trained or not self._ended or self.done >= self.total:
            return ""
        return f", about {_rough((self.clock() - self._began) / worked * (self.total - self.done))} left"


class PlainProgress:
    """A line per method, a few per training, and some where a round takes long; nothing that needs a terminal."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at: dict[Key, str] = {}
        self._heard: dict[Key, float] = {}
        self._estimate = Estimate(clock)

    def preparing(self, what: str) -> None:
        """Say what takes a while."""
        _say(what)

    def note(self, what: str) -> None:
        """Say it."""
        _say(what)

    def method_started(self, method: str, seed: int, rounds: int, cell: int, cells: int) -> None:
        """Remember the position, which every line of this method carries."""
        self._at[method, seed] = f"[{cell}/{cells}] {method}, seed {seed}"
        self._heard[method, seed] = self._clock()
        self._estimate.start((method, seed), cell, cells)

    def working(self, method: str, seed: int, what: str) -> None:
        """A line if nothing was said of this method for a while."""
        if self._clock() - self._heard.get((method, seed), 0.0) >= PATIENCE:
            self._tell(method, seed, what)

    def round_done(self, method: str, seed: int, record: RoundRecord) -> None:
        """A line for every few rounds and the last."""
        self._estimate.advance((method, seed), record.round / record.rounds)
        every = max(1, record.rounds // LINES_PER_METHOD)
        if record.round % every == 0 or record.round == record.rounds:
            self._tell(
                method, seed, f"round {record.round}/{record.rounds}{_loss(record.loss)}, {record.seconds:.1f} s"
            )

    def method_done(self, result: RunResult) -> None:
        """A line with the outcome and how long the rest will take."""
        self._estimate.end((result.method, result.seed))
        self._tell(result.method, result.seed, _outcome(result, self._estimate.left()))

    def method_failed(self, method: str, seed: int, message: str) -> None:
        """A line with the reason."""
        self._estimate.end((method, seed))
        self._tell(method, seed, f"FAILED: {message}")

    def _tell(self, method: str, seed: int, what: str) -> None:
        self._heard[method, seed] = self._clock()
        _say(f"{self._at.get((method, seed), f'{method}, seed {seed}')}: {what}")


class LiveProgress:
    """A bar for each method in training below one for all; each finished method leaves a line above them."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._all: TaskID = bar.add_task("starting", total=None, detail="", count="")
        self._tasks: dict[Key, TaskID] = {}
        self._estimate = Estimate()

    def preparing(self, what: str) -> None:
        """Show what takes a while beside the bar for all."""
        self._bar.update(self._all, description=what)

    def note(self, what: str) -> None:
        """Leave a line above the bars."""
        self._bar.console.print(what, markup=False, highlight=False)

    def method_started(self, method: str, seed: int, rounds: int, cell: int, cells: int) -> None:
        """A bar of its own."""
        self._estimate.start((method, seed), cell, cells)
        task = self._bar.add_task(f"{method}, seed {seed}", total=rounds, detail="", count=_rounds(0, rounds))
        self._tasks[method, seed] = task
        self._overall()

    def working(self, method: str, seed: int, what: str) -> None:
        """Show it beside the method's bar."""
        self._bar.update(self._tasks[method, seed], detail=what.partition(", ")[2])

    def round_done(self, method: str, seed: int, record: RoundRecord) -> None:
        """Move the bar by one round."""
        self._estimate.advance((method, seed), record.round / record.rounds)
        self._bar.update(
            self._tasks[method, seed],
            completed=record.round,
            total=record.rounds,
            count=_rounds(record.round, record.rounds),
            detail=_loss(record.loss)[2:],
        )
        self._overall()

    def method_done(self, result: RunResult) -> None:
        """Leave a line with the outcome."""
        self._end(result.method, result.seed, _outcome(result))

    def method_failed(self, method: str, seed: int, message: str) -> None:
        """Leave a line with the reason."""
        self._end(method, seed, f"FAILED: {message}")

    def _end(self, method: str, seed: int, line: str) -> None:
        self._estimate.end((method, seed))
        self._bar.console.print(f"{method}, seed {seed}: {line}", markup=False, highlight=False)
        if (task := self._tasks.pop((method, seed), None)) is not None:
            self._bar.remove_task(task)
        self._overall()

    def _overall(self) -> None:
        done, total = self._estimate.done, self._estimate.total
        count, detail = f"{int(done)}/{total} methods x seeds", self._estimate.left()[2:]
        self._bar.update(
            self._all, description="training", completed=done, total=total or None, count=count, detail=detail
        )


@contextmanager
def open_progress() -> Iterator[Progress]:
    """The display that suits standard error; cleaned up whatever happens."""
    if not sys.stderr.isatty():
        yield PlainProgress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[count]}", markup=False),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield LiveProgress(bar)


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _rough(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3 h 20 min``: as exact as an estimate is."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def _rounds(done: int, rounds: int) -> str:
    return f"{done}/{rounds} round{'' if rounds == 1 else 's'}"


def _loss(loss: float) -> str:
    return "" if loss != loss else f", loss {loss:.3f}"


def _outcome(result: RunResult, left: str = "") -> str:
    from secfpp.cli.output import ascii_signs
    from secfpp.experiment.results.explained import decision

    own = float(result.metrics["own"].mean())
    found = ascii_signs(decision(result))
    return f"own accuracy {own:.1f} %, {result.seconds:.1f} s{left}" + (f"; {found}" if found else "")
