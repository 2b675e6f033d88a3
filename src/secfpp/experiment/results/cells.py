"""Finished cells: the whole result of one method on one seed in one file.

``cells/METHOD/SEED.safetensors`` holds a `RunResult` with the settings, data and model that it depends on, so that
summary, report and later questions need nothing else. While a cell trains, ``SEED.checkpoint`` lies beside it;
``SEED.error.txt`` says why one failed. A cell holds every simulated client's private parts: mode 0600.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from secfpp.errors import DataError
from secfpp.experiment.results.result_record import result_from, result_record
from secfpp.experiment.results.run_directory import path_part
from secfpp.experiment.spec.plan import SHOWN, Cell, differences
from secfpp.runtime.trainer import RunResult
from secfpp.storage import atomic_write, read_record, write_record

_FORMAT = "secfpp-cell-4"


@dataclass(frozen=True)
class FinishedCell:
    """A stored result.

    Attributes:
        result: all of it.
        data: digest of the data set it was trained on, see `secfpp.runtime.trainer.dataset_digest`.
        versions: of what computed it, and on how many threads.
        git: the revision of the checkout that computed it, if it was one.
    """

    result: RunResult
    data: str
    versions: Mapping[str, str]
    git: str | None


def cell_file(directory: Path, cell: Cell) -> Path:
    """Where the finished cell is kept."""
    return directory / "cells" / path_part(cell.method) / f"{cell.seed}.safetensors"


def checkpoint_file(directory: Path, cell: Cell) -> Path:
    """Where the cell's last round is kept while it trains."""
    return cell_file(directory, cell).with_suffix(".checkpoint")


def error_file(directory: Path, cell: Cell) -> Path:
    """Where it is written why the cell failed: the message, then the traceback."""
    return cell_file(directory, cell).with_suffix(".error.txt")


def save_cell(directory: Path, finished: FinishedCell, identity: Mapping[str, Any]) -> Path:
    """Write a finished cell; then remove the checkpoint and the note of an earlier failure.

    Args:
        directory: the run directory.
        finished: the result with its origin.
        identity: everything it depends on, see `secfpp.experiment.spec.plan.Plan.identity`.
    """
    result = finished.result
    arrays, told = result_record(result)
    about = {
        "format": _FORMAT,
        "identity": dict(identity),
        "data": finished.data,
        "versions": dict(finished.versions),
        "git": finished.git,
        **told,
    }
    cell = Cell(result.method, result.seed)
    path = cell_file(directory, cell)
    write_record(path, arrays, about)
    tidy(directory, cell)
    return path


def tidy(directory: Path, cell: Cell) -> None:
    """Remove what a finished cell no longer needs: its checkpoint, and the note of an earlier failure."""
    for old in (checkpoint_file(directory, cell), error_file(directory, cell)):
        old.unlink(missing_ok=True)


def load_cell(directory: Path, cell: Cell, identity: Mapping[str, Any]) -> FinishedCell | None:
    """The finished `cell`, or None if there is none yet.

    Raises:
        DataError: a file that is damaged, or holds the result of other settings than `identity`.
    """
    path = cell_file(directory, cell)
    if not path.exists():
        return None
    try:
        arrays, about = read_record(path, _FORMAT, mapped=True)
        finished = FinishedCell(result_from(*cell, about, arrays), about["data"], about["versions"], about["git"])
        found = differences(about["identity"], identity)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}: {error}): delete it to train this cell again"
        ) from error
    if found:
        listed = ", ".join(f"{key} {then!r}, now {now!r}" for key, (then, now) in list(found.items())[:SHOWN])
        raise DataError(f"{path} is the result of other settings ({listed}): delete it to train this cell again")
    return finished


def note_failure(directory: Path, cell: Cell, message: str, traceback: str = "") -> None:
    """Keep why `cell` failed, beside its place."""
    text = f"{message}\n\n{traceback}" if traceback else f"{message}\n"
    atomic_write(error_file(directory, cell), text.encode())


def failure(directory: Path, cell: Cell) -> str | None:
    """The message kept by `note_failure`, or None."""
    try:
        return error_file(directory, cell).read_text(encoding="utf-8").partition("\n\n")[0].strip()
    except OSError:
        return None
