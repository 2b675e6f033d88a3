"""SecFPP: clients personalised on three levels, after Hou, Li, Buyukates (arXiv 2505.22447).

P_i = P_G[s(i)] + P_L[i]: the domain part P_G is averaged inside client i's group, the local part P_L never leaves
the client. Past the paper (docs/decisions/0004 and 0006 have the figures):

* Beside the prompt stand class means of image features: everybody's, pulled to the group's, pulled to the client's own.
  They say what a shared context cannot, and need no training.
* Clients are grouped by how their class means differ from everybody's, before the first mean of prompts, and only if
  that is shown to be of use. See `secfpp.algorithms.grouping`.
* P_L is trained last. See `secfpp.algorithms.two_levels`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from secfpp.algorithms.base import ClientContext, FederatedAlgorithm, ServerState
from secfpp.algorithms.newcomers import TakesIn
from secfpp.algorithms.noisy_prompts import AveragesPrompts
from secfpp.algorithms.sharing import GROUP
from secfpp.algorithms.two_levels import TwoLevels
from secfpp.algorithms.visual import ClassMeans
from secfpp.algorithms.why import why
from secfpp.errors import ConfigError, DropoutError, Problem, ProtocolError, TamperError
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import Arrays, Ask, ClientId, ClientState, Program, gather, step
from secfpp.secure.clustering.clusterer import Clusterer
from secfpp.secure.clustering.secure_agreement import SecureAgreement
from secfpp.secure.means.aggregator import Aggregator
from secfpp.secure.means.insiders import insiders, is_restricted, let_in, restricted
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.means.updates import Mean, version_of
from secfpp.secure.polls.poll import Poll
from secfpp.secure.polls.secure_poll import SecurePoll
from secfpp.secure.session import with_keys

PROMPT = "domain_prompt"


@dataclass(frozen=True, kw_only=True)
class SecFPP(TwoLevels, AveragesPrompts, TakesIn, FederatedAlgorithm):
    """A prompt per group of clients, a private one per client on top of it, and class means beside both.

    Attributes:
        clusterer: how clients are grouped.
        cluster_every: rounds between groupings; 0 groups once.
        aggregator: how means are computed, of prompts inside a group and of class sums.
        poll: how questions of yes or no are decided: which classes enough clients have, whether groups are of use.
        effort: share of a run's rounds that this method uses, above 0 and at most 1.
    """

    name: ClassVar[str] = "secfpp"
    class_mean_levels: ClassVar[tuple[str, ...]] = ("none", "own", "all", "group")
    averaged: ClassVar[str] = PROMPT
    mechanisms: ClassVar[tuple[str, ...]] = ("none", "class_means", "prompts")

    clusterer: Clusterer = field(default_factory=SecureAgreement)
    cluster_every: int = 0
    aggregator: Aggregator = field(default_factory=SecureMean)
    poll: Poll = field(default_factory=SecurePoll)
    class_means: ClassMeans = field(default_factory=lambda: ClassMeans(levels="group"))
    effort: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = [*self.level_problems(), *self.averaging_problems(), *self.grouping_problems()]
        if self.cluster_every < 0:
            problems.append(Problem("cluster_every", self.cluster_every, "a number of rounds, or 0 for once"))
        if self.cluster_every and self.class_means.shared:
            problems.append(Problem("cluster_every", self.cluster_every, "0: class sums are shared once"))
        if not 0 < self.effort <= 1:
            problems.append(Problem("effort", self.effort, "a share of the rounds, above 0 and at most 1"))
        least = self.aggregator.min_responders
        smallest = getattr(self.clusterer, "min_cluster_size", least)
        if smallest < least:
            allowed = f"at most clusterer.min_cluster_size = {smallest}: else small groups have no average"
            problems.append(Problem("aggregator.min_responders", least, allowed))
        if problems:
            raise ConfigError(problems)

    @property
    def not_covered(self) -> tuple[str, ...]:
        """See `FederatedAlgorithm.not_covered`."""
        return self.beside_prompts if self.privacy.of_prompts else super().not_covered

    def planned(self, rounds: int) -> int:
        """The method's share of the rounds."""
        return math.ceil(self.effort * rounds)

    def client_state(self, context: ClientContext) -> ClientState:
        """The start prompt as domain part, zero as local part, nothing shared yet."""
        arrays = {"domain": np.array(context.group), **self.level_state(context).arrays}
        if self.class_means.shared:
            arrays |= self.sums_state(context).arrays
        arrays |= {"descriptor": self.first_descriptor(context), **self.noise_state(context).arrays}
        state = ClientState(arrays)
        return restricted(state, GROUP, PROMPT) if self.clusterer.needs_keys and not self.cluster_every else state

    def adopted(self, context: ClientContext, state: ClientState, slot: str) -> ClientState:
        """See `SharesClassSums.adopted`: who shares the group's sums will share its prompt."""
        state = super().adopted(context, state, slot)
        if slot == GROUP and is_restricted(state, PROMPT) and _untouched(state):
            return let_in(state, PROMPT, insiders(state, GROUP))
        return state

    @step
    def part(self, context: ClientContext, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """See `FindsGroups.part`: the prompt will be everybody's.

        Raises:
            ProtocolError: it is the group's by now.
        """
        known = insiders(state, PROMPT)
        if known is not None and known.members is not None:
            if not _untouched(state):
                raise ProtocolError("groups are said to be of no use, after a mean of the group's prompts")
            state = restricted(state, PROMPT)
        return super().part(context, state, payload)

    def round(self, state: ServerState, cohort: Cohort) -> Program[ServerState]:
        """Take local steps and average inside each group, found in the first round; in the last rounds no average."""
        newcomers = set(cohort.clients) - set(state.assignment.cluster_of) if state.assignment else set()
        if (newcomers or state.behind & set(cohort.clients)) and not self.cluster_every:
            state = yield from self.take_in(state, cohort, newcomers)
        elif cohort.sampled:
            yield from self.catch_up(state, cohort)
        if self.privacy.of_sums and state.assignment is None:
            state, _ = yield from self._begun(state, cohort)
        if self.privacy.of_sums or (cohort.rounds and cohort.round > self.domain_rounds(cohort.rounds)):
            yield from self.ask_to_gate(cohort.clients)
            yield replace(self.ask_to_personalize(cohort, cohort.clients), last=True)
            return state
        trained = yield from self.train_cohort(cohort, self.aggregator, self.clusterer)
        if state.assignment is None:
            state, trained = yield from self._begun(state, trained)
        elif self.cluster_every and (newcomers or (cohort.round - 1) % self.cluster_every == 0):
            state = ServerState((yield from self._regroup(state.assignment, trained)))
        assignment = state.assignment or Assignment(dict.fromkeys(trained.clients, 0))
        unaware = state.behind if assignment.k == 1 else ()  # they still take their group for the one that averages
        present = trained.subset(set(trained.clients).difference(unaware))
        made = yield from gather(self._group_means(assignment, present, state))
        yield from self.ask_to_gate(trained.clients)
        return state.after(made)

    def _begun(self, state: ServerState, cohort: Cohort) -> Program[tuple[ServerState, Cohort]]:
        """Share class sums and find groups; also tells who took part. If too few are left, it goes on a round later."""
        try:
            if self.aggregator.needs_keys:
                cohort = yield from with_keys(cohort)  # once for all that everybody takes part in
            state, holders = yield from self.begin(state, cohort)
            if state.members or not self.class_means.shared:
                state = yield from self.group(state, holders)
        except (ConfigError, DropoutError, TamperError) as error:
            if isinstance(error, TamperError):
                if error.party is not None:
                    raise
                state = replace(state, spoiled=(error.step,))
        return state, cohort

    def domain_rounds(self, rounds: int) -> int:
        """See `TwoLevels.domain_rounds`; none where only class sums are shared, no more than averages with noise."""
        if self.privacy.of_sums:
            return 0
        most = super().domain_rounds(rounds)
        return min(most, self.privacy.releases) if self.privacy.of_prompts else most

    def averages(self, rounds: int) -> int:
        """See `AveragesPrompts.averages`."""
        return self.domain_rounds(self.planned(rounds))

    def local_update(
        self, contexts: Sequence[ClientContext], states: Sequence[ClientState], round_: int
    ) -> list[ClientState]:
        """See `TwoLevels.local_update`; under differential privacy nothing without noise can be averaged."""
        return [self.held_back(state) for state in super().local_update(contexts, states, round_)]

    def ungated(self, state: ClientState) -> np.ndarray:
        """See `AveragesPrompts.ungated`: the mean of the last ones."""
        return self.averaged_part(state)

    def domain_part(self, state: ClientState) -> np.ndarray:
        """See `TwoLevels.domain_part`; under differential privacy as far as the client goes with it."""
        return self.gated(state) if self.privacy.of_prompts else super().domain_part(state)

    def join(self, state: ServerState, cohort: Cohort, newcomers: frozenset[ClientId]) -> Program[ServerState]:
        """Take in clients after training, who then train their local part as long as the others did."""
        if state.assignment is None:
            return (yield from super().join(state, cohort, newcomers))
        state = yield from self.take_in(state, cohort, newcomers)
        yield from self.ask_to_gate(newcomers)
        for number in range(self.domain_rounds(cohort.rounds) + 1, cohort.rounds + 1):
            yield self.ask_to_personalize(cohort, newcomers, number)
        return state

    def explain(
        self, contexts: Sequence[ClientContext], states: Sequence[ClientState], server: ServerState
    ) -> dict[str, Any]:
        """Why clients are grouped as they are, see `secfpp.algorithms.why`."""
        return why(self, contexts, states, server)

    def ask_to_personalize(self, cohort: Cohort, clients: Iterable[ClientId], number: int = 0) -> Ask:
        """The ask for local steps of a round, by default the cohort's."""
        payload = {"round": np.array(number or cohort.round)}
        return Ask("method.personalize", dict.fromkeys(sorted(clients), payload))

    def _group_means(self, assignment: Assignment, cohort: Cohort, state: ServerState) -> Mapping[str, Program[Mean]]:
        """The programs that average prompts inside each group, by the key of their base."""
        present, means = set(cohort.clients), {}
        for s in range(assignment.k):
            group, known = cohort.subset(present & set(assignment.members(s))), state.bases.get(f"{PROMPT}-{s}")
            means[f"{PROMPT}-{s}"] = self.prompt_mean(group, known, assignment.listed(s))
        return means

    def _regroup(self, previous: Assignment, cohort: Cohort) -> Program[Assignment]:
        """A new partition; where it changes who belongs together, updates count from the public start again."""
        assignment = yield from self.clusterer.assign(cohort, "descriptor", previous)
        if not assignment.extends(previous):
            yield Ask("method.rebase", {client: {"round": np.array(cohort.round)} for client in cohort.clients})
            return assignment
        return assignment.with_absent(previous)


def _untouched(state: ClientState) -> bool:
    """Whether the prompt is still the start, before any mean: an odd version is a start, an even one a mean."""
    return version_of(state, PROMPT) % 2 == 1
