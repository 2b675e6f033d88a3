from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from secfpp.errors import MissingExtraError
from secfpp.experiment.results.tensorboard import events_folder, live_events, require_tensorboard, write_events
from secfpp.experiment.spec.plan import Cell
from support_experiment import fake_result

CELL = Cell("grouped", 2)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """All scalars below `folder`, read by TensorBoard itself."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, pytest.approx(e.value)) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def result() -> Any:
    made = fake_result(seed=2, own=60.0, rounds=2)
    rows = [
        {"round": number, "client": client, "loss": None if client == "sketch-0" else 4.0 - number, "validation": value}
        for number, value in ((1, 50.0), (2, 75.0))
        for client in made.clients
    ]
    nothing = np.full(len(made.clients), np.nan)
    metrics = {"own": made.metrics["own"], "own_domain": np.where(np.arange(6) < 1, np.nan, 40.0)}
    return replace(made, rows=tuple(rows), metrics={**metrics, "other_domains": nothing})


def test_a_finished_cell_can_be_read_back(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    write_events(tmp_path, result())
    folder = events_folder(tmp_path, CELL)
    assert folder == tmp_path / "tensorboard" / "grouped" / "2"
    assert scalars(folder) == {
        "loss": [(1, 3.0), (2, 2.0)],
        "validation": [(1, 50.0), (2, 75.0)],
        "final/own": [(2, 60.0)],
        "final/own_domain": [(2, 40.0)],
    }
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())


def test_rounds_in_training_are_replaced_by_the_finished_ones(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    for value in (9.0, 8.0):  # the second begins where a killed one left off
        with live_events(tmp_path, CELL) as events:
            events.round_done(SimpleNamespace(round=1, loss=value, metrics={"validation": 1.0}))
            assert scalars(events_folder(tmp_path, CELL))["loss"][-1] == (1, value)  # seen at once
            events.round_done(SimpleNamespace(round=2, loss=float("nan"), metrics=None))
    write_events(tmp_path, result())
    assert scalars(events_folder(tmp_path, CELL))["loss"] == [(1, 3.0), (2, 2.0)]


def test_a_complete_cell_is_left_alone(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    write_events(tmp_path, result())
    before = {path: path.stat().st_mtime_ns for path in events_folder(tmp_path, CELL).iterdir()}
    write_events(tmp_path, result())
    assert before == {path: path.stat().st_mtime_ns for path in events_folder(tmp_path, CELL).iterdir()}


def test_labels_stay_inside_the_directory(tmp_path: Path) -> None:
    assert events_folder(tmp_path, Cell("../x", 1)).parent.parent == tmp_path / "tensorboard"


def test_without_the_package_the_pip_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'secfpp\[tensorboard\]'"):
        require_tensorboard()
