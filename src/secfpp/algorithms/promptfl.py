"""PromptFL (Guo et al., arXiv 2208.11625): federated averaging of one prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from secfpp.algorithms import central_steps, noisy_steps
from secfpp.algorithms.base import ClientContext, ServerState, stacked
from secfpp.algorithms.coop_local import CoOpLocal
from secfpp.algorithms.image_gradients import shortened_sum
from secfpp.algorithms.noisy_prompts import AveragesPrompts
from secfpp.algorithms.privacy import charged_round
from secfpp.errors import ConfigError, Problem
from secfpp.privacy.events import Composed
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientId, ClientState, Program
from secfpp.secure.means.aggregator import Aggregator
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.updates import Base, Mean, with_base


@dataclass(frozen=True, kw_only=True)
class PromptFL(AveragesPrompts, CoOpLocal):
    """One prompt for everybody: local steps, then the mean weighted by images per client.

    Attributes:
        aggregator: how the mean is computed.
    """

    name: ClassVar[str] = "promptfl"

    mechanisms: ClassVar[tuple[str, ...]] = ("none", "prompts", "dpsgd", "central")

    aggregator: Aggregator = field(default_factory=PlainMean)

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = self.averaging_problems() + central_steps.problems(self.privacy, self.training, self.aggregator)
        if (self.privacy.of_steps or self.privacy.central) and self.logit_adjustment:
            given = f"0 with privacy.mechanism = {self.privacy.mechanism}"
            allowed = f"{given}: the log-prior is made of all images, and none is hidden in it"
            problems.append(Problem("logit_adjustment", self.logit_adjustment, allowed))
        if problems:
            raise ConfigError(problems)

    @property
    def not_covered(self) -> tuple[str, ...]:
        """See `FederatedAlgorithm.not_covered`."""
        seen = (central_steps.SEEN,) if self.privacy.central else ()
        return (*seen, *self.beside_prompts) if self.privacy.on else ()

    def planned(self, rounds: int) -> int:
        """All rounds; no more than releases, under differential privacy."""
        return min(rounds, self.privacy.releases) if self.privacy.on else rounds

    def client_state(self, context: ClientContext) -> ClientState:
        """The start prompt, which is also the first common base."""
        return with_base(self.noise_state(context), "prompt", context.start)

    def round(self, state: ServerState, cohort: Cohort) -> Program[ServerState]:
        """Local steps, then a mean over those who took them."""
        if cohort.sampled:
            yield from self.aggregator.refresh(cohort, self.averaged, state.bases.get(self.averaged))
        trained = yield from self.train_cohort(cohort, self.aggregator)
        made = yield from self.common_mean(trained, state.bases.get(self.averaged))
        yield from self.ask_to_gate(trained.clients)
        return state.after({self.averaged: made})

    def common_mean(self, cohort: Cohort, known: Base | None) -> Program[Mean]:
        """The mean of the prompt over those who trained; the server adds noise, if it is trusted to."""
        if not self.privacy.central:
            return (yield from self.prompt_mean(cohort, known))
        noise = central_steps.server_noise(self.release_of_round, self.training.lr)
        return (yield from self.trusted.mean(cohort, self.averaged, known, noise=noise))

    @property
    def release_of_round(self) -> Composed:
        """What a round releases where a server makes the noise."""
        return central_steps.planned(self.privacy)

    @property
    def trusted(self) -> PlainMean:
        """The aggregator of a server that makes the noise."""
        assert isinstance(self.aggregator, PlainMean)
        return self.aggregator

    def join(self, state: ServerState, cohort: Cohort, newcomers: frozenset[ClientId]) -> Program[ServerState]:
        """Give newcomers the common prompt."""
        yield from self.aggregator.refresh(cohort, self.averaged, state.bases.get(self.averaged))
        yield from self.ask_to_gate(newcomers)
        return state

    def local_update(
        self, contexts: Sequence[ClientContext], states: Sequence[ClientState], round_: int
    ) -> list[ClientState]:
        """Gradient steps that start from the common base, whatever an interrupted round left.

        By the mechanisms ``dpsgd`` and ``central`` they are written down in the privacy ledger, and then made.
        """
        if self.privacy.central:
            return self._trusting_update(contexts, states, round_)
        if self.privacy.of_steps:
            return self._noisy_update(contexts, states, round_)
        fresh = [state.replace(**{self.averaged: state[f"{self.averaged}.base"]}) for state in states]
        return [self.held_back(state) for state in super().local_update(contexts, fresh, round_)]

    def _noisy_update(
        self, contexts: Sequence[ClientContext], states: Sequence[ClientState], round_: int
    ) -> list[ClientState]:
        event = noisy_steps.of_round(contexts[0], self.training, self.privacy)
        noted = charged_round(contexts, states, event, self.privacy, round_)
        prompts, losses = noisy_steps.fit(contexts, stacked(states, "prompt.base"), self.training, self.privacy)
        return [
            state.replace(prompt=prompt, loss=np.array(value))
            for state, prompt, value in zip(noted, prompts, losses, strict=True)
        ]

    def _trusting_update(
        self, contexts: Sequence[ClientContext], states: Sequence[ClientState], round_: int
    ) -> list[ClientState]:
        noted = charged_round(contexts, states, self.release_of_round, self.privacy, round_)
        bases, bound, lr = stacked(states, "prompt.base"), self.privacy.bound, self.training.lr
        found = []
        for context, state, base, by in zip(
            contexts, noted, bases, central_steps.encoders(contexts, bases), strict=True
        ):
            gradients, losses = by.of(context.features, context.labels)
            weight = max(1, context.weight)
            mean = shortened_sum(gradients, bound).cpu().numpy() / weight
            prompt = central_steps.stepped(base, mean, lr, weight, bound, self.trusted)
            found.append(state.replace(prompt=prompt, loss=np.array(float(losses.sum()) / weight)))
        return found

    def personal_prompt(self, state: ClientState) -> np.ndarray:
        """The common prompt; under differential privacy as far as the client goes with it."""
        if self.privacy.central:
            return state["prompt.base"]
        return self.gated(state) if self.privacy.of_prompts else state["prompt"]
