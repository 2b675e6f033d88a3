"""Clients that were away, or come later: they get what the others have, and a group by a comparison on shares."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from secfpp.algorithms.base import ServerState
from secfpp.algorithms.grouping import FindsGroups
from secfpp.algorithms.sharing import EVERYBODY, GROUP
from secfpp.errors import DropoutError
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import Ask, ClientId, Program, gather


@dataclass(frozen=True, kw_only=True)
class TakesIn(FindsGroups):
    """The part of a method that lets clients catch up and takes in new ones."""

    def catch_up(self, state: ServerState, cohort: Cohort) -> Program[None]:
        """Let those who missed a mean of their group catch up; everybody is one group until there are groups."""
        assignment = state.assignment or Assignment(dict.fromkeys(cohort.clients, 0))
        yield from self._refresh_groups("domain_prompt", cohort, assignment, state)

    def take_in(self, state: ServerState, cohort: Cohort, newcomers: Iterable[ClientId]) -> Program[ServerState]:
        """Give clients that no group has yet what everybody has, a group, and what the group has.

        Those that already have a group and are behind get what they missed. Who cannot be served, because too few
        members are there or it drops out itself, waits for the next round.

        Args:
            state: with groups.
            cohort: newcomers and those who are there to take them in.
            newcomers: clients of `cohort` without a group.
        """
        assert state.assignment is not None
        new, members, assignment = frozenset(newcomers), state.members, state.assignment
        if new and members and members[0]:
            yield from self.aggregator.refresh(cohort, EVERYBODY, state.bases.get(EVERYBODY))
            new = yield from self.welcome(EVERYBODY, dict.fromkeys(sorted(new), members[0]))
        if new and self.descriptor == "prompt":
            yield Ask("method.train", {client: {"round": np.array(cohort.round)} for client in sorted(new)})
        if new:
            try:
                assignment = yield from self.clusterer.place(cohort, "descriptor", assignment, new)
            except DropoutError:
                new = frozenset()
        behind, late = state.behind, (state.behind | new) & set(cohort.clients) & set(assignment.cluster_of)
        if len(members) > 1:
            yield from self._refresh_groups(GROUP, cohort, assignment, state)
            due = {c: n for c in sorted(late) if (n := members[1 + assignment.cluster_of[c]])}
            behind = behind.union(due) - (yield from self.welcome(GROUP, due))
        elif behind:
            behind -= yield from self.tell_to_part(late & behind)
        yield from self._refresh_groups("domain_prompt", cohort, assignment, state)
        return replace(state, assignment=assignment, behind=behind)

    def _refresh_groups(self, slot: str, cohort: Cohort, assignment: Assignment, state: ServerState) -> Program[None]:
        groups = {s: cohort.subset(set(cohort.clients) & set(assignment.members(s))) for s in range(assignment.k)}
        refresh, bases = self.aggregator.refresh, state.bases
        yield from gather(
            {
                f"group-{s}": refresh(present, slot, bases.get(f"{slot}-{s}"), assignment.listed(s))
                for s, present in groups.items()
            }
        )
