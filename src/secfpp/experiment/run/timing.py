"""Whether seconds of different methods and seeds may be compared: only where they were measured under the same load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from secfpp.experiment.results.text import counted
from secfpp.experiment.run.machine import usable_cores

LOAD = ("workers", "threads", "cores")


def load(workers: int, threads: int) -> dict[str, str]:
    """What a cell is trained beside, for its `FinishedCell.versions`: workers, threads of each, usable processors."""
    return dict(zip(LOAD, map(str, (workers, threads, usable_cores())), strict=True))


def times(versions: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    """The entry ``seconds`` of a summary: whether seconds are ``comparable``, and if not, ``why``.

    Args:
        versions: of every finished cell; one that does not know its load is like others that do not.
    """
    loads = sorted({tuple(of.get(name, "?") for name in LOAD) for of in versions})
    if len(loads) > 1:
        return {"comparable": False, "why": f"they were measured under different loads: {'; '.join(map(_told, loads))}"}
    crowded = [of for of in loads if "?" not in of and int(of[0]) > 1 and int(of[0]) * int(of[1]) > int(of[2])]
    if crowded:
        return {"comparable": False, "why": f"workers shared processors: {_told(crowded[0])}"}
    return {"comparable": True, "why": ""}


def _told(of: tuple[str, ...]) -> str:
    if "?" in of:
        return "not known"
    workers, threads, cores = (
        counted(int(number), thing) for number, thing in zip(of, ("worker", "thread", "processor"), strict=True)
    )
    return f"{workers} of {threads} on {cores}"
