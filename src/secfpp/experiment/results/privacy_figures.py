"""What runs are promised under differential privacy: in figures for summaries, in words for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from secfpp.experiment.results.security_costs import PARTS

if TYPE_CHECKING:
    from secfpp.runtime.trainer import RunResult

_TERMS = ("unit", "adjacency", "delta", "budget")
_LISTS = ("mechanism", "covers", "not_covered")


def privacy(runs: Sequence[RunResult]) -> dict[str, Any]:
    """The entry ``privacy`` of a method in ``summary.json``.

    Returns:
        ``unit``, ``adjacency``, ``delta``, ``budget``, ``mechanism`` and ``covers``; ``epsilon``, the largest of any
        run and client, None if infinite, 0 if nothing leaves a client; ``releases``, the most of any run;
        ``not_covered``, what leaves besides; ``runs``, for each run its seed and what
        `secfpp.runtime.privacy.figures` says of clients, rounds and the data.
    """
    told = [(run.seed, run.privacy) for run in runs if run.privacy]
    if not told:
        sends = any(share.messages for run in runs for part, share in run.costs.components.items() if part in PARTS)
        nothing: dict[str, Any] = {
            **dict.fromkeys(_TERMS),
            "releases": 0,
            **{key: [] for key in _LISTS},
            "runs": [],
        }
        return {**nothing, "epsilon": None, "not_covered": ["everything"]} if sends else {**nothing, "epsilon": 0.0}
    first, every = told[0][1], [about["epsilon"] for _, about in told]
    united = {key: {one for _, about in told for one in about[key]} for key in _LISTS}
    shown = "epsilon", "clients", "rounds", "data"
    return {
        **{key: first[key] for key in _TERMS},
        "epsilon": None if None in every else max(every),
        "releases": max(about["releases"] for _, about in told),
        **{key: sorted(found) for key, found in united.items()},
        "runs": [{"seed": seed, **{key: about[key] for key in shown}} for seed, about in told],
    }


def promised(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The entry ``privacy`` of all methods in a summary, if one of them promises something; else nothing."""
    found = {name: about["privacy"] for name, about in summary["methods"].items() if "privacy" in about}
    return found if any(entry["mechanism"] for entry in found.values()) else {}


def epsilon_in_words(entry: Mapping[str, Any], infinite: str) -> str:
    """An epsilon with three digits, or `infinite`."""
    return infinite if entry["epsilon"] is None else f"{entry['epsilon']:.3g}"


def in_words(summary: Mapping[str, Any]) -> list[str]:
    """A sentence for each method of a summary that promises something."""
    sentences = []
    for name, entry in promised(summary).items():
        if not entry["mechanism"]:
            continue
        beside = f"; not covered: {', '.join(entry['not_covered'])}" if entry["not_covered"] else ""
        about = f"epsilon by {entry['unit']}, {entry['adjacency']}, at delta {entry['delta']:g}"
        totals = [one["data"]["epsilon"] for one in entry["runs"]]
        all_runs = "infinite" if None in totals else f"{max(totals):.3g}"
        sentences.append(f"{name}: {about}, all runs on these data by its end: {all_runs}{beside}")
    return sentences
