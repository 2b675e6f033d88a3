"""What a run reaches beside published figures, and the settings in which the two differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from secfpp.experiment.results.privacy_figures import epsilon_in_words
from secfpp.experiment.spec.plan import Plan
from secfpp.experiment.spec.published import Published, PublishedFigure
from secfpp.experiment.spec.schema import flat

ACCURACIES = {"own": "own", "own_no_prior": "own, no prior", "neighbour": "neighbour"}
"""Accuracies that stand beside published ones, and what they are called."""
DEFINITIONS = (
    "Own is not the same measure: theirs is of the test images of a client's own classes; here each class counts by "
    "its share of the client's training images, and the class prior is used unless it says no prior. Neighbour here is "
    "the mean over the classes of the other clients, without prior."
)


def published_figures(published: Published, methods: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """The entry ``published`` of ``summary.json``.

    A published figure under noise stands beside methods with a privacy mechanism only, and one without noise beside
    methods without.

    Args:
        published: of the run's config.
        methods: the entry ``methods`` of the summary.
        plan: what the run holds, with its settings.

    Returns:
        ``source``, ``table`` and ``url``; ``figures``: as published, each with ``ours``, a list of the labels whose
        method it is: ``label``, ``seeds``, ``noise`` (whether it has a privacy mechanism), ``epsilon`` (what the run
        cost; null if that is infinite, or without noise) and ``accuracies``, for each of `ACCURACIES` ``theirs``,
        ``mean``, ``ci95`` and ``difference`` (mean minus theirs, in points), null where there is none here.
        ``settings``: how many of theirs are compared, none while there are no figures of ours; ``differing``: those
        that differ, with ``key``, ``theirs``, ``ours`` and the ``methods`` that have it so (empty: it is of all);
        ``not_comparable``: the same without ``ours``, where there is no such setting here; ``unfinished``: label ->
        seeds that are not in its figures.
    """
    figures: list[dict[str, Any]] = [
        {
            "method": figure.method,
            "called": figure.called,
            "own": figure.own,
            "neighbour": figure.neighbour,
            "epsilon": figure.epsilon,
            "note": figure.note,
            "ours": [
                _ours(figure, label, of)
                for label, of in methods.items()
                if plan.methods[label]["name"] == figure.method and _noisy(of) == (figure.epsilon is not None)
            ],
        }
        for figure in published.figures
    ]
    shown = list(dict.fromkeys(ours["label"] for figure in figures for ours in figure["ours"]))
    lacking = {label: sorted({*plan.seeds[label]} - {*methods.get(label, {}).get("seeds", ())}) for label in plan.seeds}
    compared = {figure.method for figure in published.figures}
    return {
        "source": published.source,
        "table": published.table,
        "url": published.url,
        "figures": figures,
        **_settings(flat(published.settings) if shown else {}, plan, shown),
        "unfinished": {k: of for k, of in lacking.items() if of and plan.methods[k]["name"] in compared},
    }


def _noisy(method: Mapping[str, Any]) -> bool:
    return method["privacy"]["unit"] is not None


def _ours(figure: PublishedFigure, label: str, method: Mapping[str, Any]) -> dict[str, Any]:
    accuracies = {}
    for name in ACCURACIES:
        theirs = figure.neighbour if name == "neighbour" else figure.own
        ours = method.get(name)
        if theirs is None or (name == "own_no_prior" and (ours is None or ours["mean"] == method["own"]["mean"])):
            continue
        found = {"mean": ours["mean"], "ci95": ours["ci95"], "difference": ours["mean"] - theirs} if ours else {}
        accuracies[name] = {"theirs": theirs, **dict.fromkeys(("mean", "ci95", "difference")), **found}
    noise = _noisy(method)
    epsilon = method["privacy"]["epsilon"] if noise else None
    return {"label": label, "seeds": method["seeds"], "noise": noise, "epsilon": epsilon, "accuracies": accuracies}


def _settings(theirs: Mapping[str, Any], plan: Plan, labels: Sequence[str]) -> dict[str, Any]:
    """What is said of settings: of those that all methods share once, of the methods' own for each of `labels`."""
    shared = flat({name: table for name, table in plan.settings.items() if name != "method"})
    shared["seeds"] = sorted({seed for seeds in plan.seeds.values() for seed in seeds})
    of = {label: flat({"method": plan.methods[label]}) for label in labels}
    differing: list[dict[str, Any]] = []
    unknown: list[dict[str, Any]] = []
    for key, value in theirs.items():
        places = of.items() if key.startswith("method.") else [("", shared)]
        for label, settings in places:
            known = next((k for k in (key, f"{key}.kind") if k in settings), None)
            if known and settings[known] == value:
                continue
            row = {"key": key, "theirs": value} | ({"ours": settings[known]} if known else {})
            rows = differing if known else unknown
            same = next((r for r in rows if all(r.get(k) == v for k, v in row.items())), None)
            if same is None:
                rows.append(same := {**row, "methods": []})
            same["methods"] += [label] * bool(label)
    return {"settings": len(theirs), "differing": differing, "not_comparable": unknown}


def remarks(entry: Mapping[str, Any]) -> list[str]:
    """What to know before the figures of an entry are compared, as sentences."""
    found = []
    if absent := [_absent(figure) for figure in entry["figures"] if not figure["ours"]]:
        found.append(f"No run here of: {', '.join(absent)}.")
    if len(absent) < len(entry["figures"]):
        found.append(DEFINITIONS)
    if any(ours["noise"] for figure in entry["figures"] for ours in figure["ours"]):
        found.append("Epsilon there is as printed; here it is what the run cost by its own accounting.")
    if unfinished := entry["unfinished"]:
        each = (f"{label} lacks {', '.join(map(str, seeds))}" for label, seeds in unfinished.items())
        found.append(f"Not all seeds are finished: {'; '.join(each)}.")
    return found


def notes(entry: Mapping[str, Any]) -> list[str]:
    """What is noted of the published figures that are shown, each note once."""
    shown = [figure for figure in entry["figures"] if figure["note"] and figure["ours"]]
    return list(dict.fromkeys(f"{_called(figure)}: {figure['note']}." for figure in shown))


def settings_in_words(entry: Mapping[str, Any]) -> str:
    """A sentence about all settings together; empty where none is compared."""
    if not entry["settings"]:
        return ""
    odd = len({row["key"] for rows in ("differing", "not_comparable") for row in entry[rows]})
    same = entry["settings"] - odd
    if not odd:
        return f"All {same} settings that are known of theirs are the same here."
    return f"{same} of the {entry['settings']} settings that are known of theirs are the same here; these are not:"


def settings_rows(entry: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Key, theirs, ours and the methods that it is about, of every setting that differs or cannot be compared."""
    everybody = [ours["label"] for figure in entry["figures"] for ours in figure["ours"]]
    rows = []
    for row in (*entry["differing"], *entry["not_comparable"]):
        ours = _value(row["ours"]) if "ours" in row else "not comparable: no such setting here"
        methods = "all" if {*row["methods"]} in (set(), {*everybody}) else ", ".join(row["methods"])
        rows.append((row["key"], _value(row["theirs"]), ours, methods))
    return rows


def epsilons(figure: Mapping[str, Any], ours: Mapping[str, Any], infinite: str) -> tuple[str, str]:
    """The epsilon of a figure as printed there, and what one of ours cost; empty without noise."""
    theirs = "" if figure["epsilon"] is None else f"{figure['epsilon']:g}"
    return theirs, epsilon_in_words(ours, infinite) if ours["noise"] else ""


def _absent(figure: Mapping[str, Any]) -> str:
    noise = "" if figure["epsilon"] is None else " under noise"
    return f"{figure['method']}{noise} ({_called(figure)})"


def _called(figure: Mapping[str, Any]) -> str:
    return str(figure["called"]) + ("" if figure["epsilon"] is None else f" at epsilon {figure['epsilon']:g}")


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
