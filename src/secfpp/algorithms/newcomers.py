"""Clients that were away, or come later: they get what the others have, and a group by a comparison on shares."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from secfpp.algorithms.base import ServerState
from secfpp.algorithms.grouping import FindsGroups
from secfpp.algorithms.sharing import EVERYBODY, GROUP
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import ClientId, Program, gather


@dataclass(frozen=True, kw_only=True)
class TakesIn(FindsGroups):
    """The part of a method that lets clients catch up and takes in new ones."""

    def catch_up(self, state: ServerState, cohort: Cohort) -> Program[None]:
        """Let those who missed a mean of their group catch up; everybody is one group until there are groups."""
        assignment = state.assignment or Assignment(dict.fromkeys(cohort.clients, 0))
        yield from self._refresh_groups("domain_prompt", cohort, assignment)

    def take_in(self, state: ServerState, cohort: Cohort, newcomers: Iterable[ClientId]) -> Program[ServerState]:
        """Give clients that no group has yet what everybody has, a group, and what the group has.

        Args:
            state: with groups.
            cohort: newcomers and those who are there to take them in.
            newcomers: clients of `cohort` without a group.
        """
        assert state.assignment is not None
        new, members = sorted(newcomers), state.members
        if members and members[0]:
            yield from self.aggregator.refresh(cohort, EVERYBODY)
            yield self.welcome(EVERYBODY, new, members[0])
        assignment = yield from self.clusterer.place(cohort, "descriptor", state.assignment, new)
        if len(members) > 1:
            yield from self._refresh_groups(GROUP, cohort, assignment)
            for s, count in enumerate(members[1:]):
                if inside := [client for client in new if assignment.cluster_of.get(client) == s]:
                    yield self.welcome(GROUP, inside, count)
        yield from self._refresh_groups("domain_prompt", cohort, assignment)
        return replace(state, assignment=assignment)

    def _refresh_groups(self, slot: str, cohort: Cohort, assignment: Assignment) -> Program[None]:
        groups = (set(cohort.clients) & set(assignment.members(s)) for s in range(assignment.k))
        yield from gather({f"group-{s}": self.aggregator.refresh(cohort.subset(g), slot) for s, g in enumerate(groups)})
