"""Who attacks with what: everything that adversaries of the membership game make of one client of a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from secfpp.attacks.gathering import Victim
from secfpp.attacks.likelihood import ATTACKS
from secfpp.attacks.shared_sums import by_classes, members_sums, uploaded_sums

SERVER, HOLDERS, MEMBER, THIEF, QUERIER = "server", "T holders", "member", "thief", "querier"
ABOUT = {
    SERVER: "all that passes through the server",
    HOLDERS: "the shares that T other clients hold, together with all that passes through the server",
    MEMBER: "another member of the client's group, with its own part of each average known",
    THIEF: "the vectors of the client's personal prompt",
    QUERIER: "the client's predictions about images, asked once each",
}
UPLOADS, LAST, AVERAGES = "all uploads", "last upload", "all averages"
PROMPT, PREDICTIONS, CLASSES, SUMS = "prompt", "predictions", "which classes", "class sums"
DIFFERENCE = "averages with and without it"
SHARES, SUM_SHARES = "shares of uploads", "shares of class sums"
RATIO, FILTER = "likelihood ratio", "matched filter"


@dataclass(frozen=True)
class Told:
    """What one attack says of a client's images.

    Attributes:
        attack: its name.
        adversary: who makes it.
        seen: on what.
        exposed: whether what is seen is one client's alone and in the clear: where an attack has to work.
        scores: float64 [n].
    """

    attack: str
    adversary: str
    seen: str
    exposed: bool
    scores: np.ndarray


def all_told(victim: Victim, others: dict[str, Victim]) -> list[Told]:
    """Every attack of every adversary on one client's images.

    Args:
        victim: the client.
        others: all victims of the run by name; averages are attacked only where all of the client's group are.
    """
    found: list[Told] = []
    readings = []
    if (uploaded := victim.uploaded()) is not None:
        evidence, sealed = uploaded
        readings += [
            (SERVER, UPLOADS, not sealed, evidence),
            (SERVER, LAST, not sealed, evidence.rounds(slice(-1, None))),
        ]
    if (held := victim.held()) is not None:
        readings.append((HOLDERS, SHARES, False, held))
    if (averaged := victim.averaged(others)) is not None:
        readings.append((MEMBER, AVERAGES, False, averaged))
    alone = not victim.averages
    if (stolen := victim.stolen()) is not None:
        readings.append((THIEF, PROMPT, alone, stolen))
    if (queried := victim.queried()) is not None:
        readings.append((QUERIER, PREDICTIONS, alone, queried))
    for adversary, seen, exposed, evidence in readings:
        found += [Told(name, adversary, seen, exposed, attack(evidence)) for name, attack in ATTACKS.items()]
    if (classes := by_classes(victim)) is not None:
        found.append(Told(RATIO, SERVER, CLASSES, classes[1], classes[0]))
    of_sums = {
        (SERVER, SUMS): uploaded_sums(victim),
        (HOLDERS, SUM_SHARES): uploaded_sums(victim, by_holders=True),
        (MEMBER, SUMS): members_sums(victim),
    }
    for (adversary, seen), sums in of_sums.items():
        if sums is not None:
            exposed = adversary == SERVER and not sums.sealed
            found.append(Told(RATIO, adversary, seen, exposed, sums.normal))
            found.append(Told(FILTER, adversary, seen, exposed, sums.known))
    return found
