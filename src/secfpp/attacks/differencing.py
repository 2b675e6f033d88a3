"""Two averages over nearly the same clients: what their difference tells of the one who is in the first only.

Whoever sees both, as any member of a group does, takes one sum from the other. What is left is the update of the client
who was away, and how the updates of all others differ between the two rounds, which hides it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from secfpp.attacks.gathering import Victim
from secfpp.attacks.likelihood import Evidence
from secfpp.attacks.observed import Observed, averaged_rounds, averaged_slot
from secfpp.attacks.views import weights
from secfpp.runtime.in_process import Dropouts

TURN = 3
"""Averages for each client in turn: with it, without it, and one in which it catches up."""


def absences(run: Observed) -> dict[str, int]:
    """In which round some clients are to be away, of each group as many as there are averages for.

    Args:
        run: of the same method without anybody away.
    """
    found: dict[str, int] = {}
    for group in run.groups:
        rounds = averaged_rounds(run, group[0])[1 : -(TURN - 2)]
        found |= dict(zip(group, rounds[::TURN], strict=False)) if len(group) > 2 else {}
    return found


def away(absent: Mapping[str, int]) -> Dropouts:
    """Clients who are not there for a whole round."""

    def fate(round_: int, step: str, client: str) -> Literal["before"] | None:
        return "before" if absent.get(client) == round_ else None

    return fate


def difference(
    sums: tuple[np.ndarray, np.ndarray], totals: tuple[int, int], own: tuple[np.ndarray, np.ndarray], share: int
) -> np.ndarray:
    """What two means say of the update of a client who is in the first only.

    Args:
        sums: both means, float64 [n_ctx, text_dim].
        totals: the weights of all who are in each.
        own: what the attacker gave into each, times its weight.
        share: the client's weight.
    """
    first, second = (mean * total - part for mean, total, part in zip(sums, totals, own, strict=True))
    found: np.ndarray = (first - second) / share
    return found


def by_absence(victim: Victim, absent: int) -> Evidence | None:
    """What another member of the group has of a client who was away in the round `absent`.

    Returns:
        Of the average before, the client's update as the difference tells it; None if one of the averages is missing.
    """
    run, slot = victim.run, averaged_slot(victim.run)
    group = next((group for group in run.groups if victim.client in group), ())
    if slot is None or len(group) < 3:
        return None
    attacker = group[(group.index(victim.client) + 1) % len(group)]
    rounds, counts = averaged_rounds(run, attacker), weights(run, attacker)
    if absent not in rounds or (place := rounds.index(absent)) == 0:
        return None
    pair = rounds[place - 1], absent
    first, second = (counts[r] for r in pair)
    if victim.client not in first or victim.client in second or attacker not in first.keys() & second.keys():
        return None
    bases = [run.states[r][attacker][f"{slot}.base"].astype(np.float64) for r in (pair[0] - 1, pair[0], absent)]
    given = run.memory.of(slot, attacker)
    parts = [given.get(r, np.zeros_like(bases[0])) * counts[r][attacker] for r in pair]
    found = difference(
        (bases[1] - bases[0], bases[2] - bases[1]),
        (sum(first.values()), sum(second.values())),
        (parts[0], parts[1]),
        first[victim.client],
    )
    return victim.of_one(pair[0], found)
