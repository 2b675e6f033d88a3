"""What parties refused in runs, in figures and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from secfpp.protocol.refusals import BY_SERVER, left_out

if TYPE_CHECKING:
    from secfpp.runtime.trainer import RunResult


def refusals(runs: Sequence[RunResult]) -> list[dict[str, Any]]:
    """For each run in which something was refused: its seed, how often, why, and who is left out."""
    return [
        {
            "seed": run.seed,
            "by_server": sum(one.by == BY_SERVER for one in run.refusals),
            "by_clients": sum(one.by != BY_SERVER for one in run.refusals),
            "reasons": sorted({one.reason for one in run.refusals}),
            "left_out": sorted(left_out(run.refusals, run.colluding)),
        }
        for run in runs
        if run.refusals
    ]


def in_words(summary: Mapping[str, Any]) -> list[str]:
    """A sentence for each method and seed of a summary in which something was refused."""
    sentences = []
    for method, about in summary["methods"].items():
        for found in about.get("refusals", ()):
            without = ", ".join(found["left_out"])
            went_on = f"the run went on without {without}" if without else "nobody was left out"
            counts = f"{found['by_server']} messages refused by the server, {found['by_clients']} by clients"
            sentences.append(f"{method}, seed {found['seed']}: {counts} ({', '.join(found['reasons'])}); {went_on}")
    return sentences
