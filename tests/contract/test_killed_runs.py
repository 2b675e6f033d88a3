"""A run directory whose process was killed, at whatever write, ends like one that was never interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from secfpp.experiment.results.run_directory import open_run_directory
from secfpp.experiment.run.result_files import finished_results
from secfpp.experiment.run.runner import run_experiment
from secfpp.experiment.spec.config import ExperimentConfig, parse_config
from secfpp.storage import read_arrays

LABELS = ("zero_shot", "secfpp", "promptfl")
SETTINGS: dict[str, Any] = {
    "seeds": [0, 1],
    "rounds": 3,
    "participation": 0.75,
    "data": {
        "name": "icons",
        "shots": 6,
        "validation_shots": 2,
        "test_shots": 2,
        "clients_per_domain": 4,
        "domains": ["sketch", "pixel"],
    },
    "method": {"name": "secfpp", "training": {"steps": 2, "batch": 8}},
    "backbone": {"name": "mini", "device": "cpu", "threads": 1},
}

# Loads everything once; then a fork per point of death trains, and kills itself at its n-th write of a result.
SCRIPT = """
import json, os, signal, sys
from pathlib import Path
from secfpp import storage
from secfpp.experiment.run.runner import run_experiment
from secfpp.experiment.results.run_directory import git_revision, open_run_directory
from secfpp.experiment.spec.config import parse_config
from secfpp.models.backbone import load_backbone
import secfpp.algorithms.base, secfpp.data.catalog, secfpp.models.backbone
from secfpp.seeding import derive

folder, labels, config, points = Path(sys.argv[1]), *map(json.loads, sys.argv[2:])
config = parse_config(config)
git_revision()
backbone = load_backbone("mini", device="cpu", threads=1)
secfpp.models.backbone.load_backbone = lambda *args, **settings: backbone
rename = os.replace

class Silent:
    def __getattr__(self, name):
        return lambda *args: None

def train(out, when, count):
    written = 0
    def replace(source, target):
        nonlocal written
        if out in Path(target).parents:
            written += 1
            if (when, count) == ("before", written):
                os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)
        if (when, count) == ("after", written):
            os.kill(os.getpid(), signal.SIGKILL)
    storage.os.replace = replace
    with open_run_directory(out, "compare", resume=True) as directory:
        run_experiment(config, labels, directory, Silent())

for when, count in points:
    if not (child := os.fork()):
        train(folder / f"{when}-{count}", when, count)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Silent:
    def __getattr__(self, name: str) -> Any:
        return lambda *args: None


def go(out: Path, config: ExperimentConfig) -> dict[str, Any]:
    with open_run_directory(out, "compare", resume=True) as directory:
        outcome = run_experiment(config, LABELS, directory, Silent())
    outcome.require_success()
    return outcome.summary


def steady(value: Any) -> Any:
    """`value` without what a clock gave."""
    if isinstance(value, dict):
        return {name: steady(item) for name, item in value.items() if "seconds" not in name}
    return [steady(item) for item in value] if isinstance(value, list) else value


def files(out: Path) -> dict[str, Any]:
    """Everything in a run directory that must not depend on how it came about, by name."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        name = str(path.relative_to(out))
        if name.startswith("cells/"):
            found[name] = None  # holds seconds; its content shows in the other files
        elif name.endswith(".json"):
            found[name] = steady(json.loads(path.read_text()))
        elif name == "costs.jsonl":
            found[name] = [steady(json.loads(line)) for line in path.read_text().splitlines()]
        elif name.startswith("prompts/"):
            arrays, about = read_arrays(path)  # metadata are stored in no order
            found[name] = ({key: (a.dtype.str, a.shape, a.tobytes()) for key, a in arrays.items()}, about)
        elif name not in ("report.html", ".lock", "table.md", "table.tex", "table.csv"):  # which hold seconds
            found[name] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    go(out, parse_config(SETTINGS))
    return out


def killed(folder: Path, points: list[tuple[str, int]]) -> None:
    words = [json.dumps(value) for value in (LABELS, SETTINGS, points)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", SCRIPT, str(folder), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(-signal.SIGKILL)] * len(points), done.stdout + done.stderr


@pytest.mark.parametrize(
    "points",
    [
        [("before", 8), ("after", 33)],
        pytest.param([("after", n) for n in range(1, 71, 3)], marks=pytest.mark.slow),
        pytest.param([("before", n) for n in range(2, 71, 3)], marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_goes_on_and_ends_with_the_same_files(
    points: list[tuple[str, int]], whole: Path, tmp_path: Path
) -> None:
    killed(tmp_path, points)
    expected = files(whole)
    for when, count in points:
        out = tmp_path / f"{when}-{count}"
        go(out, parse_config(SETTINGS))
        got = files(out)
        assert got.keys() == expected.keys(), (when, count)
        assert [name for name in expected if got[name] != expected[name]] == [], (when, count)


def test_a_finished_run_has_nothing_left_to_do(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(whole)
    monkeypatch.setattr("secfpp.experiment.run.training.load_dataset", None)  # would fail if anything were trained
    summary = go(whole, parse_config(SETTINGS))
    assert files(whole) == before and summary["missing"] == []
    assert not list(whole.rglob("*.checkpoint"))


def test_the_report_needs_nothing_but_the_directory(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secfpp.data.catalog.datasets", None)
    monkeypatch.setattr("secfpp.models.backbone.load_backbone", None)
    with open_run_directory(whole, "compare", resume=True) as directory:
        results = finished_results(directory)
        summary = results.summary()
        page = results.report(summary)
    assert steady(summary) == steady(json.loads((whole / "summary.json").read_text()))
    assert set(summary["data"]["1"]) and all(label in page for label in LABELS)
