"""Local prompt learning, CoOp (Zhou et al., arXiv 2109.01134), each client on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from secfpp.algorithms.base import ClientContext, FederatedAlgorithm, ServerState, cross_entropy, log_priors, stacked
from secfpp.algorithms.training import Loss
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientState, Program


@dataclass(frozen=True, kw_only=True)
class CoOpLocal(FederatedAlgorithm):
    """Every client learns a prompt of its own; nothing is shared.

    Attributes:
        logit_adjustment: weight of the client's log-prior in the training logits; 0 is plain
            cross-entropy, 1 the logit-adjusted loss of Menon et al. (arXiv 2007.07314).
    """

    name: ClassVar[str] = "coop_local"
    learned: ClassVar[tuple[str, ...]] = ("prompt",)
    """The slots of a client's state that local steps train."""

    logit_adjustment: float = 0.0

    def client_state(self, context: ClientContext) -> ClientState:
        """The start prompt."""
        return ClientState({"prompt": context.start})

    def round(self, state: ServerState, cohort: Cohort) -> Program[ServerState]:
        """Local steps only."""
        yield self.ask_to_train(cohort)
        return state

    def local_update(
        self, contexts: Sequence[ClientContext], states: Sequence[ClientState], round_: int
    ) -> list[ClientState]:
        """Gradient steps on what is learned."""
        start = {slot: stacked(states, slot) for slot in self.learned}
        trained, losses = self.training.fit(
            contexts, start, self.objective(contexts, states), round_=round_, patches=self.predictor.patches
        )
        return [
            state.replace(**{slot: values[i] for slot, values in trained.items()}, loss=np.array(losses[i]))
            for i, state in enumerate(states)
        ]

    def objective(self, contexts: Sequence[ClientContext], states: Sequence[ClientState]) -> Loss:
        """What local steps make small, as a function of what is learned: cross-entropy.

        Args:
            contexts: the k clients.
            states: theirs, as the steps begin.
        """
        shift = self.shift(contexts)

        def loss(parameters: Mapping[str, Tensor], features: Tensor, labels: Tensor) -> Tensor:
            return cross_entropy(contexts, self.trained_prompts(parameters, states), features, labels, shift)

        return loss

    def shift(self, contexts: Sequence[ClientContext]) -> Tensor | None:
        """What training adds to the logits of k clients, float32 [k, n_cls]; None for nothing."""
        return self.logit_adjustment * log_priors(contexts, self.prior_smoothing) if self.logit_adjustment else None

    def trained_prompts(self, parameters: Mapping[str, Tensor], states: Sequence[ClientState]) -> Tensor:
        """The prompts [k, n_ctx, text_dim] that k clients' parameters [k, ...] make, as they are trained."""
        return parameters["prompt"]

    def personal_prompt(self, state: ClientState) -> np.ndarray:
        """The client's prompt."""
        return state["prompt"]
