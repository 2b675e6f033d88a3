"""Result tables of made-up runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from secfpp.experiment.report.tables import ResultTable, result_table
from secfpp.experiment.results.summary import summarize
from support_experiment import fake_result


def close(more: float = 0.0) -> list[Any]:
    """Three methods on three seeds: ``grouped`` is ahead of ``pooled``, and level with ``third``."""
    own = {"grouped": (60.0, 61.0, 62.5), "pooled": (56.0, 55.0, 56.0), "third": (59.0, 62.0, 62.0 + more)}
    return [
        fake_result(name, seed, value, name == "grouped")
        for name, values in own.items()
        for seed, value in enumerate(values, 1)
    ]


def summary_of(results: Sequence[Any], **more: Any) -> dict[str, Any]:
    return {**summarize("icons", "mini", 4, results), **more}


def table_of(
    results: Sequence[Any],
    methods: Sequence[str] = (),
    keys: Sequence[str] = (),
    against: str | None = "grouped",
    **more: Any,
) -> ResultTable:
    """The table of some results, with `more` in their summary."""
    return result_table(summary_of(results, **more), results, against, methods, keys)
