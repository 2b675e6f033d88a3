"""PromptFL (Guo et al., arXiv 2208.11625): federated averaging of one prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from secfpp.algorithms.base import ClientContext, ServerState
from secfpp.algorithms.coop_local import CoOpLocal
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientId, ClientState, Program
from secfpp.secure.means.aggregator import Aggregator
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.updates import with_base


@dataclass(frozen=True, kw_only=True)
class PromptFL(CoOpLocal):
    """One prompt for everybody: local steps, then the mean weighted by images per client.

    Attributes:
        aggregator: how the mean is computed.
    """

    name: ClassVar[str] = "promptfl"

    aggregator: Aggregator = field(default_factory=PlainMean)

    def client_state(self, context: ClientContext) -> ClientState:
        """The start prompt, which is also the first common base."""
        return with_base(ClientState(), "prompt", context.start)

    def round(self, state: ServerState, cohort: Cohort) -> Program[ServerState]:
        """Local steps, then a mean over those who took them."""
        if cohort.sampled:
            yield from self.aggregator.refresh(cohort, "prompt", state.bases.get("prompt"))
        trained = yield from self.train_cohort(cohort, self.aggregator)
        return state.after({"prompt": (yield from self.aggregator.mean(trained, "prompt", state.bases.get("prompt")))})

    def join(self, state: ServerState, cohort: Cohort, newcomers: frozenset[ClientId]) -> Program[ServerState]:
        """Give newcomers the common prompt."""
        yield from self.aggregator.refresh(cohort, "prompt", state.bases.get("prompt"))
        return state

    def local_update(
        self, contexts: Sequence[ClientContext], states: Sequence[ClientState], round_: int
    ) -> list[ClientState]:
        """Gradient steps that start from the common base, whatever an interrupted round left."""
        fresh = [state.replace(prompt=state["prompt.base"]) for state in states]
        return super().local_update(contexts, fresh, round_)
