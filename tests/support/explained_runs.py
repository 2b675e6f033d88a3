"""What runs say of their groups, made up: of use, of no use, none found, with few clients and with many."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from secfpp.runtime.trainer import RunResult
from support_experiment import fake_result


def explained_result(why: dict[str, Any], method: str = "grouped", seed: int = 0, **about: Any) -> RunResult:
    """A result whose method said `why`."""
    return replace(fake_result(method, seed, **about), why=why)


def useful(sizes: tuple[int, ...] = (3, 3), gain: float = 17.0, seed: int = 0) -> dict[str, Any]:
    """Groups of these sizes, whose members gain `gain` points on average, with what a test would say of it."""
    rng = np.random.default_rng(seed)
    groups = [number for number, size in enumerate(sizes) for _ in range(size)]
    gains = gain + 4 * rng.standard_normal(len(groups))
    low = float(gains.mean() - 1.7 * gains.std(ddof=1) / len(gains) ** 0.5) if len(gains) > 1 else -100.0
    best = min(max(len(sizes), 2), 8)
    candidates = []
    for k in range(1, 9):
        null = 0.0 if k == 1 else 2 + 1.5 * k
        agreement = 0.0 if k == 1 else null + 12.0 - 2.5 * abs(k - best)
        spread = 0.0 if k == 1 else 0.8
        score = agreement - null - 2 * spread
        candidates.append({"k": k, "score": score, "agreement": agreement, "null": null, "null_spread": spread})
    clients = []
    for number, (group, own) in enumerate(zip(groups, gains.tolist(), strict=True)):
        levels = {"start": 41.0 + group % 7, "own": 70.1, "everybody": 73.0, "group": 78.2 - group % 7, "method": 79.0}
        clients.append({"client": f"style {group}-{number}", "group": group, "gain": own, "levels": levels})
    mean = float(gains.mean())
    return {
        "verdict": f"{len(sizes)} groups, of use: members of a group predict each other's validation images "
        f"{mean:+.1f} points better than all do (at least {low:+.1f})",
        "candidates": candidates,
        "kappa": 0.31,
        "kappa_null": (0.015 * rng.standard_normal(20)).tolist(),
        "found": len(sizes),
        "used": len(sizes),
        "test": {"margin": 1.0, "error": 0.05, "mean": mean, "low": low, "t": 9.8, "n": len(gains)},
        "clients": clients,
    }


def useless(sizes: tuple[int, ...] = (3, 3)) -> dict[str, Any]:
    """Groups that were found and not used."""
    why = useful(sizes, gain=0.4)
    for client in why["clients"]:
        client["levels"]["group"] = None
    why["test"] |= {"mean": 0.4, "low": -0.6}
    verdict = "groups: of no use here; members of a group predict each other's validation images +0.4 points better"
    return {**why, "verdict": verdict, "used": 1, "kappa": 0.05}


def none_found(clients: int = 6) -> dict[str, Any]:
    """One group: all other candidates agree no more than chance makes them."""
    why = useful((clients,))
    for candidate in why["candidates"][1:]:
        candidate["agreement"] = candidate["null"] + 0.3
        candidate["score"] = 0.3 - 2 * candidate["null_spread"]
    for client in why["clients"]:
        client |= {"gain": None}
        del client["levels"]["group"]
    verdict = "groups: none found; clients do not disagree about classes more than chance makes them"
    return {**why, "verdict": verdict, "kappa": None, "kappa_null": [], "test": None}


def bare(sizes: tuple[int, ...] = (2, 1)) -> dict[str, Any]:
    """As little as a run can say: no candidates, no kappa, no test; a client in no group, without validation images."""
    why = useful(sizes)
    nothing = {"group": -1, "gain": None, "levels": dict.fromkeys(("start", "own", "everybody", "group", "method"))}
    clients = [*why["clients"], {"client": "odd", **nothing}]
    return {"verdict": "2 groups, used without a proof", "found": 2, "used": 2, "test": None, "clients": clients}
