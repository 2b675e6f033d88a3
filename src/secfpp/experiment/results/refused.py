"""What parties refused in runs, in figures and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from secfpp.protocol.refusals import BY_SERVER, Refusal, left_out

if TYPE_CHECKING:
    from secfpp.runtime.trainer import RunResult


def refusals(runs: Sequence[RunResult]) -> list[dict[str, Any]]:
    """For each run in which something was refused: its seed, how often, why, and who is left out.

    ``spoiled_groupings`` are the rounds in which false answers of somebody who cannot be named left a grouping, or a
    poll about it, without a result; these are in no other count.
    """
    return [
        {
            "seed": run.seed,
            "spoiled_groupings": sorted({one.round for one in run.refusals if _spoils_grouping(one)}),
            "by_server": sum(one.by == BY_SERVER and not _spoils_grouping(one) for one in run.refusals),
            "by_clients": sum(one.by != BY_SERVER for one in run.refusals),
            "reasons": sorted({one.reason for one in run.refusals}),
            "left_out": sorted(left_out(run.refusals, run.colluding)),
        }
        for run in runs
        if run.refusals
    ]


def _spoils_grouping(one: Refusal) -> bool:
    return one.by == BY_SERVER and not one.party and one.step.startswith(("clusterer.", "poll."))


def in_words(summary: Mapping[str, Any]) -> list[str]:
    """Sentences for each method and seed of a summary in which something was refused, or a grouping spoiled."""
    sentences = []
    for method, about in summary["methods"].items():
        for found in about.get("refusals", ()):
            if rounds := found.get("spoiled_groupings"):
                when = f"round{'s' * (len(rounds) > 1)} {', '.join(map(str, rounds))}"
                spoiled = "somebody who cannot be named answered falsely, and the grouping was lost"
                sentences.append(f"{method}, seed {found['seed']}, {when}: {spoiled}")
            if not found["by_server"] + found["by_clients"]:
                continue
            without = ", ".join(found["left_out"])
            went_on = f"the run went on without {without}" if without else "nobody was left out"
            counts = f"{found['by_server']} messages refused by the server, {found['by_clients']} by clients"
            sentences.append(f"{method}, seed {found['seed']}: {counts} ({', '.join(found['reasons'])}); {went_on}")
    return sentences
