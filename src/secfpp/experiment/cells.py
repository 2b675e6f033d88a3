"""Finished cells: the whole result of one method on one seed in one file.

``cells/METHOD/SEED.safetensors`` holds a `RunResult` with the settings, data and model that it depends on, so that
summary, report and later questions need nothing else. While a cell trains, ``SEED.checkpoint`` lies beside it;
``SEED.error.txt`` says why one failed. A cell holds every simulated client's private parts: mode 0600.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from secfpp.errors import DataError
from secfpp.experiment.plan import SHOWN, Cell, differences
from secfpp.experiment.run_directory import path_part
from secfpp.protocol.refusals import Refusal
from secfpp.runtime.costs import Costs
from secfpp.runtime.evaluation import Example
from secfpp.runtime.trainer import RunResult
from secfpp.storage import atomic_write, read_record, write_record

_FORMAT = "secfpp-cell-4"
_METRIC, _NEWCOMERS = "metric.", "newcomers."
_OPTIONAL = (
    "descriptors",
    "log_priors",
    "domain_prompts",
    "familiar",
    "visual_weights",
    "visual_bias",
    "text_weight",
)


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
        identity: everything it depends on, see `secfpp.experiment.plan.Plan.identity`.
    """
    result = finished.result
    arrays = {f"{_METRIC}{name}": values for name, values in result.metrics.items()}
    arrays |= {f"{_NEWCOMERS}{name}": values for name, values in result.newcomer_metrics.items()}
    arrays |= {name: array for name in _OPTIONAL if (array := getattr(result, name)) is not None}
    about = {
        "format": _FORMAT,
        "identity": dict(identity),
        "data": finished.data,
        "versions": dict(finished.versions),
        "git": finished.git,
        "rounds": result.rounds,
        "clients": list(result.clients),
        "domains": list(result.domains),
        "groups": list(result.groups),
        "metrics": list(result.metrics),
        "rows": [dict(row) for row in result.rows],
        "assignment": None if result.assignment is None else list(result.assignment),
        "costs": result.costs.as_dict(),
        "seconds": result.seconds,
        "trust": result.trust,
        "examples": [asdict(example) for example in result.examples],
        "newcomers": list(result.newcomers),
        "newcomer_assignment": None if result.newcomer_assignment is None else list(result.newcomer_assignment),
        "why": dict(result.why),
        "refusals": [astuple(refusal) for refusal in result.refusals],
    }
    cell = Cell(result.method, result.seed)
    path = cell_file(directory, cell)
    write_record(path, {**arrays, "prompts": result.prompts}, about)
    for old in (checkpoint_file(directory, cell), error_file(directory, cell)):
        old.unlink(missing_ok=True)
    return path


def load_cell(directory: Path, cell: Cell, identity: Mapping[str, Any]) -> FinishedCell | None:
    """The finished `cell`, or None if there is none yet.

    Raises:
        DataError: a file that is damaged, or holds the result of other settings than `identity`.
    """
    path = cell_file(directory, cell)
    if not path.exists():
        return None
    try:
        arrays, about = read_record(path, _FORMAT)
        finished = FinishedCell(_result(cell, about, arrays), about["data"], about["versions"], about["git"])
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


def _tuple(values: list[int] | None) -> tuple[int, ...] | None:
    return None if values is None else tuple(values)


def _result(cell: Cell, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> RunResult:
    """Put a result together, checking that its parts fit."""
    clients, assignment = tuple(about["clients"]), about["assignment"]
    result = RunResult(
        method=cell.method,
        seed=cell.seed,
        rounds=about["rounds"],
        clients=clients,
        domains=tuple(about["domains"]),
        groups=tuple(about["groups"]),
        metrics={name: arrays[f"{_METRIC}{name}"] for name in about["metrics"]},
        rows=tuple(about["rows"]),
        assignment=_tuple(assignment),
        costs=Costs.from_dict(about["costs"]),
        seconds=about["seconds"],
        prompts=arrays["prompts"],
        **{name: arrays.get(name) for name in _OPTIONAL},
        trust=about["trust"],
        examples=tuple(Example(**example) for example in about["examples"]),
        newcomers=tuple(about["newcomers"]),
        newcomer_metrics={
            name.removeprefix(_NEWCOMERS): array for name, array in arrays.items() if name.startswith(_NEWCOMERS)
        },
        newcomer_assignment=_tuple(about["newcomer_assignment"]),
        why=about["why"],
        refusals=tuple(Refusal(*one) for one in about["refusals"]),
    )
    per_client = {**result.metrics, "domains": result.domains, "assignment": assignment, "prompts": result.prompts}
    per_client |= {name: arrays.get(name) for name in _OPTIONAL}
    for name, values in per_client.items():
        if values is not None and len(values) != len(clients):
            raise ValueError(f"{name}: {len(values)} entries for {len(clients)} clients")
    if not clients or result.prompts.ndim != 3 or not np.isfinite(result.prompts).all():
        raise ValueError(f"prompts of shape {result.prompts.shape} that are not all finite, or no clients")
    return result
