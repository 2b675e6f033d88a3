"""What an audit found, as rows: attack, adversary, what it saw, target; figures, and what they are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from secfpp.experiment.spec.plan import Cell
from secfpp.seeding import derive

if TYPE_CHECKING:
    from secfpp.algorithms.base import FederatedAlgorithm
    from secfpp.attacks.statistics import Scores

RATES = {"tpr_1": 0.01, "tpr_01": 0.001}
DELTA = 1e-5
"""Delta at which lower bounds of epsilon are given where a target claims none."""
REFUTED = "claim refuted"
"""The verdict where an attack proves more than the target says of itself."""
CURVE = 120
"""Points of a curve that are kept."""
COVERED = (
    "all uploads",
    "last upload",
    "shares of uploads",
    "all averages",
    "averages with and without it",
    "shared prompt",
    "class sums",
    "shares of class sums",
)
"""What claims of differential privacy are about: not who shares a class, and not what stays at home."""
SAME_KIND = {
    **dict.fromkeys(
        ("last upload", "shares of uploads", "all averages", "averages with and without it"), "all uploads"
    ),
    "shares of class sums": "class sums",
}
"""What has to be told from single uploads in the clear for an attack on these to mean something."""


class Key(NamedTuple):
    """One attack by one adversary on one thing that it saw."""

    attack: str
    adversary: str
    seen: str


class Claim(NamedTuple):
    """What a target says of itself: (epsilon, delta) differential privacy of one image, by the ledger of its run."""

    epsilon: float
    delta: float


@dataclass(frozen=True)
class Part:
    """What all attacks said of one target on one seed.

    Attributes:
        names: the clients attacked.
        inside: which images of each are members, bool [n].
        scores: of each attack, an array for each client in `whose`.
        whose: places in `names`.
        exposed: whether what an attack saw is one client's alone, in the clear.
        clients: in the run.
        groups: sizes of groups with common averages, rising.
        claim: of the run, if it makes one.
        thefts: from each client, ready for JSON, see `secfpp.attacks.stealing.Theft`.
        inversions: of each client's uploads, ready for JSON, see `secfpp.attacks.inversion.Recovered`.
        properties: of all clients, ready for JSON, see `secfpp.attacks.properties.Property`.
    """

    names: tuple[str, ...]
    inside: Sequence[np.ndarray]
    scores: Mapping[Key, Sequence[np.ndarray]]
    whose: Mapping[Key, Sequence[int]]
    exposed: Mapping[Key, bool]
    clients: int
    groups: Sequence[int]
    claim: Claim | None = None
    thefts: Sequence[Sequence[Mapping[str, Any]]] = ()
    inversions: Sequence[Sequence[Mapping[str, Any]]] = ()
    properties: Sequence[Mapping[str, Any]] = ()

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that is an array."""
        found = {"sizes": np.array([len(inside) for inside in self.inside]), "inside": np.concatenate(self.inside)}
        for key, values in self.scores.items():
            found["|".join(key)] = np.concatenate(values)
        return found

    def about(self) -> dict[str, Any]:
        """Everything else, ready for JSON."""
        return {
            "names": list(self.names),
            "whose": {"|".join(key): list(places) for key, places in self.whose.items()},
            "exposed": {"|".join(key): flag for key, flag in self.exposed.items()},
            "clients": self.clients,
            "groups": list(self.groups),
            "claim": self.claim and list(self.claim),
            "thefts": [list(own) for own in self.thefts],
            "inversions": [list(own) for own in self.inversions],
            "properties": list(self.properties),
        }

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> Part:
        """The part of which `arrays` and `about` are."""
        sizes = arrays["sizes"].tolist()
        inside = np.split(arrays["inside"], np.cumsum(sizes)[:-1])
        keys = {word: Key(*word.split("|")) for word in about["whose"]}
        whose = {keys[word]: places for word, places in about["whose"].items()}
        scores = {
            keys[word]: np.split(arrays[word], np.cumsum([sizes[place] for place in places])[:-1])
            for word, places in about["whose"].items()
        }
        exposed = {keys[word]: flag for word, flag in about["exposed"].items()}
        claim = about["claim"] and Claim(*about["claim"])
        return cls(
            tuple(about["names"]),
            inside,
            scores,
            whose,
            exposed,
            about["clients"],
            about["groups"],
            claim,
            about["thefts"],
            about["inversions"],
            about["properties"],
        )


def rows(parts: Mapping[Cell, Part], chosen: Mapping[str, FederatedAlgorithm]) -> list[dict[str, Any]]:
    """A row for each attack, adversary, thing seen and target, over all seeds; ready for JSON."""
    found = []
    for target in chosen:
        of = {cell.seed: part for cell, part in parts.items() if cell.method == target}
        for key in dict.fromkeys(key for part in of.values() for key in part.scores):
            found.append(_row(target, key, of))
    for row in found:
        row["reference"] = _reference(row, found)
        row["verdict"] = _verdict(row)
    return found


def theft_rows(parts: Mapping[Cell, Part], chosen: Mapping[str, FederatedAlgorithm]) -> list[dict[str, Any]]:
    """A row for each way of stealing and target, over all seeds and clients; ready for JSON."""
    from secfpp.attacks.statistics import mean_interval

    found: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for target in chosen:
        for cell, part in parts.items():
            if cell.method == target:
                for theft in (theft for own in part.thefts for theft in own):
                    found.setdefault((target, theft["adversary"], theft["seen"]), []).append(theft)
    rows: list[dict[str, Any]] = []
    for (target, adversary, seen), thefts in found.items():
        gain = np.array([theft["agreement"] - theft["untouched"] for theft in thefts])
        distances = [theft["distance"] for theft in thefts if theft["distance"] is not None]
        rows.append(
            {
                "target": target,
                "adversary": adversary,
                "seen": seen,
                "exposed": all(theft["exposed"] for theft in thefts),
                "clients": len(thefts),
                "agreement": float(np.mean([theft["agreement"] for theft in thefts])),
                "untouched": float(np.mean([theft["untouched"] for theft in thefts])),
                "gain": float(gain.mean()),
                "gain_ci95": list(mean_interval(gain, derive(0, target, adversary, seen))),
                "distance": float(np.mean(distances)) if distances else None,
            }
        )
    for row in rows:
        works = any(r["exposed"] and r["seen"] == row["seen"] and r["gain_ci95"][0] > 0 for r in rows)
        row["verdict"] = ("steals" if row["gain_ci95"][0] > 0 else "nothing found") if works else "not informative"
    return rows


def inversion_rows(parts: Mapping[Cell, Part], chosen: Mapping[str, FederatedAlgorithm]) -> list[dict[str, Any]]:
    """A row for each target and size of the mean that is seen, over all seeds and clients; ready for JSON."""
    from secfpp.attacks.statistics import mean_interval

    rows: list[dict[str, Any]] = []
    for target in chosen:
        of = [part for cell, part in parts.items() if cell.method == target]
        every = [one for part in of for own in part.inversions for one in own]
        for size in sorted({one["size"] for one in every}):
            same = [one for one in every if one["size"] == size]
            cosines = np.array([one["cosine"] for one in same])
            interval = list(mean_interval(cosines, derive(0, target, "inversion", size)))
            exposed = all(one["exposed"] for one in same)
            about = {"target": target, "size": size, "exposed": exposed, "clients": len(same)}
            rows.append({**about, "cosine": float(cosines.mean()), "cosine_ci95": interval})
    works = any(row["exposed"] and row["size"] == 1 and row["cosine_ci95"][0] > 0 for row in rows)
    for row in rows:
        row["verdict"] = ("recovers" if row["cosine_ci95"][0] > 0 else "nothing found") if works else "not informative"
    return rows


def property_rows(parts: Mapping[Cell, Part], chosen: Mapping[str, FederatedAlgorithm]) -> list[dict[str, Any]]:
    """A row for each target and property, the mean over seeds; ready for JSON."""
    rows = []
    for target in chosen:
        of = [part.properties for cell, part in parts.items() if cell.method == target]
        for same in zip(*of, strict=True):
            found, base = ([float(one[name]) for one in same] for name in ("found", "base"))
            about = {"target": target, "name": same[0]["name"], "measure": same[0]["measure"]}
            rows.append({**about, "found": float(np.mean(found)), "base": float(np.mean(base)), "per_seed": found})
    return rows


def _row(target: str, key: Key, parts: Mapping[int, Part]) -> dict[str, Any]:
    from secfpp.attacks.statistics import auc_interval, epsilon_lower_bound, tpr_interval, worst_client

    scores, who = pooled(key, parts)
    seed = derive(0, target, *key)
    worst = worst_client(scores)
    row: dict[str, Any] = {
        "target": target,
        **key._asdict(),
        "exposed": all(part.exposed[key] for part in parts.values() if key in part.exposed),
        "seeds": sorted(seed for seed, part in parts.items() if key in part.scores),
        "clients": len(who),
        "members": int(scores.inside.sum()),
        "others": int((~scores.inside).sum()),
        "auc": scores.auc,
        "auc_ci95": list(auc_interval(scores, seed)),
    }
    for name, rate in RATES.items():
        interval = tpr_interval(scores, rate, seed)
        row |= {name: scores.tpr(rate), f"{name}_ci95": interval and list(interval)}
    row["worst"] = worst and {"client": who[worst.client], "auc": worst.auc, "chance": worst.chance}
    claims = [part.claim if key.seen in COVERED else None for part in parts.values()]
    made = [claim for claim in claims if claim is not None]
    claim = (
        Claim(max(c.epsilon for c in made), max(c.delta for c in made)) if made and len(made) == len(claims) else None
    )
    row["delta"] = claim.delta if claim else DELTA
    row["epsilon_lower"] = epsilon_lower_bound(scores, row["delta"], seed)
    row["epsilon_upper"] = claim.epsilon if claim else None
    row["roc"] = _curve(scores)
    return row


def pooled(key: Key, parts: Mapping[int, Part]) -> tuple[Scores, list[str]]:
    """The scores of all seeds together, and who the numbers of clients are."""
    from secfpp.attacks.statistics import Scores

    values, inside, clients, who = [], [], [], list[str]()
    for seed, part in parts.items():
        for place, scores in zip(part.whose.get(key, ()), part.scores.get(key, ()), strict=True):
            values.append(scores)
            inside.append(part.inside[place])
            clients.append(np.full(len(scores), len(who)))
            who.append(f"{part.names[place]}, seed {seed}")
    return Scores(np.concatenate(values), np.concatenate(inside), np.concatenate(clients)), who


def _reference(row: Mapping[str, Any], every: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The row in which the same attack has what it needs, one client's alone and in the clear, and does best."""
    kinds = (row["seen"], SAME_KIND.get(row["seen"], row["seen"]))
    same = [
        other for other in every if other["exposed"] and other["attack"] == row["attack"] and other["seen"] in kinds
    ]
    best = max(same, key=lambda other: float(other["auc_ci95"][0]), default=None)
    return (
        None
        if best is None
        else {"target": best["target"], "seen": best["seen"], "auc": best["auc"], "auc_ci95": best["auc_ci95"]}
    )


def _verdict(row: Mapping[str, Any]) -> str:
    """``not informative`` where the attack does not even work on its reference; else whether it tells members."""
    if row["epsilon_upper"] is not None and row["epsilon_lower"] > row["epsilon_upper"]:
        return REFUTED
    reference = row["reference"]
    if reference is None or reference["auc_ci95"][0] <= 0.5:
        return "not informative"
    return "tells members" if row["auc_ci95"][0] > 0.5 else "nothing found"


def _curve(scores: Scores) -> list[list[float]]:
    """The curve at some false positive rates, evenly spaced by their logarithm: ``[fpr, tpr]``."""
    false, true = scores.roc()
    least = 1 / (~scores.inside).sum()
    rates = np.geomspace(least, 1, CURVE)
    places = np.unique(np.searchsorted(false, rates, "right") - 1)
    return [[round(float(false[i]), 6), round(float(true[i]), 6)] for i in places if false[i] > 0]
