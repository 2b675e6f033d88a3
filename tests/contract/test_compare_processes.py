"""`secfpp compare` with real worker processes: same files as without, and it survives losing them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

pytestmark = pytest.mark.slow
CONFIG = """
seeds = [0, 1]
rounds = 12
[data]
name = "icons"
shots = 6
validation_shots = 2
test_shots = 2
clients_per_domain = 4
domains = ["sketch", "pixel"]
[backbone]
device = "cpu"
threads = 1
[method]
name = "secfpp"
training.steps = 2
training.batch = 8
"""
LABELS = ("zero_shot", "promptfl", "secfpp")


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    (folder / "c.toml").write_text(CONFIG)
    # A shell's background jobs ignore Ctrl-C, and what they start inherits that.
    heeding = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{heeding}; from secfpp.cli import main; main()", "compare", "c.toml"]
    command += ["--out", "o", "--methods", ",".join(LABELS), "--json", *words]
    return subprocess.Popen(
        command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def finish(folder: Path, *words: str) -> dict[str, Any]:
    process = start(folder, *words)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    summary: dict[str, Any] = json.loads(out)
    return summary


def steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: steady(item) for name, item in value.items() if "seconds" not in name}
    return [steady(item) for item in value] if isinstance(value, list) else value


def results(folder: Path) -> tuple[Any, str, dict[str, bytes]]:
    out, prompts = folder / "o", {}
    for path in sorted((out / "prompts").rglob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            prompts[str(path.relative_to(out))] = file.get_tensor("prompt").tobytes()
    return steady(json.loads((out / "summary.json").read_text())), (out / "metrics.jsonl").read_text(), prompts


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes that train for `process`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_text()
        except OSError:
            continue
        if parent == process.pid and "spawn_main" in command:
            found.append(int(folder.name))
    return found


def when(process: subprocess.Popen[str], happened: Callable[[str], bool]) -> list[str]:
    """Read what `process` says until something `happened`."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if happened(line):
            return lines
    raise AssertionError("".join(lines))


def when_both_train(process: subprocess.Popen[str]) -> None:
    """Wait until a round of each seed has ended: no worker is preparing any more."""
    seeds: set[str] = set()

    def both(line: str) -> bool:
        seeds.update(seed for seed in ("seed 0", "seed 1") if f"{seed}: round " in line)
        return len(seeds) == 2

    when(process, both)


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.1)
    return False


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, str, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("one")
    summary = finish(folder, "--workers", "1")
    assert list(summary["methods"]) == list(LABELS) and summary["missing"] == []
    return results(folder)


def test_the_number_of_workers_changes_nothing(expected: Any, tmp_path: Path) -> None:
    finish(tmp_path, "--workers", "2")
    assert results(tmp_path) == expected


def test_a_killed_worker_costs_one_cell_until_the_next_time(expected: Any, tmp_path: Path) -> None:
    process = start(tmp_path, "--workers", "2")
    when_both_train(process)
    victim = workers_of(process)[0]
    os.kill(victim, signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    summary = json.loads(out)
    (missing,) = summary["missing"]
    assert "was killed" in missing["error"] and "FAILED" in err
    assert sum(len(method["seeds"]) for method in summary["methods"].values()) == 5
    assert (tmp_path / "o" / "report.html").exists()
    finish(tmp_path, "--workers", "2")
    assert results(tmp_path) == expected


def test_control_c_stops_the_workers_and_the_same_command_goes_on(expected: Any, tmp_path: Path) -> None:
    process = start(tmp_path, "--workers", "2")
    when_both_train(process)
    pids = workers_of(process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to parent and workers
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Interrupted" in err and "Traceback" not in err
    assert pids and all(gone(pid) for pid in pids)
    assert json.loads((tmp_path / "o" / "summary.json").read_text())["methods"].keys() >= {"zero_shot"}
    finish(tmp_path, "--workers", "2")
    assert results(tmp_path) == expected


def test_workers_do_not_outlive_a_killed_parent(expected: Any, tmp_path: Path) -> None:
    process = start(tmp_path, "--workers", "2")
    when_both_train(process)
    pids = workers_of(process)
    process.kill()
    process.communicate(timeout=60)
    assert pids and all(gone(pid) for pid in pids)
    finish(tmp_path, "--workers", "2")
    assert results(tmp_path) == expected


def test_shards_side_by_side_equal_the_run_in_one_and_a_killed_one_is_done_again(expected: Any, tmp_path: Path) -> None:
    shards = [start(tmp_path, "--workers", "1", "--shard", f"{index}/3") for index in (1, 2, 3)]
    when(shards[2], lambda line: "secfpp, seed 1: round 3" in line)
    shards[2].kill()
    codes = [(process.communicate(timeout=300), process.returncode)[1] for process in shards]
    assert codes == [0, 0, -signal.SIGKILL]
    finish(tmp_path, "--workers", "1", "--shard", "3/3")
    before = (tmp_path / "o" / "shards" / "3-of-3" / "cells" / "secfpp" / "1.safetensors").read_bytes()
    finish(tmp_path, "--workers", "1")
    assert results(tmp_path) == expected
    assert (tmp_path / "o" / "cells" / "secfpp" / "1.safetensors").read_bytes() == before  # taken over, not trained
