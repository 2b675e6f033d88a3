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
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            table = {name: value for name, _, value in (line.partition(":") for line in lines)}
        return int(table["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def fitting_workers(tasks: int, threads: int = 1) -> int:
    """How many of `tasks` can run side by side: one per `threads` processors, as far as memory reaches; at least 1."""
    free = free_memory()
    by_memory = tasks if free is None else free // WORKER_MEMORY
    return max(1, min(tasks, usable_cores() // threads, by_memory))
