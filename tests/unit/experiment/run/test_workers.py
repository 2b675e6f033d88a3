from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import pytest

from secfpp.errors import DiskFullError
from secfpp.experiment.results.cells import failure
from secfpp.experiment.run import workers
from secfpp.experiment.run.training import Event, SeedTask
from secfpp.experiment.run.workers import train_in_processes
from secfpp.experiment.spec.config import parse_config
from secfpp.experiment.spec.plan import Cell, Plan
from support_experiment import catalog

Play = Callable[[Callable[[Event], None], SeedTask], None]


def tasks(folder: Path, seeds: int = 3, labels: tuple[str, ...] = ("a", "b")) -> list[SeedTask]:
    config = parse_config({"data": {"name": "toy"}, "method": {"name": "grouped"}}, catalog())
    return [SeedTask(folder, config, Plan({}, {}, {}), seed, labels) for seed in range(seeds)]


def honest(emit: Callable[[Event], None], task: SeedTask) -> None:
    emit(Event("preparing", task.cells[0], f"seed {task.seed} in {os.getpid()}"))
    for cell in task.cells:
        emit(Event("started", cell))
        emit(Event("finished", cell))


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Play], None]:
    """Let forks of this process, which need no imports, do what a test says instead of training."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system cannot fork")

    def use(actor: Play) -> None:
        def work(connection: Connection, task: SeedTask) -> None:
            actor(connection.send, task)

        context = multiprocessing.get_context("fork")
        monkeypatch.setattr(workers, "_work", work)
        monkeypatch.setattr(multiprocessing, "get_context", lambda method: context)

    return use


def watched(todo: list[SeedTask], count: int) -> list[Event]:
    seen: list[Event] = []
    train_in_processes(todo, count, seen.append)
    return seen


def of_kind(events: list[Event], kind: str) -> list[Cell]:
    return sorted(event.cell for event in events if event.kind == kind)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_cell_is_trained_once_and_told_in_order(count: int, play: Callable[[Play], None], tmp_path: Path) -> None:
    play(honest)
    seen = watched(tasks(tmp_path), count)
    everything = sorted(Cell(label, seed) for label in "ab" for seed in range(3))
    assert of_kind(seen, "finished") == of_kind(seen, "started") == everything
    for seed in range(3):
        mine = [(event.kind, event.cell.method) for event in seen if event.cell.seed == seed]
        assert mine == [("preparing", "a"), ("started", "a"), ("finished", "a"), ("started", "b"), ("finished", "b")]
    assert len({event.text for event in seen if event.kind == "preparing"}) == 3  # a process each


def test_no_more_processes_than_asked_for(play: Callable[[Play], None], tmp_path: Path) -> None:
    def slow(emit: Callable[[Event], None], task: SeedTask) -> None:
        emit(Event("started", task.cells[0]))
        time.sleep(0.05)
        emit(Event("finished", task.cells[0]))

    play(slow)
    now = most = 0
    for event in watched(tasks(tmp_path, seeds=6, labels=("a",)), 2):
        now += {"started": 1, "finished": -1}[event.kind]
        most = max(most, now)
    assert most <= 2


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "out of memory.*fewer --workers"),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), "ended by signal SIGTERM"),
        (lambda: os._exit(7), "ended with status 7"),
    ],
)
def test_a_process_that_dies_takes_one_cell_with_it(
    end: Callable[[], None], reason: str, play: Callable[[Play], None], tmp_path: Path
) -> None:
    def mortal(emit: Callable[[Event], None], task: SeedTask) -> None:
        for cell in task.cells:
            emit(Event("started", cell))
            if cell == ("b", 1):
                end()
            emit(Event("finished", cell))

    play(mortal)
    seen = watched(tasks(tmp_path, labels=("a", "b", "c")), 2)
    assert of_kind(seen, "failed") == [("b", 1)]
    assert len(of_kind(seen, "finished")) == 8
    assert of_kind(seen, "started").count(Cell("a", 1)) == 1  # what was finished is not begun again
    (failed,) = (event for event in seen if event.kind == "failed")
    assert failed.text == failure(tmp_path, Cell("b", 1))
    assert re.search(reason, failed.text)


def test_a_process_that_dies_before_it_trains_fails_its_task(play: Callable[[Play], None], tmp_path: Path) -> None:
    def stillborn(emit: Callable[[Event], None], task: SeedTask) -> None:
        if task.seed == 1:
            os._exit(1)
        honest(emit, task)

    play(stillborn)
    seen = watched(tasks(tmp_path), 2)
    assert of_kind(seen, "failed") == [("a", 1), ("b", 1)]
    assert of_kind(seen, "finished") == [("a", 0), ("a", 2), ("b", 0), ("b", 2)]


def test_an_interruption_ends_the_processes(play: Callable[[Play], None], tmp_path: Path) -> None:
    def endless(emit: Callable[[Event], None], task: SeedTask) -> None:
        emit(Event("preparing", task.cells[0], str(os.getpid())))
        emit(Event("started", task.cells[0]))
        time.sleep(60)

    pids: list[int] = []

    def see(event: Event) -> None:
        if event.kind == "preparing":
            pids.append(int(event.text))
        if len(pids) == 2:
            raise KeyboardInterrupt

    play(endless)
    with pytest.raises(KeyboardInterrupt):
        train_in_processes(tasks(tmp_path), 2, see)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_workers_leave_the_keyboard_to_their_parent(play: Callable[[Play], None], tmp_path: Path) -> None:
    def patient(emit: Callable[[Event], None], task: SeedTask) -> None:
        os.kill(os.getpid(), signal.SIGINT)  # what a terminal sends to every process of the job
        honest(emit, task)

    play(patient)
    assert len(of_kind(watched(tasks(tmp_path), 2), "finished")) == 6
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())


def test_a_worker_without_a_parent_stops(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("secfpp.models.backbone.load_backbone", lambda name, **settings: None)
    told: list[str] = []

    def train_seed(task: SeedTask, backbone: object, emit: Callable[[Event], None]) -> None:
        told.append("begun")
        emit(Event("started", task.cells[0]))
        told.append("went on")

    monkeypatch.setattr(workers, "train_seed", train_seed)
    theirs, ours = multiprocessing.Pipe(duplex=False)
    theirs.close()
    with pytest.raises(SystemExit):
        workers._work(ours, tasks(tmp_path)[0])
    assert told == ["begun"]


def test_errors_stay_where_they_can_be_understood(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("secfpp.models.backbone.load_backbone", lambda name, **settings: settings["threads"])

    def train_seed(task: SeedTask, backbone: object, emit: Callable[[Event], None]) -> None:
        emit(Event("failed", task.cells[0], text="bad", error=ValueError(lambda: None)))  # cannot be pickled

    monkeypatch.setattr(workers, "train_seed", train_seed)
    theirs, ours = multiprocessing.Pipe(duplex=False)
    workers._work(ours, tasks(tmp_path)[0])
    assert theirs.recv() == Event("failed", Cell("a", 0), text="bad")


def test_a_full_disk_in_a_worker_is_told_and_ends_it_quietly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[Event] = []
    (todo,) = tasks(tmp_path, 1)

    def full(*_: object) -> None:
        raise DiskFullError("no room left in here")

    monkeypatch.setattr(workers, "train_seed", full)
    monkeypatch.setitem(sys.modules, "secfpp.models.backbone", SimpleNamespace(load_backbone=lambda *_, **__: None))
    workers._work(SimpleNamespace(send=told.append), todo)  # type: ignore[arg-type]
    assert [(event.kind, event.text) for event in told] == [("full", "no room left in here")]


def test_a_run_ends_when_a_disk_is_full(play: Callable[[Play], None], tmp_path: Path) -> None:
    def full(emit: Callable[[Event], None], task: SeedTask) -> None:
        emit(Event("full", task.cells[0], text="no room left in here"))
        time.sleep(60)

    def see(event: Event) -> None:
        assert event.kind == "full"
        raise DiskFullError(event.text)

    play(full)
    began = time.monotonic()
    with pytest.raises(DiskFullError, match="no room left"):
        train_in_processes(tasks(tmp_path), 2, see)
    assert time.monotonic() - began < 30
    assert multiprocessing.active_children() == []
