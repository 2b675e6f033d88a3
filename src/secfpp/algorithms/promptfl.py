"""PromptFL (Guo et al., arXiv 2208.11625): federated averaging of one prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from secfpp.algorithms.base import ClientContext, ServerState
from secfpp.algorithms.coop_local import CoOpLocal
from secfpp.algorithms.noisy_prompts import AveragesPrompts
from secfpp.errors import ConfigError
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientId, ClientState, Program
from secfpp.secure.means.aggregator import Aggregator
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.updates import with_base


@dataclass(frozen=True, kw_only=True)
class PromptFL(AveragesPrompts, CoOpLocal):
    """One prompt for everybody: local steps, then the mean weighted by images per client.

    Attributes:
        aggregator: how the mean is computed.
    """

    name: ClassVar[str] = "promptfl"

    aggregator: Aggregator = field(default_factory=PlainMean)

    def __post_init__(self) -> None:
        super().__post_init__()
        if problems := self.averaging_problems():
            raise ConfigError(problems)

    @property
    def not_covered(self) -> tuple[str, ...]:
        """See `FederatedAlgorithm.not_covered`."""
        return self.beside_prompts if self.privacy.of_prompts else ()

    def planned(self, rounds: int) -> int:
        """All rounds; no more than releases, under differential privacy."""
        return min(rounds, self.privacy.releases) if self.privacy.of_prompts else rounds

    def client_state(self, context: ClientContext) -> ClientState:
        """The start prompt, which is also the first common base."""
        return with_base(self.noise_state(context), "prompt", context.start)

    def round(self, state: ServerState, cohort: Cohort) -> Program[ServerState]:
        """Local steps, then a mean over those who took them."""
        if cohort.sampled:
            yield from self.aggregator.refresh(cohort, "prompt", state.bases.get("prompt"))
        trained = yield from self.train_cohort(cohort, self.aggregator)
        made = yield from self.prompt_mean(trained, state.bases.get("prompt"))
        yield from self.ask_to_gate(trained.clients)
        return state.after({"prompt": made})

    def join(self, state: ServerState, cohort: Cohort, newcomers: frozenset[ClientId]) -> Program[ServerState]:
        """Give newcomers the common prompt."""
        yield from self.aggregator.refresh(cohort, "prompt", state.bases.get("prompt"))
        yield from self.ask_to_gate(newcomers)
        return state

    def local_update(
        self, contexts: Sequence[ClientContext], states: Sequence[ClientState], round_: int
    ) -> list[ClientState]:
        """Gradient steps that start from the common base, whatever an interrupted round left."""
        fresh = [state.replace(prompt=state["prompt.base"]) for state in states]
        return [self.held_back(state) for state in super().local_update(contexts, fresh, round_)]

    def personal_prompt(self, state: ClientState) -> np.ndarray:
        """The common prompt; under differential privacy as far as the client goes with it."""
        return self.gated(state) if self.privacy.of_prompts else state["prompt"]
