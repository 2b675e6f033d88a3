"""What this machine has to offer: processors, memory, and how many workers fit."""

from __future__ import annotations

import os

WORKER_MEMORY = int(1.2 * 2**30)
"""Bytes that a worker needs with the embedded benchmark and model."""


def usable_cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int | None:
    """Bytes that programs can still have, or None where the system does not tell."""
    return _least(_meminfo("MemAvailable"), _container_limit())


def total_memory() -> int | None:
    """Bytes that this process can have at most, by machine and container; None where the system does not tell."""
    return _least(_meminfo("MemTotal"), _container_limit())


def resident_memory() -> int:
    """Bytes that this process has now; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as line:
            return int(line.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def fitting_workers(tasks: int, threads: int = 1, memory: int = WORKER_MEMORY) -> int:
    """How many of `tasks` can run side by side: one per `threads` processors, as far as memory reaches; at least 1.

    Args:
        tasks: how many there are.
        threads: of each.
        memory: bytes that one takes.
    """
    free = free_memory()
    by_memory = tasks if free is None else free // max(memory, WORKER_MEMORY)
    return max(1, min(tasks, usable_cores() // threads, by_memory))


def _least(*sizes: int | None) -> int | None:
    return min((size for size in sizes if size is not None), default=None)


def _meminfo(name: str) -> int | None:
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            table = {name: value for name, _, value in (line.partition(":") for line in lines)}
        return int(table[name].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _container_limit() -> int | None:
    """What the control group of this process allows, where it limits it."""
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(file, encoding="ascii") as line:
                return int(line.read())
        except (OSError, ValueError):
            continue
    return None
