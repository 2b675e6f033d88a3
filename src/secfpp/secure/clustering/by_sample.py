"""The program that groups many clients by a sample of them; see `secfpp.secure.clustering.assigning`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from secfpp.errors import DropoutError, TamperError
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import Ask, ClientId, Program, staggered
from secfpp.secure.circuits.server import Dealing, compute, dealing
from secfpp.secure.clustering.assigning import batches
from secfpp.secure.clustering.found import ONE, Found
from secfpp.secure.clustering.sampling import drawn

if TYPE_CHECKING:
    from secfpp.secure.clustering.on_shares import OnShares

DEAL, PROCEED, RETAIN = "clusterer.deal", "clusterer.proceed", "clusterer.retain"


def grouped_by_sample(
    settings: OnShares, cohort: Cohort, slot: str, known: Mapping[str, Any], radius: int
) -> Program[tuple[Found, Cohort]]:
    """The groups of those who are left of a cohort, and who that is.

    Args:
        settings: the clusterer.
        cohort: who is asked.
        slot: what clients are grouped by.
        known: what terms say beside, of all.
        radius: largest length of a rounded descriptor.

    Raises:
        DropoutError: too few clients are left, or a holder is missing when clients are assigned.
        TamperError: what was opened cannot be right.
    """

    def sampled(left: Cohort) -> tuple[ClientId, ...]:
        return drawn(left.clients, settings.sample, left.seed, left.round)

    def about(left: Cohort) -> Mapping[str, Any] | None:
        settings.require_enough(cohort, left)
        if settings.is_one(len(left)):
            return None
        return {**settings.terms(left, slot, "search"), **known, "sample": list(sampled(left))}

    left, search = yield from dealing(settings.component, cohort, about, settings.committee, sampled)
    if search is None:
        return ONE, left
    sample = tuple(search.facts["sample"])
    found, lacking = yield from compute(settings.component, search, settings.planned(search.facts))
    if not found.plausible(len(sample), radius, settings.min_cluster_size):
        raise TamperError(None, PROCEED, "what was opened is no partition: a holder answered wrongly")
    if found.labels is None or found.k == 1:
        return ONE, left
    groups = [int(label) for label in np.unique(found.labels, return_inverse=True)[1]]
    payloads = {
        holder: {**lacking.get(holder, {}), "attempt": np.array(search.attempt), "groups": np.array(groups)}
        for holder in search.holders
    }
    del lacking
    yield Ask(RETAIN, payloads)
    payloads.clear()
    places = dict(zip(sample, groups, strict=True))
    rest = [client for client in left.clients if client not in places]
    parts = batches(len(rest), settings.layout(known).width)
    running = set(range(parts))
    for chosen in (
        yield from staggered(
            [
                _assigned(settings, left, search, groups, running, number, rest[number::parts], slot, known)
                for number in range(parts)
            ]
        )
    ):
        places |= chosen
    left = left.subset(places)
    return Found(np.array([places[client] for client in left.clients]), found.k, {}, {}, 0, {}), left


def _assigned(
    settings: OnShares,
    cohort: Cohort,
    search: Dealing,
    groups: Sequence[int],
    running: set[int],
    number: int,
    batch: Sequence[ClientId],
    slot: str,
    known: Mapping[str, Any],
) -> Program[dict[ClientId, int]]:
    """Which group each of a batch belongs to, of those who are left; the batch's number leaves `running` then."""
    facts = {"search": search.attempt, "batch": number, "sample": search.facts["sample"], "groups": list(groups)}

    def new(left: Cohort) -> list[ClientId]:
        return sorted(set(batch) & set(left.clients))

    def about(left: Cohort) -> Mapping[str, Any] | None:
        if gone := sorted(set(search.holders) - set(left.clients)):
            raise DropoutError(DEAL, len(search.holders), len(search.holders) - len(gone), gone)
        newcomers = new(left)
        terms = {**settings.terms(left, slot, "assign"), **known, **facts, "since": min(running)}
        return {**terms, "newcomers": newcomers} if newcomers else None

    left, dealt = yield from dealing(settings.component, cohort, about, settings.committee, new)
    if dealt is None:
        running.discard(number)
        return {}
    chosen, _ = yield from compute(settings.component, dealt, settings.planned(dealt.facts))
    if (chosen < 0).any():
        raise TamperError(None, PROCEED, "what was opened is no group: a holder answered wrongly")
    running.discard(number)
    return dict(zip(new(left), chosen.tolist(), strict=True))
