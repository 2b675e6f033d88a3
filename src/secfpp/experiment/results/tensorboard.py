"""Event files for TensorBoard, under ``tensorboard/METHOD/SEED`` of a run directory.

They hold, per round, the mean training ``loss`` and ``validation`` accuracy over clients, and in the last round the
means of all test metrics as ``final/NAME``. Look at them with ``tensorboard --logdir DIR/tensorboard``. While a cell
trains, rounds are added one by one; when it is finished, its folder is written anew from the result, so that
what a killed run left behind is gone.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from secfpp.errors import MissingExtraError
from secfpp.experiment.results.run_directory import path_part
from secfpp.experiment.spec.plan import Cell

if TYPE_CHECKING:
    from secfpp.runtime.trainer import RoundRecord, RunResult

_COMPLETE = ".complete"


def events_folder(directory: Path, cell: Cell) -> Path:
    """Where the event files of `cell` are."""
    return directory / "tensorboard" / path_part(cell.method) / str(cell.seed)


def require_tensorboard() -> Any:
    """The class that writes event files.

    Raises:
        MissingExtraError: the package ``tensorboard`` is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("--tensorboard", "tensorboard") from error
    return SummaryWriter


class LiveEvents:
    """Adds the rounds of a cell in training, one by one."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def round_done(self, record: RoundRecord) -> None:
        """Write one round, so that a running TensorBoard shows it."""
        _add(self._writer, record.round, {"loss": record.loss, **(record.metrics or {})})
        self._writer.flush()


@contextmanager
def live_events(directory: Path, cell: Cell) -> Iterator[LiveEvents]:
    """A writer that begins `cell`, or goes on with it, and is closed whatever happens."""
    writer = require_tensorboard()(str(events_folder(directory, cell)))
    try:
        yield LiveEvents(writer)
    finally:
        writer.close()


def write_events(directory: Path, result: RunResult) -> None:
    """Write all events of a finished cell, instead of those from its training; nothing if that was done before."""
    folder = events_folder(directory, Cell(result.method, result.seed))
    if (folder / _COMPLETE).exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    writer = require_tensorboard()(str(folder))
    try:
        for number in range(1, result.rounds + 1):
            rows = [row for row in result.rows if row.get("round") == number]
            _add(writer, number, {name: _mean(rows, name) for name in ("loss", "validation")})
        means = {name: values[np.isfinite(values)] for name, values in result.metrics.items()}
        _add(writer, result.rounds, {f"final/{name}": float(v.mean()) for name, v in means.items() if len(v)})
    finally:
        writer.close()
    for path in folder.iterdir():
        path.chmod(0o600)
    (folder / _COMPLETE).touch(mode=0o600)


def _mean(rows: list[Mapping[str, object]], name: str) -> float:
    values = [float(str(row[name])) for row in rows if row.get(name) is not None]
    return float(np.mean(values)) if values else float("nan")


def _add(writer: Any, step: int, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        if np.isfinite(value):
            writer.add_scalar(name, value, step)
