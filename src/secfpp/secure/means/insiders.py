"""To whom a client seals what its group averaged: to those whom it knows to be in the group, and to nobody else.

The terms of a mean, and of sealing a base, say who is in the group: a list, or nothing if that is everybody. A client
that keeps a list of its group (in ``slot.group``) compares. It goes by the terms of the last mean that it took part
in, or by what the member says who sealed the base for it. Beside its group it keeps who is in others: those with whom
clients were grouped and who are not on the list. So a group stays what it was when it was formed, but for newcomers,
whom its members have met in no other group.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from secfpp.errors import ProtocolError
from secfpp.protocol.fields import parsed
from secfpp.protocol.program import Arrays, ClientId, ClientState
from secfpp.secure.session import Joined, met

Names = frozenset[ClientId]
GROUP = "group"
"""What a list of members is called in terms, and beside the base that a sponsor seals."""


@dataclass(frozen=True)
class Insiders:
    """Who may have what a slot holds, as one client knows it.

    Attributes:
        members: of the group; None if it is everybody.
        others: clients known to be in other groups.
    """

    members: Names | None = None
    others: Names = frozenset()

    def array(self) -> np.ndarray:
        """As it is kept and sealed, uint8."""
        kept = {"members": None if self.members is None else sorted(self.members), "others": sorted(self.others)}
        return np.frombuffer(json.dumps(kept).encode(), np.uint8)

    @classmethod
    def read(cls, array: np.ndarray | None) -> Insiders:
        """What `array` made.

        Raises:
            ProtocolError: it is something else.
        """
        try:
            kept: Any = parsed(array.tobytes().decode()) if array is not None else None
            members, others = kept["members"], kept["others"]
            return cls(None if members is None else frozenset(map(str, members)), frozenset(map(str, others)))
        except (ValueError, TypeError, KeyError) as error:
            raise ProtocolError("a list of a group's members that cannot be read") from error


def restricted(state: ClientState, *slots: str) -> ClientState:
    """A state whose `slots` are for the client's group only, of which it knows nothing yet."""
    return state.replace(**{f"{slot}.group": np.zeros(0, np.uint8) for slot in slots})


def is_restricted(state: ClientState, slot: str) -> bool:
    """Whether `slot` is for the client's group only."""
    return f"{slot}.group" in state


def insiders(state: ClientState, slot: str) -> Insiders | None:
    """Who may have `slot`; None while the client knows nothing of it."""
    kept = state.arrays.get(f"{slot}.group", np.zeros(0, np.uint8))
    return Insiders.read(kept) if kept.size else None


def let_in(state: ClientState, slot: str, known: Insiders | None) -> ClientState:
    """The state of a client that knows by now who may have `slot`; the same if it is for everybody."""
    return state if known is None else state.replace(**{f"{slot}.group": known.array()})


def word(state: ClientState, slot: str) -> Arrays:
    """What a sponsor seals beside the base of `slot`: who else may have it; nothing if the slot is for everybody."""
    known = insiders(state, slot)
    return {} if known is None else {GROUP: known.array()}


def stated(group: Collection[ClientId] | None) -> dict[str, list[ClientId]]:
    """What terms say of a group; nothing if it is everybody."""
    return {} if group is None else {GROUP: sorted(group)}


def of_terms(place: Joined, state: ClientState, slot: str, *, fewest: int, newcomers: bool) -> Insiders | None:
    """Who may have what `slot` holds, by the terms of a mean or of sealing a base; None if the slot is for everybody.

    Args:
        place: with the terms.
        state: the client's.
        slot: what is averaged, or sealed.
        fewest: see `accepted`.
        newcomers: see `accepted`.

    Raises:
        ProtocolError: the client does not accept these terms.
    """
    if not is_restricted(state, slot):
        return None
    together = met(place) if place.about["task"] == "mean" else frozenset()
    known, group = insiders(state, slot), stated_in(place.about)
    return accepted(known, group, place.clients, together, fewest=fewest, newcomers=newcomers)


def of_word(state: ClientState, slot: str, beside: Arrays) -> Insiders | None:
    """Who may have what `slot` holds, by what a sponsor sealed beside it; None if the slot is for everybody.

    Raises:
        ProtocolError: it did not say so.
    """
    return Insiders.read(beside.get(GROUP)) if is_restricted(state, slot) else None


def stated_in(about: Mapping[str, Any]) -> Names | None:
    """What `stated` said.

    Raises:
        ProtocolError: something else.
    """
    group = about.get(GROUP)
    if group is None:
        return None
    if not isinstance(group, list) or not all(isinstance(name, str) for name in group):
        raise ProtocolError("terms with a list of a group's members that cannot be read")
    return frozenset(group)


def accepted(
    known: Insiders | None,
    group: Names | None,
    clients: Collection[ClientId],
    met: Names,
    *,
    fewest: int,
    newcomers: bool,
) -> Insiders:
    """Who is in the group by terms that a client accepts.

    Args:
        known: what the client knows so far, if anything.
        group: what the terms say; None for everybody.
        clients: who takes part.
        met: with whom the client was grouped in this round.
        fewest: members of a group at least; if so many of those are away, a mean is not everybody's.
        newcomers: whether it lets clients into its group that it has met in none.

    Raises:
        ProtocolError: terms under which a client of another group would be given what this one averages.
    """
    members = None if known is None else known.members
    if group is None:
        if members is not None:
            raise _refused(f"it is said to be everybody's, this client knows {len(members)} members")
        if len(away := met.difference(clients)) >= fewest:
            raise _refused(f"it is said to be everybody's, but {_listed(away)}, grouped too, take no part")
        return Insiders()
    if strangers := frozenset(clients) - group:
        raise _refused(f"{_listed(strangers)} take part and are not in it")
    before = group if members is None else members
    others = frozenset() if known is None else known.others
    if elsewhere := group & others:
        raise _refused(f"{_listed(elsewhere)} belong to another one")
    others |= met - group - before
    if (grown := group - before) and not (newcomers and others):
        why = "aggregator.newcomers is off" if others else "it knows of no groups among which newcomers were placed"
        raise _refused(f"{_listed(grown)} were not in it before, and this client lets nobody in: {why}")
    return Insiders(group | before, others)


def _refused(why: str) -> ProtocolError:
    return ProtocolError(f"this is not the group that this client knows: {why}")


def _listed(names: Collection[ClientId]) -> str:
    first = sorted(names)[:3]
    return ", ".join(first) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
