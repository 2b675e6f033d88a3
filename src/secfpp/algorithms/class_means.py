"""Everybody's class means of image features, pulled to the client's own: one sum, and nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from secfpp.algorithms.base import ClientContext, FederatedAlgorithm, ServerState
from secfpp.algorithms.sharing import EVERYBODY, SharesClassSums
from secfpp.algorithms.visual import ClassMeans
from secfpp.errors import ConfigError
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientId, ClientState, Program
from secfpp.secure.means.aggregator import Aggregator
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.polls.poll import Poll
from secfpp.secure.polls.secure_poll import SecurePoll


@dataclass(frozen=True, kw_only=True)
class EverybodysClassMeans(SharesClassSums, FederatedAlgorithm):
    """The start prompt and everybody's class means, pulled to the client's own: one group, and nothing is trained.

    Attributes:
        aggregator: how class sums are averaged.
        poll: how it is decided which classes enough clients have.
    """

    name: ClassVar[str] = "class_means"
    class_mean_levels: ClassVar[tuple[str, ...]] = ("all",)

    aggregator: Aggregator = field(default_factory=SecureMean)
    poll: Poll = field(default_factory=SecurePoll)
    class_means: ClassMeans = field(default_factory=lambda: ClassMeans(levels="all"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if problems := self.sharing_problems():
            raise ConfigError(problems)

    def planned(self, rounds: int) -> int:
        """One round, in which sums are shared."""
        return min(rounds, 1)

    def client_state(self, context: ClientContext) -> ClientState:
        """The start prompt, and nothing shared yet."""
        return self.sums_state(context).replace(prompt=context.start)

    def round(self, state: ServerState, cohort: Cohort) -> Program[ServerState]:
        """Share sums."""
        _, made = yield from self.share_everybody(cohort)
        return ServerState(members=(len(made.members),)).after({EVERYBODY: made})

    def join(self, state: ServerState, cohort: Cohort, newcomers: frozenset[ClientId]) -> Program[ServerState]:
        """Give newcomers everybody's sums."""
        if state.members and state.members[0]:
            yield from self.aggregator.refresh(cohort, EVERYBODY, state.bases.get(EVERYBODY))
            yield from self.welcome(EVERYBODY, dict.fromkeys(newcomers, state.members[0]))
        return state

    def personal_prompt(self, state: ClientState) -> np.ndarray:
        """The start prompt."""
        return state["prompt"]
