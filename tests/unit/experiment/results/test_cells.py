from __future__ import annotations

import json
import stat
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from secfpp.errors import DataError
from secfpp.experiment.results.cells import (
    FinishedCell,
    cell_file,
    checkpoint_file,
    error_file,
    failure,
    load_cell,
    note_failure,
    save_cell,
)
from secfpp.experiment.spec.plan import Cell
from secfpp.runtime.costs import Costs
from secfpp.runtime.evaluation import Example
from secfpp.runtime.trainer import RunResult
from secfpp.storage import read_arrays
from support_experiment import fake_result

IDENTITY = {"label": "grouped", "seed": 3, "rounds": 4, "method": {"name": "grouped", "lr": 0.02}}
CELL = Cell("grouped", 3)


def full_result() -> RunResult:
    costs = Costs()
    costs.count_exchange(["method", "aggregator"])
    costs.count_up("method", "clipart-0", 17)
    costs.count_down("aggregator", "clipart-1", 5)
    costs.count_seconds("method", 0.1 + 0.2)
    made = fake_result(seed=3, own=100 / 3)
    return replace(
        made,
        costs=costs,
        rows=(*made.rows, {"round": 4, "client": "x", "loss": None, "validation": 1 / 3}),
        metrics={**made.metrics, "own_domain": np.full(6, np.nan)},
        assignment=(0, 0, 0, 1, 1, -1),
        log_priors=np.log(np.full((6, 5), 0.2, np.float32)),
        domain_prompts=made.prompts + 1,
        familiar=np.arange(30).reshape(6, 5) % 3 == 0,
        trust=0.7,
        examples=(Example("clipart", "clipart-0", 4, 1, 2, 0.1 + 0.7),),
    )


def finished(result: RunResult | None = None) -> FinishedCell:
    return FinishedCell(result or full_result(), "d1", {"numpy": "2.0"}, "c0ffee")


def assert_equal(a: RunResult, b: RunResult) -> None:
    for field in fields(RunResult):
        mine, other = getattr(a, field.name), getattr(b, field.name)
        if field.name == "metrics":
            assert list(mine) == list(other)
            assert all(np.array_equal(mine[name], other[name], equal_nan=True) for name in mine)
        elif isinstance(mine, np.ndarray):
            assert mine.dtype == other.dtype and np.array_equal(mine, other), field.name
        else:
            assert mine == other and type(mine) is type(other), field.name


@pytest.mark.parametrize("result", [full_result(), fake_result(seed=3, clustered=False, rounds=0)])
def test_a_result_comes_back_to_the_bit(result: RunResult, tmp_path: Path) -> None:
    path = save_cell(tmp_path, finished(result), IDENTITY)
    assert path == cell_file(tmp_path, CELL) and stat.S_IMODE(path.stat().st_mode) == 0o600
    loaded = load_cell(tmp_path, CELL, IDENTITY)
    assert loaded is not None
    assert_equal(loaded.result, result)
    assert (loaded.data, loaded.versions, loaded.git) == ("d1", {"numpy": "2.0"}, "c0ffee")


def test_a_cell_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert load_cell(tmp_path, CELL, IDENTITY) is None


def test_a_finished_cell_leaves_no_checkpoint_and_no_error(tmp_path: Path) -> None:
    note_failure(tmp_path, CELL, "no memory\nat all", "Traceback ...")
    checkpoint_file(tmp_path, CELL).write_bytes(b"x")
    assert failure(tmp_path, CELL) == "no memory\nat all"
    assert "Traceback" in error_file(tmp_path, CELL).read_text()
    save_cell(tmp_path, finished(), IDENTITY)
    assert failure(tmp_path, CELL) is None
    assert [path.name for path in cell_file(tmp_path, CELL).parent.iterdir()] == ["3.safetensors"]


def test_labels_cannot_leave_the_directory(tmp_path: Path) -> None:
    places = {cell_file(tmp_path, Cell(label, 0)) for label in ("a/b", "..", "a+b", "a%2Fb", "../../x", "a")}
    assert len(places) == 6
    assert all(path.parent.parent == tmp_path / "cells" for path in places)
    assert checkpoint_file(tmp_path, Cell("v1.5", 0)).name == "0.checkpoint"


def test_a_result_of_other_settings_is_refused_by_key(tmp_path: Path) -> None:
    save_cell(tmp_path, finished(), IDENTITY)
    other = {**IDENTITY, "rounds": 5, "method": {"name": "grouped", "lr": 0.5}}
    with pytest.raises(DataError, match=r"3\.safetensors.*rounds 4, now 5, method\.lr 0\.02, now 0\.5.*delete it"):
        load_cell(tmp_path, CELL, other)


def damaged(path: Path, change: str) -> None:
    """Write a cell with one thing wrong."""
    arrays, metadata = read_arrays(path)
    about: dict[str, Any] = json.loads(metadata["secfpp"])
    if change == "format":
        about["format"] = "secfpp-cell-0"
    elif change == "clients":
        about["clients"] = about["clients"][:-1]
    elif change == "no clients":
        about |= {"clients": [], "domains": [], "assignment": None, "metrics": []}
        arrays = {"prompts": arrays["prompts"][:0]}
    elif change == "metric":
        del arrays["metric.own"]
    elif change == "prompts":
        arrays["prompts"] = np.full_like(arrays["prompts"], np.nan)
    elif change == "descriptors":
        arrays["descriptors"] = arrays["descriptors"][1:]
    elif change == "costs":
        del about["costs"]["exchanges"]
    elif change == "example":
        about["examples"] = [{"domain": "x"}]
    elif change == "list":
        about = []
    path.write_bytes(save(arrays, metadata={"secfpp": json.dumps(about)}))


@pytest.mark.parametrize(
    "change",
    ["format", "clients", "no clients", "metric", "prompts", "descriptors", "costs", "example", "list"],
)  # fmt: skip
def test_a_damaged_cell_names_its_file_and_the_remedy(change: str, tmp_path: Path) -> None:
    path = save_cell(tmp_path, finished(), IDENTITY)
    damaged(path, change)
    with pytest.raises(DataError, match=r"cells/grouped/3\.safetensors cannot be read.*delete it"):
        load_cell(tmp_path, CELL, IDENTITY)


@pytest.mark.parametrize("content", [b"", b"not a tensor", save({"prompts": np.zeros(3)})])
def test_another_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = cell_file(tmp_path, CELL)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        load_cell(tmp_path, CELL, IDENTITY)


def test_an_interrupted_write_leaves_checkpoint_and_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note_failure(tmp_path, CELL, "earlier")
    checkpoint_file(tmp_path, CELL).write_bytes(b"x")

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="disk full"):
        save_cell(tmp_path, finished(), IDENTITY)
    assert checkpoint_file(tmp_path, CELL).exists() and failure(tmp_path, CELL) == "earlier"
