from __future__ import annotations

import pytest

from secfpp.experiment.run import machine
from secfpp.experiment.run.machine import (
    WORKER_MEMORY,
    fitting_workers,
    free_memory,
    resident_memory,
    total_memory,
    usable_cores,
)


@pytest.mark.parametrize(
    ("cores", "free", "tasks", "threads", "expected"),
    [
        (8, None, 5, 1, 5),  # no more workers than tasks
        (8, None, 20, 1, 8),  # nor than processors
        (8, None, 20, 3, 2),
        (8, 3 * WORKER_MEMORY + 1, 20, 1, 3),  # nor than memory
        (8, 0, 20, 1, 1),  # but one works in any case
        (2, None, 20, 4, 1),
    ],
)
def test_as_many_workers_as_fit(
    monkeypatch: pytest.MonkeyPatch, cores: int, free: int | None, tasks: int, threads: int, expected: int
) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: cores)
    monkeypatch.setattr(machine, "free_memory", lambda: free)
    assert fitting_workers(tasks, threads) == expected


def test_this_machine_has_something() -> None:
    assert usable_cores() >= 1
    free = free_memory()
    assert free is None or free > 2**20
    total, resident = total_memory(), resident_memory()
    assert total is None or free is None or free <= total
    assert total is None or 2**20 < resident < total


def test_a_container_may_have_less_than_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_meminfo", lambda name: 8 * 2**30)
    for limit, total in ((None, 8), (2, 2), (64, 8)):
        monkeypatch.setattr(machine, "_container_limit", lambda limit=limit: limit and limit * 2**30)
        assert total_memory() == free_memory() == total * 2**30


def test_workers_that_take_more_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: 8)
    monkeypatch.setattr(machine, "free_memory", lambda: 12 * WORKER_MEMORY)
    assert fitting_workers(8, memory=3 * WORKER_MEMORY) == 4
    assert fitting_workers(8, memory=1) == 8
