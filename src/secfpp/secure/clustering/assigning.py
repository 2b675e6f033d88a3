"""Everybody's group from those of a sample, on shares: terms, and what holders keep between the two.

A sample is searched as if it were everybody, by holders that are drawn from all clients. Then every holder keeps its
shares of the sums of each group's descriptors, which are `Centres`, and nothing else of the search. All other clients
share their descriptors too, in batches, each an exchange after the one before it, and holders compute which group each
one belongs to, as with newcomers.

What becomes public is the partition of the sample, then which group each other client belongs to: no more than the
partition of all says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from secfpp.crypto.arithmetic import Computation, Pool, Shared
from secfpp.crypto.material import Estimate
from secfpp.errors import ProtocolError, TamperError
from secfpp.protocol.program import ClientId
from secfpp.secure.circuits.holder import Holding
from secfpp.secure.circuits.plan import Plan, Security, estimated, sets_of
from secfpp.secure.clustering.layout import Layout
from secfpp.secure.clustering.placed import Nearest
from secfpp.secure.clustering.sampling import drawn
from secfpp.secure.committee import drawn_from
from secfpp.secure.reading import Terms
from secfpp.secure.session import Joined, forget

Sums = Callable[[], Shared]
BATCH = 384
"""Most clients that are assigned at once."""
BYTES = 1 << 25
"""Most bytes that they share with each holder: fewer clients, if descriptors are longer than usual."""


def batches(clients: int, width: int) -> int:
    """In how many batches so many clients are assigned, each of whom shares `width` field elements."""
    return -(-clients // min(BATCH, max(1, BYTES // (8 * width))))


@dataclass
class Centres:
    """What a holder keeps in memory of a search on a sample, until the round is over.

    Args:
        slot: what clients are grouped by.
        sample: who was searched.
        groups: of the sample, in order.
        sums: its shares of the sums of each group's descriptors [groups, d].
        assigned: who came into one of them by its help; once each.
    """

    slot: str
    sample: tuple[ClientId, ...]
    groups: tuple[int, ...]
    sums: Shared = field(repr=False)
    assigned: set[ClientId] = field(default_factory=set)

    def take(self, facts: Mapping[str, Any], step: str) -> Shared:
        """The sums, for clients that had no use of them before.

        Raises:
            TamperError: one of them had, or the terms tell of another search.
        """
        found = facts["slot"], tuple(facts["sample"]), tuple(facts["groups"])
        if found != (self.slot, self.sample, self.groups):
            raise TamperError(None, step, "clients are assigned to other groups than those that were found")
        if twice := sorted(self.assigned.intersection(facts["newcomers"])):
            raise TamperError(None, step, f"{twice[0]!r} is assigned a second time: two answers could be compared")
        self.assigned.update(facts["newcomers"])
        return self.sums


def members_in(groups: Sequence[int], fewest: int) -> np.ndarray:
    """Who of a sample is in which group, 0 or 1, int64 [groups, sample], from everybody's group.

    Raises:
        ProtocolError: these are not two groups or more, each of `fewest` members or more.
    """
    if not all(type(group) is int and 0 <= group < len(groups) for group in groups):
        raise ProtocolError("a sample without the groups of its clients")
    numbers = np.array(groups, np.int64)
    members = numbers == np.arange(numbers.max(initial=-1) + 1)[:, None]
    if len(members) < 2 or members.sum(1).min() < fewest:
        raise ProtocolError(f"clients are assigned to groups, two or more, of {fewest} sampled members")
    found: np.ndarray = members.astype(np.int64)
    return found


@lru_cache(maxsize=4)  # clients that share a process read the same terms
def require_sample(agreed: Terms, size: int) -> None:
    """Refuse a sample other than the one that the public seed gives.

    Raises:
        ProtocolError: it is another one.
    """
    facts = agreed.about
    pool = drawn_from(agreed.clients, facts)
    if tuple(names_in(facts, "sample")) != drawn(pool, size, facts["seed"], facts["round"]):
        raise ProtocolError("the sample that is searched for groups is not the one that the public seed gives")


@lru_cache(maxsize=4)  # clients that share a process read the same terms
def require_batch(agreed: Terms, fewest: int) -> None:
    """Refuse terms under which clients are assigned that this client cannot make sense of.

    Raises:
        ProtocolError: they are such.
    """
    facts = agreed.about
    new, sample = names_in(facts, "newcomers"), names_in(facts, "sample")
    if not new or not set(new) <= set(agreed.clients) or set(new) & set(sample):
        raise ProtocolError("clients are assigned that take no part, or that were searched")
    if not isinstance(facts.get("groups"), list) or len(facts["groups"]) != len(sample):
        raise ProtocolError("a sample without the groups of its clients")
    if any(type(facts.get(number)) is not int for number in ("search", "batch", "since")):
        raise ProtocolError("clients are assigned after no search")
    members_in(facts["groups"], fewest)


def names_in(facts: Mapping[str, Any], what: str) -> list[ClientId]:
    """A list of clients in terms, without repeats.

    Raises:
        ProtocolError: it is no such thing.
    """
    found = facts.get(what)
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found) or len(set(found)) < len(found):
        raise ProtocolError(f"terms without a list of clients, {what!r}")
    return found


@lru_cache(maxsize=4)  # clients that share a process read the same terms
def grouped_in(agreed: Terms) -> frozenset[ClientId]:
    """Who is grouped by terms: all who take part and the sample; where newcomers are placed, who has a group."""
    if agreed.about["task"] != "place":
        return frozenset({*agreed.clients, *agreed.about.get("sample", ())})
    return frozenset(name for name, group in zip(agreed.clients, agreed.about["groups"], strict=True) if group >= 0)


def sample_plan(searching: Plan, facts: Mapping[str, Any]) -> Plan:
    """The search of a sample among all who take part, of whom some are holders only."""
    clients = facts["clients"]
    rows = np.searchsorted(clients, facts["sample"])

    def run(inputs: Shared, pool: Pool) -> Computation[Any]:
        return searching.run(inputs[rows], pool)

    return replace(searching, run=run, clients=len(clients))


def batch_plan(nearest: Nearest, layout: Layout, facts: Mapping[str, Any], security: Security, sums: Sums) -> Plan:
    """Which groups the newcomers of one batch belong to; `sums` gives those of the groups when it begins."""
    clients, new, threshold = facts["clients"], facts["newcomers"], facts["threshold"]
    rows, holders = np.searchsorted(clients, new), len(facts["holders"])
    sets = sets_of(holders, threshold, nearest.limit, security)

    def run(inputs: Shared, pool: Pool) -> Computation[np.ndarray]:
        return nearest.run(sums(), layout.points(inputs[rows]), pool)

    return Plan.of(
        run,
        layout.defects,
        clients=len(clients),
        width=layout.width,
        holders=holders,
        threshold=threshold,
        limit=nearest.limit,
        security=security,
        estimate=_estimate(nearest, len(new), layout.dimensions, threshold, len(sets)),
    )


def forget_batches(joined: Joined) -> None:
    """Drop what this holder keeps of batches that are over, or dealt anew: this one."""
    assert joined.party.session is not None
    number, since = joined.fact("batch", int), joined.fact("since", int)
    for attempt, value in list(joined.party.session.running.items()):
        if isinstance(value, Holding) and value.joined.about.get("task") == "assign":
            batch = value.joined.fact("batch", int)
            if batch < since or batch == number:
                forget(joined, attempt)


@lru_cache(maxsize=4)  # clients that share a process ask for the same
def _estimate(nearest: Nearest, newcomers: int, dimensions: int, threshold: int, replicated: int) -> Estimate:
    def run(points: Shared, pool: Pool) -> Computation[np.ndarray]:
        return nearest.run(Shared(np.zeros((len(nearest.weights), dimensions), np.uint64), 1), points, pool)

    return estimated(run, (newcomers, dimensions), threshold, nearest.limit, replicated)
